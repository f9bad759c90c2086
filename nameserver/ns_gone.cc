// An operator's word that a dsp does not come back: it leaves the sets of its blocks.
#include <algorithm>

#include "common/check.h"
#include "common/log.h"
#include "nameserver/ns_core.h"

namespace hayloft {

namespace {
constexpr size_t kLeftPerTurn = 5'000;  // blocks, so that heartbeats wait for few records
}

// Nobody else in the block's set is known to have anything of it: by its own word, or because an
// open block was logged with those that had it.
bool NsCore::HoldsLast(const BlockRecord& record, uint32_t dsp_id) const {
  const std::vector<uint32_t>& members = MembersOf(record);
  const bool open = record.state == pb::BLOCK_OPEN;
  const uint32_t holding = open ? ~uint32_t{record.absent} : uint32_t{record.closed};
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i] != dsp_id && ((holding >> i) & 1u) != 0) return false;
  }
  return true;
}

void NsCore::OnDeclareGone(RpcRequest&& request, NsOutbox* outbox) {
  pb::DeclareGoneRequest message;
  if (!message.ParseFromString(request.message) || message.dsp_id() == 0) {
    return Reply(request, Err::kInvalid, "", outbox);
  }
  Leaving leaving;
  leaving.dsp_id = message.dsp_id();
  DspLive* live = membership_.Find(leaving.dsp_id);
  if (live != nullptr && (live->state == DspState::kUp || live->counted)) {
    return Reply(request, Err::kInvalid, leaving.reply.SerializeAsString(), outbox);
  }
  uint64_t last_copies = 0;
  state_.blocks.ForEach([&](const BlockRecord& record) {
    const std::vector<uint32_t>& members = MembersOf(record);
    if (std::find(members.begin(), members.end(), leaving.dsp_id) == members.end()) return;
    leaving.block_ids.push_back(record.block_id);
    last_copies += HoldsLast(record, leaving.dsp_id) ? 1 : 0;
  });
  // After a lost store it may be known from the sets of others only.
  if (live == nullptr && leaving.block_ids.empty()) {
    return Reply(request, Err::kNotFound, "", outbox);
  }
  if (last_copies > 0 && !message.even_last()) {
    leaving.reply.set_last_copies(last_copies);
    return Reply(request, Err::kInvalid, leaving.reply.SerializeAsString(), outbox);
  }
  LOG_WARN("dsp_declared_gone", "dsp=%u blocks=%zu last_copies=%llu", leaving.dsp_id,
           leaving.block_ids.size(), static_cast<unsigned long long>(last_copies));
  if (live != nullptr) membership_.GiveUp(live);
  request.message.clear();
  leaving.request = std::move(request);
  leaving_.push_back(std::move(leaving));
  LeaveSets(outbox);
}

void NsCore::LeaveSets(NsOutbox* outbox) {
  size_t left = 0;
  while (!leaving_.empty() && left < kLeftPerTurn) {
    Leaving& leaving = leaving_.front();
    if (leaving.next < leaving.block_ids.size()) {
      LeaveSet(leaving.block_ids[leaving.next++], &leaving, outbox);
      ++left;
      continue;
    }
    Reply(leaving.request, Err::kOk, leaving.reply.SerializeAsString(), outbox);
    leaving_.pop_front();
  }
}

void NsCore::LeaveSet(uint64_t block_id, Leaving* leaving, NsOutbox* outbox) {
  BlockRecord next = *state_.blocks.Find(block_id);
  std::vector<uint32_t> members = MembersOf(next);
  if (std::find(members.begin(), members.end(), leaving->dsp_id) == members.end()) return;
  if (HoldsLast(next, leaving->dsp_id)) {
    // The block stays known, as lost: its files are unavailable, not unknown. Should the disk come
    // back all the same, they are there again.
    leaving->reply.set_last_copies(leaving->reply.last_copies() + 1);
    return MarkAbsent(leaving->dsp_id, block_id, outbox);
  }
  std::erase(members, leaving->dsp_id);
  DspWork& work = work_[leaving->dsp_id];
  work.open_blocks.erase(block_id);
  work.doubted.erase(block_id);
  work.to_close.erase(block_id);
  work.to_seal.erase(block_id);
  if (const auto unequal = unequal_.find(block_id); unequal != unequal_.end()) {
    unequal->second.digests.erase(leaving->dsp_id);
  }
  next.set = state_.blocks.Intern(members);
  ++next.set_version;
  for (const uint32_t member : members) OweSet(member, next, 0);  // deletes count who is in the set
  OweSet(leaving->dsp_id, next, 0);
  leaving->reply.set_blocks(leaving->reply.blocks() + 1);
  if (next.state == pb::BLOCK_OPEN) {
    ++next.block_epoch;
    LogBlockState(next, pb::BLOCK_CLOSED, outbox);
  } else {
    LogBlockRecord(next, outbox);
  }
  JudgeUnequal(block_id);
  Advance(block_id, outbox);
}

}  // namespace hayloft
