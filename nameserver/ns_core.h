// The nameserver's decisions: which dsps hold which block, who may append, what is closed and
// sealed.
//
//   request, tick, answer --> NsCore --> records --> [log of the pair: committed] --> OnCommitted
//                               '--> replies and calls, held until every record before them is safe
//
// Nothing leaves that rests on a record which a crash could take back: so no block is announced,
// no id used and no command sent before its record is committed: synced on every member of the
// in-sync set (common/ha/role_core.h). The state is changed at once, when
// the record is made; whoever would see it waits for the gate.
//
// Blocks (docs/replication.md): all dsps of a chosen set create the file at once, then the block is
// logged with those that did within a second, then granted. Closed is what a member or the
// nameserver doubted; it is sealed when all members have confirmed the close. Close and seal are
// repeated to each until done. A dsp outside of a block's set closes it, and serves nothing of it.
// Reports are the truth about what is on the disks: unknown blocks are adopted, so that a lost
// store comes back by itself (settings.rebuilding).
//
// Threads: one owner. Pure; borrows `random`.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/core_io.h"
#include "common/ports.h"
#include "common/proto/hayloft.pb.h"
#include "nameserver/block_share.h"
#include "nameserver/fault_pauses.h"
#include "nameserver/membership.h"
#include "nameserver/ns_state.h"
#include "nameserver/placement.h"
#include "nameserver/reachability.h"

namespace hayloft {

struct NsOptions {
  uint64_t suspect_after_ms = 3'000;
  uint64_t down_after_ms = 600'000;
  uint32_t open_blocks_per_dsp = 2;
  bool end_rebuild = false;  // an operator: whoever has not spoken in a rebuild is not waited for
};

struct NsOutbox {
  std::vector<RpcReply> replies;
  std::vector<RpcCall> calls;
  std::vector<pb::LogRecord> records;  // to be committed in this order, then OnCommitted
  // Not 0: a dsp has promised this epoch to another; win a higher one and call OnEpochRaised, or
  // stop.
  uint64_t raise_epoch_above = 0;
};

class NsCore {
 public:
  static constexpr uint64_t kIdJump = 1 << 20;  // above every mark heard that the log doesn't know
  static constexpr uint64_t kIdsReserved = 1024;  // ids a log record hands out
  static constexpr uint64_t kIdSpread = 1 << 16;  // a jump's random part, in ranges of that size

  NsCore(const NsOptions& options, NsState state, Random* random);

  // Before anything else. `epoch` was won from the coordinator. `forced`: by an operator, with a
  // store that may be older than the cluster; what the dsps say then counts as in a rebuild.
  // REQUIRES: epoch is above the state's.
  void Start(uint64_t epoch, bool forced, Now now, NsOutbox* outbox);
  void OnRequest(RpcRequest&& request, Now now, NsOutbox* outbox);
  void OnCallDone(CallDone&& done, Now now, NsOutbox* outbox);
  void OnTick(Now now, NsOutbox* outbox);
  // All records up to this one are safe.
  void OnCommitted(uint64_t index, NsOutbox* outbox);
  // A record that changes nothing.
  void LogNothing(NsOutbox* outbox);
  // After Start, of a node that followed: what dsps told it at that time, and when. They count as
  // registered if that would be admitted now.
  void TakeRegistration(const pb::RegisterRequest& message, uint64_t heard_ms, Now now,
                        NsOutbox* outbox);
  void OnEpochRaised(uint64_t epoch, NsOutbox* outbox);

  const NsState& state() const { return state_; }
  const Membership& membership() const { return membership_; }
  const std::set<uint32_t>& unreachable() const { return unreachable_; }
  uint64_t ReplicasOutside() const;  // on dsps that are not in their blocks' sets
  bool Complete() const;             // a block that is not known does not exist
  bool Writable() const;             // an upload would find a block now
  // Its epoch is safe: it answers.
  bool Active() const { return committed_index_ >= epoch_index_ && !raising_epoch_; }
  pb::ClusterStatusReply Status(Now now) const;
  uint64_t DspsReported() const;

