// The client for an event loop: DedupCore with sockets and callbacks.
//
// Each callback is called exactly once, never from inside the call that started its operation; none
// is called after the destructor. A gateway has one of these for each of its loops.
// Threads: its loop's. Ownership: borrows the loop.
#pragma once

#include <functional>
#include <string>
#include <unordered_map>

#include "client/dedup_core.h"
#include "common/io/loop.h"
#include "common/io/rpc_client.h"
#include "common/io/system_random.h"

namespace hayloft {

struct AsyncClientOptions {
  ClientOptions core;
  RpcClientOptions rpc;
};

class AsyncClient {
 public:
  AsyncClient(Loop* loop, const AsyncClientOptions& options);
  AsyncClient(const AsyncClient&) = delete;  // the loop holds its address
  AsyncClient& operator=(const AsyncClient&) = delete;

  void Put(PutRequest&& request, std::function<void(PutDone&&)> done);
  void Get(GetRequest&& request, std::function<void(GetDone&&)> done);
  void Stat(StatRequest&& request, std::function<void(StatDone&&)> done);
  void SetDelete(SetDeleteRequest&& request, std::function<void(SetDeleteDone&&)> done);
  void Status(uint32_t timeout_ms, std::function<void(StatusDone&&)> done);
  void Ask(AskRequest&& request, std::function<void(AskDone&&)> done);

  size_t ops_in_flight() const { return core_.ops_in_flight(); }
  uint32_t shards() const { return core_.shards(); }  // of the directory; 0: there is none

 private:
  template <typename Done>
  using Callbacks = std::unordered_map<uint64_t, std::function<void(Done&&)>>;

  void SendCalls(ClientOutbox* outbox);
  void EndTurn();
  void Begun();
  void Deliver(ClientOutbox* outbox);
  void Wake();
  void SetWake();

  Loop* loop_;
  SystemRandom random_;
  DedupCore core_;
  RpcClient rpc_;
  ClientOutbox begun_;  // of operations begun this turn
  Callbacks<PutDone> puts_;
  Callbacks<GetDone> gets_;
  Callbacks<StatDone> stats_;
  Callbacks<SetDeleteDone> set_deletes_;
  Callbacks<StatusDone> statuses_;
  Callbacks<AskDone> asks_;
  Loop::TurnEnd deliver_;
  Loop::TurnEnd end_turn_;
  Loop::Handle tick_;
  Loop::Handle wake_;  // for what is due before the next tick
  uint64_t wake_at_ms_ = UINT64_MAX;
};

}  // namespace hayloft
