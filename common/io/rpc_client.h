// Calls other processes: one connection for each (address, RpcQueue), many calls in flight on it.
//
// A call to a loopback address goes over the abstract Unix socket beside it if there is one.
// Connections are made when first needed, proven with the cluster key, and made again after a
// break, with a growing pause after failures; meanwhile calls fail at once. Every call gets exactly
// one CallDone:
//   the peer's answer        or kTimeout      no answer in time (a later one is dropped)
//   kUnavailable             not reachable, or broken while it was in flight: it may have happened
//   kBusy                    bounds of the connection (requests in flight, bytes queued), or no
//                            memory for an answer
//   kDenied                  the peer does not know our key, or we not its
//   kCorrupt                 the peer's answer broke a rule; the connection is closed
//
// A connection on which a call timed out and nothing arrived since is pinged; without an answer it
// is broken off: the peer hangs, or vanished without a word (F41).
//
// Threads: its loop's. Ownership: borrows the loop.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/io/rpc_peer.h"

namespace hayloft {

class RpcClient {
 public:
  RpcClient(Loop* loop, RpcClientOptions options);
  ~RpcClient();
  // Never called from inside Call.
  void OnDone(std::function<void(CallDone&&)> fn) { on_done_ = std::move(fn); }
  // REQUIRES: timeout_ms > 0.
  void Call(RpcCall&& call);
  const RpcClientMetrics& metrics() const { return *metrics_; }

 private:
  void Tick();
  void DropIdle();
  void DeliverLater();

  Loop* loop_;
  const RpcClientOptions options_;
  std::function<void(CallDone&&)> on_done_;
  RpcClientMetrics own_metrics_;
  RpcClientMetrics* const metrics_;
  Buffer scratch_;
  std::vector<CallDone> later_;
  Loop::TurnEnd deliver_;
  Loop::Handle tick_;  // only while calls are in flight
  Loop::Handle idle_timer_;
  std::array<std::unordered_map<std::string, std::unique_ptr<RpcPeer>>, 3> peers_;  // by RpcQueue
};

}  // namespace hayloft
