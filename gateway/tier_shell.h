// The gateway's part in the cache tier: one thread beside the workers that
//
//   hears of deletes      each dsp's feed, five times a second ----------> the cache all share
//   knows the others      "I am here", each second, to the nameservers --> the workers
//   answers the others    kRead of files that are this one's to keep, kHottest
//   refills               after a start: what the others have kept meanwhile of what is its own
//
// Threads: its own; Start and Stop come from the owner's. Ownership: borrows `shared`.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "cache/cached_reads_shell.h"
#include "cache/tier_view.h"
#include "client/async_client.h"
#include "common/io/loop.h"
#include "common/io/rpc_client.h"
#include "common/io/rpc_server.h"
#include "gateway/worker_shell.h"

namespace hayloft {

class TierShell {
 public:
  // `loop_number`: among those that share the cache, behind the workers.
  TierShell(GatewayShared* shared, uint32_t loop_number);
  ~TierShell();
  TierShell(const TierShell&) = delete;  // its loop holds its address
  TierShell& operator=(const TierShell&) = delete;

  // Where other gateways may ask, if the options say so. kConfig with a cause in `why`.
  Err Listen(std::string* why);
  // `use` gets the tier whenever it changes, on this one's thread.
  void Start(std::function<void(std::shared_ptr<const CacheTier>)> use);
  void Leave();  // tells the nameservers; goes on answering
  void Stop();
  void Deliver(ReadDelivery&& delivery);

 private:
  // What another gateway has kept meanwhile of what is this one's.
  struct Refill {
    std::string peer;
    uint32_t tries = 0;
    Loop::Handle again;
    std::deque<FileAddress> files;  // still to be asked for
    uint32_t asked = 0;
  };
  void PollFeeds();
  void OnFeed(CallDone&& done);
  void Read(const FileAddress& address, const ReadTerms& terms,
            std::function<void(const FileRead&)> then);
  void Call(RpcCall&& call, std::function<void(CallDone&&)> then);
  void SayHello();
  void UseTier(std::shared_ptr<const CacheTier> tier);
  void OnRequest(RpcRequest&& request);
  void AnswerRead(RpcRequest&& request);
  void AnswerHottest(const RpcRequest& request);
  void OnRead(const ReadDelivery& delivery);
  void AskForHottest();
  void AskForHottest(Refill* refill);
  void AskRefill(Refill* refill);
  void OnRefilled(Refill* refill, const FileAddress& address, Result<FileRead> read,
                  uint64_t began_ms);

  GatewayShared* const shared_;
  const uint32_t number_;
  Loop loop_;
  AsyncClient client_;
  CachedReadsShell cached_;
  RpcClient rpc_;
  RpcClient feed_rpc_;                 // the table numbers its calls itself
  std::unique_ptr<RpcServer> server_;  // null: alone
  std::string address_;                // that the others are told
  std::unique_ptr<TierView> view_;
  std::function<void(std::shared_ptr<const CacheTier>)> use_;
  std::shared_ptr<const CacheTier> tier_;
  uint64_t began_ms_ = 0;
  std::vector<std::unique_ptr<Refill>> refills_;
  uint64_t next_call_id_ = 1;
  uint32_t hellos_ = 0;  // under way
  bool leaves_ = false;  // the nameservers are told so, or have been
  bool stops_ = false;   // with the last answer to that
  // What the answers to rpc_'s calls are for, by call.
  std::unordered_map<uint64_t, std::function<void(CallDone&&)>> calls_;
  uint64_t next_reader_ = 1;
  // What each reader gets its file by: other gateways', and refills.
  std::unordered_map<uint64_t, std::function<void(const FileRead&)>> readers_;
  Loop::Handle poll_;
  Loop::Handle hello_;
  std::thread thread_;
};

}  // namespace hayloft
