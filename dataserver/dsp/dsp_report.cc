// What the nameservers are told: who we are, how the disk does, which blocks we hold.
//
// Every nameserver is told on its own. A full report follows each registration; after that each
// heartbeat carries the blocks that changed, numbered, so that a nameserver that missed one asks
// for all of them again.
#include <algorithm>

#include "common/check.h"
#include "common/log.h"
#include "dataserver/dsp/dsp_core.h"

namespace hayloft {

namespace {

constexpr uint32_t kCallTimeoutMs = 2'000;
// One lost heartbeat must not be enough for doubt, nor for suspicion.
constexpr uint32_t kHeartbeatTimeoutMs = 1'000;
static_assert(kHeartbeatMs + kHeartbeatTimeoutMs < kDoubtMs);
constexpr uint64_t kRetryMs = 500;
constexpr uint64_t kRefusedMs = 10'000;  // from then on it is no accident
constexpr uint32_t kReportPartBlocks = 2'000;
constexpr size_t kChangedPerHeartbeat = 2'000;

// A dsp that was started to read only takes no writes, whatever its disk last said of itself.
pb::DiskState WireState(bool read_only, DiskState state) {
  switch (state) {
    case DiskState::kHealthy:
      return read_only ? pb::DISK_READ_ONLY : pb::DISK_HEALTHY;
    case DiskState::kReadOnly:
      return pb::DISK_READ_ONLY;
    case DiskState::kFailed:
      return pb::DISK_FAILED;
  }
  ASSERT(!"a disk has a known state");
  return pb::DISK_FAILED;
}

std::string BytesOf(const Id16& id) { return std::string(AsText(id)); }

}  // namespace

void DspCore::TickLink(NameserverLink* link, Now now, DspOutbox* out) {
  if (link->registered && link->reporting && link->report_call == 0) SendReportPart(link, out);
  if (now.mono_ms < link->next_call_ms) return;
  if (link->register_call != 0 || link->heartbeat_call != 0) return;
  if (link->registered) {
    SendHeartbeat(link, now, out);
  } else {
    SendRegister(link, now, out);
  }
}

void DspCore::FillSpace(pb::DspSpace* space) const {
  space->set_total_bytes(disk_.space.total_bytes);
  space->set_free_bytes(Writable() ? UsableBytes() + pool_.size() * superblock_.block_bytes : 0);
  space->set_used_bytes(disk_.space.total_bytes -
                        std::min(disk_.space.total_bytes, disk_.space.free_bytes));
  space->set_full_percent(options_.full_percent);
}

void DspCore::FillInfo(const Block& block, pb::BlockInfo* info) const {
  info->set_block_id(block.id);
  info->set_opening_epoch(block.opening_epoch);
  info->set_block_epoch(block.block_epoch);
  info->set_life(block.life);
  info->set_state(block.state);
  info->set_needles(block.needles());
  info->set_bytes(block.end);
  info->set_deleted(block.deleted);
  info->set_lost(block.lost);
  info->set_divergent(block.divergent);
  if (block.state == pb::BLOCK_SEALED) info->set_digest(std::string(AsText(block.digest)));
  info->set_set_version(block.set_version);
  info->set_outside(block.outside);
  for (uint32_t dsp_id : block.set_dsp_ids) info->add_set_dsp_ids(dsp_id);
}

void DspCore::SendRegister(NameserverLink* link, Now now, DspOutbox* out) {
  pb::RegisterRequest message;
  message.set_cluster_id(BytesOf(superblock_.cluster_id));
  message.set_disk_id(BytesOf(superblock_.disk_id));
  message.set_incarnation(superblock_.incarnation);
  message.set_address(options_.address);
  message.set_admin_address(options_.admin_address);
  message.set_machine(options_.machine);
  message.set_zone(options_.zone);
  FillSpace(message.mutable_space());
  message.set_disk_state(WireState(read_only_, superblock_.disk_state));
  message.set_promised_epoch(superblock_.promised_epoch);
  message.set_promised_node(BytesOf(superblock_.promised_node));
  message.set_block_range_end(superblock_.block_range_end);
  message.set_dsp_id(superblock_.dsp_id);
  link->next_call_ms = now.mono_ms + kRetryMs;
  link->register_call = Call({link->address, MessageType::kRegister, kCallTimeoutMs},
                             message.SerializeAsString(), out);
}

void DspCore::OnRegistered(NameserverLink* link, const CallDone& done, Now now, DspOutbox* out) {
  link->register_call = 0;
  pb::RegisterReply message;
  if (done.err != Err::kOk || !message.ParseFromString(done.message)) {
    const bool refused = done.err == Err::kExists || done.err == Err::kDenied ||
                         done.err == Err::kStaleEpoch || done.err == Err::kConfig;
    if (!refused) return;
    if (link->refused_since_ms == 0) {
      link->refused_since_ms = now.mono_ms;
      LOG_ERROR("registration_refused", "nameserver=%s err=%s", link->address.c_str(),
                ErrName(done.err).data());
    }
    // The key may be wrong at the other end, and the old self of a disk that moved still counted
    // up.
    const bool for_long = now.mono_ms - link->refused_since_ms >= kRefusedMs;
    if (for_long && done.err != Err::kDenied) out->refused = true;
    return;
  }
  link->refused_since_ms = 0;
  if (Promise(message.epoch(), message.node(), message.block_range_end(), out) != Err::kOk) return;
  LOG_INFO("registered", "nameserver=%s dsp=%u epoch=%llu", link->address.c_str(), message.dsp_id(),
           static_cast<unsigned long long>(message.epoch()));
  link->registered = true;
  link->dsp_id = message.dsp_id();
  if (superblock_.dsp_id != message.dsp_id() && Writable()) {
    // In both copies: replica sets name it by this number, should one of them be damaged.
    superblock_.dsp_id = message.dsp_id();
    StoreSuperblock(out);
    StoreSuperblock(out);
  }
  link->report_sequence = 0;
  link->telling.clear();
  link->reporting = true;
  link->reported = false;
  link->report_part = 0;
  link->next_call_ms = now.mono_ms;
  SendReportPart(link, out);
}

void DspCore::SendHeartbeat(NameserverLink* link, Now now, DspOutbox* out) {
  pb::HeartbeatRequest message;
  message.set_dsp_id(link->dsp_id);
  message.set_disk_id(BytesOf(superblock_.disk_id));
  message.set_incarnation(superblock_.incarnation);
  message.set_disk_idle_ms(disk_.idle_ms);
  message.set_disk_state(WireState(read_only_, superblock_.disk_state));
  FillSpace(message.mutable_space());
  uint64_t needles = 0;
  uint64_t deleted = 0;
  uint64_t lost = 0;
  for (const auto& [id, block] : blocks_) {
    // A file is counted once: by the first member of its block's set.
    if (block.outside || (block.shared() && block.set_dsp_ids[0] != superblock_.dsp_id)) continue;
    needles += block.needles();
    deleted += block.deleted;
    lost += block.lost;
  }
  message.set_files_live(needles - std::min(needles, deleted + lost));
  message.set_files_deleted(deleted);
  message.set_files_lost(lost);
  message.set_blocks(static_cast<uint32_t>(blocks_.size()));
  message.set_needles_corrupt(stats_.needles_corrupt);
  message.set_peers_version(peers_.version());
  if (!unreachable_.empty()) unreachable_.Describe(now.mono_ms, message.mutable_unreachable());
  // A number stays with its blocks until it is answered: a repeated one says the same or more.
  for (uint64_t block_id : link->telling) link->changed.insert(block_id);
  link->telling.assign(link->changed.begin(), link->changed.end());
  if (link->telling.size() > kChangedPerHeartbeat) link->telling.resize(kChangedPerHeartbeat);
  for (uint64_t block_id : link->telling) {
    link->changed.erase(block_id);
    const Block* block = FindBlock(block_id);
    ASSERT(block != nullptr);
    FillInfo(*block, message.add_changed());
  }
  message.set_report_sequence(link->report_sequence + (link->telling.empty() ? 0 : 1));
  link->next_call_ms = now.mono_ms + kHeartbeatMs;
  link->heartbeat_sent_ms = now.mono_ms;
  link->heartbeat_after_report = link->reported;
  link->heartbeat_call = Call({link->address, MessageType::kHeartbeat, kHeartbeatTimeoutMs},
                              message.SerializeAsString(), out);
}

void DspCore::OnHeartbeatDone(NameserverLink* link, const CallDone& done, Now now, DspOutbox* out) {
  link->heartbeat_call = 0;
  pb::HeartbeatReply message;
  if (done.err != Err::kOk || !message.ParseFromString(done.message)) return;
  if (message.register_again()) {
    link->registered = false;
    link->next_call_ms = now.mono_ms;
    return;
  }
  const Err err = Promise(message.epoch(), message.node(), message.block_range_end(), out);
  if (err != Err::kOk) {
    link->registered = false;  // one that lost its role; asked again until it knows
    return;
  }
  if (!link->telling.empty()) ++link->report_sequence;
  link->telling.clear();
  if (!message.not_counted()) {
    OnCountedHeartbeat(message, link->heartbeat_sent_ms, link->heartbeat_after_report);
  }
  if (!link->changed.empty()) link->next_call_ms = now.mono_ms;
  if (message.report_again() && !link->reporting) {
    link->reporting = true;
    link->report_part = 0;
  }
}

void DspCore::SendReportPart(NameserverLink* link, DspOutbox* out) {
  if (link->report_part == 0) {
    ++link->report_id;
    link->report_next_block = 0;
  }
  pb::BlockReportRequest message;
  message.set_dsp_id(link->dsp_id);
  message.set_disk_id(BytesOf(superblock_.disk_id));
  message.set_incarnation(superblock_.incarnation);
  message.set_report_id(link->report_id);
  message.set_part(link->report_part);
  auto block = blocks_.lower_bound(link->report_next_block);
  for (uint32_t i = 0; i < kReportPartBlocks && block != blocks_.end(); ++i, ++block) {
    FillInfo(block->second, message.add_blocks());
  }
  if (link->report_part == 0) {  // so that nobody concludes that they do not exist
    for (const uint64_t block_id : unreadable_blocks_) {
      if (message.unreadable_block_ids_size() >= static_cast<int>(kReportPartBlocks)) break;
      message.add_unreadable_block_ids(block_id);
    }
  }
  message.set_last(block == blocks_.end());
  link->report_next_block = block == blocks_.end() ? UINT64_MAX : block->first;
  link->report_call = Call({link->address, MessageType::kBlockReport, kCallTimeoutMs},
                           message.SerializeAsString(), out);
}

void DspCore::OnReportDone(NameserverLink* link, const CallDone& done, DspOutbox* out) {
  link->report_call = 0;
  if (!link->registered) return;
  if (done.err != Err::kOk) {
    link->report_part = 0;  // from the start, at the next tick: parts make sense together only
    return;
  }
  ++link->report_part;
  if (link->report_next_block == UINT64_MAX) {
    link->reporting = false;
    // The next heartbeat's answer says which sets are others than those reported.
    if (!std::exchange(link->reported, true)) Hurry();
    return;
  }
  SendReportPart(link, out);
}

void DspCore::Changed(const Block& block) {
  for (NameserverLink& link : links_) link.changed.insert(block.id);
}

void DspCore::Hurry() {
  for (NameserverLink& link : links_) link.next_call_ms = now_mono_ms_;
}

}  // namespace hayloft
