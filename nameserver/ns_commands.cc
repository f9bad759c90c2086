// What dsps are told to do: create, close and seal blocks.
#include <algorithm>

#include "common/check.h"
#include "common/log.h"
#include "nameserver/ns_core.h"

namespace hayloft {

namespace {

constexpr uint32_t kCreateTimeoutMs = 1'000;  // a disk that needs longer is not given the block
constexpr uint32_t kCommandTimeoutMs =
    5'000;  // closing waits for a commit, sealing reads and writes a file
constexpr uint64_t kSettleMs = 3'000;
constexpr uint64_t kGatherMs = 2'000;  // after a start: heartbeats come every second
constexpr uint64_t kRetryMs = 1'000;
constexpr uint64_t kUnreadableRetryMs = 10'000;
constexpr uint64_t kFullRetryMs = 10'000;
constexpr uint64_t kCommandsInFlightMax = 8;  // of a kind, to one dsp
constexpr uint64_t kSent = UINT64_MAX;
constexpr uint64_t kBlockDoubtMs = 3'000;  // a doubted block that no heartbeat explains until then
constexpr uint64_t kDoubtReportMs = 10'000;  // between full reports for that reason
constexpr uint64_t kUnsettledMs = 2'000;     // a creation without an answer, then its dsp is asked
constexpr uint64_t kOpenBlocksExcess = 4;    // times the wanted open blocks, doubted ones included
constexpr uint64_t kUnsettledExcess = 2;     // times the wanted open blocks
constexpr uint64_t kLeadAgain = 5;           // so often in a pause after a failed creation

// No answer, or none that can be believed: it may have been done all the same.
bool OutcomeUnknown(Err err) {
  return err == Err::kTimeout || err == Err::kUnavailable || err == Err::kCancelled ||
         err == Err::kCorrupt;
}

unsigned long long Llu(uint64_t value) { return value; }

}  // namespace

pb::CommandHead NsCore::Head() const {
  pb::CommandHead head;
  head.set_epoch(state_.epoch);
  head.set_node(state_.node);
  head.set_block_range_end(state_.id_range_end);
  head.set_log_index(state_.last_index);
  return head;
}

void NsCore::Work(uint32_t dsp_id, DspWork* work, Now now, NsOutbox* outbox) {
  const DspLive* live = membership_.Find(dsp_id);
  const bool reachable = live != nullptr && live->registered && live->state == DspState::kUp;
  if (!reachable || raising_epoch_) return;
  const auto older = [&](uint64_t age_ms) {
    return [age_ms, &now](const auto& one) { return now.mono_ms - one.second >= age_ms; };
  };
  const bool puzzled =
      std::any_of(work->doubted.begin(), work->doubted.end(), older(kBlockDoubtMs)) ||
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

// --- Creation ---

bool NsCore::HasSpace(uint32_t dsp_id, Now now) const {
  const DspLive* live = membership_.Find(dsp_id);
  const DspWork& work = work_.at(dsp_id);
  return !live->Full() && now.mono_ms >= work.full_until_ms;
}

// A new block could lie there: nothing is known against it, other than a preference.
bool NsCore::MayHoldMore(uint32_t dsp_id, Now now) const {
  const uint64_t unsettled = work_.at(dsp_id).unsettled.size();
  return Appendable(dsp_id) && HasSpace(dsp_id, now) &&
         unsettled < options_.open_blocks_per_dsp * kUnsettledExcess;
}

// After a rebuild's start some dsp may still bring a higher mark of ids.
bool NsCore::MayCreate(Now now) const {
  if (raising_epoch_ || ids_exhausted_) return false;
  const bool settled = now.mono_ms - started_ms_ >= kSettleMs && RegisteredHaveReported();
  return !state_.settings.rebuilding() || settled;
}

// Of a block that no client waits for. A cluster's processes start one after the other: a block
// that is made before the last machine has come keeps its few copies as long as it is open. So for
// a moment after a start only whole sets will do, unless all who could come are there.
CopiesWanted NsCore::WantedUnasked(Now now) const {
  CopiesWanted wanted = Wanted();
  const bool all_are_there =
      !first_start_ && std::all_of(work_.begin(), work_.end(),
                                   [](const auto& entry) { return entry.second.reported; });
  if (now.mono_ms - started_ms_ < kGatherMs && !all_are_there) wanted.min_copies = wanted.copies;
  return wanted;
}

uint64_t NsCore::LedBlocks(uint32_t dsp_id) const {
  const std::set<uint64_t>& open_blocks = work_.at(dsp_id).open_blocks;
  return static_cast<uint64_t>(
      std::count_if(open_blocks.begin(), open_blocks.end(), [&](uint64_t block_id) {
        return MembersOf(*state_.blocks.Find(block_id)).front() == dsp_id;
      }));
}

// Each dsp leads so many blocks that could take an upload. What creations without an answer may
// still become counts: a slow disk makes them all the same.
bool NsCore::WantsBlock(uint32_t dsp_id) const {
  const DspWork& work = work_.at(dsp_id);
  const uint64_t wanted = options_.open_blocks_per_dsp;
  const uint64_t coming = work.creating + work.unsettled.size();
  const uint64_t led = LedBlocks(dsp_id);
  uint64_t useful = 0;
  for (const uint64_t block_id : work.open_blocks) {
    const std::vector<uint32_t>& members = MembersOf(*state_.blocks.Find(block_id));
    if (members.front() != dsp_id) continue;
    const bool healthy = std::all_of(members.begin(), members.end(),
                                     [&](uint32_t member) { return Appendable(member); });
    useful += healthy && !work.doubted.contains(block_id) ? 1 : 0;
  }
  return useful + coming < wanted && led + coming < wanted * kOpenBlocksExcess;
}

void NsCore::CreateBlocks(uint32_t dsp_id, DspWork* work, Now now, NsOutbox* outbox) {
  if (now.mono_ms < work->next_create_ms || !MayHoldMore(dsp_id, now) || !MayCreate(now)) return;
  if (now.mono_ms < work->lead_again_ms && Grantable()) return;
  while (WantsBlock(dsp_id)) {
    if (OrderBlock(dsp_id, {}, now, outbox)) continue;
    work->next_create_ms = now.mono_ms + kRetryMs;
    return;
  }
}

// False: there are too few machines, or no ids.
bool NsCore::OrderBlock(uint32_t primary, const std::set<uint32_t>& without, Now now,
                        NsOutbox* outbox) {
  std::vector<PlacementCandidate> candidates;
  const uint64_t bytes_of_all = BytesOfAll(now);
  for (const auto& [dsp_id, live] : membership_.dsps()) {
    if (without.contains(dsp_id) || !MayHoldMore(dsp_id, now)) continue;
    const bool puzzling = !work_.at(dsp_id).unsettled.empty() || late_until_ms_.contains(dsp_id);
    candidates.push_back(
        {.dsp_id = dsp_id,
         .machine = live.machine,
         .weight = live.free_bytes,
         .zone = state_.dsps.at(dsp_id).zone(),
         .rank = puzzling ? PlacementRank::kDoubtful
                          : RankOf(dsp_id, std::max(bytes_of_all, live.total_bytes), now)});
  }
  const CopiesWanted wanted = without.empty() ? WantedUnasked(now) : Wanted();
  const std::vector<uint32_t> dsp_ids =
      ChooseReplicas(std::move(candidates), wanted, random_, primary);
  const uint64_t block_id = dsp_ids.empty() ? 0 : NextBlockId(outbox);
  if (block_id == 0) return false;
  pb::CreateBlockRequest request;
  *request.mutable_head() = Head();
  request.set_block_id(block_id);
  request.set_opening_epoch(state_.epoch);
  request.set_set_version(1);
  for (const uint32_t dsp_id : dsp_ids) {
    request.add_set_dsp_ids(dsp_id);
    request.add_set_addresses(state_.dsps.at(dsp_id).address());
  }
  request.set_life(random_->Next64());
  Creation& creation = creations_[block_id];
  creation.dsp_ids = dsp_ids;
  creation.unanswered = dsp_ids.size();
  ++work_.at(primary).creating;
  for (const uint32_t dsp_id : dsp_ids) {
    const uint64_t incarnation = membership_.Find(dsp_id)->incarnation;
    creation.incarnations[dsp_id] = incarnation;
    request.set_incarnation(incarnation);
    SendCommand({MessageType::kCreateBlock, dsp_id, block_id}, request.SerializeAsString(),
                kCreateTimeoutMs, outbox);
  }
  return true;
}

// A client waits for a block without these, of which there is none: one is made, led by whoever
// leads the fewest. False: there can't be one.
bool NsCore::OrderBlockWithout(const std::set<uint32_t>& dsp_ids, Now now, NsOutbox* outbox) {
  if (!MayCreate(now)) return false;
  const auto apart = [&](const std::vector<uint32_t>& set) {
    return std::none_of(set.begin(), set.end(), [&](uint32_t id) { return dsp_ids.contains(id); });
  };
  for (const auto& [block_id, creation] : creations_) {
    if (apart(creation.dsp_ids)) return true;  // it is coming
  }
  uint32_t primary = 0;
  uint64_t fewest = UINT64_MAX;
  for (const auto& [dsp_id, live] : membership_.dsps()) {
    if (dsp_ids.contains(dsp_id) || !MayHoldMore(dsp_id, now)) continue;
    const DspWork& work = work_.at(dsp_id);
    const uint64_t blocks = work.open_blocks.size() + work.unsettled.size();
    const uint64_t copies = Wanted().copies;
    if (blocks >= options_.open_blocks_per_dsp * kOpenBlocksExcess * copies) continue;
    if (blocks < fewest) primary = dsp_id;
    fewest = std::min(fewest, blocks);
  }
  return primary != 0 && OrderBlock(primary, dsp_ids, now, outbox);
}

void NsCore::OnCreateDone(const Command& command, const CallDone& done, Now now, NsOutbox* outbox) {
  DspWork& work = work_.at(command.dsp_id);
  const auto at = creations_.find(command.block_id);
  ASSERT(at != creations_.end());
  Creation& creation = at->second;
  ASSERT(creation.unanswered > 0);
  --creation.unanswered;
  pb::CreateBlockReply reply;
  Err err = done.err;
  if (err == Err::kOk &&
      (!reply.ParseFromString(done.message) || reply.block().block_id() != command.block_id)) {
    err = Err::kCorrupt;
  }
  const auto told = creation.told.find(command.dsp_id);
  if (OutcomeUnknown(err) && told != creation.told.end()) {  // the answer got lost, the word not
    *reply.mutable_block() = told->second;
    err = Err::kOk;
  }
  if (err == Err::kOk) {
    work.stale_refusals = 0;
    work.recent_blocks[command.block_id] = now.mono_ms;
    creation.made[command.dsp_id] = reply.block();
  } else {
    // The id is not used again: the block may exist all the same, and is then reported.
    LOG_INFO("create_block_failed", "dsp=%u block=%llu err=%s", command.dsp_id,
             Llu(command.block_id), std::string(ErrName(err)).c_str());
    work.next_create_ms = now.mono_ms + kRetryMs;
    if (OutcomeUnknown(err)) work.unsettled[command.block_id] = now.mono_ms;
    if (err == Err::kFull) work.full_until_ms = now.mono_ms + kFullRetryMs;
    if (err == Err::kStaleEpoch) OnRefused(command.dsp_id);
    if (err != Err::kFull && creation.dsp_ids.size() > 1) {
      // The next blocks get on without it; what it is to lead, others would: that must not go on.
      const FaultyParty party = FaultyParty::Dsp(command.dsp_id);
      const uint64_t pause_ms = fault_pauses_.OnFault(party, now.mono_ms);
      work.lead_again_ms = now.mono_ms + pause_ms / kLeadAgain;
    }
  }
  if (creation.unanswered == 0) Decide(command.block_id, now, outbox);
}

// All have answered, or taken too long. Who has the block makes its set; too few, and it is closed.
void NsCore::Decide(uint64_t block_id, Now now, NsOutbox* outbox) {
  const Creation creation = std::move(creations_.at(block_id));
  creations_.erase(block_id);
  DspWork& leader = work_.at(creation.dsp_ids.front());
  ASSERT(leader.creating > 0);
  --leader.creating;
  std::vector<uint32_t> made, fit;
  for (const uint32_t dsp_id : creation.dsp_ids) {
    if (!creation.made.contains(dsp_id)) continue;
    made.push_back(dsp_id);
    const DspLive* live = membership_.Find(dsp_id);
    const bool same = live->incarnation == creation.incarnations.at(dsp_id);
    if (same && live->Writable()) fit.push_back(dsp_id);
  }
  // Who has made it and answered otherwise (a repeated order is refused while the first is being
  // carried out) has said so with a heartbeat, and will not say it again.
  const auto learn_told = [&] {
    for (const auto& [dsp_id, info] : creation.told) {
      if (creation.made.contains(dsp_id)) continue;
      PROBE("nameserver_made_and_refused");
      LearnBlock(dsp_id, info, outbox);
    }
  };
  if (made.empty()) return learn_told();
  const bool usable = fit.size() >= Wanted().min_copies && !creation.spoiled &&
                      LedBlocks(fit.front()) < options_.open_blocks_per_dsp * kOpenBlocksExcess;
  if (!usable) {
    PROBE("nameserver_creation_unused");
    leader.next_create_ms = now.mono_ms + kRetryMs;
  }
  const std::vector<uint32_t>& set = usable ? fit : made;
  const pb::BlockInfo& first = creation.made.at(set.front());
  pb::LogRecord record;
  pb::LogBlock& block = *record.mutable_block();
  block.set_block_id(block_id);
  block.set_opening_epoch(first.opening_epoch());
  block.set_block_epoch(first.block_epoch() + (usable ? 0 : 1));
  block.set_state(usable ? pb::BLOCK_OPEN : pb::BLOCK_CLOSED);
  block.set_set_version(set.size() == creation.dsp_ids.size() ? 1 : 2);
  for (const uint32_t dsp_id : set) block.add_set_dsp_ids(dsp_id);
  Log(std::move(record), outbox);
  for (const auto& [dsp_id, info] : creation.made) {
    share_.OnCreated(dsp_id, now.mono_ms);
    LearnBlock(dsp_id, info, outbox);
  }
  learn_told();
  Advance(block_id, outbox);
}

// --- Close and seal ---

std::string NsCore::CloseRequest(const BlockRecord& record) const {
  pb::CloseBlockRequest request;
  *request.mutable_head() = Head();
  request.set_block_id(record.block_id);
  request.set_opening_epoch(record.opening_epoch);
  request.set_block_epoch(record.block_epoch);
  return request.SerializeAsString();
}

std::string NsCore::SealRequest(const BlockRecord& record) const {
  pb::SealBlockRequest request;
  *request.mutable_head() = Head();
  request.set_block_id(record.block_id);
  request.set_opening_epoch(record.opening_epoch);
  const std::vector<uint32_t>& members = MembersOf(record);
  for (size_t i = 0; i < members.size(); ++i) {
    if (((record.absent >> i) & 1u) != 0) continue;
    pb::Replica& replica = *request.add_replicas();
    replica.set_dsp_id(members[i]);
    replica.set_address(state_.dsps.at(members[i]).address());
    replica.set_incarnation(membership_.Find(members[i])->incarnation);
  }
  // Nobody else will bring what these lack.
  request.set_without_all(record.set_version > 1 || record.absent != 0);
  request.set_again(unequal_.contains(record.block_id));
  return request.SerializeAsString();
}

// All that have something of it have closed it, and can be asked for it. Else the order would only
// take the place of others.
bool NsCore::CanSealNow(const BlockRecord& record) const {
  const std::vector<uint32_t>& members = MembersOf(record);
  for (size_t i = 0; i < members.size(); ++i) {
    if (((record.absent >> i) & 1u) != 0) continue;
    if (((record.closed >> i) & 1u) == 0) return false;  // made late, after its order was due
    const DspLive* live = membership_.Find(members[i]);
    if (live == nullptr || !live->registered || live->state != DspState::kUp) return false;
  }
  return true;
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
    const bool close = type == MessageType::kCloseBlock;
    if (!close && !CanSealNow(*known)) continue;
    send_ms = kSent;
    ++in_flight;
    SendCommand({type, dsp_id, block_id}, close ? CloseRequest(*known) : SealRequest(*known),
                kCommandTimeoutMs, outbox);
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

void NsCore::OnCloseOrSealDone(const Command& command, const CallDone& done, Now now,
                               NsOutbox* outbox) {
  DspWork& work = work_.at(command.dsp_id);
  const bool close = command.type == MessageType::kCloseBlock;
  std::map<uint64_t, uint64_t>& blocks = close ? work.to_close : work.to_seal;
  const auto at = blocks.find(command.block_id);
  // Unless it is done. A page that can't be read costs a scan of the block with each try.
  const uint64_t pause_ms = !close && done.err == Err::kIo ? kUnreadableRetryMs : kRetryMs;
  if (at != blocks.end()) at->second = now.mono_ms + pause_ms;
  pb::CloseBlockReply reply;  // a SealBlockReply has the same field
  if (done.err == Err::kOk && reply.ParseFromString(done.message) &&
      reply.block().block_id() == command.block_id) {
    work.stale_refusals = 0;
    const auto unequal = unequal_.find(command.block_id);
    if (!close && unequal != unequal_.end()) unequal->second.sealed_again.insert(command.dsp_id);
    return LearnBlock(command.dsp_id, reply.block(), outbox);
  }
  if (done.err == Err::kStaleEpoch) return OnRefused(command.dsp_id);
  if (done.err == Err::kNotFound) work.report_wanted = true;  // its report tells what it has
}

}  // namespace hayloft
