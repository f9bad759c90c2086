// A shard of the directory without its pair, in a thread of its own behind a real RPC server: the
// core that a real one has, its rows in memory. The knobs make it fail as a cluster would.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "common/io/loop.h"
#include "common/io/rpc_client.h"
#include "common/io/rpc_server.h"
#include "tests/sim/sim_shard.h"

namespace hayloft {

class FakeDirectory {
 public:
  FakeDirectory(const std::string& cluster_key, const std::string& nameserver);
  ~FakeDirectory();

  const std::string& address() const { return server_.address(); }

  // Knobs.
  std::atomic<bool> silent{false};                      // requests get no answer
  std::atomic<Err> err{Err::kOk};                       // what they are answered with, but for kOk
  std::atomic<MessageType> busy{MessageType::kPing};    // of this type: kBusy
  std::atomic<MessageType> broken{MessageType::kPing};  // the next answer to one is lost
  std::atomic<uint64_t> requests{0};                    // asked for
  std::atomic<uint64_t> look_up_calls{0};               // of those

 private:
  void OnRequest(RpcRequest&& request);
  void Answer(RpcReply&& reply);

  Loop loop_;
  RpcServer server_;
  RpcClient client_;
  SimShard shard_;
  Loop::Handle tick_;
  std::thread thread_;
};

}  // namespace hayloft
