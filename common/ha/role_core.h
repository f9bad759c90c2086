// Which of two nodes is the active one, and what of its log is safe: the rules of a pair.
//
//   service -> Propose -> log of this node  --.
//                     '-> log of the standby --'-> committed: may be answered, applied, acted on
//
// A coordinator (coordinator.h) holds one record: {holder, epoch, in-sync set, log position}.
//
// 1. Winning is one transaction on that record. It needs: nobody's lease lives, this node is in the
//    set, and its log reaches the position. It raises the epoch above all that were heard of, and
//    makes the set {this node}.
// 2. A record is committed when it is synced on every member of the set. While a change of the set
//    is unsettled, on every member of both. A change is settled by its own answer, or by a later
//    version of the record; never by reading the old one.
// 3. Without a standby (silent for `silent_ms`) the active first commits the smaller set, then goes
//    on. The standby comes back when it has caught up; one that was silent, not dead, after
//    `rejoin_ms` of keeping up.
// 4. Every node persists the highest epoch that it promised, with its node, and refuses older ones
//    and an equal one of another node. (So do the dsps.)
// 5. The active stops answering at 2/3 of its lease, counted from the sending of the last good
//    renewal by a clock that counts suspend, and ends at its end. It renews only if the log has
//    finished a sync since; a change of the set without one leaves the lease as it is. This bounds
//    stale answers; safety rests on 1 to 4 and 6.
// 6. A node that follows cuts its log where it differs from the active's, synced records only on
//    the word of the holder and epoch that the coordinator's record names; below what it applied,
//    it takes a snapshot. Nobody goes on in an older epoch's range of ids.
//    A record is believed only under the identity, the epoch and the version that this node knows,
//    or later ones: else it was lost or restored, and an operator decides (Force).
// 7. What else follows the role (an address, a hook) never decides it.
//
// A node that was active and is not any more ends (`exit`), and starts again as one that follows.
// Sources: the log as in Raft (Ongaro and Ousterhout 2014, 5.3), with the election outside of it;
// the set as in Kafka's in-sync replicas; fencing as in Chubby's sequencers (Burrows 2006, 2.4).
//
// Threads: one owner. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/core_io.h"
#include "common/ha/coordinator.h"
#include "common/ha/log_tail.h"

namespace hayloft {

struct RoleOptions {
  std::string node;     // 16 random bytes: the name of the data directory
  std::string address;  // of this node, told to clients of the other
  std::string peer;     // the other node's address; empty: there is none
  uint64_t lease_ms = 3'000;
  uint64_t silent_ms = 1'000;
  uint64_t rejoin_ms = 10'000;
  bool strict = false;  // nothing is committed without a standby
  bool force = false;   // as Force() does
};

// What a node finds on its disk.
struct RoleDisk {
  pb::HaHead head;
  LogTail log;           // all names; in memory: the records that are not applied
  uint64_t applied = 0;  // the service's rows reach so far
};

// To be made durable as one synced batch, in the order of the fields; then OnWritten.
struct RoleWrite {
  bool wipe = false;  // every row of log and service goes
  std::optional<pb::HaHead> head;
  uint64_t cut_from = 0;  // not 0: these records and all behind them go
  std::vector<pb::HaRecord> records;
  std::vector<pb::SnapshotRow> rows;  // of the service, as another node's ReadSnapshot gave them
};

struct CoordinatorCall {
  enum class Kind { kRead, kCommit, kRelease };
  Kind kind = Kind::kRead;
  pb::LeaseRecord record{};  // kCommit
  uint64_t version = 0;
  bool renews = false;  // kCommit: the lease begins anew, else it ends when it would have ended
};

struct CoordinatorDone {
  Err err = Err::kOk;
  CoordinatorView view;  // of a read
  uint64_t version = 0;  // after a commit
};

struct Promotion {
  uint64_t epoch = 0;
  bool forced = false;  // ids go on above every mark heard; call ForceLogged when that is logged
};

struct RoleOutbox {
  std::vector<RpcReply> replies;
  std::vector<RpcCall> calls;
  std::optional<RoleWrite> write;              // at most one is under way
  std::optional<CoordinatorCall> coordinator;  // at most one is under way
  // Committed, in this order: to be applied to the service's rows, and to the state of a follower.
  std::vector<pb::HaRecord> committed;
  // After all of `committed`. The service's first record must follow at once.
  std::optional<Promotion> promoted;
  uint64_t raised_epoch = 0;  // not 0: as asked for by RaiseEpoch; a record must follow at once
  bool want_record = false;   // an active one: propose one, an empty one if there is nothing
  uint64_t read_from = 0;     // not 0: read these records from the disk, then OnRecordsRead
  // Read rows of the service's applied state, those behind this key; then OnSnapshotRead.
  std::optional<std::string> snapshot_after;
  bool reload = false;  // after a snapshot: the state of the service is the rows' now
  std::string exit;     // not empty: why this process has to end now
};

class RoleCore {
 public:
  static constexpr uint64_t kPollMs = 200;         // how often a follower asks the coordinator
  static constexpr uint64_t kShipIdleMs = 250;     // an active with nothing to say ships that
  static constexpr uint32_t kShipTimeoutMs = 800;  // below silent_ms: a lost packet is not silence
  static constexpr size_t kShipBytes = 1 << 20;
  static constexpr uint64_t kForceMs = 60'000;
  static constexpr uint64_t kTakeOverMs = 3'000;  // a standby that was told to take over tries