 private:
  // What has to be done with a dsp and its blocks. Nothing here is logged.
  struct DspWork {
    std::set<uint64_t> open_blocks;         // that it is a member of
    std::map<uint64_t, uint64_t> doubted;   // open blocks that a client found bad -> since when
    std::map<uint64_t, uint64_t> to_close;  // block -> when to send (again); UINT64_MAX: it is out
    std::map<uint64_t, uint64_t> to_seal;
    uint32_t creating = 0;  // blocks that it is to lead
    // Creations without an answer -> since when: a slow disk may make the block all the same.
    std::map<uint64_t, uint64_t> unsettled;
    uint64_t next_create_ms = 0;
    uint64_t lead_again_ms = 0;  // it failed to create; until then others lead, if any does
    uint64_t full_until_ms = 0;
    uint32_t stale_refusals = 0;  // commands refused for their epoch or incarnation
    bool register_again = false;
    bool reported = false;                 // all blocks, since its registration
    std::set<uint64_t> unreadable_blocks;  // as reported: they exist, and nothing is known of them
    std::set<uint64_t> outside;            // blocks that it holds and whose sets it is not in
    std::set<uint64_t> sets_owed;          // blocks whose sets are later than it has reported
    bool report_wanted = false;            // again
    uint64_t next_ask_ms = 0;              // for a report
    uint64_t next_doubt_ms = 0;            // doubt asks for a report no earlier
    bool sequence_known = false;
    uint64_t report_sequence = 0;
    // The full report that is under way.
    bool reporting = false;
    uint64_t report_began_ms = 0;
    uint64_t report_id = 0;
    uint32_t next_part = 0;
    std::vector<uint64_t> report_blocks;
    uint64_t last_report_id = 0;  // that is finished
    // Blocks told of otherwise -> when: a report that is on its way need not have them.
    std::map<uint64_t, uint64_t> recent_blocks;
  };
  // A block whose creation was ordered and not decided.
  struct Creation {
    std::vector<uint32_t> dsp_ids;              // primary first
    std::map<uint32_t, uint64_t> incarnations;  // that were addressed
    std::map<uint32_t, pb::BlockInfo> made;     // by those that answered so
    std::map<uint32_t, pb::BlockInfo> told;     // not in an answer
    size_t unanswered = 0;
    bool spoiled = false;  // a member has closed it already
  };
  // A block whose members, all sealed, told of different needles.
  struct Unequal {
    std::map<uint32_t, uint64_t> digests;  // as last told
    std::set<uint32_t> sealed_again;
  };
  // A dsp that an operator gave up leaves the sets of its blocks, some in each turn.
  struct Leaving {
    uint32_t dsp_id = 0;
    std::vector<uint64_t> block_ids{};
    size_t next = 0;
    pb::DeclareGoneReply reply{};
    RpcRequest request{};  // answered at the end; its message is empty
  };
  struct Command {
    MessageType type = MessageType::kCreateBlock;
    uint32_t dsp_id = 0;
    uint64_t block_id = 0;
  };
  struct Held {  // until record `index` is safe
    uint64_t index = 0;
    std::variant<RpcReply, RpcCall> effect;
  };

  // ns_core.cc: log, gate, ids, time
  void Log(pb::LogRecord&& record, NsOutbox* outbox);
  void Emit(RpcReply&& reply, NsOutbox* outbox);
  void Emit(RpcCall&& call, NsOutbox* outbox);
  bool Holding() const { return committed_index_ < state_.last_index; }
  void Reply(const RpcRequest& request, Err err, std::string message, NsOutbox* outbox);
  void NoteMark(uint64_t mark, NsOutbox* outbox);
  bool RegisteredHaveReported() const;
  uint64_t NextBlockId(NsOutbox* outbox);  // 0: exhausted
  void RaiseEpochAbove(uint64_t epoch, NsOutbox* outbox);
  void CheckRebuilt(Now now, NsOutbox* outbox);
  void WarnOfRebuild(Now now);
  const std::vector<uint32_t>& MembersOf(const BlockRecord& record) const {
    return state_.blocks.SetMembers(record.set);
  }
  CopiesWanted Wanted() const;
  CopiesWanted WantedUnasked(Now now) const;

