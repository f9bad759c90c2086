// A nameserver in either role: the rules of the pair (RoleCore) around the decisions of the one
// that is active (NsCore).
//
//   active:   requests -> NsCore -> records -> RoleCore -> committed -> replies and commands
//   standby:  the active's records, when committed, make the state that a promotion begins with;
//             what dsps say of themselves is kept, so that the first grant need not wait for them
//
// Whoever asks the wrong one is told kNotActive with a NotActive. The one that was active and is
// not any more ends: its state may be ahead of what was committed.
//
// Threads: one owner. Pure; borrows `random`.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/ha/role_core.h"
#include "nameserver/ns_core.h"

namespace hayloft {

struct ServerOutbox {
  std::vector<RpcReply> replies;
  std::vector<RpcCall> calls;
  std::optional<RoleWrite> write;    // to be synced, then OnWritten
  std::vector<pb::LogRecord> apply;  // to the rows, behind what was applied; need not be synced
  std::optional<CoordinatorCall> coordinator;
  uint64_t read_from = 0;                     // see RoleOutbox
  std::optional<std::string> snapshot_after;  // see RoleOutbox
  bool reload = false;                        // load the state from the rows, then OnReloaded
  uint64_t promoted_epoch = 0;                // not 0: it is active from now on
  std::string exit;                           // not empty: the process has to end
};

class NsServer {
 public:
  NsServer(const NsOptions& options, RoleOptions role, NsState state, RoleDisk disk,
           Random* random);

  void Start(Now now, ServerOutbox* out);
  void OnTick(Now now, ServerOutbox* out);
  void OnRequest(RpcRequest&& request, Now now, ServerOutbox* out);
  void OnCallDone(CallDone&& done, Now now, ServerOutbox* out);
  void OnCoordinatorDone(CoordinatorDone&& done, Now now, ServerOutbox* out);
  void OnWritten(Now now, ServerOutbox* out);
  void OnRecordsRead(std::vector<pb::HaRecord> records, Now now, ServerOutbox* out);
  void OnSnapshotRead(RoleCore::SnapshotPart part, Now now, ServerOutbox* out);
  void OnReloaded(NsState state);

  const RoleCore& role() const { return role_; }
  // Null of one that is not active.
  const NsCore* core() const { return core_.get(); }
  // What was committed; of an active one, what it decided.
  const NsState& state() const { return core_ != nullptr ? core_->state() : state_; }
  // It answers: active, its epoch is safe, its lease young.
  bool Answers(Now now) const;
  pb::ClusterStatusReply Status(Now now) const;

 private:
  struct Registration {
    pb::RegisterRequest message;
    uint64_t heard_ms = 0;
  };
  void Take(NsOutbox* from, Now now, ServerOutbox* out);
  void Take(RoleOutbox* from, Now now, ServerOutbox* out);
  void Commit(std::vector<pb::HaRecord> records, Now now, ServerOutbox* out);
  void Promote(const Promotion& promotion, Now now, ServerOutbox* out);
  bool CanTake(const RpcRequest& request) const;
  void AnswerAsStandby(const RpcRequest& request, Now now, ServerOutbox* out);
  void NoteRegistration(const RpcRequest& request, Now now);
  void ForcePromote(const RpcRequest& request, Now now, ServerOutbox* out);
  void HandOver(const RpcRequest& request, Now now, ServerOutbox* out);
  RpcReply NotActiveReply(const ReplyToken& token, MessageType type) const;

  const NsOptions options_;
  Random* const random_;
  RoleCore role_;
  NsState state_;  // of a standby; moved into the core by a promotion
  std::unique_ptr<NsCore> core_;
  std::map<std::string, Registration, std::less<>> registrations_;  // by disk id
};

}  // namespace hayloft