  // kWinner: it is about to promise its own epoch.
  enum class Role { kFollower, kCandidate, kWinner, kActive };

  // `process`: random, names this run.
  RoleCore(RoleOptions options, RoleDisk disk, uint64_t process);

  void Start(Now now, RoleOutbox* out);
  void OnTick(Now now, RoleOutbox* out);
  // kShip, kSnapshot, kTakeOver.
  void OnRequest(RpcRequest&& request, Now now, RoleOutbox* out);
  void OnCallDone(CallDone&& done, Now now, RoleOutbox* out);
  void OnCoordinatorDone(CoordinatorDone&& done, Now now, RoleOutbox* out);
  // The write is durable. One that failed ends the process; nothing is called then.
  void OnWritten(Now now, RoleOutbox* out);
  // Empty: they are not kept any more.
  void OnRecordsRead(std::vector<pb::HaRecord> records, Now now, RoleOutbox* out);
  // `base`: what the rows of the first part were taken behind; later parts may hold what came
  // since, which the log repeats. `last`: there are no more.
  struct SnapshotPart {
    uint64_t base = 0;
    std::vector<pb::SnapshotRow> rows;
    std::string after;  // where to go on
    bool last = false;
  };
  void OnSnapshotRead(SnapshotPart part, Now now, RoleOutbox* out);

  // Records of the service, numbered from `first_index` on. REQUIRES: active; it is last() + 1.
  void Propose(uint64_t first_index, std::vector<std::string> bodies, Now now, RoleOutbox* out);
  // Likewise, but nobody waits for them: they are written with the next ones that somebody waits
  // for, or at the next tick, so that many cost one sync.
  void PutOff(uint64_t first_index, std::vector<std::string> bodies);
  // Somebody waits for all that was put off.
  void Hurry(Now now, RoleOutbox* out);
  // Somebody promised this epoch. Whoever wins wins a higher one.
  // Nonsense is not believed: nobody could win above it.
  void OnHeardEpoch(uint64_t epoch) {
    if (epoch <= kEpochMax) heard_epoch_ = std::max(heard_epoch_, epoch);
  }
  // A dsp obeys this epoch of another node, or a later one: win a higher one, or end.
  void RaiseEpoch(uint64_t above, Now now, RoleOutbox* out);
  // What a forced start has to log is in this record.
  void ForceLogged(uint64_t index) { force_logged_ = index; }
  // An operator: it wins with the log that it has, whatever the record says of others; unless
  // somebody else is active. It holds for kForceMs.
  void Force(Now now);
  // The standby takes over, or nothing happens: false, if there is none in the set.
  bool HandOver(Now now, RoleOutbox* out);

