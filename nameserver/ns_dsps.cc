// Dsps and what they say of themselves: registration, heartbeats, reports of their blocks.
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/ha/coordinator.h"
#include "common/log.h"
#include "nameserver/ns_core.h"

namespace hayloft {

namespace {

constexpr size_t kDspsMax = 10'000;
constexpr size_t kLabelBytesMax = 255;          // addresses, machine and zone labels
constexpr size_t kReportedBlocksMax = 4 << 20;  // of one dsp
constexpr uint64_t kRecentMs = 10'000;
constexpr uint64_t kLateMs = 1'000;    // a creation that a report lacks so long after is none
constexpr uint64_t kFullPercent = 95;  // of an older dsp, which does not say
constexpr uint64_t kNearlyFullPercent = 85;
constexpr uint64_t kNearlyFullOverPercent = 83;  // lower, so that one crossing warns once
constexpr uint64_t kReportPatienceMs = 2'000;    // between asking for a report and asking again
constexpr int kSetsTold = 1'000;                 // with one heartbeat

bool WellFormed(const pb::RegisterRequest& message) {
  for (const std::string* label :
       {&message.address(), &message.admin_address(), &message.machine(), &message.zone()}) {
    if (label->size() > kLabelBytesMax) return false;
  }
  return message.disk_id().size() == 16 && message.incarnation() > 0 && !message.address().empty();
}

}  // namespace

uint32_t NsCore::FindDisk(std::string_view disk_id) const {
  const auto found = dsp_by_disk_.find(disk_id);
  return found == dsp_by_disk_.end() ? 0 : found->second;
}

// The number of a disk that is not known: the one that it had, which replica sets on disks name, or
// the next. A nameserver that lost its store cannot tell yet which are in use: it takes any far
// above those that are counted up.
uint32_t NsCore::NumberFor(uint32_t had) {
  if (had != 0 && !state_.dsps.contains(had)) return had;
  if (!state_.settings.rebuilding()) {
    // Nor one that a set names: its dsp may not have come back from a rebuild yet.
    const uint32_t last = state_.dsps.empty() ? 0 : state_.dsps.rbegin()->first;
    return std::max(last, state_.blocks.greatest_member()) + 1;
  }
  constexpr uint32_t kCounted = 1 << 16;
  static_assert(kDspsMax < kCounted);
  uint32_t number = 0;
  while (number == 0 || state_.dsps.contains(number)) {
    number = kCounted + static_cast<uint32_t>(random_->Below((1u << 31) - kCounted));
  }
  return number;
}

// Each start of a dsp raises the incarnation on its disk. So whoever comes with a lower one is an
// older copy of the disk, and one with the same under another address a second copy (FAULTS F50).
// A disk that moved comes with a higher one, but not while its old self is still heard.
Err NsCore::JudgeRegistration(const pb::RegisterRequest& message, uint32_t known_dsp_id) const {
  if (message.cluster_id() != state_.settings.cluster_id()) return Err::kConfig;
  if (!WellFormed(message) || message.promised_epoch() > kEpochMax) return Err::kInvalid;
  if (known_dsp_id == 0) return state_.dsps.size() < kDspsMax ? Err::kOk : Err::kBusy;
  const pb::LogDsp& known = state_.dsps.at(known_dsp_id);
  const bool same_place = message.address() == known.address();
  // A disk that takes no writes may have lost the incarnation that it was raised to. It takes no
  // appends either, and nothing else rests on it.
  if (same_place && message.disk_state() != pb::DISK_HEALTHY) return Err::kOk;
  if (message.incarnation() < known.incarnation()) return Err::kStaleEpoch;
  if (same_place) return Err::kOk;
  if (message.incarnation() == known.incarnation()) return Err::kExists;
  const bool up = membership_.Find(known_dsp_id)->state == DspState::kUp;
  return up ? Err::kExists : Err::kOk;
}

// Whether this is the process that registered under this number. A rebuilt nameserver gives the
// numbers anew, so that a dsp that has not heard of it yet may use another one's.
bool NsCore::Speaks(uint32_t dsp_id, std::string_view disk_id, uint64_t incarnation) const {
  const DspLive* live = membership_.Find(dsp_id);
  return live != nullptr && live->registered && live->incarnation == incarnation &&
         (disk_id.empty() || FindDisk(disk_id) == dsp_id);  // absent: an older dsp
}

void NsCore::OnRegister(const RpcRequest& request, Now now, NsOutbox* outbox) {
  pb::RegisterRequest message;
  if (!message.ParseFromString(request.message)) {
    return Reply(request, Err::kInvalid, "", outbox);
  }
  uint32_t dsp_id = FindDisk(message.disk_id());
  const Err err = JudgeRegistration(message, dsp_id);
  if (err != Err::kOk) {
    LOG_WARN("dsp_refused", "err=%s dsp=%u address=%s incarnation=%llu",
             std::string(ErrName(err)).c_str(), dsp_id, LogText(message.address()).c_str(),
             static_cast<unsigned long long>(message.incarnation()));
    return Reply(request, err, "", outbox);
  }
  if (!message.has_space()) return Reply(request, Err::kOk, "", outbox);  // it only asked
  const bool refused_often = dsp_id != 0 && work_.at(dsp_id).stale_refusals > 1;
  const bool obeys_another =
      !message.promised_node().empty() && message.promised_node() != std::string_view(state_.node);
  if (message.promised_epoch() > state_.epoch ||
      (message.promised_epoch() == state_.epoch && (obeys_another || refused_often))) {
    // It obeys a later nameserver, or another one of the same epoch: that before a rebuild.
    RaiseEpochAbove(message.promised_epoch(), outbox);
    return Reply(request, Err::kUnavailable, "", outbox);
  }
  if (dsp_id == 0) {
    dsp_id = NumberFor(message.dsp_id());
    dsp_by_disk_[message.disk_id()] = dsp_id;
  }
  Admit(dsp_id, message, now, outbox);
  NoteMark(message.block_range_end(), outbox);
  pb::RegisterReply reply;
  reply.set_dsp_id(dsp_id);
  reply.set_epoch(state_.epoch);
  reply.set_node(state_.node);
  reply.set_block_range_end(state_.id_range_end);
  Reply(request, Err::kOk, reply.SerializeAsString(), outbox);
}

void NsCore::TakeRegistration(const pb::RegisterRequest& message, uint64_t heard_ms, Now now,
                              NsOutbox* outbox) {
  const uint32_t dsp_id = FindDisk(message.disk_id());
  if (dsp_id == 0 || JudgeRegistration(message, dsp_id) != Err::kOk) return;
  if (message.promised_epoch() >= state_.epoch) return;  // when it registers itself
  Admit(dsp_id, message, now, outbox);
  NoteMark(message.block_range_end(), outbox);
  membership_.Find(dsp_id)->heard_ms = heard_ms;
}

void NsCore::Admit(uint32_t dsp_id, const pb::RegisterRequest& message, Now now, NsOutbox* outbox) {
  pb::LogRecord record;
  pb::LogDsp& dsp = *record.mutable_dsp();
  dsp.set_dsp_id(dsp_id);
  dsp.set_disk_id(message.disk_id());
  dsp.set_address(message.address());
  dsp.set_machine(message.machine());
  dsp.set_zone(message.zone());
  dsp.set_incarnation(message.incarnation());
  dsp.set_admin_address(message.admin_address());
  const auto known = state_.dsps.find(dsp_id);
  const bool restarted =
      known != state_.dsps.end() && known->second.incarnation() != message.incarnation();
  const bool changed =
      known == state_.dsps.end() || known->second.SerializeAsString() != dsp.SerializeAsString();
  if (changed) Log(std::move(record), outbox);
  if (changed) membership_.NoteChange();
  // An address belongs to one process: whoever had it before is gone (two disks swapped).
  for (const auto& [other_id, other] : state_.dsps) {
    if (other_id == dsp_id || other.address() != message.address()) continue;
    membership_.Vanished(membership_.Find(other_id));
  }
  DspLive* live = membership_.Add(dsp_id, message.machine(), now);
  DspWork& work = work_[dsp_id];
  if (restarted) CloseBlocksOf(dsp_id, "restarted", now, outbox);  // as the dsp itself has (F60)
  // One that only reads keeps its incarnation over a restart, but counts its reports anew.
  if (restarted || !live->registered || message.disk_state() != pb::DISK_HEALTHY) {
    work.reported = false;
    work.recent_blocks.clear();
    work.unsettled.clear();  // what its last process did not begin, nobody does
  }
  work.last_report_id = 0;  // a failed disk's next process counts from 1 under the same incarnation
  work.reporting = false;
  work.report_wanted = true;
  work.next_ask_ms = now.mono_ms + kReportPatienceMs;  // it may come unasked
  work.sequence_known = false;
  work.register_again = false;
  live->registered = true;
  live->incarnation = message.incarnation();
  if (live->disk_state != message.disk_state()) membership_.NoteChange();
  live->disk_state = message.disk_state();
  TakeSpace(dsp_id, message.space(), live);
  membership_.Heard(live, now);
  LOG_INFO("dsp_registered", "dsp=%u address=%s machine=%s incarnation=%llu", dsp_id,
           LogText(message.address()).c_str(), LogText(message.machine()).c_str(),
           static_cast<unsigned long long>(message.incarnation()));
}

void NsCore::TakeSpace(uint32_t dsp_id, const pb::DspSpace& space, DspLive* live) {
  live->total_bytes = space.total_bytes();
  live->free_bytes = space.free_bytes();
  live->used_bytes = space.used_bytes();
  live->full_percent = space.full_percent() == 0 ? kFullPercent : space.full_percent();
  if (live->disk_state != pb::DISK_HEALTHY) {  // it has no space at all, for another reason
    live->nearly_full = false;
    return;
  }
  const uint64_t used = live->UsedPercent();
  if (live->nearly_full || used < kNearlyFullPercent) {
    live->nearly_full = live->nearly_full && used >= kNearlyFullOverPercent;
    return;
  }
  live->nearly_full = true;
  LOG_WARN("dsp_nearly_full", "dsp=%u used_percent=%llu full_percent=%llu free_bytes=%llu", dsp_id,
           static_cast<unsigned long long>(used),
           static_cast<unsigned long long>(live->full_percent),
           static_cast<unsigned long long>(live->free_bytes));
}

// --- What others say of dsps ---

// Addresses, because clients that only read know no numbers. One that is nobody's now is ignored.
void NsCore::HearOfPeers(uint64_t reporter, const pb::Unreachable& message, Now now) {
  std::vector<uint32_t> dsp_ids;
  const auto named_max = static_cast<int>(Reachability::kNamedMax);
  for (int i = 0; i < std::min(message.addresses_size(), named_max); ++i) {
    for (const auto& [dsp_id, dsp] : state_.dsps) {
      if (dsp.address() == message.addresses(i)) dsp_ids.push_back(dsp_id);
    }
  }
  reachability_.Hear(reporter, dsp_ids, now.mono_ms);
}

// Clients that can't reach a dsp hold grants on its blocks, and others would be given them: its
// blocks are closed once, and it is chosen last as long as it is named.
void NsCore::JudgeReachability(Now now, NsOutbox* outbox) {
  std::set<uint32_t> unreachable = reachability_.Unreachable(now.mono_ms);
  if (membership_.TooManyAtOnce(unreachable)) {
    PROBE("nameserver_mass_unreachable");
    unreachable.clear();
  }
  const std::set<uint32_t> before = std::exchange(unreachable_, std::move(unreachable));
  for (const uint32_t dsp_id : unreachable_) {
    if (before.contains(dsp_id)) continue;
    if (membership_.Find(dsp_id)->state != DspState::kUp) continue;  // its silence is acted on
    PROBE("nameserver_dsp_unreachable");
    LOG_WARN("dsp_unreachable", "dsp=%u action=close_blocks", dsp_id);
    CloseBlocksOf(dsp_id, "unreachable", now, outbox);
  }
}

void NsCore::OnHeartbeat(const RpcRequest& request, Now now, NsOutbox* outbox) {
  pb::HeartbeatRequest message;
  if (!message.ParseFromString(request.message)) {
    return Reply(request, Err::kInvalid, "", outbox);
  }
  pb::HeartbeatReply reply;
  DspLive* live = membership_.Find(message.dsp_id());
  const bool known = Speaks(message.dsp_id(), message.disk_id(), message.incarnation()) &&
                     !work_.at(message.dsp_id()).register_again;
  if (!known) {
    reply.set_register_again(true);
  } else {
    DspWork& work = work_.at(message.dsp_id());
    // A loop that lives while its disk hangs is dead (FAULTS F65). And a nameserver that has lost
    // its store knows nothing yet of dsps that may still serve by what the one before it said.
    const bool moves = message.disk_idle_ms() <= kDiskStallMs;
    const bool settled = now.mono_ms - started_ms_ > kDoubtMs;
    reply.set_not_counted(!moves || (state_.settings.rebuilding() && !settled));
    if (moves) membership_.Heard(live, now);
    const bool was_healthy = live->disk_state == pb::DISK_HEALTHY;
    if (live->disk_state != message.disk_state()) membership_.NoteChange();
    live->disk_state = message.disk_state();
    live->draining = message.draining();
    TakeSpace(message.dsp_id(), message.space(), live);
    live->files_live = message.files_live();
    live->files_deleted = message.files_deleted();
    live->files_lost = message.files_lost();
    live->blocks = message.blocks();
    live->needles_corrupt = message.needles_corrupt();
    if (was_healthy && live->disk_state != pb::DISK_HEALTHY) {
      CloseBlocksOf(message.dsp_id(), "disk_failed", now, outbox);
    }
    if (message.has_unreachable()) HearOfPeers(message.dsp_id(), message.unreachable(), now);
    TakeChanges(message.dsp_id(), message, now, outbox);
    if ((!work.reported || work.report_wanted) && now.mono_ms >= work.next_ask_ms) {
      work.next_ask_ms = now.mono_ms + kReportPatienceMs;
      reply.set_report_again(true);
    }
    reply.set_peers_version(PeersVersion());
    if (message.peers_version() != PeersVersion()) FillPeers(message.dsp_id(), &reply);
    FillSets(message.dsp_id(), &reply);
  }
  reply.set_epoch(state_.epoch);
  reply.set_node(state_.node);
  reply.set_block_range_end(state_.id_range_end);
  Reply(request, Err::kOk, reply.SerializeAsString(), outbox);
}

// The sequence counts the messages that carried changes; the last one may be repeated.
void NsCore::TakeChanges(uint32_t dsp_id, const pb::HeartbeatRequest& message, Now now,
                         NsOutbox* outbox) {
  DspWork& work = work_.at(dsp_id);
  const uint64_t sequence = message.report_sequence();
  const uint64_t expected = work.report_sequence + (message.changed().empty() ? 0 : 1);
  if (work.sequence_known && sequence != expected && sequence != work.report_sequence) {
    PROBE("nameserver_report_gap");
    work.report_wanted = true;
  }
  work.sequence_known = true;
  work.report_sequence = sequence;
  std::erase_if(work.recent_blocks,
                [&](const auto& one) { return one.second + kRecentMs < now.mono_ms; });
  for (const pb::BlockInfo& info : message.changed()) {
    work.recent_blocks[info.block_id()] = now.mono_ms;
    LearnBlock(dsp_id, info, outbox);
  }
}

void NsCore::OnBlockReport(const RpcRequest& request, Now now, NsOutbox* outbox) {
  pb::BlockReportRequest message;
  if (!message.ParseFromString(request.message) ||
      message.blocks_size() > static_cast<int>(kReportBlocksMax)) {
    return Reply(request, Err::kInvalid, "", outbox);
  }
  const uint32_t dsp_id = message.dsp_id();
  if (!Speaks(dsp_id, message.disk_id(), message.incarnation())) {
    return Reply(request, Err::kStaleEpoch, "", outbox);
  }
  DspWork& work = work_.at(dsp_id);
  work.next_ask_ms = now.mono_ms + kReportPatienceMs;
  if (message.report_id() <= work.last_report_id) {
    return Reply(request, Err::kOk, "", outbox);  // late; one that was asked for later is known
  }
  if (message.part() == 0) {
    work.reporting = true;
    work.report_wanted = false;
    work.report_began_ms = now.mono_ms;
    work.report_id = message.report_id();
    work.next_part = 0;
    work.report_blocks.clear();
    work.unreadable_blocks = {message.unreadable_block_ids().begin(),
                              message.unreadable_block_ids().end()};
  }
  const bool follows = work.reporting && message.report_id() == work.report_id;
  if (follows && message.part() + 1 == work.next_part) {
    return Reply(request, Err::kOk, "", outbox);  // a repetition
  }
  if (!follows || message.part() != work.next_part ||
      work.report_blocks.size() > kReportedBlocksMax) {
    work.reporting = false;
    work.report_wanted = true;
    return Reply(request, Err::kInvalid, "", outbox);
  }
  ++work.next_part;
  for (const pb::BlockInfo& info : message.blocks()) {
    work.report_blocks.push_back(info.block_id());
    LearnBlock(dsp_id, info, outbox);
  }
  if (message.last()) FinishReport(dsp_id, outbox);
  Reply(request, Err::kOk, "", outbox);
}

// --- What dsps are told of each other ---

// Names what FillPeers would say, to any dsp.
uint64_t NsCore::PeersVersion() const {
  return peers_version_base_ + membership_.changes() + state_.blocks.set_count();
}

// Who shares blocks with it, and who of them may serve: deletes wait for those.
void NsCore::FillPeers(uint32_t dsp_id, pb::HeartbeatReply* reply) const {
  std::set<uint32_t> peers;
  for (uint32_t set = 0; set < state_.blocks.set_count(); ++set) {
    const std::vector<uint32_t>& members = state_.blocks.SetMembers(set);
    if (std::find(members.begin(), members.end(), dsp_id) == members.end()) continue;
    peers.insert(members.begin(), members.end());
  }
  peers.erase(dsp_id);
  for (const uint32_t peer_id : peers) {
    pb::Peer& peer = *reply->add_peers();
    peer.set_dsp_id(peer_id);
    const DspLive* live = membership_.Find(peer_id);
    if (live == nullptr) {  // known from a set only: silent since the start
      peer.set_state(strangers_down_ ? pb::PEER_DOWN : pb::PEER_SUSPECT);
      continue;
    }
    peer.set_state(Membership::PeerStateOf(*live));
    peer.set_address(state_.dsps.at(peer_id).address());
  }
}

// Repeated with each heartbeat until the dsp reports the block with that version.
void NsCore::FillSets(uint32_t dsp_id, pb::HeartbeatReply* reply) {
  const std::set<uint64_t>& owed = work_.at(dsp_id).sets_owed;
  for (const uint64_t block_id : owed) {
    if (reply->sets_size() == kSetsTold) break;
    const BlockRecord& record = *state_.blocks.Find(block_id);
    pb::BlockSet& set = *reply->add_sets();
    set.set_block_id(block_id);
    set.set_set_version(record.set_version);
    for (const uint32_t member : MembersOf(record)) set.add_set_dsp_ids(member);
  }
  reply->set_more_sets(owed.size() > kSetsTold);
}

// A block of this dsp that was neither reported nor told of just now is not there.
void NsCore::FinishReport(uint32_t dsp_id, NsOutbox* outbox) {
  DspWork& work = work_.at(dsp_id);
  std::sort(work.report_blocks.begin(), work.report_blocks.end());
  std::vector<uint64_t> missing;
  state_.blocks.ForEach([&](const BlockRecord& record) {
    const std::vector<uint32_t>& members = MembersOf(record);
    if (std::find(members.begin(), members.end(), dsp_id) == members.end()) return;
    if (work.recent_blocks.contains(record.block_id)) return;
    if (std::binary_search(work.report_blocks.begin(), work.report_blocks.end(), record.block_id)) {
      return;
    }
    missing.push_back(record.block_id);
  });
  for (const uint64_t block_id : missing) MarkAbsent(dsp_id, block_id, outbox);
  std::erase_if(work.outside, [&](uint64_t block_id) {
    return !work.recent_blocks.contains(block_id) &&
           !std::binary_search(work.report_blocks.begin(), work.report_blocks.end(), block_id);
  });
  std::erase_if(work.unsettled, [&](const auto& creation) {
    return creation.second + kLateMs <= work.report_began_ms;
  });
  work.reporting = false;
  work.reported = true;
  work.report_blocks = {};
  work.last_report_id = work.report_id;
  LOG_INFO("dsp_reported", "dsp=%u missing_blocks=%zu outside_their_sets=%zu", dsp_id,
           missing.size(), work.outside.size());
}

}  // namespace hayloft