  // ns_dsps.cc: registration, heartbeats, reports
  void OnRegister(const RpcRequest& request, Now now, NsOutbox* outbox);
  Err JudgeRegistration(const pb::RegisterRequest& message, uint32_t known_dsp_id) const;
  uint32_t FindDisk(std::string_view disk_id) const;  // 0: not known
  uint64_t PeersVersion() const;
  void FillPeers(uint32_t dsp_id, pb::HeartbeatReply* reply) const;
  void FillSets(uint32_t dsp_id, pb::HeartbeatReply* reply);
  bool Speaks(uint32_t dsp_id, std::string_view disk_id, uint64_t incarnation) const;
  uint32_t NumberFor(uint32_t had);
  void Admit(uint32_t dsp_id, const pb::RegisterRequest& message, Now now, NsOutbox* outbox);
  void TakeSpace(uint32_t dsp_id, const pb::DspSpace& space, DspLive* live);
  void HearOfPeers(uint64_t reporter, const pb::Unreachable& message, Now now);
  void JudgeReachability(Now now, NsOutbox* outbox);
  void OnHeartbeat(const RpcRequest& request, Now now, NsOutbox* outbox);
  void TakeChanges(uint32_t dsp_id, const pb::HeartbeatRequest& message, Now now, NsOutbox* outbox);
  void OnBlockReport(const RpcRequest& request, Now now, NsOutbox* outbox);
  void FinishReport(uint32_t dsp_id, NsOutbox* outbox);

  // ns_blocks.cc: what becomes of blocks
  void LearnBlock(uint32_t dsp_id, const pb::BlockInfo& info, NsOutbox* outbox);
  void Adopt(uint32_t dsp_id, const pb::BlockInfo& info, NsOutbox* outbox);
  void AskOthers(uint32_t dsp_id, const std::vector<uint32_t>& members);
  void TakeLaterSet(uint32_t dsp_id, const pb::BlockInfo& info, NsOutbox* outbox);
  void LearnOfStranger(uint32_t dsp_id, const pb::BlockInfo& info);
  void OweSet(uint32_t dsp_id, const BlockRecord& record, uint32_t told_version);
  void LearnKnownBlock(uint32_t dsp_id, const BlockRecord& record, const pb::BlockInfo& info,
                       NsOutbox* outbox);
  void TakeDigest(uint32_t dsp_id, const pb::BlockInfo& info, BlockRecord* next);
  void JudgeUnequal(uint64_t block_id);
  bool DiskFailed(uint32_t dsp_id) const;
  bool SealOwed(const BlockRecord& record, size_t member) const;
  void Advance(uint64_t block_id, NsOutbox* outbox);
  void MarkAbsent(uint32_t dsp_id, uint64_t block_id, NsOutbox* outbox);
  void LogBlockState(BlockRecord record, pb::BlockState state, NsOutbox* outbox);
  void LogBlockRecord(const BlockRecord& record, NsOutbox* outbox);
  void CloseBlocksOf(uint32_t dsp_id, const char* why, Now now, NsOutbox* outbox);

  // ns_commands.cc: what dsps are told to do
  void Work(uint32_t dsp_id, DspWork* work, Now now, NsOutbox* outbox);
  bool MayHoldMore(uint32_t dsp_id, Now now) const;
  bool MayCreate(Now now) const;
  uint64_t LedBlocks(uint32_t dsp_id) const;
  bool WantsBlock(uint32_t dsp_id) const;
  void CreateBlocks(uint32_t dsp_id, DspWork* work, Now now, NsOutbox* outbox);
  bool OrderBlock(uint32_t primary, const std::set<uint32_t>& without, Now now, NsOutbox* outbox);
  bool OrderBlockWithout(const std::set<uint32_t>& dsp_ids, Now now, NsOutbox* outbox);
  void Decide(uint64_t block_id, Now now, NsOutbox* outbox);
  bool CanSealNow(const BlockRecord& record) const;
  std::string CloseRequest(const BlockRecord& record) const;
  std::string SealRequest(const BlockRecord& record) const;
  void SendCommands(MessageType type, uint32_t dsp_id, std::map<uint64_t, uint64_t>* blocks,
                    Now now, NsOutbox* outbox);
  void SendCommand(const Command& command, std::string message, uint32_t timeout_ms,
                   NsOutbox* outbox);
  void OnCreateDone(const Command& command, const CallDone& done, Now now, NsOutbox* outbox);
  void OnCloseOrSealDone(const Command& command, const CallDone& done, Now now, NsOutbox* outbox);
  void OnRefused(uint32_t dsp_id);
  pb::CommandHead Head() const;

