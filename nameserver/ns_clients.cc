// What clients ask: blocks to append to, where blocks are, how the cluster is.
#include <algorithm>
#include <set>

#include "common/check.h"
#include "common/content.h"
#include "nameserver/ns_core.h"

namespace hayloft {

namespace {
constexpr uint32_t kGrantsMax = 16;
constexpr uint64_t kLateMs = 5'000;  // who is avoided gets no new blocks for so long
constexpr int kLocateMax = 1'000;    // blocks in one request

// A client's name can't be a dsp's number.
uint64_t ReporterOf(const pb::Unreachable& message) {
  return message.reporter() | (uint64_t{1} << 63);
}
}  // namespace

// --- Grants ---

// It would take an append, as far as is known here.
bool NsCore::Appendable(uint32_t dsp_id) const {
  const DspLive* live = membership_.Find(dsp_id);
  return live != nullptr && live->Writable() && work_.at(dsp_id).reported;
}

// An open block that this dsp leads, whose members are all healthy and none of them to be avoided;
// 0: none. The oldest, so that clients meet in one block, whose commits are then large, while the
// next ones wait to take its place; one that some client found bad only if there is no other.
uint64_t NsCore::GrantableBlock(uint32_t dsp_id, const std::set<uint64_t>& bad_blocks,
                                const std::set<uint32_t>& avoid) const {
  const DspWork& work = work_.at(dsp_id);
  uint64_t doubted = 0;
  for (const uint64_t block_id : work.open_blocks) {
    if (bad_blocks.contains(block_id)) continue;
    const BlockRecord* record = state_.blocks.Find(block_id);
    ASSERT(record != nullptr);
    const std::vector<uint32_t>& members = MembersOf(*record);
    if (members.front() != dsp_id || members.size() < Wanted().min_copies) continue;
    const bool fit = std::all_of(members.begin(), members.end(), [&](uint32_t member) {
      return Appendable(member) && !avoid.contains(member);
    });
    if (!fit) continue;
    if (!work.doubted.contains(block_id)) return block_id;
    doubted = block_id;
  }
  return doubted;
}

bool NsCore::Grantable() const {
  return std::any_of(membership_.dsps().begin(), membership_.dsps().end(),
                     [&](const auto& entry) { return GrantableBlock(entry.first, {}, {}) != 0; });
}

// An upload would find a block now, or one can be made for it.
bool NsCore::Writable() const {
  if (Grantable()) return true;
  std::set<std::string_view> machines;
  for (const auto& [dsp_id, live] : membership_.dsps()) {
    if (MayHoldMore(dsp_id, now_)) machines.insert(live.machine);
  }
  return MayCreate(now_) && machines.size() >= WantedUnasked(now_).min_copies;
}

// Full: there are dsps that could write, and not one of them has space.
Err NsCore::NoGrantErr(Now now) const {
  bool any = false;
  for (const auto& [dsp_id, live] : membership_.dsps()) {
    if (!live.Writable()) continue;
    any = true;
    if (HasSpace(dsp_id, now)) return Err::kNoBlock;
  }
  return any ? Err::kFull : Err::kNoBlock;
}

// Mostly the block is full, and its dsp's next heartbeat will say so: its successor is made now. A
// client's word closes nothing; if it was wrong, the dsp has an open block more for a while.
void NsCore::DoubtBlocks(const pb::GrantRequest& message, Now now, NsOutbox* outbox) {
  for (const uint64_t block_id : message.bad_block_ids()) {
    const BlockRecord* record = state_.blocks.Find(block_id);
    if (record == nullptr || record->state != pb::BLOCK_OPEN) continue;
    for (const uint32_t member : MembersOf(*record)) {
      DspWork& work = work_[member];
      if (!work.doubted.try_emplace(block_id, now.mono_ms).second) continue;
      PROBE("nameserver_block_doubted");
      Work(member, &work, now, outbox);
    }
  }
}

// An order of preference: some dsp of the best rank that there is gets the upload.
PlacementRank NsCore::RankOf(uint32_t dsp_id, uint64_t bytes_of_all, Now now) {
  const bool paused = fault_pauses_.Paused(FaultyParty::Dsp(dsp_id), now.mono_ms);
  if (paused || unreachable_.contains(dsp_id)) return PlacementRank::kDoubtful;
  const BlockShare::Size size{.own_bytes = membership_.Find(dsp_id)->total_bytes,
                              .all_bytes = bytes_of_all};
  return share_.Exceeded(dsp_id, size, now.mono_ms) ? PlacementRank::kShareExceeded
                                                    : PlacementRank::kFine;
}

uint64_t NsCore::BytesOfAll(Now now) const {
  uint64_t bytes = 0;
  for (const auto& [dsp_id, live] : membership_.dsps()) {
    if (live.Writable() && HasSpace(dsp_id, now)) bytes += live.total_bytes;
  }
  return bytes;
}

// For each dsp the block that it leads, with the weight and the rank of its worst member.
std::vector<SetCandidate> NsCore::GrantCandidates(const std::set<uint64_t>& bad_blocks,
                                                  const std::set<uint32_t>& avoid, Now now,
                                                  std::vector<uint64_t>* block_ids) {
  std::vector<SetCandidate> candidates;
  block_ids->clear();
  const uint64_t bytes_of_all = BytesOfAll(now);
  for (const auto& [leader, unused] : membership_.dsps()) {
    const uint64_t block_id = GrantableBlock(leader, bad_blocks, avoid);
    if (block_id == 0) continue;
    block_ids->push_back(block_id);
    SetCandidate& candidate = candidates.emplace_back();
    candidate.dsp_ids = MembersOf(*state_.blocks.Find(block_id));
    candidate.weight = UINT64_MAX;
    for (const uint32_t dsp_id : candidate.dsp_ids) {
      const DspLive& live = *membership_.Find(dsp_id);
      candidate.machines.push_back(live.machine);
      candidate.weight = std::min(candidate.weight, live.free_bytes);
      // The block may have been granted while there was space; its size must be in the sum.
      const uint64_t sum = std::max(bytes_of_all, live.total_bytes);
      candidate.rank = std::max(candidate.rank, RankOf(dsp_id, sum, now));
    }
  }
  return candidates;
}

void NsCore::OnGrant(const RpcRequest& request, Now now, NsOutbox* outbox) {
  pb::GrantRequest message;
  if (!message.ParseFromString(request.message) || message.count() == 0) {
    return Reply(request, Err::kInvalid, "", outbox);
  }
  if (message.has_unreachable()) {
    HearOfPeers(ReporterOf(message.unreachable()), message.unreachable(), now);
  }
  DoubtBlocks(message, now, outbox);
  const std::set<uint64_t> bad_blocks(message.bad_block_ids().begin(),
                                      message.bad_block_ids().end());
  const std::set<uint32_t> avoid(message.avoid_dsp_ids().begin(), message.avoid_dsp_ids().end());
  std::vector<uint64_t> block_ids;
  std::vector<SetCandidate> candidates = GrantCandidates(bad_blocks, avoid, now, &block_ids);
  if (candidates.empty() && !avoid.empty()) {
    PROBE("nameserver_all_sets_avoided");
    for (const uint32_t dsp_id : avoid) {
      if (membership_.Find(dsp_id) != nullptr) late_until_ms_[dsp_id] = now.mono_ms + kLateMs;
    }
    // The client asks again in a moment. If others can't do without those, a late one is better
    // than none.
    if (OrderBlockWithout(avoid, now, outbox)) return Reply(request, Err::kNoBlock, "", outbox);
    candidates = GrantCandidates(bad_blocks, {}, now, &block_ids);
  }
  if (candidates.empty()) return Reply(request, NoGrantErr(now), "", outbox);
  pb::GrantReply reply;
  const uint32_t count = std::min(message.count(), kGrantsMax);
  for (const size_t at : ChooseSets(candidates, count, random_)) {
    const BlockRecord* record = state_.blocks.Find(block_ids[at]);
    pb::Grant& grant = *reply.add_grants();
    grant.set_block_id(record->block_id);
    grant.set_block_epoch(record->block_epoch);
    for (const uint32_t member : MembersOf(*record)) {
      pb::Replica& replica = *grant.add_replicas();
      replica.set_dsp_id(member);
      replica.set_address(state_.dsps.at(member).address());
      replica.set_incarnation(membership_.Find(member)->incarnation);
    }
  }
  Reply(request, Err::kOk, reply.SerializeAsString(), outbox);
}

// --- Locations ---

// Those that are up first. Silent ones are named too: they may be silent to us alone.
void NsCore::FillReplicas(const BlockRecord& record, pb::Location* location) const {
  const std::vector<uint32_t>& members = MembersOf(record);
  for (const bool up : {true, false}) {
    for (size_t i = 0; i < members.size(); ++i) {
      if ((record.absent & (1u << i)) != 0) continue;
      const DspLive* live = membership_.Find(members[i]);
      if (live == nullptr || (live->state == DspState::kUp) != up) continue;
      pb::Replica& replica = *location->add_replicas();
      replica.set_dsp_id(members[i]);
      replica.set_address(state_.dsps.at(members[i]).address());
    }
  }
}

// Not in the table, but a dsp has a file of that name which it cannot read now: it does exist. The
// dsp is named, and will say that it does not serve it.
void NsCore::FillUnreadable(pb::Location* location) const {
  for (const auto& [dsp_id, work] : work_) {
    if (!work.unreadable_blocks.contains(location->block_id())) continue;
    PROBE("nameserver_block_unreadable");
    location->set_state(pb::BLOCK_CLOSED);
    pb::Replica& replica = *location->add_replicas();
    replica.set_dsp_id(dsp_id);
    replica.set_address(state_.dsps.at(dsp_id).address());
    return;
  }
}

void NsCore::FillLocation(const BlockRecord& record, pb::Location* location) const {
  location->set_block_id(record.block_id);
  location->set_opening_epoch(record.opening_epoch);
  location->set_state(static_cast<pb::BlockState>(record.state));
  FillReplicas(record, location);
}

void NsCore::OnLocate(const RpcRequest& request, Now now, NsOutbox* outbox) {
  pb::LocateRequest message;
  if (!message.ParseFromString(request.message) || message.block_ids_size() > kLocateMax) {
    return Reply(request, Err::kInvalid, "", outbox);
  }
  if (message.has_unreachable()) {
    HearOfPeers(ReporterOf(message.unreachable()), message.unreachable(), now);
  }
  pb::LocateReply reply;
  if (message.list_from() != 0) {
    state_.blocks.ForEachFrom(message.list_from(), [&](const BlockRecord& record) {
      if (reply.locations_size() < kLocateMax)
        FillLocation(record, reply.add_locations());
      else
        reply.set_list_next(record.block_id);
      return reply.list_next() == 0;
    });
  }
  for (const uint64_t block_id : message.block_ids()) {
    pb::Location& location = *reply.add_locations();
    location.set_block_id(block_id);
    const BlockRecord* record = state_.blocks.Find(block_id);
    if (record == nullptr) {
      FillUnreadable(&location);
    } else {
      FillLocation(*record, &location);
    }
  }
  reply.set_complete(Complete());
  reply.set_directory_shards(state_.settings.directory_shards());
  Reply(request, Err::kOk, reply.SerializeAsString(), outbox);
}

// The number is fixed by the first one: by it contents find their shard.
void NsCore::OnDeclareDirectory(const RpcRequest& request, NsOutbox* outbox) {
  pb::DeclareDirectoryRequest message;
  const bool parses = message.ParseFromString(request.message);
  if (!parses || message.shards() == 0 || message.shards() > kShardsMax) {
    return Reply(request, Err::kInvalid, "", outbox);
  }
  if (state_.settings.directory_shards() == 0) {
    pb::LogRecord record;
    *record.mutable_settings() = state_.settings;
    record.mutable_settings()->set_directory_shards(message.shards());
    Log(std::move(record), outbox);
  }
  pb::DeclareDirectoryReply reply;
  reply.set_shards(state_.settings.directory_shards());
  Reply(request, Err::kOk, reply.SerializeAsString(), outbox);  // once that is committed
}

// --- Status ---

void NsCore::FillDspStatus(Now now, pb::ClusterStatusReply* reply) const {
  uint64_t files_live = 0, files_deleted = 0, files_lost = 0, needles_corrupt = 0;
  for (const auto& [dsp_id, live] : membership_.dsps()) {
    const pb::LogDsp& known = state_.dsps.at(dsp_id);
    pb::DspStatus& dsp = *reply->add_dsps();
    dsp.set_dsp_id(dsp_id);
    dsp.set_address(known.address());
    dsp.set_machine(known.machine());
    dsp.set_zone(known.zone());
    const char* state = live.state == DspState::kDown         ? "down"
                        : live.state == DspState::kSuspect    ? "suspect"
                        : live.disk_state != pb::DISK_HEALTHY ? "failed"
                        : live.draining                       ? "draining"
                                                              : "up";
    dsp.set_state(state);
    dsp.set_blocks(live.blocks);
    dsp.set_bytes_used(live.used_bytes);
    dsp.set_bytes_total(live.total_bytes);
    if (live.registered) dsp.set_silent_ms(now.mono_ms - live.heard_ms);
    files_live += live.files_live;
    files_deleted += live.files_deleted;
    files_lost += live.files_lost;
    needles_corrupt += live.needles_corrupt;
  }
  // After a lost store, of some members only the number is known: that is what `gone` is told.
  std::set<uint32_t> strangers;
  for (uint32_t set = 0; set < state_.blocks.set_count(); ++set) {
    const auto& by_state = state_.blocks.Counts(set).by_state;
    if (std::all_of(by_state.begin(), by_state.end(), [](uint64_t n) { return n == 0; })) continue;
    for (const uint32_t member : state_.blocks.SetMembers(set)) {
      if (membership_.Find(member) == nullptr) strangers.insert(member);
    }
  }
  for (const uint32_t stranger : strangers) {
    pb::DspStatus& dsp = *reply->add_dsps();
    dsp.set_dsp_id(stranger);
    dsp.set_state(strangers_down_ ? "down" : "suspect");
  }
  reply->set_files_live(files_live);
  reply->set_files_deleted(files_deleted);
  reply->set_files_lost(files_lost);
  reply->set_needles_corrupt(needles_corrupt);
}

// Sums over replica sets: their number does not grow with the blocks.
void NsCore::FillBlockStatus(pb::ClusterStatusReply* reply) const {
  uint64_t by_state[4] = {};
  uint64_t under_replicated = 0, short_of_members = 0, lost = 0;
  const size_t copies = Wanted().copies;
  for (uint32_t set = 0; set < state_.blocks.set_count(); ++set) {
    const SetCounts& counts = state_.blocks.Counts(set);
    uint64_t blocks = 0;
    for (size_t i = 0; i < counts.by_state.size(); ++i) {
      by_state[i] += counts.by_state[i];
      blocks += counts.by_state[i];
    }
    const std::vector<uint32_t>& members = state_.blocks.SetMembers(set);
    size_t up = 0, down = 0;
    for (const uint32_t member : members) {
      const DspLive* live = membership_.Find(member);
      up += live != nullptr && live->state == DspState::kUp ? 1 : 0;
      down += live == nullptr || live->state == DspState::kDown ? 1 : 0;
    }
    if (up <= copies) under_replicated += up < copies ? blocks : counts.with_absent;
    if (members.size() < copies) short_of_members += blocks;
    lost += down == members.size() ? blocks : counts.all_absent;
  }
  reply->set_blocks_total(state_.blocks.size());
  reply->set_blocks_open(by_state[pb::BLOCK_OPEN]);
  reply->set_blocks_closed(by_state[pb::BLOCK_CLOSED]);
  reply->set_blocks_sealed(by_state[pb::BLOCK_SEALED]);
  reply->set_blocks_under_replicated(under_replicated);
  reply->set_blocks_short_of_members(short_of_members);
  reply->set_blocks_lost(lost);
  reply->set_blocks_divergent(divergent_.size());
}

uint64_t NsCore::ReplicasOutside() const {
  uint64_t replicas = 0;
  for (const auto& [dsp_id, work] : work_) replicas += work.outside.size();
  return replicas;
}

pb::ClusterStatusReply NsCore::Status(Now now) const {
  pb::ClusterStatusReply reply;
  reply.set_epoch(state_.epoch);
  reply.set_role("active");
  reply.set_in_sync(true);
  FillDspStatus(now, &reply);
  FillBlockStatus(&reply);
  reply.set_cluster_id(state_.settings.cluster_id());
  reply.set_writable(Writable());
  reply.set_dsps_reported(static_cast<uint32_t>(DspsReported()));
  return reply;
}

}  // namespace hayloft
