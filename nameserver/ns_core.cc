#include "nameserver/ns_core.h"

#include <algorithm>

#include "common/check.h"
#include "common/log.h"
#include "common/mutant.h"

namespace hayloft {

namespace {
constexpr uint64_t kIdsLow = 64;  // reserve more when fewer are left
}

NsCore::NsCore(const NsOptions& options, NsState state, Random* random)
    : options_(options),
      state_(std::move(state)),
      membership_({options.suspect_after_ms, options.down_after_ms}),
      share_(2 * options.open_blocks_per_dsp * std::max(state_.settings.copies(), 1u)),
      random_(random),
      peers_version_base_(random->Next64() | 1) {
  ASSERT(random_ != nullptr);
  ASSERT(state_.node.size() == 16);
}

CopiesWanted NsCore::Wanted() const {
  CopiesWanted wanted;
  wanted.copies = std::clamp<size_t>(state_.settings.copies(), 1, kReplicasMax);
  const size_t least = state_.settings.min_copies() == 0 ? 2 : state_.settings.min_copies();
  wanted.min_copies = std::min(least, wanted.copies);
  return wanted;
}

void NsCore::Start(uint64_t epoch, bool forced, Now now, NsOutbox* outbox) {
  ASSERT(!started_);
  ASSERT(epoch > state_.epoch);
  started_ = true;
  now_ = now;
  started_ms_ = now.mono_ms;
  first_start_ = state_.dsps.empty();
  committed_index_ = state_.last_index;
  // What is left of an old range is never used: it may have been used already.
  next_block_id_ = state_.id_range_end;
  for (const auto& [dsp_id, dsp] : state_.dsps) {
    dsp_by_disk_[dsp.disk_id()] = dsp_id;
    (void)membership_.Add(dsp_id, dsp.machine(), now);  // silent from now on
    work_[dsp_id];
  }
  state_.blocks.ForEach([&](const BlockRecord& record) {
    if (record.state != pb::BLOCK_OPEN) return;
    for (const uint32_t dsp_id : MembersOf(record)) {
      work_[dsp_id].open_blocks.insert(record.block_id);
    }
  });
  pb::LogRecord record;
  record.mutable_new_epoch()->set_epoch(epoch);
  const bool first_record = state_.last_index == 0;
  Log(std::move(record), outbox);
  // A standby knows the settings by the log alone.
  const bool rebuild = forced && !state_.settings.rebuilding();
  if (!rebuild && !first_record) return;
  pb::LogRecord settings;
  *settings.mutable_settings() = state_.settings;
  if (rebuild) {
    settings.mutable_settings()->set_rebuilding(true);
    settings.mutable_settings()->set_rebuild_dsps(static_cast<uint32_t>(state_.dsps.size()));
  }
  Log(std::move(settings), outbox);
}

void NsCore::OnRequest(RpcRequest&& request, Now now, NsOutbox* outbox) {
  ASSERT(started_);
  now_ = now;
  switch (request.type) {
    case MessageType::kRegister:
      return OnRegister(request, now, outbox);
    case MessageType::kHeartbeat:
      return OnHeartbeat(request, now, outbox);
    case MessageType::kBlockReport:
      return OnBlockReport(request, now, outbox);
    case MessageType::kGrant:
      return OnGrant(request, now, outbox);
    case MessageType::kLocate:
      return OnLocate(request, now, outbox);
    case MessageType::kClusterStatus:
      return Reply(request, Err::kOk, Status(now).SerializeAsString(), outbox);
    case MessageType::kDeclareGone:
      return OnDeclareGone(std::move(request), outbox);
    case MessageType::kDeclareDirectory:
      return OnDeclareDirectory(request, outbox);
    default:
      return Reply(request, Err::kUnsupported, "", outbox);
  }
}

void NsCore::OnCallDone(CallDone&& done, Now now, NsOutbox* outbox) {
  now_ = now;
  const auto found = commands_.find(done.call_id);
  if (found == commands_.end()) return;
  const Command command = found->second;
  commands_.erase(found);
  if (command.type == MessageType::kCreateBlock) return OnCreateDone(command, done, now, outbox);
  OnCloseOrSealDone(command, done, now, outbox);
}

void NsCore::OnTick(Now now, NsOutbox* outbox) {
  ASSERT(started_);
  now_ = now;
  for (const uint32_t dsp_id : membership_.OnTick(now)) {
    CloseBlocksOf(dsp_id, "suspect", now, outbox);
  }
  const bool settled = !state_.settings.rebuilding();
  if (settled && !strangers_down_ && now.mono_ms - started_ms_ > options_.down_after_ms) {
    strangers_down_ = true;
    membership_.NoteChange();
  }
  JudgeReachability(now, outbox);
  fault_pauses_.Forget(now.mono_ms);
  CheckRebuilt(now, outbox);
  LeaveSets(outbox);
  std::erase_if(late_until_ms_, [&](const auto& late) { return late.second <= now.mono_ms; });
  for (auto& [dsp_id, work] : work_) Work(dsp_id, &work, now, outbox);
}

// --- The log and what waits for it ---

void NsCore::Log(pb::LogRecord&& record, NsOutbox* outbox) {
  record.set_index(state_.last_index + 1);
  const Err err = ApplyRecord(record, &state_);
  ASSERT(err == Err::kOk);  // our own record
  if (record.has_new_epoch()) epoch_index_ = record.index();
  outbox->records.push_back(std::move(record));
}

void NsCore::Emit(RpcReply&& reply, NsOutbox* outbox) {
  if (Holding()) {
    held_.push_back({state_.last_index, std::move(reply)});
  } else {
    outbox->replies.push_back(std::move(reply));
  }
}

void NsCore::Emit(RpcCall&& call, NsOutbox* outbox) {
  const bool early = IsMutant(Mutant::kHaIdsBeforeCommit) && call.type == MessageType::kCreateBlock;
  if (Holding() && !early) {
    held_.push_back({state_.last_index, std::move(call)});
  } else {
    outbox->calls.push_back(std::move(call));
  }
}

void NsCore::OnCommitted(uint64_t index, NsOutbox* outbox) {
  ASSERT(index <= state_.last_index);
  if (index <= committed_index_) return;  // of the log as it was at the start
  committed_index_ = index;
  while (!held_.empty() && held_.front().index <= index) {
    if (RpcReply* reply = std::get_if<RpcReply>(&held_.front().effect)) {
      outbox->replies.push_back(std::move(*reply));
    } else {
      outbox->calls.push_back(std::move(std::get<RpcCall>(held_.front().effect)));
    }
    held_.pop_front();
  }
}

void NsCore::LogNothing(NsOutbox* outbox) {
  pb::LogRecord record;
  record.mutable_nothing();
  Log(std::move(record), outbox);
}

void NsCore::Reply(const RpcRequest& request, Err err, std::string message, NsOutbox* outbox) {
  RpcReply reply;
  reply.token = request.token;
  reply.type = request.type;
  reply.err = err;
  reply.message = std::move(message);
  Emit(std::move(reply), outbox);
}

// --- Epochs ---

void NsCore::RaiseEpochAbove(uint64_t epoch, NsOutbox* outbox) {
  if (raising_epoch_) return;
  PROBE("nameserver_epoch_raised");
  raising_epoch_ = true;
  outbox->raise_epoch_above = std::max(epoch, state_.epoch);
}

void NsCore::OnEpochRaised(uint64_t epoch, NsOutbox* outbox) {
  ASSERT(raising_epoch_);
  ASSERT(epoch > state_.epoch);
  raising_epoch_ = false;
  pb::LogRecord record;
  record.mutable_new_epoch()->set_epoch(epoch);
  Log(std::move(record), outbox);
  if (!state_.settings.rebuilding()) return;
  // What was reported before could still be changed by whoever won the epochs in between.
  for (auto& [dsp_id, work] : work_) {
    work.reported = false;
    work.reporting = false;
    work.report_wanted = true;
  }
}

// --- Block ids ---

// Somebody knows of ids that this log does not: it is older than the cluster (restored, rebuilt).
// What else was given out since cannot be known, so that ids go on far above every mark.
void NsCore::NoteMark(uint64_t mark, NsOutbox* outbox) {
  const bool rebuilding = state_.settings.rebuilding();
  if (rebuilding ? mark + kIdJump <= next_block_id_ : mark <= state_.id_range_end) return;
  if (mark > kBlockIdMax + 1) {
    LOG_WARN("block_id_mark_impossible", "mark=%llu action=ignore",
             static_cast<unsigned long long>(mark));
    return;
  }
  PROBE("nameserver_ids_jump");
  next_block_id_ = std::min(mark + kIdJump, kBlockIdMax + 1);
  // A store that was lost before this one jumped from the same mark, if whoever knows better has
  // not spoken yet. Its ids lie elsewhere, but for a chance of one in 2^16.
  if (kBlockIdMax + 1 - next_block_id_ > kIdSpread * kIdsReserved) {
    next_block_id_ += random_->Below(kIdSpread) * kIdsReserved;
  }
  LOG_WARN("block_ids_jump", "mark=%llu next=%llu", static_cast<unsigned long long>(mark),
           static_cast<unsigned long long>(next_block_id_));
  pb::LogRecord record;
  record.mutable_id_range()->set_end(std::min(next_block_id_ + kIdsReserved, kBlockIdMax + 1));
  Log(std::move(record), outbox);
}

uint64_t NsCore::NextBlockId(NsOutbox* outbox) {
  if (next_block_id_ > kBlockIdMax) {
    if (!ids_exhausted_) LOG_ERROR("block_ids_exhausted", "action=no_more_blocks");
    ids_exhausted_ = true;
    return 0;
  }
  if (next_block_id_ + kIdsLow > state_.id_range_end && state_.id_range_end <= kBlockIdMax) {
    pb::LogRecord record;
    record.mutable_id_range()->set_end(
        std::min(state_.id_range_end + kIdsReserved, kBlockIdMax + 1));
    Log(std::move(record), outbox);
  }
  ASSERT(next_block_id_ < state_.id_range_end);
  return next_block_id_++;
}

// --- Completeness ---

uint64_t NsCore::DspsReported() const {
  uint64_t reported = 0;
  for (const auto& [dsp_id, work] : work_) reported += work.reported ? 1 : 0;
  return reported;
}

bool NsCore::Complete() const {
  if (state_.settings.rebuilding()) return false;
  for (const auto& [dsp_id, dsp] : membership_.dsps()) {
    if (!work_.at(dsp_id).reported && dsp.state != DspState::kDown) return false;
  }
  return true;
}

bool NsCore::RegisteredHaveReported() const {
  return std::all_of(work_.begin(), work_.end(), [&](const auto& entry) {
    const DspLive* live = membership_.Find(entry.first);  // none: known from a set only
    return entry.second.reported || live == nullptr || !live->registered;
  });
}

// A rebuild ends when the dsps that were announced have all reported, or when an operator says that
// nobody else will. Time alone ends nothing: a dsp that is away for a day may hold what all others
// lack, and until it has spoken its blocks are unavailable, not gone.
void NsCore::CheckRebuilt(Now now, NsOutbox* outbox) {
  if (!state_.settings.rebuilding()) return;
  const uint64_t reported = DspsReported();
  if (reported == 0 || !RegisteredHaveReported()) return;
  const uint32_t announced = state_.settings.rebuild_dsps();
  const bool all = announced > 0 && reported >= announced;
  if (!all && !options_.end_rebuild) return WarnOfRebuild(now);
  LOG_INFO("rebuild_complete", "dsps=%llu blocks=%llu", static_cast<unsigned long long>(reported),
           static_cast<unsigned long long>(state_.blocks.size()));
  pb::LogRecord record;
  *record.mutable_settings() = state_.settings;
  record.mutable_settings()->set_rebuilding(false);
  Log(std::move(record), outbox);
}

void NsCore::WarnOfRebuild(Now now) {
  if (rebuild_warned_ || now.mono_ms - started_ms_ < options_.down_after_ms) return;
  rebuild_warned_ = true;
  LOG_WARN("rebuild_waits", "dsps=%llu announced=%u action=wait_for_the_others_or_end_rebuild",
           static_cast<unsigned long long>(DspsReported()), state_.settings.rebuild_dsps());
}

}  // namespace hayloft