  // ns_clients.cc: grants, locations, status
  void OnGrant(const RpcRequest& request, Now now, NsOutbox* outbox);
  void DoubtBlocks(const pb::GrantRequest& message, Now now, NsOutbox* outbox);
  bool Appendable(uint32_t dsp_id) const;
  bool Grantable() const;
  uint64_t GrantableBlock(uint32_t dsp_id, const std::set<uint64_t>& bad_blocks,
                          const std::set<uint32_t>& avoid) const;
  std::vector<SetCandidate> GrantCandidates(const std::set<uint64_t>& bad_blocks,
                                            const std::set<uint32_t>& avoid, Now now,
                                            std::vector<uint64_t>* block_ids);
  uint64_t BytesOfAll(Now now) const;
  PlacementRank RankOf(uint32_t dsp_id, uint64_t bytes_of_all, Now now);
  Err NoGrantErr(Now now) const;
  bool HasSpace(uint32_t dsp_id, Now now) const;
  void OnLocate(const RpcRequest& request, Now now, NsOutbox* outbox);
  void FillUnreadable(pb::Location* location) const;
  void FillLocation(const BlockRecord& record, pb::Location* location) const;
  void FillReplicas(const BlockRecord& record, pb::Location* location) const;
  void FillDspStatus(Now now, pb::ClusterStatusReply* reply) const;
  void FillBlockStatus(pb::ClusterStatusReply* reply) const;

  // ns_gone.cc: an operator gives a dsp up
  void OnDeclareGone(RpcRequest&& request, NsOutbox* outbox);
  void OnDeclareDirectory(const RpcRequest& request, NsOutbox* outbox);
  bool HoldsLast(const BlockRecord& record, uint32_t dsp_id) const;
  void LeaveSets(NsOutbox* outbox);
  void LeaveSet(uint64_t block_id, Leaving* leaving, NsOutbox* outbox);

  const NsOptions options_;
  NsState state_;
  Membership membership_;
  Reachability reachability_;
  std::set<uint32_t> unreachable_;  // as last judged
  FaultPauses fault_pauses_;
  BlockShare share_;
  Random* const random_;
  std::map<uint32_t, DspWork> work_;
  std::map<std::string, uint32_t, std::less<>> dsp_by_disk_;
  std::map<uint64_t, Command> commands_;
  std::map<uint64_t, Creation> creations_;  // by block id
  std::map<uint64_t, Unequal> unequal_;     // by block id
  std::set<uint64_t> divergent_;            // of them, those that stayed so when sealed again
  std::deque<Leaving> leaving_;
  std::map<uint32_t, uint64_t> late_until_ms_;  // dsps that clients avoid get no new blocks
  const uint64_t
      peers_version_base_;  // so that no other start of a nameserver has the same versions
  uint64_t last_call_id_ = 0;
  uint64_t committed_index_ = 0;
  uint64_t epoch_index_ = UINT64_MAX;  // of the record that began the epoch
  std::deque<Held> held_;
  uint64_t next_block_id_ = 0;
  bool ids_exhausted_ = false;
  bool raising_epoch_ = false;
  bool started_ = false;
  Now now_;  // of the last event
  uint64_t started_ms_ = 0;
  bool first_start_ = false;  // no dsp was known then
  bool rebuild_warned_ = false;
  bool strangers_down_ = false;  // who is known from sets only has been silent for down_after
};

}  // namespace hayloft
