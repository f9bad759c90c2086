// The log of two nodes: what the active sends, what the standby takes, cuts and answers.
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/ha/role_core.h"
#include "common/log.h"
#include "common/mutant.h"

namespace hayloft {

namespace {

constexpr uint64_t kRetryMs = 100;

// Whether it is what an active node may say: records that follow `previous` in the order in which
// they were made.
bool WellFormed(const pb::ShipRequest& message) {
  if (message.node().size() != kNodeIdBytes) return false;
  if (message.epoch() == 0 || message.epoch() > kEpochMax) return false;
  uint64_t index = message.previous().index();
  uint64_t epoch = message.previous().epoch();
  for (const pb::HaRecord& record : message.records()) {
    if (record.index() != ++index || record.epoch() < epoch) return false;
    if (record.epoch() > message.epoch() || record.node().size() != kNodeIdBytes) return false;
    epoch = record.epoch();
  }
  return index <= message.last_index();
}

pb::HaPoint PointOf(const pb::HaRecord& record) {
  pb::HaPoint point;
  point.set_index(record.index());
  point.set_epoch(record.epoch());
  point.set_node(record.node());
  return point;
}

}  // namespace

// --- The active's side ---

void RoleCore::CallPeer(MessageType type, std::string message, uint32_t timeout_ms, Now now,
                        RoleOutbox* out) {
  RpcCall call;
  call.call_id = ++last_call_;
  call.address = options_.peer;
  call.type = type;
  call.timeout_ms = timeout_ms;
  call.message = std::move(message);
  peer_call_ = call.call_id;
  peer_call_type_ = type;
  peer_called_ms_ = now.mono_ms;
  out->calls.push_back(std::move(call));
}

void RoleCore::Ship(Now now, RoleOutbox* out) {
  if (ended_ || options_.peer.empty() || peer_call_ != 0 || reading_ || released_) return;
  if (now.mono_ms < peer_retry_ms_) return;
  if (snapshot_.has_value()) {
    reading_ = true;
    out->snapshot_after = snapshot_->after;
    return;
  }
  const bool idle = peer_next_ > log_.last();
  if (idle && now.mono_ms - peer_called_ms_ < kShipIdleMs) return;
  if (idle) return SendRecords({}, now, out);
  if (peer_next_ <= log_.base()) {  // they are not kept any more
    PROBE("ha_snapshot_for_old_log");
    snapshot_ = Snapshot{};
    return Ship(now, out);
  }
  std::vector<pb::HaRecord> records = log_.Read(peer_next_, kShipBytes);
  if (!records.empty()) return SendRecords(std::move(records), now, out);
  PROBE("ha_reads_old_records");
  reading_ = true;
  out->read_from = peer_next_;
}

void RoleCore::OnRecordsRead(std::vector<pb::HaRecord> records, Now now, RoleOutbox* out) {
  reading_ = false;
  if (ended_ || !active() || peer_call_ != 0) return;
  const bool wanted = !records.empty() && records.front().index() == peer_next_ &&
                      records.back().index() <= log_.last();
  if (records.empty()) snapshot_ = Snapshot{};
  if (wanted) return SendRecords(std::move(records), now, out);
  Ship(now, out);
}

void RoleCore::SendRecords(std::vector<pb::HaRecord> records, Now now, RoleOutbox* out) {
  pb::ShipRequest message;
  message.set_epoch(epoch_);
  message.set_node(options_.node);
  message.set_identity(head_.identity());
  *message.mutable_previous() = log_.PointAt(peer_next_ - 1);
  for (pb::HaRecord& record : records) *message.add_records() = std::move(record);
  message.set_committed(committed_);
  message.set_last_index(log_.last());
  CallPeer(MessageType::kShip, message.SerializeAsString(), kShipTimeoutMs, now, out);
}

void RoleCore::OnSnapshotRead(SnapshotPart part, Now now, RoleOutbox* out) {
  reading_ = false;
  if (ended_ || !active() || !snapshot_.has_value() || peer_call_ != 0) return;
  if (snapshot_->part == 0) {
    if (part.base < log_.base()) return;  // its log went on meanwhile; read again
    snapshot_->base = log_.PointAt(part.base);
  }
  pb::SnapshotRequest message;
  message.set_epoch(epoch_);
  message.set_node(options_.node);
  message.set_identity(head_.identity());
  *message.mutable_base() = snapshot_->base;
  message.set_part(snapshot_->part);
  message.set_last(part.last);
  snapshot_->after = part.after;
  snapshot_->last = part.last;
  for (pb::SnapshotRow& row : part.rows) *message.add_rows() = std::move(row);
  CallPeer(MessageType::kSnapshot, message.SerializeAsString(), 10 * kShipTimeoutMs, now, out);
}

void RoleCore::OnCallDone(CallDone&& done, Now now, RoleOutbox* out) {
  if (done.call_id != peer_call_ || ended_) return;
  peer_call_ = 0;
  if (peer_call_type_ == MessageType::kTakeOver) {
    // Until the record names the other one; nobody waits for one that is gone.
    leave_ms_ = now.mono_ms + (done.err == Err::kUnavailable ? 0 : kTakeOverMs);
    return;
  }
  if (done.err == Err::kStaleEpoch) {
    pb::ShipReply refusal;  // to a snapshot, too
    const uint64_t promised =
        refusal.ParseFromString(done.message) ? refusal.promised_epoch() : uint64_t{0};
    OnHeardEpoch(promised);
    if (promised >= epoch_) return Exit("the other node promised a later epoch", out);
  }
  if (done.err != Err::kOk) {
    if (done.err == Err::kUnavailable && !released_) handing_over_ = false;  // it is gone
    peer_retry_ms_ = now.mono_ms + kRetryMs;
    snapshot_.reset();  // from its beginning, if it is needed still
    return;
  }
  if (peer_call_type_ == MessageType::kSnapshot) return OnSnapshotDone(done, now, out);
  OnShipDone(done, now, out);
}

void RoleCore::MeetPeer(const std::string& node, uint64_t process, Now now) {
  if (node != peer_node_) {  // another disk: what it has is not known
    peer_node_ = node;
    peer_acked_ = 0;
    peer_process_ = 0;
  }
  if (process != peer_process_) {
    peer_process_ = process;
    peer_faulted_ = false;
  }
  if (PeerSilent(now)) peer_kept_up_since_ms_ = now.mono_ms;
  peer_heard_ms_ = now.mono_ms;
}

void RoleCore::OnShipDone(const CallDone& done, Now now, RoleOutbox* out) {
  pb::ShipReply reply;
  if (!reply.ParseFromString(done.message) || reply.node().size() != kNodeIdBytes ||
      reply.matched() > log_.last()) {
    peer_retry_ms_ = now.mono_ms + kRetryMs;
    return;
  }
  MeetPeer(reply.node(), reply.process(), now);
  if (reply.needs_snapshot()) {
    PROBE("ha_snapshot_wanted");
    snapshot_ = Snapshot{};
  } else if (reply.try_from() != 0) {
    peer_next_ = std::clamp<uint64_t>(reply.try_from(), 1, log_.last() + 1);
  } else {
    peer_acked_ = std::max(peer_acked_, reply.matched());
    peer_next_ = reply.matched() + 1;
    Advance(out);
  }
  TickActive(now, out);
}

void RoleCore::OnSnapshotDone(const CallDone& done, Now now, RoleOutbox* out) {
  pb::SnapshotReply reply;
  if (reply.ParseFromString(done.message) && reply.node() == peer_node_) {
    peer_heard_ms_ = now.mono_ms;
  }
  ++snapshot_->part;
  if (snapshot_->last) {
    peer_next_ = snapshot_->base.index() + 1;
    snapshot_.reset();
  }
  Ship(now, out);
}

bool RoleCore::PeerSilent(Now now) const {
  return now.mono_ms - peer_heard_ms_ > options_.silent_ms;
}

bool RoleCore::PeerCaughtUp(Now now) const {
  if (peer_node_.empty() || PeerSilent(now)) return false;
  if (peer_acked_ < committed_ || peer_acked_ < first_index_) return false;
  return !peer_faulted_ || now.mono_ms - peer_kept_up_since_ms_ >= options_.rejoin_ms;
}

// --- The standby's side ---

// Another one's versions say nothing of those that were seen.
void RoleCore::TakeIdentity(const std::string& identity) {
  if (identity == head_.identity()) return;
  head_.set_identity(identity);
  head_.set_record_version(0);
}

// Rule 4. False: it was refused.
bool RoleCore::Obey(const RpcRequest& request, uint64_t epoch, const std::string& node,
                    RoleOutbox* out) {
  if (node == options_.node) {  // our own words: the peer's address is ours
    Refuse(request, Err::kInvalid, "", out);
    return false;
  }
  const bool other = node != head_.promised_node();
  if (epoch < head_.promised_epoch() || (epoch == head_.promised_epoch() && other)) {
    PROBE("ha_refuses_stale");
    pb::ShipReply refusal;
    refusal.set_node(options_.node);
    refusal.set_promised_epoch(head_.promised_epoch());
    Refuse(request, Err::kStaleEpoch, refusal.SerializeAsString(), out);
    return false;
  }
  if (active()) {
    Refuse(request, Err::kUnavailable, "", out);
    Exit("another node is active", out);
    return false;
  }
  if (epoch > head_.promised_epoch()) {
    head_.set_promised_epoch(epoch);
    head_.set_promised_node(node);
    head_.set_record_version(0);  // it may have been made active with a record from a backup
    next_write_.head = head_;
    next_write_wanted_ = true;
  }
  known_epoch_ = epoch;
  role_ = Role::kFollower;  // a claim of its own that is under way counts no more
  force_until_ms_ = 0;
  version_ = 0;
  return true;
}

// Rule 6: a late message of an older epoch cuts nothing. The record was read by the last poll.
bool RoleCore::MayCut(uint64_t epoch, const std::string& node) const {
  return cut_epoch_ == epoch && cut_node_ == node;
}

// A reply rests on all that was not written before it was made.
void RoleCore::AnswerWhenWritten(HeldReply held, RoleOutbox* out) {
  if (next_write_wanted_) {
    next_replies_.push_back(std::move(held));
  } else if (writing_) {
    writing_replies_.push_back(std::move(held));
  } else {
    const uint64_t may_apply = std::min({held.may_apply, held.matched, synced_});
    if (may_apply > committed_) CommitThrough(may_apply, out);
    out->replies.push_back(std::move(held.reply));
  }
  Flush(out);
}

// Where `previous` is not in this log, what the active shall send instead.
bool RoleCore::Follows(const pb::ShipRequest& message, pb::ShipReply* reply) const {
  const pb::HaPoint& previous = message.previous();
  if (previous.index() > log_.last()) {
    reply->set_try_from(log_.last() + 1);
    return false;
  }
  if (previous.index() < log_.base()) {
    // What is not kept was applied. An active whose log ends before it has another history.
    if (message.last_index() < log_.base()) {
      reply->set_needs_snapshot(true);
    } else {
      reply->set_try_from(log_.base() + 1);
    }
    return false;
  }
  if (log_.Has(previous)) return true;
  PROBE("ha_log_differs_before");
  // The active's log is another one from somewhere in this epoch on, or before it.
  const uint64_t first = log_.FirstOfEpoch(previous.index());
  if (first <= log_.base()) {
    reply->set_needs_snapshot(true);
  } else {
    reply->set_try_from(first);
  }
  return false;
}

// The first record that this log has otherwise; 0: none.
uint64_t RoleCore::DiffersAt(const pb::ShipRequest& message) const {
  if (IsMutant(Mutant::kHaKeepTail)) return 0;
  for (const pb::HaRecord& record : message.records()) {
    if (record.index() > log_.last()) return 0;
    if (!log_.Has(PointOf(record))) return record.index();
  }
  return 0;
}

void RoleCore::OnShip(const RpcRequest& request, Now now, RoleOutbox* out) {
  pb::ShipRequest message;
  if (!message.ParseFromString(request.message) || !WellFormed(message)) {
    return Refuse(request, Err::kInvalid, "", out);
  }
  if (!Obey(request, message.epoch(), message.node(), out)) return;
  if (!head_.installing() && message.identity() != head_.identity() &&
      !message.identity().empty()) {
    TakeIdentity(message.identity());
    next_write_.head = head_;
    next_write_wanted_ = true;
  }
  HeldReply held;
  held.reply.token = request.token;
  held.reply.type = request.type;
  held.may_apply = message.committed();
  pb::ShipReply reply;
  reply.set_node(options_.node);
  reply.set_process(process_);
  reply.set_needs_snapshot(head_.installing());
  if (!head_.installing() && Follows(message, &reply)) {
    const uint64_t differs_at = DiffersAt(message);
    const bool durable = differs_at <= synced_ || writing_;
    if (differs_at != 0 && durable && !MayCut(message.epoch(), message.node())) {
      PROBE("ha_cut_waits");
      next_poll_ms_ = now.mono_ms;  // the next poll says whether it may
      Refuse(request, Err::kBusy, "", out);
      return Flush(out);
    }
    if (differs_at != 0 && differs_at <= committed_) {
      PROBE("ha_cut_below_applied");
      reply.set_needs_snapshot(true);
    } else {
      held.matched = message.previous().index() + static_cast<uint64_t>(message.records_size());
      reply.set_matched(held.matched);
      TakeRecords(&message, differs_at);
    }
  }
  held.reply.message = reply.SerializeAsString();
  AnswerWhenWritten(std::move(held), out);
}

void RoleCore::TakeRecords(pb::ShipRequest* message, uint64_t differs_at) {
  if (differs_at != 0) {
    PROBE("ha_log_cut");
    LOG_WARN("log_cut", "from=%llu last=%llu epoch=%llu",
             static_cast<unsigned long long>(differs_at),
             static_cast<unsigned long long>(log_.last()),
             static_cast<unsigned long long>(message->epoch()));
    std::erase_if(next_write_.records,
                  [&](const pb::HaRecord& record) { return record.index() >= differs_at; });
    next_write_.cut_from =
        next_write_.cut_from == 0 ? differs_at : std::min(next_write_.cut_from, differs_at);
    next_write_wanted_ = true;
    log_.CutFrom(differs_at);
    synced_ = std::min(synced_, log_.last());
    writing_last_ = std::min(writing_last_, log_.last());
  }
  for (pb::HaRecord& record : *message->mutable_records()) {
    if (record.index() <= log_.last()) continue;
    next_write_.records.push_back(record);
    next_write_wanted_ = true;
    log_.Append(std::move(record));
  }
}

void RoleCore::OnSnapshot(const RpcRequest& request, Now now, RoleOutbox* out) {
  pb::SnapshotRequest message;
  if (!message.ParseFromString(request.message) || message.node().size() != kNodeIdBytes ||
      message.epoch() > kEpochMax || message.base().epoch() > message.epoch() ||
      message.base().node().size() > kNodeIdBytes) {
    return Refuse(request, Err::kInvalid, "", out);
  }
  if (!Obey(request, message.epoch(), message.node(), out)) return;
  const bool first = message.part() == 0;
  const bool follows =
      head_.installing() && install_epoch_ == message.epoch() && install_next_ == message.part();
  if (!first && !follows) {
    Refuse(request, Err::kInvalid, "", out);
    return Flush(out);
  }
  if (first && log_.last() > 0 && !MayCut(message.epoch(), message.node())) {
    next_poll_ms_ = now.mono_ms;
    Refuse(request, Err::kBusy, "", out);
    return Flush(out);
  }
  if (first) {
    PROBE("ha_snapshot_begins");
    next_write_ = {};
    next_write_.wipe = true;
    TakeIdentity(message.identity());
    *head_.mutable_base() = message.base();
    head_.set_installing(true);
    head_.set_joining(true);
    next_write_.head = head_;
    log_.Reset(message.base());
    synced_ = writing_last_ = 0;
    committed_ = log_.base();
    install_next_ = 0;
    install_epoch_ = message.epoch();
  }
  ++install_next_;
  for (pb::SnapshotRow& row : *message.mutable_rows()) {
    next_write_.rows.push_back(std::move(row));
  }
  if (message.last()) {
    PROBE("ha_snapshot_installed");
    head_.set_installing(false);
    next_write_.head = head_;
    next_reload_ = true;
  }
  next_write_wanted_ = true;
  pb::SnapshotReply reply;
  reply.set_node(options_.node);
  HeldReply held;
  held.reply.token = request.token;
  held.reply.type = request.type;
  held.reply.message = reply.SerializeAsString();
  AnswerWhenWritten(std::move(held), out);
}

void RoleCore::OnTakeOver(const RpcRequest& request, Now now, RoleOutbox* out) {
  pb::TakeOverRequest message;
  if (!message.ParseFromString(request.message)) return Refuse(request, Err::kInvalid, "", out);
  // Only a hint to ask the coordinator now, and often: nothing rests on who says it.
  eager_until_ms_ = now.mono_ms + kTakeOverMs;
  next_poll_ms_ = now.mono_ms;
  Refuse(request, Err::kOk, pb::TakeOverReply().SerializeAsString(), out);
}

}  // namespace hayloft
