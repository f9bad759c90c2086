// A node of a pair in either role: the rules of the pair (RoleCore) around the decisions of the one
// that is active (a HaService: the nameserver's, a directory shard's).
//
//   active:   requests -> service -> records -> RoleCore -> committed -> replies and calls
//   standby:  the active's records, when committed, make the state that a promotion begins with
//
// Whoever asks the wrong one is told kNotActive with a NotActive. The one that was active and is
// not any more ends: its state may be ahead of what was committed.
//
// Threads: one owner. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/ha/role_core.h"
#include "common/web_call.h"

namespace hayloft {

// Why a node ends whose log has such a record.
inline std::string NotUnderstood(uint64_t index) {
  return "record " + std::to_string(index) + " of the log can't be understood";
}

// Likewise, whose rows were made under an epoch that nobody has won yet.
inline std::string RowsAhead(uint64_t of_rows, uint64_t won) {
  return "its rows are of epoch " + std::to_string(of_rows) + ", and the one that was won is " +
         std::to_string(won);
}

// What a service wants while its node is active.
struct ServiceOutbox {
  std::vector<RpcReply> replies;
  std::vector<RpcCall> calls;
  std::vector<WebCall> web_calls;  // answered by OnCallDone, too
  // Bodies, to be committed in this order, then OnCommitted. Indexes follow the last one.
  std::vector<std::string> records;
  bool put_off = false;  // nobody waits for them: the next tick is soon enough
  bool hurry = false;    // somebody waits for all that was put off before
  // Not 0: a dsp has promised this epoch to another; win a higher one and call OnEpochRaised, or
  // stop.
  uint64_t raise_epoch_above = 0;
  std::string exit;  // not empty: why this process has to end now; nothing else counts then
  Err exit_err = Err::kCorrupt;  // of the store; kCorrupt: it holds what can't be
};

// Call ids of a service must be below 2^63.
class HaService {
 public:
  virtual ~HaService() = default;

  // --- Of a follower ---
  // Whether this version understands them: asked before they are synced here.
  virtual bool Knows(const pb::HaRecord& record) const = 0;
  virtual bool KnowsRows(const pb::SnapshotRequest& snapshot) const = 0;
  // It was committed. An error: it contradicts what was applied before it.
  virtual Err Follow(const pb::HaRecord& record) = 0;
  // Asked the wrong one: `reply` is kNotActive, with a hint, unless the service knows better; an
  // active one may be here too, with a lease that is too old. Returns an epoch that the asker has
  // promised; 0: none.
  virtual uint64_t AnswerAsStandby(const RpcRequest& request, Now now, RpcReply* reply) = 0;

  // It is active from now on. `tail`: records behind those that it followed, which are not
  // committed yet and may be so soon. Its first record has to be in `out`.
  virtual void Promote(const Promotion& promotion, std::vector<pb::HaRecord> tail, Now now,
                       ServiceOutbox* out) = 0;
  // --- Of an active one ---
  virtual void OnRequest(RpcRequest&& request, Now now, ServiceOutbox* out) = 0;
  virtual void OnCallDone(CallDone&& done, Now now, ServiceOutbox* out) = 0;
  virtual void OnTick(Now now, ServiceOutbox* out) = 0;
  // All records up to this one are safe.
  virtual void OnCommitted(uint64_t index, Now now, ServiceOutbox* out) = 0;
  virtual void OnEpochRaised(uint64_t epoch, ServiceOutbox* out) = 0;
  virtual void LogNothing(ServiceOutbox* out) = 0;  // a record that changes nothing
  virtual uint64_t last_index() const = 0;          // of its records, committed or not

  // In either role: the rows have all records up to this one.
  virtual void OnApplied(uint64_t index, Now now, ServiceOutbox* out) {
    (void)index, (void)now, (void)out;
  }

 protected:
  const RoleCore& role() const { return *role_; }  // of its node

 private:
  friend class HaServer;
  const RoleCore* role_ = nullptr;
};

struct HaOutbox {
  std::vector<RpcReply> replies;
  std::vector<RpcCall> calls;
  std::vector<WebCall> web_calls;
  std::optional<RoleWrite> write;   // to be synced, then OnWritten
  std::vector<pb::HaRecord> apply;  // to the rows, behind what was applied; need not be synced
  std::optional<CoordinatorCall> coordinator;
  uint64_t read_from = 0;                     // see RoleOutbox
  std::optional<std::string> snapshot_after;  // see RoleOutbox
  bool reload = false;          // load the service's state from the rows, then give it to it
  uint64_t promoted_epoch = 0;  // not 0: it is active from now on
  std::string exit;             // not empty: the process has to end
  // kNotActive: it lost its role; else of the store. kCorrupt: it would have to again, by what that
  // holds.
  Err exit_err = Err::kNotActive;
};

class HaServer {
 public:
  // Borrows `service`, which must outlive it. `process`: random, names this run.
  HaServer(HaService* service, RoleOptions role, RoleDisk disk, uint64_t process);

  void Start(Now now, HaOutbox* out);
  void OnTick(Now now, HaOutbox* out);
  // kShip, kSnapshot, kTakeOver, kFailover, kForcePromote, and what the service knows.
  void OnRequest(RpcRequest&& request, Now now, HaOutbox* out);
  void OnCallDone(CallDone&& done, Now now, HaOutbox* out);
  void OnCoordinatorDone(CoordinatorDone&& done, Now now, HaOutbox* out);
  void OnWritten(Now now, HaOutbox* out);
  void OnRecordsRead(std::vector<pb::HaRecord> records, Now now, HaOutbox* out);
  void OnSnapshotRead(RoleCore::SnapshotPart part, Now now, HaOutbox* out);
  // Only services that read their rows need it: after each `apply` is done, and once at the start.
  void OnApplied(uint64_t index, Now now, HaOutbox* out);

  // As kFailover asks for: the standby takes over, or nothing happens and this is false.
  bool HandOver(Now now, HaOutbox* out);

  const RoleCore& role() const { return role_; }
  // It was promoted: its service decides.
  bool promoted() const { return promoted_; }

 private:
  void Take(ServiceOutbox* from, Now now, HaOutbox* out);
  void Take(RoleOutbox* from, Now now, HaOutbox* out);
  void Commit(std::vector<pb::HaRecord> records, Now now, HaOutbox* out);
  void Promote(const Promotion& promotion, Now now, HaOutbox* out);
  void End(std::string why, Err err, HaOutbox* out);
  bool CanTake(const RpcRequest& request) const;
  void AnswerAsStandby(const RpcRequest& request, Now now, HaOutbox* out);
  void ForcePromote(const RpcRequest& request, Now now, HaOutbox* out);
  void OnFailover(const RpcRequest& request, Now now, HaOutbox* out);
  RpcReply NotActiveReply(const ReplyToken& token, MessageType type) const;

  HaService* const service_;
  RoleCore role_;
  bool promoted_ = false;
};

}  // namespace hayloft
