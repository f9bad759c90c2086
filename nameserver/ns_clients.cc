// What clients ask: blocks to append to, where blocks are, how the cluster is.
#include <algorithm>

#include "common/check.h"
#include "nameserver/ns_core.h"

namespace hayloft {

namespace {
constexpr uint32_t kGrantsMax = 16;
constexpr int kLocateMax = 1'000;  // blocks in one request

// A client's name can't be a dsp's number.
uint64_t ReporterOf(const pb::Unreachable& message) {
  return message.reporter() | (uint64_t{1} << 63);
}
}  // namespace

// --- Grants ---

// An open block of this dsp whose members are all healthy; 0: none. The oldest, so that clients
// meet in one block, whose commits are then large, while the next ones wait to take its place; one
// that some client found bad only if there is no other.
uint64_t NsCore::GrantableBlock(uint32_t dsp_id, const std::set<uint64_t>& bad_blocks) const {
  const DspWork& work = work_.at(dsp_id);
  uint64_t doubted = 0;
  for (const uint64_t block_id : work.open_blocks) {
    if (bad_blocks.contains(block_id)) continue;
    const BlockRecord* record = state_.blocks.Find(block_id);
    ASSERT(record != nullptr);
    const std::vector<uint32_t>& members = state_.blocks.SetMembers(record->set);
    const bool healthy = std::all_of(members.begin(), members.end(), [&](uint32_t member) {
      return membership_.Find(member)->Writable() && work_.at(member).reported;
    });
    if (!healthy || members.front() != dsp_id) continue;
    if (!work.doubted.contains(block_id)) return block_id;
    doubted = block_id;
  }
  return doubted;
}

bool NsCore::Writable() const {
  return std::any_of(work_.begin(), work_.end(),
                     [&](const auto& entry) { return GrantableBlock(entry.first, {}) != 0; });
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
    for (const uint32_t member : state_.blocks.SetMembers(record->set)) {
      DspWork& work = work_.at(member);
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
  std::map<uint32_t, uint64_t> block_of;
  std::vector<PlacementCandidate> candidates;
  const auto& avoid = message.avoid_dsp_ids();
  uint64_t bytes_of_all = 0;
  for (const auto& [dsp_id, live] : membership_.dsps()) {
    if (live.Writable() && HasSpace(dsp_id, now)) bytes_of_all += live.total_bytes;
  }
  for (const auto& [dsp_id, live] : membership_.dsps()) {
    const uint64_t block_id = GrantableBlock(dsp_id, bad_blocks);
    if (block_id == 0) continue;
    block_of[dsp_id] = block_id;
    const bool late = std::find(avoid.begin(), avoid.end(), dsp_id) != avoid.end();
    // Its block may have been granted while it had space; its size must be in the sum.
    const uint64_t sum = std::max(bytes_of_all, live.total_bytes);
    candidates.push_back(
        {.dsp_id = dsp_id,
         .machine = live.machine,
         .weight = live.free_bytes,
         .zone = state_.dsps.at(dsp_id).zone(),
         .rank = late ? PlacementRank::kLateForThisClient : RankOf(dsp_id, sum, now)});
  }
  if (candidates.empty()) return Reply(request, NoGrantErr(now), "", outbox);
  candidates = KeepPreferred(std::move(candidates), /*machines_min=*/1);
  pb::GrantReply reply;
  const uint32_t count = std::min(message.count(), kGrantsMax);
  for (const uint32_t dsp_id : ChooseDsps(candidates, count, random_)) {
    const BlockRecord* record = state_.blocks.Find(block_of.at(dsp_id));
    pb::Grant& grant = *reply.add_grants();
    grant.set_block_id(record->block_id);
    grant.set_block_epoch(record->block_epoch);
    for (const uint32_t member : state_.blocks.SetMembers(record->set)) {
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
  const std::vector<uint32_t>& members = state_.blocks.SetMembers(record.set);
  for (const bool up : {true, false}) {
    for (size_t i = 0; i < members.size(); ++i) {
      if ((record.absent & (1u << i)) != 0) continue;
      if ((membership_.Find(members[i])->state == DspState::kUp) != up) continue;
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

void NsCore::OnLocate(const RpcRequest& request, Now now, NsOutbox* outbox) {
  pb::LocateRequest message;
  if (!message.ParseFromString(request.message) || message.block_ids_size() > kLocateMax) {
    return Reply(request, Err::kInvalid, "", outbox);
  }
  if (message.has_unreachable()) {
    HearOfPeers(ReporterOf(message.unreachable()), message.unreachable(), now);
  }
  pb::LocateReply reply;
  for (const uint64_t block_id : message.block_ids()) {
    pb::Location& location = *reply.add_locations();
    location.set_block_id(block_id);
    const BlockRecord* record = state_.blocks.Find(block_id);
    if (record == nullptr) {
      FillUnreadable(&location);
      continue;
    }
    location.set_state(static_cast<pb::BlockState>(record->state));
    FillReplicas(*record, &location);
  }
  reply.set_complete(Complete());
  Reply(request, Err::kOk, reply.SerializeAsString(), outbox);
}

// --- Status ---

void NsCore::FillDspStatus(pb::ClusterStatusReply* reply) const {
  uint64_t files_live = 0, files_deleted = 0, files_lost = 0;
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
    files_live += live.files_live;
    files_deleted += live.files_deleted;
    files_lost += live.files_lost;
  }
  reply->set_files_live(files_live);
  reply->set_files_deleted(files_deleted);
  reply->set_files_lost(files_lost);
}

// Sums over replica sets: their number does not grow with the blocks.
void NsCore::FillBlockStatus(pb::ClusterStatusReply* reply) const {
  uint64_t by_state[4] = {};
  uint64_t under_replicated = 0;
  uint64_t lost = 0;
  for (uint32_t set = 0; set < state_.blocks.set_count(); ++set) {
    const SetCounts& counts = state_.blocks.Counts(set);
    uint64_t blocks = 0;
    for (size_t i = 0; i < counts.by_state.size(); ++i) {
      by_state[i] += counts.by_state[i];
      blocks += counts.by_state[i];
    }
    const std::vector<uint32_t>& members = state_.blocks.SetMembers(set);
    const auto held =
        static_cast<uint64_t>(std::count_if(members.begin(), members.end(), [&](uint32_t member) {
          return membership_.Find(member)->state != DspState::kDown;
        }));
    const bool short_of_members = held < state_.settings.copies();
    under_replicated += short_of_members ? blocks : counts.with_absent;
    lost += counts.all_absent;
  }
  reply->set_blocks_total(state_.blocks.size());
  reply->set_blocks_open(by_state[pb::BLOCK_OPEN]);
  reply->set_blocks_closed(by_state[pb::BLOCK_CLOSED]);
  reply->set_blocks_sealed(by_state[pb::BLOCK_SEALED]);
  reply->set_blocks_under_replicated(under_replicated);
  reply->set_blocks_lost(lost);
}

pb::ClusterStatusReply NsCore::Status() const {
  pb::ClusterStatusReply reply;
  reply.set_epoch(state_.epoch);
  reply.set_role("active");
  reply.set_in_sync(true);
  FillDspStatus(&reply);
  FillBlockStatus(&reply);
  reply.set_cluster_id(state_.settings.cluster_id());
  reply.set_writable(Writable());
  reply.set_dsps_reported(static_cast<uint32_t>(DspsReported()));
  return reply;
}

}  // namespace hayloft
