// What becomes of blocks: adopted, created, closed, sealed.
#include <algorithm>

#include "common/check.h"
#include "common/log.h"
#include "nameserver/ns_core.h"

namespace hayloft {

namespace {

constexpr uint32_t kCreateTimeoutMs = 1'000;  // a disk that needs longer is not given the block
constexpr uint32_t kCommandTimeoutMs =
    5'000;  // closing waits for a commit, sealing writes a footer
constexpr uint64_t kSettleMs = 3'000;
constexpr uint64_t kRetryMs = 1'000;
constexpr uint64_t kFullRetryMs = 10'000;
constexpr uint64_t kCommandsInFlightMax = 8;  // of a kind, to one dsp
constexpr uint64_t kSent = UINT64_MAX;
constexpr uint64_t kDoubtMs = 3'000;  // a doubted block that no heartbeat explains until then
constexpr uint64_t kDoubtReportMs = 10'000;  // between full reports for that reason
constexpr uint64_t kUnsettledMs = 2'000;     // a creation without an answer, then its dsp is asked
constexpr uint64_t kOpenBlocksExcess = 4;    // times the wanted open blocks, doubted ones included

// No answer, or none that can be believed: it may have been done all the same.
bool OutcomeUnknown(Err err) {
  return err == Err::kTimeout || err == Err::kUnavailable || err == Err::kCancelled ||
         err == Err::kCorrupt;
}

int MemberIndex(const std::vector<uint32_t>& members, uint32_t dsp_id) {
  const auto at = std::find(members.begin(), members.end(), dsp_id);
  return at == members.end() ? -1 : static_cast<int>(at - members.begin());
}

unsigned long long Llu(uint64_t value) { return value; }

}  // namespace

// --- What dsps say of blocks ---

void NsCore::LearnBlock(uint32_t dsp_id, const pb::BlockInfo& info, NsOutbox* outbox) {
  if (info.block_id() > kBlockIdMax || info.state() < pb::BLOCK_OPEN ||
      info.state() > pb::BLOCK_SEALED) {
    LOG_WARN("block_report_impossible", "dsp=%u block=%llu action=ignore", dsp_id,
             Llu(info.block_id()));
    return;
  }
  NoteMark(info.block_id() + 1, outbox);
  const BlockRecord* known = state_.blocks.Find(info.block_id());
  if (known == nullptr) {
    if (info.dropped()) return;
    PROBE("nameserver_block_adopted");
    pb::LogRecord record;
    pb::LogBlock& block = *record.mutable_block();
    block.set_block_id(info.block_id());
    block.set_opening_epoch(info.opening_epoch());
    block.set_block_epoch(info.block_epoch());
    block.set_state(info.state());
    block.set_set_version(std::max(info.set_version(), 1u));
    block.add_set_dsp_ids(dsp_id);
    Log(std::move(record), outbox);
    known = state_.blocks.Find(info.block_id());
    ASSERT(known != nullptr);
  }
  if (known->opening_epoch != info.opening_epoch()) {
    LOG_WARN("block_of_another_epoch", "dsp=%u block=%llu known=%llu told=%llu action=keep_known",
             dsp_id, Llu(info.block_id()), Llu(known->opening_epoch), Llu(info.opening_epoch()));
    return;
  }
  if (MemberIndex(state_.blocks.SetMembers(known->set), dsp_id) < 0) {
    LOG_WARN("block_of_a_stranger", "dsp=%u block=%llu action=ignore", dsp_id,
             Llu(info.block_id()));
    return;
  }
  if (info.dropped()) return MarkAbsent(dsp_id, info.block_id(), outbox);
  LearnKnownBlock(dsp_id, *known, info, outbox);
}

void NsCore::LearnKnownBlock(uint32_t dsp_id, const BlockRecord& record, const pb::BlockInfo& info,
                             NsOutbox* outbox) {
  BlockRecord next = record;
  const int member = MemberIndex(state_.blocks.SetMembers(record.set), dsp_id);
  ASSERT(member >= 0);
  next.absent &= static_cast<uint8_t>(~(1u << member));
  next.needles = info.needles();
  state_.blocks.Put(next);
  const uint64_t block_id = info.block_id();
  DspWork& work = work_.at(dsp_id);
  work.doubted.erase(block_id);
  work.unsettled.erase(block_id);
  if (info.state() == pb::BLOCK_OPEN) {
    if (next.state == pb::BLOCK_OPEN) {
      work.open_blocks.insert(block_id);
    } else {
      work.to_close.try_emplace(block_id, 0);
    }
    return;
  }
  work.to_close.erase(block_id);
  next.block_epoch = std::max(next.block_epoch, info.block_epoch());
  if (info.state() == pb::BLOCK_CLOSED) {
    if (next.state == pb::BLOCK_OPEN) LogBlockState(next, pb::BLOCK_CLOSED, outbox);
    work.to_seal.try_emplace(block_id, 0);
  } else {
    if (next.state != pb::BLOCK_SEALED) LogBlockState(next, pb::BLOCK_SEALED, outbox);
    work.to_seal.erase(block_id);
  }
}

void NsCore::MarkAbsent(uint32_t dsp_id, uint64_t block_id, NsOutbox* outbox) {
  const BlockRecord* known = state_.blocks.Find(block_id);
  ASSERT(known != nullptr);
  BlockRecord next = *known;
  const int member = MemberIndex(state_.blocks.SetMembers(next.set), dsp_id);
  ASSERT(member >= 0);
  DspWork& work = work_.at(dsp_id);
  work.to_close.erase(block_id);
  work.to_seal.erase(block_id);
  const auto bit = static_cast<uint8_t>(1u << member);
  if ((next.absent & bit) != 0) return;
  LOG_WARN("block_absent", "dsp=%u block=%llu", dsp_id, Llu(block_id));
  next.absent |= bit;
  state_.blocks.Put(next);
  if (next.state == pb::BLOCK_OPEN) LogBlockState(next, pb::BLOCK_CLOSED, outbox);
}

// Logs the block's new state; once it is not open, nobody is granted it.
void NsCore::LogBlockState(BlockRecord record, pb::BlockState state, NsOutbox* outbox) {
  ASSERT(state != pb::BLOCK_OPEN);
  record.state = static_cast<uint8_t>(state);
  pb::LogRecord log;
  *log.mutable_block() = LogBlockOf(state_, record);
  Log(std::move(log), outbox);
  for (const uint32_t dsp_id : state_.blocks.SetMembers(record.set)) {
    work_.at(dsp_id).open_blocks.erase(record.block_id);
    work_.at(dsp_id).doubted.erase(record.block_id);
  }
}

// On doubt. The epoch that the command names fences appends of older grants.
void NsCore::CloseBlocksOf(uint32_t dsp_id, const char* why, Now now, NsOutbox* outbox) {
  const std::set<uint64_t> open_blocks = work_.at(dsp_id).open_blocks;
  if (!open_blocks.empty()) {
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
    for (const uint32_t member : state_.blocks.SetMembers(next.set)) {
      work_.at(member).to_close.try_emplace(block_id, 0);
    }
  }
}

// --- Commands ---

pb::CommandHead NsCore::Head() const {
  pb::CommandHead head;
  head.set_epoch(state_.epoch);
  head.set_node(state_.node);
  head.set_block_range_end(state_.id_range_end);
  return head;
}

void NsCore::Work(uint32_t dsp_id, DspWork* work, Now now, NsOutbox* outbox) {
  const DspLive* live = membership_.Find(dsp_id);
  ASSERT(live != nullptr);
  const bool reachable = live->registered && live->state == DspState::kUp;
  if (!reachable || raising_epoch_) return;
  const auto older = [&](uint64_t age_ms) {
    return [age_ms, &now](const auto& one) { return now.mono_ms - one.second >= age_ms; };
  };
  const bool puzzled =
      std::any_of(work->doubted.begin(), work->doubted.end(), older(kDoubtMs)) ||
      std::any_of(work->unsettled.begin(), work->unsettled.end(), older(kUnsettledMs));
  if (puzzled && now.mono_ms >= work->next_doubt_ms) {
    work->next_doubt_ms = now.mono_ms + kDoubtReportMs;
    work->report_wanted = true;
  }
  SendCommands(MessageType::kCloseBlock, dsp_id, &work->to_close, now, outbox);
  if (live->disk_state != pb::DISK_HEALTHY) return;
  SendCommands(MessageType::kSealBlock, dsp_id, &work->to_seal, now, outbox);
  CreateBlocks(dsp_id, work, now, outbox);
}

bool NsCore::HasSpace(uint32_t dsp_id, Now now) const {
  const DspLive* live = membership_.Find(dsp_id);
  const DspWork& work = work_.at(dsp_id);
  return !live->Full() && now.mono_ms >= work.full_until_ms;
}

void NsCore::CreateBlocks(uint32_t dsp_id, DspWork* work, Now now, NsOutbox* outbox) {
  const DspLive* live = membership_.Find(dsp_id);
  if (!live->Writable() || !work->reported || !HasSpace(dsp_id, now)) return;
  if (now.mono_ms < work->next_create_ms) return;
  // After a rebuild's start some dsp may still bring a higher mark of ids.
  const bool settled = now.mono_ms - started_ms_ >= kSettleMs && RegisteredHaveReported();
  if (state_.settings.rebuilding() && !settled) return;
  const uint64_t wanted = options_.open_blocks_per_dsp;
  const uint64_t unsettled = work->unsettled.size();
  while (work->open_blocks.size() - work->doubted.size() + unsettled + work->creating < wanted &&
         work->open_blocks.size() + unsettled + work->creating < wanted * kOpenBlocksExcess) {
    const uint64_t block_id = NextBlockId(outbox);
    if (block_id == 0) return;
    pb::CreateBlockRequest request;
    *request.mutable_head() = Head();
    request.set_block_id(block_id);
    request.set_opening_epoch(state_.epoch);
    request.set_incarnation(live->incarnation);
    request.set_set_version(1);
    request.add_set_dsp_ids(dsp_id);
    ++work->creating;
    SendCommand({MessageType::kCreateBlock, dsp_id, block_id}, request.SerializeAsString(),
                kCreateTimeoutMs, outbox);
  }
}

void NsCore::SendCommands(MessageType type, uint32_t dsp_id, std::map<uint64_t, uint64_t>* blocks,
                          Now now, NsOutbox* outbox) {
  uint64_t in_flight = 0;
  for (const auto& [block_id, send_ms] : *blocks) in_flight += send_ms == kSent ? 1 : 0;
  for (auto& [block_id, send_ms] : *blocks) {
    if (in_flight >= kCommandsInFlightMax) return;
    if (send_ms > now.mono_ms) continue;
    const BlockRecord* known = state_.blocks.Find(block_id);
    ASSERT(known != nullptr);
    std::string message;
    if (type == MessageType::kCloseBlock) {
      pb::CloseBlockRequest request;
      *request.mutable_head() = Head();
      request.set_block_id(block_id);
      request.set_opening_epoch(known->opening_epoch);
      request.set_block_epoch(known->block_epoch);
      message = request.SerializeAsString();
    } else {
      pb::SealBlockRequest request;
      *request.mutable_head() = Head();
      request.set_block_id(block_id);
      request.set_opening_epoch(known->opening_epoch);
      message = request.SerializeAsString();
    }
    send_ms = kSent;
    ++in_flight;
    SendCommand({type, dsp_id, block_id}, std::move(message), kCommandTimeoutMs, outbox);
  }
}

void NsCore::SendCommand(const Command& command, std::string message, uint32_t timeout_ms,
                         NsOutbox* outbox) {
  RpcCall call;
  call.call_id = ++last_call_id_;
  call.address = state_.dsps.at(command.dsp_id).address();
  call.type = command.type;
  call.timeout_ms = timeout_ms;
  call.message = std::move(message);
  commands_.emplace(call.call_id, command);
  Emit(std::move(call), outbox);
}

// It has promised a higher epoch, or it is not the incarnation that we mean: its registration
// tells.
void NsCore::OnRefused(uint32_t dsp_id) {
  DspWork& work = work_.at(dsp_id);
  ++work.stale_refusals;
  work.register_again = true;
}

void NsCore::OnCreateDone(const Command& command, const CallDone& done, Now now, NsOutbox* outbox) {
  DspWork& work = work_.at(command.dsp_id);
  ASSERT(work.creating > 0);
  --work.creating;
  pb::CreateBlockReply reply;
  Err err = done.err;
  if (err == Err::kOk &&
      (!reply.ParseFromString(done.message) || reply.block().block_id() != command.block_id)) {
    err = Err::kCorrupt;
  }
  if (err == Err::kOk) {
    work.stale_refusals = 0;
    work.recent_blocks[command.block_id] = now.mono_ms;
    share_.OnCreated(command.dsp_id, now.mono_ms);
    return LearnBlock(command.dsp_id, reply.block(), outbox);  // adopted like any other
  }
  // The id is not used again: the block may exist all the same, and is then reported.
  LOG_INFO("create_block_failed", "dsp=%u block=%llu err=%s", command.dsp_id, Llu(command.block_id),
           std::string(ErrName(err)).c_str());
  work.next_create_ms = now.mono_ms + kRetryMs;
  if (OutcomeUnknown(err) && !state_.blocks.Find(command.block_id)) {
    work.unsettled[command.block_id] = now.mono_ms;
  }
  if (err == Err::kFull) work.full_until_ms = now.mono_ms + kFullRetryMs;
  if (err == Err::kStaleEpoch) OnRefused(command.dsp_id);
}

void NsCore::OnCloseOrSealDone(const Command& command, const CallDone& done, Now now,
                               NsOutbox* outbox) {
  DspWork& work = work_.at(command.dsp_id);
  std::map<uint64_t, uint64_t>& blocks =
      command.type == MessageType::kCloseBlock ? work.to_close : work.to_seal;
  const auto at = blocks.find(command.block_id);
  if (at != blocks.end()) at->second = now.mono_ms + kRetryMs;  // unless it is done
  pb::CloseBlockReply reply;  // a SealBlockReply has the same field
  if (done.err == Err::kOk && reply.ParseFromString(done.message) &&
      reply.block().block_id() == command.block_id) {
    work.stale_refusals = 0;
    return LearnBlock(command.dsp_id, reply.block(), outbox);
  }
  if (done.err == Err::kStaleEpoch) return OnRefused(command.dsp_id);
  if (done.err == Err::kNotFound) work.report_wanted = true;  // its report tells what it has
}

}  // namespace hayloft
