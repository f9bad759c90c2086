// A gateway of a simulated cluster, as far as its cache goes: event loops that read the same few
// files over and over through one cache, while clients delete and undelete them.
//
// It is a process: it may be killed, and begins with an empty cache; or it is stopped for a while,
// and finds out that time has passed by its clock alone. Each answer is held against the model.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cache/cached_reads.h"
#include "cache/tier_view.h"
#include "client/client_core.h"
#include "tests/sim/sim_model.h"
#include "tests/sim/sim_world.h"

namespace hayloft {

struct SimGatewayOptions {
  std::string address;  // where other gateways reach it
  std::vector<std::string> nameservers;
  CacheAdmit admit = CacheAdmit::kAll;
  uint64_t cache_bytes = 0;
  uint32_t loops = 1;
  uint64_t think_us_max = 20'000;  // between two reads
  size_t hot_files = 0;            // of the model, which most reads are of
};

class SimGateway {
 public:
  // Borrows both, which must outlive it.
  SimGateway(SimWorld* world, SimModel* model, SimGatewayOptions options);
  ~SimGateway();

  void Start();
  void Crash();  // kill -9
  // SIGSTOP and, `ms` later, SIGCONT: what came meanwhile comes then.
  void Stall(uint64_t ms) { stalled_until_us_ = world_->events.now_us() + ms * 1000; }
  bool running() const { return process_ != nullptr; }
  bool idle() const { return reads_.empty(); }
  const std::string& address() const { return options_.address; }
  // Nobody asks it for so long; it goes on hearing of deletes.
  void Rest(uint64_t ms) { rests_until_us_ = world_->events.now_us() + ms * 1000; }
  void Finish() { finished_ = true; }  // reads nothing more by itself
  void ReadBack(size_t file);
  uint64_t hits() const { return hits_; }  // answers from memory, of all its lives

 private:
  // What dies with it.
  struct Process;
  struct Read {  // of a reader who waits
    SimModel::Expected expected{};
    uint64_t began_us = 0;
    bool for_peer = false;
    ReplyToken token{};
  };

  void Tick(uint64_t life);
  void Work(uint64_t life);
  void StartRead(size_t file, size_t loop);
  void AnswerPeer(const RpcRequest& request);
  void Carry(size_t loop, ReadsOutbox* out);
  void Deliver(const ReadDelivery& delivery);
  void FlushClient(ClientOutbox* out);
  void OnCallDone(CallDone&& done);
  void OnHelloDone(size_t nameserver, const CallDone& done);
  void PollFeeds();
  void SayHello();
  template <typename Task>
  void WhenAwake(Task&& task);
  uint64_t StallUs() const;
  Now now() const { return clock_.Read(world_->events); }

  SimWorld* world_;
  SimModel* model_;
  const SimGatewayOptions options_;
  SimNodeClock clock_;
  SimRandom random_;  // the cores'
  std::unique_ptr<Process> process_;
  uint64_t life_ = 0;
  uint64_t stalled_until_us_ = 0;
  uint64_t rests_until_us_ = 0;  // nobody asks it until then
  bool finished_ = false;
  std::map<uint64_t, Read> reads_;  // by reader
  uint64_t next_reader_ = 1;
  uint64_t hits_ = 0;
};

}  // namespace hayloft
