// A nameserver core with its store on a MemKv, and dsps that do what they are told unless the test
// says otherwise. Time passes only in Run.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "nameserver/ns_core.h"
#include "nameserver/ns_store.h"
#include "tests/sim/mem_kv.h"
#include "tests/sim/sim_random.h"

namespace hayloft {

inline const std::string kTestCluster(16, 'c');

// What a dsp's disk remembers, and what its process knows.
struct FakeDsp {
  std::string disk_id, address, machine;
  uint64_t incarnation = 1;
  uint64_t promised_epoch = 0;
  uint64_t block_range_end = 0;
  std::map<uint64_t, pb::BlockInfo> blocks;
  std::map<uint64_t, std::set<uint32_t>> needles;  // by block; what replicas are compared by
  uint32_t had_dsp_id = 0;                         // on its disk; outlives the process
  uint64_t free_bytes = 100ull << 30;
  uint32_t full_percent = 0;  // not told
  uint64_t disk_idle_ms = 0;
  pb::DiskState disk_state = pb::DISK_HEALTHY;
  std::vector<std::string> unreachable;  // peers that it names
  bool alive = true;
  Err command_err = Err::kOk;  // of every command
  bool slow = false;           // its disk: creations time out, and wait in `late`
  std::vector<RpcCall> late;
  uint64_t needles_corrupt = 0;
  uint32_t divergent = 0;  // it says so of every block that it seals
  // Of the process.
  uint32_t dsp_id = 0;  // 0: not registered
  Err register_err = Err::kOk;
  uint64_t report_sequence = 0;
  uint64_t report_id = 0;
  bool report_wanted = false;
  std::vector<uint64_t> changed;
  std::map<uint64_t, pb::BlockSet> told_sets;
  pb::HeartbeatReply heard;       // the last answer that named peers
  bool counted = false;           // by the last answer
  std::vector<RpcCall> commands;  // all that it ever got
};

class NsBench {
 public:
  explicit NsBench(const pb::LogSettings& settings = DefaultSettings(), NsOptions ns_options = {});
  static pb::LogSettings DefaultSettings();

  // One dsp on a machine of its own unless told otherwise.
  FakeDsp& AddDsp(const std::string& machine = "");
  // Ticks every 100 ms; each live dsp registers, reports and sends heartbeats every second.
  void Run(uint64_t ms);
  void RestartNameserver(bool forced = false);
  void RestartDsp(FakeDsp* dsp);  // as the dsp's recovery does: closes what was open
  void WipeNameserver(const pb::LogSettings& settings);
  void CloseBlock(FakeDsp* dsp, uint64_t block_id);  // by itself: it is full
  FakeDsp* Find(uint32_t dsp_id);
  // A client's append, as primary and secondaries do it: kOk when all members have the needle.
  // What reaches the members is lost as all messages are. Any doubt closes the block.
  Err Append(const pb::Grant& grant, uint32_t needle);
  Err DeclareGone(uint32_t dsp_id, bool even_last, pb::DeclareGoneReply* reply);
  void FinishLate(FakeDsp* dsp);  // what its slow disk had not done yet

  // A client's request, answered at once (or the test fails by an empty reply with kInternal).
  template <typename Reply, typename Request>
  Err Ask(MessageType type, const Request& request, Reply* reply) {
    const RpcReply answer = Send(type, request.SerializeAsString());
    if (answer.err == Err::kOk && !reply->ParseFromString(answer.message)) return Err::kCorrupt;
    return answer.err;
  }
  Err Grants(uint32_t count, pb::GrantReply* reply);
  pb::ClusterStatusReply Status();
  RpcReply Send(MessageType type, std::string message);

  void SyncLog();  // what was held back by hold_log
  bool hold_log = false;
  uint32_t lost_percent = 0;  // of all messages between dsps and nameserver, of either direction
  std::map<uint64_t, std::string> created;  // block -> set and life, as ordered
  std::vector<std::string> broken;          // rules that were
  NsOptions options;                        // from the next start on

  MemKv kv{1};
  SimRandom random{7};
  std::unique_ptr<NsStore> store;
  std::unique_ptr<NsCore> core;
  std::deque<FakeDsp> dsps;
  Now now{.mono_ms = 50'000'000, .wall_ms = 0};
  NsOutbox outbox;                       // emptied by Settle
  std::map<uint64_t, RpcReply> replies;  // by request id
  std::vector<uint64_t> raised;          // epochs

 private:
  void StartCore(bool forced);
  void Settle();
  void RunDsp(FakeDsp* dsp);
  void RegisterDsp(FakeDsp* dsp);
  void ReportDsp(FakeDsp* dsp);
  bool Lost() { return lost_percent > 0 && random.Below(100) < lost_percent; }
  template <typename Reply, typename Request>
  Err AskLossy(MessageType type, const Request& request, Reply* reply) {
    if (Lost()) return Err::kTimeout;
    const Err err = Ask(type, request, reply);
    return Lost() ? Err::kTimeout : err;
  }
  void CheckCreation(const pb::CreateBlockRequest& request);
  Err CreateOn(FakeDsp* dsp, const pb::CreateBlockRequest& request, pb::BlockInfo* info);
  Err SealOn(FakeDsp* dsp, const pb::SealBlockRequest& request, pb::BlockInfo* info);
  bool AppendOn(const pb::Grant& grant, const pb::Replica& replica, const FakeDsp* primary,
                uint32_t needle);
  CallDone RunCommand(FakeDsp* dsp, const RpcCall& call);
  Err RunCommandOn(FakeDsp* dsp, const RpcCall& call, pb::BlockInfo* info);

  uint64_t next_request_id_ = 1;
};

}  // namespace hayloft
