// CachedReads on an event loop: its fetches go out by a client and to other gateways.
//
// Threads: its loop's. Ownership: borrows all that it is given; callbacks name readers by numbers.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "cache/cached_reads.h"
#include "client/async_client.h"
#include "common/io/loop.h"
#include "common/io/rpc_client.h"
#include "common/io/system_clock.h"

namespace hayloft {

class CachedReadsShell {
 public:
  // `deliver` gets what readers waited for, also those of other loops; never from inside Read.
  CachedReadsShell(Loop* loop, AsyncClient* client, const RpcClientOptions& rpc,
                   CachedReadsOptions options, SharedCache* cache, FeedTable* feeds,
                   std::function<void(ReadDelivery&&)> deliver);
  CachedReadsShell(const CachedReadsShell&) = delete;  // the loop holds its address
  CachedReadsShell& operator=(const CachedReadsShell&) = delete;

  void UseTier(std::shared_ptr<const CacheTier> tier) { core_.UseTier(std::move(tier)); }
  bool Owns(const FileAddress& address) const { return core_.Owns(address); }
  size_t fetches() const { return core_.fetches(); }
  // By the clock of this moment, not of this turn: what a long turn, or a process that stood still,
  // takes for now may be long past, and what was deleted meanwhile would be answered.
  CacheAnswer Look(const FileAddress& address) { return core_.Look(address, SystemMonotonicMs()); }
  void Read(const FileAddress& address, const ReadTerms& terms, uint64_t reader);
  bool Stored(const StoredNeedle& stored) { return core_.Stored(stored); }

 private:
  Now ThisMoment() { return {SystemMonotonicMs(), loop_->now().wall_ms}; }
  void Carry(ReadsOutbox* out);

  Loop* const loop_;
  AsyncClient* const client_;
  CachedReads core_;
  RpcClient peers_;
  std::function<void(ReadDelivery&&)> deliver_;
  std::vector<ReadDelivery> ready_;
  Loop::TurnEnd deliver_ready_;
};

}  // namespace hayloft
