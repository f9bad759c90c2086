// What becomes of blocks: adopted, closed, sealed, compared.
#include <algorithm>

#include "common/check.h"
#include "common/log.h"
#include "nameserver/ns_core.h"

namespace hayloft {

namespace {

int MemberIndex(const std::vector<uint32_t>& members, uint32_t dsp_id) {
  const auto at = std::find(members.begin(), members.end(), dsp_id);
  return at == members.end() ? -1 : static_cast<int>(at - members.begin());
}

bool Has(uint8_t mask, size_t member) { return ((mask >> member) & 1u) != 0; }

void Set(uint8_t* mask, size_t member, bool on) {
  const auto bit = static_cast<uint8_t>(1u << member);
  *mask = static_cast<uint8_t>(on ? *mask | bit : *mask & ~bit);
}

uint64_t ShortDigest(const pb::BlockInfo& info) {
  if (info.digest().size() < sizeof(le64)) return 0;  // not told
  le64 digest;
  std::copy_n(info.digest().begin(), sizeof(digest), reinterpret_cast<char*>(&digest));
  return digest;
}

// The set as the dsp's disk has it. One that it is not in itself is from before the nameserver lost
// its store and the dsp its number: then it is in it too.
std::vector<uint32_t> ReportedSet(uint32_t dsp_id, const pb::BlockInfo& info) {
  std::vector<uint32_t> dsp_ids(info.set_dsp_ids().begin(), info.set_dsp_ids().end());
  std::vector<uint32_t> sorted = dsp_ids;
  std::sort(sorted.begin(), sorted.end());
  const bool sound = !sorted.empty() && sorted.size() <= kReplicasMax && sorted.front() != 0 &&
                     std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
  if (sound && info.outside()) return dsp_ids;
  if (!sound || dsp_ids.size() == 1) return {dsp_id};
  if (MemberIndex(dsp_ids, dsp_id) >= 0) return dsp_ids;
  if (dsp_ids.size() == kReplicasMax) return {dsp_id};
  dsp_ids.push_back(dsp_id);
  return dsp_ids;
}

unsigned long long Llu(uint64_t value) { return value; }

}  // namespace

// --- What dsps say of blocks ---

void NsCore::LearnBlock(uint32_t dsp_id, const pb::BlockInfo& info, NsOutbox* outbox) {
  const uint64_t block_id = info.block_id();
  if (block_id > kBlockIdMax || info.state() < pb::BLOCK_OPEN || info.state() > pb::BLOCK_SEALED) {
    LOG_WARN("block_report_impossible", "dsp=%u block=%llu action=ignore", dsp_id, Llu(block_id));
    return;
  }
  NoteMark(block_id + 1, outbox);
  if (const auto at = creations_.find(block_id); at != creations_.end()) {
    // Decided when all have answered.
    at->second.spoiled |= info.state() != pb::BLOCK_OPEN || info.dropped();
    at->second.told[dsp_id] = info;
    return;
  }
  work_[dsp_id].unsettled.erase(block_id);
  if (state_.blocks.Find(block_id) == nullptr) {
    if (info.dropped()) return;
    Adopt(dsp_id, info, outbox);
  }
  const BlockRecord* known = state_.blocks.Find(block_id);
  if (known->opening_epoch != info.opening_epoch()) {
    LOG_WARN("block_of_another_epoch", "dsp=%u block=%llu known=%llu told=%llu action=keep_known",
             dsp_id, Llu(block_id), Llu(known->opening_epoch), Llu(info.opening_epoch()));
    return;
  }
  if (state_.settings.rebuilding() && !info.dropped()) TakeLaterSet(dsp_id, info, outbox);
  known = state_.blocks.Find(block_id);
  OweSet(dsp_id, *known, info.set_version());
  if (MemberIndex(MembersOf(*known), dsp_id) < 0) return LearnOfStranger(dsp_id, info);
  work_[dsp_id].outside.erase(block_id);
  if (info.dropped()) return MarkAbsent(dsp_id, block_id, outbox);
  LearnKnownBlock(dsp_id, *known, info, outbox);
}

// Until it has reported the block with this version of its set, or a later one.
void NsCore::OweSet(uint32_t dsp_id, const BlockRecord& record, uint32_t told_version) {
  std::set<uint64_t>& owed = work_[dsp_id].sets_owed;
  if (record.set_version > std::max(told_version, 1u)) {
    owed.insert(record.block_id);
  } else {
    owed.erase(record.block_id);
  }
}

// An open block of several members that this log does not know was not granted, or by a nameserver
// whose store is lost. Nobody can say which members have it: it is closed.
void NsCore::Adopt(uint32_t dsp_id, const pb::BlockInfo& info, NsOutbox* outbox) {
  PROBE("nameserver_block_adopted");
  const std::vector<uint32_t> set = ReportedSet(dsp_id, info);
  const bool close = info.state() == pb::BLOCK_OPEN && set.size() > 1;
  pb::LogRecord record;
  pb::LogBlock& block = *record.mutable_block();
  block.set_block_id(info.block_id());
  block.set_opening_epoch(info.opening_epoch());
  block.set_block_epoch(info.block_epoch() + (close ? 1 : 0));
  block.set_state(close ? pb::BLOCK_CLOSED : info.state());
  block.set_set_version(std::max(info.set_version(), 1u));
  for (const uint32_t member : set) block.add_set_dsp_ids(member);
  Log(std::move(record), outbox);
  AskOthers(dsp_id, set);
  for (const uint32_t member : set) {
    const DspLive* live = membership_.Find(member);
    if (live == nullptr || !live->given_up) continue;
    Leaving leaving{.dsp_id = member};  // as it left those that were known then
    LeaveSet(info.block_id(), &leaving, outbox);
  }
  Advance(info.block_id(), outbox);
}

// Who has reported already did so before the block was known: it may lack it.
void NsCore::AskOthers(uint32_t dsp_id, const std::vector<uint32_t>& members) {
  for (const uint32_t member : members) {
    if (member != dsp_id && work_[member].reported) work_[member].report_wanted = true;
  }
}

// After a lost store the set with the highest version wins; and whoever got another number since
// is in it under that.
void NsCore::TakeLaterSet(uint32_t dsp_id, const pb::BlockInfo& info, NsOutbox* outbox) {
  if (info.set_dsp_ids_size() < 2 && !info.outside()) return;
  BlockRecord next = *state_.blocks.Find(info.block_id());
  const std::vector<uint32_t> former = MembersOf(next);
  std::vector<uint32_t> members = former;
  if (info.set_version() > next.set_version) {
    members = ReportedSet(dsp_id, info);
  } else if (info.set_version() == next.set_version && MemberIndex(members, dsp_id) < 0 &&
             !info.outside() && members.size() < kReplicasMax) {
    members.push_back(dsp_id);
  } else {
    return;
  }
  // Whoever got another number changes the set; so all are told.
  const bool renumbered = info.set_version() == next.set_version;
  next.set_version = std::max(info.set_version(), next.set_version) + (renumbered ? 1 : 0);
  next.set = state_.blocks.Intern(members);
  LogBlockRecord(next, outbox);
  for (const uint32_t member : members) OweSet(member, next, 0);
  // Also who is in it no more, and has reported what it still takes for its set.
  for (const uint32_t member : former) OweSet(member, next, 0);
  AskOthers(dsp_id, members);
  Advance(info.block_id(), outbox);
}

// It was late when the block was created, or an operator gave it up. What it has of the block stays
// there; it must take no appends, and hears from its next report that it is not in the set.
void NsCore::LearnOfStranger(uint32_t dsp_id, const pb::BlockInfo& info) {
  DspWork& work = work_[dsp_id];
  const uint64_t block_id = info.block_id();
  if (info.dropped()) {
    work.outside.erase(block_id);
    work.to_close.erase(block_id);
    return;
  }
  if (work.outside.insert(block_id).second && !work.reporting) work.report_wanted = true;
  if (info.state() != pb::BLOCK_OPEN) {
    work.to_close.erase(block_id);
    return;
  }
  work.to_close.try_emplace(block_id, 0);
}

void NsCore::LearnKnownBlock(uint32_t dsp_id, const BlockRecord& record, const pb::BlockInfo& info,
                             NsOutbox* outbox) {
  BlockRecord next = record;
  const auto member = static_cast<size_t>(MemberIndex(MembersOf(record), dsp_id));
  const uint64_t block_id = info.block_id();
  DspWork& work = work_[dsp_id];
  work.doubted.erase(block_id);
  Set(&next.absent, member, false);
  next.needles = std::max(next.needles, info.needles());
  if (info.state() == pb::BLOCK_OPEN) {
    state_.blocks.Put(next);
    if (next.state == pb::BLOCK_OPEN) {
      work.open_blocks.insert(block_id);
    } else if (!Has(next.closed, member)) {  // else this is old: no close is ever undone
      work.to_close.try_emplace(block_id, 0);
    }
    return;
  }
  work.to_close.erase(block_id);
  Set(&next.closed, member, true);
  Set(&next.sealed, member, info.state() == pb::BLOCK_SEALED);
  if (info.state() == pb::BLOCK_SEALED) TakeDigest(dsp_id, info, &next);
  state_.blocks.Put(next);
  if (next.state == pb::BLOCK_OPEN) {
    next.block_epoch = std::max(next.block_epoch, info.block_epoch());
    LogBlockState(next, pb::BLOCK_CLOSED, outbox);
  }
  JudgeUnequal(block_id);
  Advance(block_id, outbox);
}

// --- Equal replicas ---

void NsCore::TakeDigest(uint32_t dsp_id, const pb::BlockInfo& info, BlockRecord* next) {
  const uint64_t digest = ShortDigest(info);
  if (digest == 0) return;
  const std::vector<uint32_t>& members = MembersOf(*next);
  const auto self = static_cast<size_t>(MemberIndex(members, dsp_id));
  uint8_t others = next->sealed;
  Set(&others, self, false);
  const auto known = unequal_.find(info.block_id());
  if (known == unequal_.end() && (next->digest == digest || others == 0 || next->digest == 0)) {
    next->digest = digest;
    return;
  }
  Unequal& unequal = unequal_[info.block_id()];
  if (known == unequal_.end()) {
    for (size_t i = 0; i < members.size(); ++i) {
      if (Has(others, i)) unequal.digests[members[i]] = next->digest;
    }
  }
  // Somebody new may have what the others lack: all form the union once more.
  if (!unequal.digests.contains(dsp_id)) unequal.sealed_again.clear();
  unequal.digests[dsp_id] = digest;
  // Different needles under one sequence stay so, however often they are sealed.
  if (info.divergent() > 0) unequal.sealed_again = {members.begin(), members.end()};
}

// Equal at last, or sealed again by all and still different.
void NsCore::JudgeUnequal(uint64_t block_id) {
  const auto at = unequal_.find(block_id);
  if (at == unequal_.end()) return;
  BlockRecord record = *state_.blocks.Find(block_id);
  const std::vector<uint32_t>& members = MembersOf(record);
  std::set<uint64_t> digests;
  for (size_t i = 0; i < members.size(); ++i) {
    if (Has(record.absent, i) || DiskFailed(members[i])) continue;
    if (SealOwed(record, i)) return;
    const auto told = at->second.digests.find(members[i]);
    if (told != at->second.digests.end()) digests.insert(told->second);
  }
  if (digests.size() > 1) {
    if (!divergent_.insert(block_id).second) return;
    LOG_ERROR("block_divergent", "block=%llu members=%zu action=keep_each", Llu(block_id),
              members.size());
    return;
  }
  if (digests.size() == 1) record.digest = *digests.begin();
  state_.blocks.Put(record);
  unequal_.erase(at);
  divergent_.erase(block_id);
}

// --- The next step of a block ---

bool NsCore::DiskFailed(uint32_t dsp_id) const {
  const DspLive* live = membership_.Find(dsp_id);
  return live != nullptr && live->registered && live->disk_state != pb::DISK_HEALTHY;
}

// The member has to be told to seal, for the first time or again. A failed disk can't.
bool NsCore::SealOwed(const BlockRecord& record, size_t member) const {
  const uint32_t dsp_id = MembersOf(record)[member];
  if (Has(record.absent, member) || DiskFailed(dsp_id)) return false;
  if (!Has(record.sealed, member)) return true;
  const auto unequal = unequal_.find(record.block_id);
  return unequal != unequal_.end() && !unequal->second.sealed_again.contains(dsp_id);
}

// Whoever has not closed a closed block is told to; when all have, all are told to seal. Of a
// sealed one, whoever is found not to have: also after a restart, and not before all have spoken.
void NsCore::Advance(uint64_t block_id, NsOutbox* outbox) {
  const BlockRecord record = *state_.blocks.Find(block_id);
  if (record.state == pb::BLOCK_OPEN) return;
  const std::vector<uint32_t>& members = MembersOf(record);
  bool all_closed = record.closed != 0;
  for (size_t i = 0; i < members.size(); ++i) {
    if (Has(record.closed, i) || Has(record.absent, i)) continue;
    all_closed = false;
    if (record.state == pb::BLOCK_CLOSED) work_[members[i]].to_close.try_emplace(block_id, 0);
  }
  if (!all_closed) return;
  bool owed = false;
  for (size_t i = 0; i < members.size(); ++i) {
    DspWork& work = work_[members[i]];
    const bool owes = SealOwed(record, i);
    if (owes && Has(record.closed, i)) work.to_seal.try_emplace(block_id, 0);
    if (!owes) work.to_seal.erase(block_id);
    owed |= owes;
  }
  if (!owed && record.sealed != 0 && record.state == pb::BLOCK_CLOSED) {
    LogBlockState(record, pb::BLOCK_SEALED, outbox);
  }
}

void NsCore::MarkAbsent(uint32_t dsp_id, uint64_t block_id, NsOutbox* outbox) {
  const BlockRecord* known = state_.blocks.Find(block_id);
  ASSERT(known != nullptr);
  BlockRecord next = *known;
  const int at = MemberIndex(MembersOf(next), dsp_id);
  ASSERT(at >= 0);
  const auto member = static_cast<size_t>(at);
  DspWork& work = work_[dsp_id];
  work.to_close.erase(block_id);
  work.to_seal.erase(block_id);
  if (Has(next.absent, member)) return;
  LOG_WARN("block_absent", "dsp=%u block=%llu", dsp_id, Llu(block_id));
  Set(&next.absent, member, true);
  Set(&next.closed, member, false);
  Set(&next.sealed, member, false);
  state_.blocks.Put(next);
  if (next.state == pb::BLOCK_OPEN) {
    ++next.block_epoch;
    LogBlockState(next, pb::BLOCK_CLOSED, outbox);
  }
  JudgeUnequal(block_id);
  Advance(block_id, outbox);
}

void NsCore::LogBlockRecord(const BlockRecord& record, NsOutbox* outbox) {
  pb::LogRecord log;
  *log.mutable_block() = LogBlockOf(state_, record);
  Log(std::move(log), outbox);
}

// Logs the block's new state; once it is not open, nobody is granted it.
void NsCore::LogBlockState(BlockRecord record, pb::BlockState state, NsOutbox* outbox) {
  ASSERT(state != pb::BLOCK_OPEN);
  record.state = static_cast<uint8_t>(state);
  LogBlockRecord(record, outbox);
  for (const uint32_t dsp_id : MembersOf(record)) {
    work_[dsp_id].open_blocks.erase(record.block_id);
    work_[dsp_id].doubted.erase(record.block_id);
  }
}

// On doubt. The epoch that the command names fences appends of older grants. No fault is one who
// has not spoken to this nameserver yet: then a whole cluster is starting, or a machine comes back.
void NsCore::CloseBlocksOf(uint32_t dsp_id, const char* why, Now now, NsOutbox* outbox) {
  const std::set<uint64_t> open_blocks = work_.at(dsp_id).open_blocks;
  if (!open_blocks.empty() && membership_.Find(dsp_id)->registered) {
    const uint64_t pause_ms = fault_pauses_.OnFault(FaultyParty::Dsp(dsp_id), now.mono_ms);
    LOG_INFO("dsp_fault", "dsp=%u why=%s chosen_last_ms=%llu", dsp_id, why, Llu(pause_ms));
  }
  for (const uint64_t block_id : open_blocks) {
    const BlockRecord* known = state_.blocks.Find(block_id);
    ASSERT(known != nullptr);
    ASSERT(known->state == pb::BLOCK_OPEN);
    LOG_INFO("block_closed", "block=%llu dsp=%u why=%s", Llu(block_id), dsp_id, why);
    BlockRecord next = *known;
    ++next.block_epoch;
    LogBlockState(next, pb::BLOCK_CLOSED, outbox);
    Advance(block_id, outbox);
  }
}

}  // namespace hayloft
