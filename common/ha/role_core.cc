#include "common/ha/role_core.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/log.h"
#include "common/mutant.h"

namespace hayloft {

namespace {

constexpr uint64_t kStallMs = 1'000;  // whoever slept so long starts its timers anew
constexpr uint64_t kEagerPollMs = 20;
constexpr uint64_t kAskAgainMs = 50;  // after an error

std::set<std::string> SetOf(const pb::LeaseRecord& record) {
  return {record.in_sync().begin(), record.in_sync().end()};
}

}  // namespace

RoleCore::RoleCore(RoleOptions options, RoleDisk disk, uint64_t process)
    : options_(std::move(options)),
      process_(process),
      head_(std::move(disk.head)),
      log_(std::move(disk.log)),
      synced_(log_.last()),
      committed_(disk.applied),
      written_version_(head_.record_version()) {
  ASSERT(options_.node.size() == kNodeIdBytes);
  ASSERT(committed_ >= log_.base());
  ASSERT(committed_ <= log_.last());
}

void RoleCore::Start(Now now, RoleOutbox* out) {
  last_tick_ms_ = now.mono_ms;
  if (options_.force) Force(now);
  Ask(CoordinatorCall::Kind::kRead, now, out);
}

void RoleCore::OnTick(Now now, RoleOutbox* out) {
  if (ended_) return;
  const bool stalled = now.mono_ms - last_tick_ms_ > kStallMs;
  last_tick_ms_ = now.mono_ms;
  if (stalled) {
    PROBE("ha_stalled");
    peer_heard_ms_ = now.mono_ms;
  }
  if (active()) {
    Hurry(now, out);
    return TickActive(now, out);
  }
  if (role_ == Role::kWinner || asking_ || now.mono_ms < next_poll_ms_) return;
  Ask(CoordinatorCall::Kind::kRead, now, out);
}

void RoleCore::OnRequest(RpcRequest&& request, Now now, RoleOutbox* out) {
  if (ended_) return Refuse(request, Err::kUnavailable, "", out);
  switch (request.type) {
    case MessageType::kShip:
      return OnShip(request, now, out);
    case MessageType::kSnapshot:
      return OnSnapshot(request, now, out);
    case MessageType::kTakeOver:
      return OnTakeOver(request, now, out);
    default:
      return Refuse(request, Err::kUnsupported, "", out);
  }
}

void RoleCore::Refuse(const RpcRequest& request, Err err, std::string message, RoleOutbox* out) {
  RpcReply reply;
  reply.token = request.token;
  reply.type = request.type;
  reply.err = err;
  reply.message = std::move(message);
  out->replies.push_back(std::move(reply));
}

void RoleCore::Exit(std::string why, RoleOutbox* out) {
  if (ended_) return;
  ended_ = true;
  out->exit = std::move(why);
}

pb::NotActive RoleCore::Hint() const {
  pb::NotActive hint;
  hint.set_epoch(std::max(known_epoch_, head_.promised_epoch()));
  hint.set_hint(handing_over_ ? options_.peer : known_active_);
  return hint;
}

// --- The disk ---

void RoleCore::Flush(RoleOutbox* out) {
  if (writing_ || !next_write_wanted_) return;
  // It goes with what is written anyway: of an active one and its standby each second.
  if (head_.record_version() != written_version_) next_write_.head = head_;
  written_version_ = head_.record_version();
  writing_ = true;
  next_write_wanted_ = false;
  out->write = std::exchange(next_write_, {});
  writing_last_ = log_.last();
  writing_replies_ = std::exchange(next_replies_, {});
  writing_reload_ = std::exchange(next_reload_, false);
  writing_raise_ = raised_epoch_ != 0;
}

void RoleCore::OnWritten(Now now, RoleOutbox* out) {
  ASSERT(writing_);
  writing_ = false;
  synced_ = writing_last_;
  synced_since_renewal_ = true;
  record_wanted_ = false;
  out->reload = std::exchange(writing_reload_, false);
  for (HeldReply& held : std::exchange(writing_replies_, {})) {
    const uint64_t may_apply = std::min({held.may_apply, held.matched, synced_});
    if (!active() && may_apply > committed_) CommitThrough(may_apply, out);
    out->replies.push_back(std::move(held.reply));
  }
  if (ended_) return;
  if (writing_raise_) {
    epoch_ = known_epoch_ = std::exchange(raised_epoch_, 0);
    first_index_ = log_.last() + 1;
    out->raised_epoch = epoch_;
  }
  if (role_ == Role::kWinner && !next_write_wanted_) return Promote(now, out);
  Flush(out);
  if (!active()) return;
  Advance(out);
  Ship(now, out);
}

bool RoleCore::Forced(Now now) const {
  return force_until_ms_ != 0 && now.mono_ms < force_until_ms_;
}

void RoleCore::CommitThrough(uint64_t index, RoleOutbox* out) {
  while (committed_ < index) out->committed.push_back(log_.At(++committed_));
  log_.Trim(committed_);
}

// Rule 2, and of rule 3: while a change is unsettled, all nodes of both sets.
void RoleCore::Advance(RoleOutbox* out) {
  if (options_.strict && set_.size() < 2) return;
  uint64_t through = IsMutant(Mutant::kHaActBeforeCommit) ? log_.last() : synced_;
  std::set<std::string> must = set_;
  if (!IsMutant(Mutant::kHaForgetUnsettled)) must.insert(unsettled_.begin(), unsettled_.end());
  if (IsMutant(Mutant::kHaSoloBeforeCommit) && unsettled_.size() == 1) must = unsettled_;
  must.erase(options_.node);
  for (const std::string& node : must) {
    if (IsMutant(Mutant::kHaActBeforeCommit)) break;
    through = std::min(through, node == peer_node_ ? peer_acked_ : 0);
  }
  if (through > committed_) CommitThrough(through, out);
}

void RoleCore::Propose(uint64_t first_index, std::vector<std::string> bodies, Now now,
                       RoleOutbox* out) {
  PutOff(first_index, std::move(bodies));
  Hurry(now, out);
}

void RoleCore::PutOff(uint64_t first_index, std::vector<std::string> bodies) {
  ASSERT(active());
  ASSERT(first_index == log_.last() + 1);
  for (std::string& body : bodies) {
    pb::HaRecord record;
    record.set_index(log_.last() + 1);
    record.set_epoch(epoch_);
    record.set_node(options_.node);
    record.set_body(std::move(body));
    next_write_.records.push_back(record);
    log_.Append(std::move(record));
  }
}

void RoleCore::Hurry(Now now, RoleOutbox* out) {
  if (ended_ || next_write_.records.empty()) return;
  next_write_wanted_ = true;
  Flush(out);
  Ship(now, out);
}

// --- The coordinator ---

void RoleCore::Ask(CoordinatorCall::Kind kind, Now now, RoleOutbox* out) {
  ASSERT(!asking_);
  asking_ = true;
  if (kind != CoordinatorCall::Kind::kCommit) asked_ = {};
  asked_.kind = kind;
  asked_ms_ = now.mono_ms;
  if (kind == CoordinatorCall::Kind::kRead) want_read_ = false;
  out->coordinator = asked_;
}

void RoleCore::OnCoordinatorDone(CoordinatorDone&& done, Now now, RoleOutbox* out) {
  ASSERT(asking_);
  asking_ = false;
  next_poll_ms_ = now.mono_ms + (now.mono_ms < eager_until_ms_ ? kEagerPollMs : kPollMs);
  if (ended_) return;
  if (asked_.kind == CoordinatorCall::Kind::kRelease) {  // whether it arrived: the lease ends
    pb::TakeOverRequest message;
    message.set_epoch(epoch_);
    message.set_node(options_.node);
    return CallPeer(MessageType::kTakeOver, message.SerializeAsString(), kShipTimeoutMs, now, out);
  }
  if (asked_.kind == CoordinatorCall::Kind::kRead) {
    corrupt_ = done.err == Err::kCorrupt;
    if (corrupt_ && !active()) return JudgeView({}, now, out);
    if (done.err != Err::kOk) {
      in_sync_ = false;
      want_read_ = active();
      ask_again_ms_ = now.mono_ms + kAskAgainMs;
      why_waiting_ = "the coordinator cannot be read";
      return;
    }
    return active() ? OnActiveView(done.view, now, out) : JudgeView(done.view, now, out);
  }
  if (active()) {
    if (done.err == Err::kOk) return OnRecordCommitted(done.version, now, out);
    PROBE("ha_record_not_committed");
    // An epoch that may be raised or not is nobody's.
    const bool raises = asked_.record.epoch() > std::max(epoch_, raised_epoch_);
    if (raises && done.err != Err::kExists) return Exit("a higher epoch could not be won", out);
    want_read_ = done.err == Err::kExists || IsMutant(Mutant::kHaSettleByRead);
    if (asked_.renews) {
      synced_since_renewal_ |= done.err == Err::kExists;  // else it may have been renewed for that
      next_renew_ms_ = now.mono_ms;
    }
    ask_again_ms_ = now.mono_ms + kAskAgainMs;
    return;
  }
  // A claim. One that timed out may have won: the record then names this node, and it claims again;
  // so it does when it obeyed another one meanwhile.
  const bool stands = role_ == Role::kCandidate;
  role_ = Role::kFollower;
  if (done.err != Err::kOk || !stands) return;
  version_ = done.version;
  record_ = asked_.record;
  if (asked_.version == 0) return Ask(CoordinatorCall::Kind::kRead, now, out);  // its identity
  Won(out);
}

uint64_t RoleCore::EpochAbove() const {
  return std::max(
      {head_.promised_epoch(), heard_epoch_, raise_above_, log_.PointAt(log_.last()).epoch()});
}

void RoleCore::JudgeView(const CoordinatorView& view, Now now, RoleOutbox* out) {
  cut_epoch_ = view.record.epoch();
  cut_node_ = view.record.holder();
  seen_record_ = view.record;
  const bool same = view.identity == head_.identity();
  if (same && view.record.epoch() >= head_.promised_epoch()) {
    head_.set_record_version(std::max(head_.record_version(), view.version));
  }
  known_epoch_ = view.record.epoch();
  known_active_ = view.held && view.record.holder() != options_.node ? view.record.holder_address()
                                                                     : std::string();
  const bool first_record = asked_.version == 0 && version_ != 0 && view.version == version_ &&
                            view.record.holder() == options_.node;
  if (first_record) {
    claimed_identity_ = view.identity;
    record_ = view.record;
    role_ = Role::kFollower;
    return Won(out);
  }
  if (role_ != Role::kFollower) return;
  const bool others = view.held && view.record.holder() != options_.node;
  // Whoever renews its lease lives; an operator meant another case. One that died holds it still.
  if (force_version_ == 0) force_version_ = view.version;
  if (others && view.version != force_version_) force_until_ms_ = 0;
  if (others) free_since_ms_ = 0;
  if (!others && (free_since_ms_ == 0 || free_version_ != view.version)) {
    free_version_ = view.version;
    free_since_ms_ = now.mono_ms;
  }
  const std::string_view why = WhyNotClaim(view, now);
  if (why != why_waiting_ && !why.empty()) {
    LOG_INFO("waits", "why=\"%s\"", std::string(why).c_str());
  }
  why_waiting_ = why;
  CoordinatorView free = view;
  free.held = false;
  in_sync_ = !Forced(now) && WhyNotClaim(free, now).empty();
  if (why.empty() && !writing_ && !next_write_wanted_) Claim(view, now, out);
}

// Rule 1. Empty: this node may win.
std::string_view RoleCore::WhyNotClaim(const CoordinatorView& view, Now now) const {
  if (head_.installing()) return "its snapshot is not complete";
  if (view.held && view.record.holder() != options_.node) return "another node is active";
  if (Forced(now)) {
    // Nobody may know of a lease that lives: of a record that was lost, or restored without it.
    const bool waited = now.mono_ms - free_since_ms_ > options_.lease_ms;
    return waited ? "" : "a lease may live";
  }
  if (corrupt_) return "the coordinator's record is damaged: force-promote decides";
  if (view.version == 0) {
    const bool had_one = !head_.identity().empty() || log_.last() > 0;
    if (had_one) return "the coordinator's record is lost: force-promote decides";
    return head_.joining() ? "it was made to follow, and there is no active node" : "";
  }
  if (!head_.identity().empty() && head_.identity() != view.identity &&
      !IsMutant(Mutant::kHaBelieveRestored)) {
    return "the coordinator's record is another one: force-promote decides";
  }
  if (view.record.epoch() > kEpochMax) return "the coordinator's record has an impossible epoch";
  if (view.record.epoch() < head_.promised_epoch() && !IsMutant(Mutant::kHaBelieveRestored)) {
    return "the coordinator's record is older than what was promised: force-promote decides";
  }
  if (view.version < head_.record_version() && !IsMutant(Mutant::kHaBelieveRestored)) {
    return "the coordinator's record is from a backup: force-promote decides";
  }
  const std::set<std::string> set = SetOf(view.record);
  if (!set.contains(options_.node) && !IsMutant(Mutant::kHaWinOutsideSet)) {
    return "it is not in the in-sync set";
  }
  const bool reaches = log_.last() >= view.record.log_position();
  if (!reaches && !IsMutant(Mutant::kHaIgnorePosition)) return "its log is too short";
  return "";
}

void RoleCore::Claim(const CoordinatorView& view, Now now, RoleOutbox* out) {
  ASSERT(synced_ == log_.last());
  PROBE("ha_claims");
  role_ = Role::kCandidate;
  claimed_identity_ = view.identity;
  asked_.record = view.record;
  pb::LeaseRecord& record = asked_.record;
  const uint64_t above = IsMutant(Mutant::kHaReuseEpoch) ? 0 : EpochAbove();
  record.set_epoch(std::max(record.epoch(), above) + 1);
  record.set_holder(options_.node);
  record.set_holder_address(options_.address);
  record.clear_in_sync();
  record.add_in_sync(options_.node);
  record.set_log_position(synced_);
  if (Forced(now)) record.set_forced_epoch(record.epoch());
  asked_.version = view.version;
  asked_.renews = true;
  version_ = 0;
  claimed_ms_ = now.mono_ms;
  Ask(CoordinatorCall::Kind::kCommit, now, out);
}

// It promises its own epoch, durably, before anybody hears of it.
void RoleCore::Won(RoleOutbox* out) {
  role_ = Role::kWinner;
  head_.set_promised_epoch(record_.epoch());
  head_.set_promised_node(options_.node);
  head_.set_identity(claimed_identity_);
  head_.set_record_version(version_);
  head_.set_joining(false);
  next_write_.head = head_;
  next_write_wanted_ = true;
  good_ms_ = claimed_ms_;
  Flush(out);
}

void RoleCore::Promote(Now now, RoleOutbox* out) {
  PROBE("ha_won");
  role_ = Role::kActive;
  force_until_ms_ = 0;
  epoch_ = record_.epoch();
  first_index_ = log_.last() + 1;
  set_ = {options_.node};
  unsettled_.clear();
  force_logged_ = UINT64_MAX;
  next_renew_ms_ = now.mono_ms + options_.lease_ms / 3;
  known_epoch_ = epoch_;
  known_active_ = options_.address;
  why_waiting_ = "";
  peer_node_.clear();
  peer_next_ = log_.last() + 1;
  peer_acked_ = 0;
  peer_heard_ms_ = now.mono_ms;
  // All members of the set, this node, have what is in its log.
  if (!options_.strict) CommitThrough(log_.last(), out);
  out->promoted = Promotion{.epoch = epoch_, .forced = record_.forced_epoch() != 0};
}

// --- An active one ---

bool RoleCore::MayAnswer(Now now) const {
  const bool young = now.mono_ms - good_ms_ < options_.lease_ms * 2 / 3;
  return active() && !ended_ && !handing_over_ && (young || IsMutant(Mutant::kHaAnswerLate));
}

void RoleCore::TickActive(Now now, RoleOutbox* out) {
  if (leave_ms_ != 0) {  // it handed over, and would win again if it began anew too early
    if (now.mono_ms >= leave_ms_) return Exit("it handed over, and nobody took over", out);
    if (!asking_ && now.mono_ms >= ask_again_ms_) Ask(CoordinatorCall::Kind::kRead, now, out);
    return;
  }
  if (now.mono_ms - good_ms_ >= options_.lease_ms) return Exit("its lease is over", out);
  if (handing_over_ && !released_ && PeerSilent(now)) handing_over_ = false;
  const bool renew = now.mono_ms >= next_renew_ms_;
  if (renew && !synced_since_renewal_ && !record_wanted_) {
    record_wanted_ = true;
    out->want_record = true;
  }
  if (!asking_ && now.mono_ms >= ask_again_ms_) {
    const std::set<std::string> wanted = WantedSet(now);
    const bool all_there = committed_ == log_.last() && peer_acked_ == log_.last();
    if (!released_ && !set_.contains(peer_node_)) handing_over_ = false;
    if (want_read_) {
      Ask(CoordinatorCall::Kind::kRead, now, out);
    } else if (handing_over_ && !released_ && all_there && unsettled_.empty()) {
      released_ = true;
      Ask(CoordinatorCall::Kind::kRelease, now, out);
    } else if (!released_ && ((renew && synced_since_renewal_) || wanted != set_ ||
                              !unsettled_.empty() || raise_above_ != 0)) {
      CommitRecord(wanted, now, out);
    }
  }
  Ship(now, out);
}

// Rule 3. A member that is not the standby any more (its disk was replaced) is one that is silent.
std::set<std::string> RoleCore::WantedSet(Now now) const {
  std::set<std::string> wanted = {options_.node};
  const bool member = set_.contains(peer_node_);
  if (member ? !PeerSilent(now) : PeerCaughtUp(now)) wanted.insert(peer_node_);
  if (options_.strict && wanted.size() < set_.size()) return set_;
  return wanted;
}

void RoleCore::CommitRecord(std::set<std::string> set, Now now, RoleOutbox* out) {
  asked_.record = record_;
  asked_.version = version_;
  pb::LeaseRecord& record = asked_.record;
  record.set_epoch(std::max(epoch_, raised_epoch_));
  if (raise_above_ != 0) record.set_epoch(std::max(epoch_, EpochAbove()) + 1);
  record.set_holder(options_.node);
  record.set_holder_address(options_.address);
  record.clear_in_sync();
  for (const std::string& node : set) record.add_in_sync(node);
  const bool with_peer = set.contains(peer_node_);
  record.set_log_position(with_peer ? std::min(synced_, peer_acked_) : synced_);
  if (committed_ >= force_logged_) record.set_forced_epoch(0);
  if (set != set_) unsettled_.insert(set.begin(), set.end());
  const bool synced = std::exchange(synced_since_renewal_, false);
  asked_.renews = synced || IsMutant(Mutant::kHaRenewUnsynced);
  if (asked_.renews) next_renew_ms_ = now.mono_ms + options_.lease_ms / 3;
  Ask(CoordinatorCall::Kind::kCommit, now, out);
}

void RoleCore::OnRecordCommitted(uint64_t version, Now now, RoleOutbox* out) {
  version_ = version;
  head_.set_record_version(version);
  record_ = asked_.record;
  std::set<std::string> before = std::exchange(set_, SetOf(record_));
  unsettled_.clear();
  if (asked_.renews) good_ms_ = asked_ms_;
  if (before.contains(peer_node_) && !set_.contains(peer_node_)) {
    PROBE("ha_standby_left");
    LOG_WARN("standby_left", "address=%s action=go_on_alone", options_.peer.c_str());
    peer_faulted_ = true;
  }
  if (!before.contains(peer_node_) && set_.contains(peer_node_)) {
    PROBE("ha_standby_joined");
    LOG_INFO("standby_in_sync", "address=%s index=%llu", options_.peer.c_str(),
             static_cast<unsigned long long>(peer_acked_));
    peer_faulted_ = false;
  }
  if (record_.epoch() != epoch_ && raised_epoch_ == 0) {
    PROBE("ha_epoch_raised");
    raised_epoch_ = record_.epoch();
    raise_above_ = 0;
    head_.set_promised_epoch(raised_epoch_);
    next_write_.head = head_;
    next_write_wanted_ = true;
    Flush(out);  // promised before anybody hears of it
  }
  Advance(out);
  TickActive(now, out);
}

void RoleCore::OnActiveView(const CoordinatorView& view, Now now, RoleOutbox* out) {
  const bool same = (view.identity == head_.identity() && view.version >= version_) ||
                    IsMutant(Mutant::kHaBelieveRestored);
  const bool mine = view.version != 0 && same && view.record.holder() == options_.node &&
                    view.record.epoch() == std::max(epoch_, raised_epoch_);
  if (!mine && leave_ms_ != 0) return Exit("it handed over", out);
  if (!mine) return Exit("the coordinator's record is not its own any more", out);
  if (leave_ms_ != 0) {
    ask_again_ms_ = now.mono_ms + kAskAgainMs;
    return;
  }
  if (view.version == version_ && !IsMutant(Mutant::kHaSettleByRead)) return;
  PROBE("ha_settled_by_version");
  version_ = view.version;
  head_.set_record_version(version_);
  record_ = view.record;
  set_ = SetOf(record_);
  unsettled_.clear();  // what was based on an older version can't be committed any more
  Advance(out);
  TickActive(now, out);
}

void RoleCore::RaiseEpoch(uint64_t above, Now now, RoleOutbox* out) {
  if (ended_ || above > kEpochMax) return;
  ASSERT(active());
  OnHeardEpoch(above);
  raise_above_ = std::max(raise_above_, above);
  TickActive(now, out);
}

void RoleCore::Force(Now now) {
  if (active()) return;
  LOG_WARN("forced", "log=%llu action=win_with_this_log",
           static_cast<unsigned long long>(log_.last()));
  force_until_ms_ = now.mono_ms + kForceMs;
  force_version_ = 0;
  next_poll_ms_ = now.mono_ms;
}

bool RoleCore::HandOver(Now now, RoleOutbox* out) {
  if (ended_ || !active() || !set_.contains(peer_node_) || PeerSilent(now)) return false;
  handing_over_ = true;
  TickActive(now, out);
  return true;
}

}  // namespace hayloft