  // The service can't go on: this process ends.
  void Exit(std::string why, RoleOutbox* out);

  // Active, and its lease is young enough to say so to anybody.
  bool MayAnswer(Now now) const;
  bool active() const { return role_ == Role::kActive; }
  bool solo() const { return active() && set_.size() == 1; }
  bool handing_over() const { return handing_over_; }
  // Nothing that was committed is missing elsewhere: of an active one, that it is not alone; of a
  // follower, that the coordinator named it when it was asked last.
  bool in_sync() const { return active() ? options_.peer.empty() || !solo() : in_sync_; }
  Role role() const { return role_; }
  uint64_t epoch() const { return epoch_; }
  uint64_t last() const { return log_.last(); }
  uint64_t committed() const { return committed_; }
  uint64_t synced() const { return synced_; }
  const LogTail& log() const { return log_; }
  const pb::HaHead& head() const { return head_; }
  // For those who asked the wrong one.
  pb::NotActive Hint() const;
  // As the coordinator had it when it was asked last; epoch 0: there is none, or it was not.
  const pb::LeaseRecord& seen_record() const { return seen_record_; }
  // Why a follower is not active, for people; empty: it need not be.
  std::string_view why_waiting() const { return why_waiting_; }

 private:
  struct HeldReply {  // until the write that it rests on is durable
    RpcReply reply;
    uint64_t matched = 0;
    uint64_t may_apply = 0;
  };

  // role_core.cc: time, the coordinator
  void Refuse(const RpcRequest& request, Err err, std::string message, RoleOutbox* out);
  void Ask(CoordinatorCall::Kind kind, Now now, RoleOutbox* out);
  void JudgeView(const CoordinatorView& view, Now now, RoleOutbox* out);
  std::string_view WhyNotClaim(const CoordinatorView& view, Now now) const;
  void Claim(const CoordinatorView& view, Now now, RoleOutbox* out);
  void Won(RoleOutbox* out);
  void Promote(Now now, RoleOutbox* out);
  void TickActive(Now now, RoleOutbox* out);
  std::set<std::string> WantedSet(Now now) const;
  void CommitRecord(std::set<std::string> set, Now now, RoleOutbox* out);
  void OnRecordCommitted(uint64_t version, Now now, RoleOutbox* out);
  void OnActiveView(const CoordinatorView& view, Now now, RoleOutbox* out);
  void Flush(RoleOutbox* out);
  void Advance(RoleOutbox* out);
  void CommitThrough(uint64_t index, RoleOutbox* out);
  uint64_t EpochAbove() const;
  bool Forced(Now now) const;

  // role_ship.cc: the log of two nodes
  void Ship(Now now, RoleOutbox* out);
  void SendRecords(std::vector<pb::HaRecord> records, Now now, RoleOutbox* out);
  void CallPeer(MessageType type, std::string message, uint32_t timeout_ms, Now now,
                RoleOutbox* out);
  void OnShipDone(const CallDone& done, Now now, RoleOutbox* out);
  void OnSnapshotDone(const CallDone& done, Now now, RoleOutbox* out);
  void MeetPeer(const std::string& node, uint64_t process, Now now);
  bool PeerSilent(Now now) const;
  bool PeerCaughtUp(Now now) const;
  void OnShip(const RpcRequest& request, Now now, RoleOutbox* out);
  void OnSnapshot(const RpcRequest& request, Now now, RoleOutbox* out);
  void OnTakeOver(const RpcRequest& request, Now now, RoleOutbox* out);
  void TakeIdentity(const std::string& identity);
  bool Obey(const RpcRequest& request, uint64_t epoch, const std::string& node, RoleOutbox* out);
  bool MayCut(uint64_t epoch, const std::string& node) const;
  void AnswerWhenWritten(HeldReply held, RoleOutbox* out);
  bool Follows(const pb::ShipRequest& message, pb::ShipReply* reply) const;
  uint64_t DiffersAt(const pb::ShipRequest& message) const;
  void TakeRecords(pb::ShipRequest* message, uint64_t differs_at);

  const RoleOptions options_;
  const uint64_t process_;
  pb::HaHead head_;
  LogTail log_;
  uint64_t synced_ = 0;     // of it
  uint64_t committed_ = 0;  // handed out
  Role role_ = Role::kFollower;
  uint64_t epoch_ = 0;  // of an active one
  bool ended_ = false;
  uint64_t heard_epoch_ = 0;
  uint64_t last_tick_ms_ = 0;

  // The disk.
  RoleWrite next_write_;
  bool next_write_wanted_ = false;
  bool writing_ = false;
  uint64_t writing_last_ = 0;  // log_.last() when it began
  bool writing_reload_ = false;
  bool writing_raise_ = false;    // the promise of raised_epoch_
  uint64_t written_version_ = 0;  // head_.record_version(), as it was written last
  std::vector<HeldReply> writing_replies_;
  std::vector<HeldReply> next_replies_;
  bool next_reload_ = false;

  // The coordinator.
  bool asking_ = false;
  CoordinatorCall asked_;
  uint64_t asked_ms_ = 0;
  uint64_t claimed_ms_ = 0;
  bool want_read_ = false;
  uint64_t ask_again_ms_ = 0;  // after an error
  uint64_t next_poll_ms_ = 0;
  uint64_t eager_until_ms_ = 0;
  std::string_view why_waiting_;
  bool in_sync_ = false;
  pb::LeaseRecord seen_record_;
  bool corrupt_ = false;         // the coordinator's record can't be understood
  uint64_t free_version_ = 0;    // that nobody held, when
  uint64_t free_since_ms_ = 0;   // it was seen first; 0: somebody holds it
  uint64_t force_until_ms_ = 0;  // 0: nobody said so, or it is over
  uint64_t force_version_ = 0;   // of the record, as seen first since
  std::string known_active_;     // address
  uint64_t known_epoch_ = 0;
  uint64_t cut_epoch_ = 0;  // whom the record named when it was last read for a cut
  std::string cut_node_;

  // An active one.
  std::string claimed_identity_;
  uint64_t version_ = 0;
  pb::LeaseRecord record_;    // as it was then
  uint64_t first_index_ = 0;  // of the records under this epoch
  std::set<std::string> set_;
  std::set<std::string> unsettled_;  // nodes of sets that may have been committed
  uint64_t force_logged_ = UINT64_MAX;
  uint64_t good_ms_ = 0;  // when the last good renewal was sent
  uint64_t next_renew_ms_ = 0;
  bool synced_since_renewal_ = false;
  bool record_wanted_ = false;
  uint64_t raise_above_ = 0;   // not 0: wanted
  uint64_t raised_epoch_ = 0;  // not 0: won, and its promise is being written
  bool handing_over_ = false;
  bool released_ = false;
  uint64_t leave_ms_ = 0;  // not 0: it handed over, and ends then at the latest

  // The standby of an active one.
  std::string peer_node_;
  uint64_t peer_process_ = 0;
  uint64_t peer_next_ = 0;   // the record to send next
  uint64_t peer_acked_ = 0;  // it has synced so far
  uint64_t peer_heard_ms_ = 0;
  uint64_t peer_kept_up_since_ms_ = 0;
  uint64_t peer_called_ms_ = 0;
  bool peer_faulted_ = false;
  uint64_t last_call_ = 0;
  uint64_t peer_call_ = 0;  // under way; 0: none
  MessageType peer_call_type_ = MessageType::kShip;
  uint64_t peer_retry_ms_ = 0;
  bool reading_ = false;  // records or rows, from the disk
  struct Snapshot {
    uint32_t part = 0;  // to be sent next
    std::string after;  // where that begins
    pb::HaPoint base;   // of part 0
    bool last = false;  // of the part that was sent
  };
  // That it needs. It is assigned: clang 14 cannot emplace() a type nested in this class.
  std::optional<Snapshot> snapshot_;

  // A follower that takes a snapshot.
  uint32_t install_next_ = 0;
  uint64_t install_epoch_ = 0;
};

}  // namespace hayloft
