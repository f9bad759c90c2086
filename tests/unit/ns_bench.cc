#include "tests/unit/ns_bench.h"

#include <algorithm>

#include "common/check.h"

namespace hayloft {

pb::LogSettings NsBench::DefaultSettings() {
  pb::LogSettings settings;
  settings.set_cluster_id(kTestCluster);
  settings.set_copies(1);
  return settings;
}

NsBench::NsBench(const pb::LogSettings& settings, NsOptions ns_options) : options(ns_options) {
  store = std::make_unique<NsStore>(&kv);
  const Err err = store->Init(std::string(16, 'n'), settings);
  ASSERT(err == Err::kOk);
  StartCore(/*forced=*/false);
}

void NsBench::StartCore(bool forced) {
  store = std::make_unique<NsStore>(&kv);
  Result<NsState> state = store->Load();
  ASSERT(state.ok());
  const uint64_t epoch = state->epoch + 1;
  core = std::make_unique<NsCore>(options, std::move(state).value(), &random);
  core->Start(epoch, forced, now, &outbox);
  Settle();
}

void NsBench::RestartNameserver(bool forced) {
  outbox = {};
  core.reset();
  now.mono_ms += 500;
  StartCore(forced);
}

void NsBench::WipeNameserver(const pb::LogSettings& settings) {
  core.reset();
  outbox = {};
  kv.Wipe();
  NsStore empty(&kv);
  const Err err = empty.Init(std::string(16, 'm'), settings);
  ASSERT(err == Err::kOk);
  StartCore(/*forced=*/true);
}

FakeDsp& NsBench::AddDsp(const std::string& machine) {
  FakeDsp& dsp = dsps.emplace_back();
  const std::string number = std::to_string(dsps.size());
  dsp.disk_id = std::string(15, 'd') + static_cast<char>('0' + dsps.size());
  dsp.address = "10.0.0." + number + ":1";
  dsp.machine = machine.empty() ? "machine-" + number : machine;
  return dsp;
}

void NsBench::RestartDsp(FakeDsp* dsp) {
  ++dsp->incarnation;
  dsp->dsp_id = 0;
  dsp->report_sequence = 0;
  dsp->changed.clear();
  dsp->alive = true;
  for (auto& [block_id, info] : dsp->blocks) {
    if (info.state() != pb::BLOCK_OPEN) continue;
    info.set_state(pb::BLOCK_CLOSED);
    info.set_block_epoch(info.block_epoch() + 1);
  }
}

void NsBench::CloseBlock(FakeDsp* dsp, uint64_t block_id) {
  pb::BlockInfo& info = dsp->blocks.at(block_id);
  info.set_state(pb::BLOCK_CLOSED);
  info.set_block_epoch(info.block_epoch() + 1);
  dsp->changed.push_back(block_id);
}

void NsBench::Run(uint64_t ms) {
  const uint64_t end_ms = now.mono_ms + ms;
  while (now.mono_ms < end_ms) {
    now.mono_ms += 100;
    core->OnTick(now, &outbox);
    Settle();
    if (now.mono_ms % 1'000 != 0) continue;
    for (FakeDsp& dsp : dsps) {
      if (dsp.alive) RunDsp(&dsp);
    }
  }
}

// Makes records safe, carries out commands, collects replies; until nothing is left to do.
void NsBench::Settle() {
  while (true) {
    NsOutbox turn = std::exchange(outbox, {});
    if (turn.records.empty() && turn.calls.empty() && turn.replies.empty()) return;
    for (RpcReply& reply : turn.replies) {
      const bool first = replies.emplace(reply.token.request_id, std::move(reply)).second;
      ASSERT(first);
    }
    if (!turn.records.empty()) {
      const Err err = store->Apply(turn.records, /*sync=*/true);
      ASSERT(err == Err::kOk);
      if (!hold_log) core->OnCommitted(turn.records.back().index(), &outbox);
    }
    if (turn.raise_epoch_above != 0) {
      raised.push_back(turn.raise_epoch_above + 1);
      core->OnEpochRaised(raised.back(), &outbox);
    }
    for (const RpcCall& call : turn.calls) {
      CallDone done;
      done.call_id = call.call_id;
      done.err = Err::kUnavailable;
      for (FakeDsp& dsp : dsps) {
        if (dsp.alive && dsp.address == call.address) done = RunCommand(&dsp, call);
      }
      core->OnCallDone(std::move(done), now, &outbox);
    }
  }
}

void NsBench::SyncLog() {
  hold_log = false;
  core->OnCommitted(core->state().last_index, &outbox);
  Settle();
}

RpcReply NsBench::Send(MessageType type, std::string message) {
  RpcRequest request;
  request.token.request_id = next_request_id_++;
  request.type = type;
  request.message = std::move(message);
  const uint64_t request_id = request.token.request_id;
  core->OnRequest(std::move(request), now, &outbox);
  Settle();
  RpcReply reply;
  reply.err = Err::kInternal;
  const auto found = replies.find(request_id);
  if (found == replies.end()) return reply;
  reply = std::move(found->second);
  replies.erase(found);
  return reply;
}

Err NsBench::Grants(uint32_t count, pb::GrantReply* reply) {
  pb::GrantRequest request;
  request.set_count(count);
  return Ask(MessageType::kGrant, request, reply);
}

pb::ClusterStatusReply NsBench::Status() {
  pb::ClusterStatusReply reply;
  const Err err = Ask(MessageType::kClusterStatus, pb::ClusterStatusRequest(), &reply);
  ASSERT(err == Err::kOk);
  return reply;
}

// --- Dsps ---

void NsBench::RegisterDsp(FakeDsp* dsp) {
  pb::RegisterRequest request;
  request.set_cluster_id(kTestCluster);
  request.set_disk_id(dsp->disk_id);
  request.set_dsp_id(dsp->had_dsp_id);
  request.set_incarnation(dsp->incarnation);
  request.set_address(dsp->address);
  request.set_machine(dsp->machine);
  request.mutable_space()->set_total_bytes(200ull << 30);
  request.mutable_space()->set_free_bytes(dsp->free_bytes);
  request.mutable_space()->set_full_percent(dsp->full_percent);
  request.set_disk_state(dsp->disk_state);
  request.set_promised_epoch(dsp->promised_epoch);
  request.set_block_range_end(dsp->block_range_end);
  pb::RegisterReply reply;
  dsp->register_err = AskLossy(MessageType::kRegister, request, &reply);
  if (dsp->register_err != Err::kOk) return;
  dsp->dsp_id = dsp->had_dsp_id = reply.dsp_id();
  dsp->promised_epoch = reply.epoch();
  dsp->report_sequence = 0;
  dsp->report_wanted = true;
}

void NsBench::ReportDsp(FakeDsp* dsp) {
  pb::BlockReportRequest request;
  request.set_dsp_id(dsp->dsp_id);
  request.set_disk_id(dsp->disk_id);
  request.set_incarnation(dsp->incarnation);
  request.set_report_id(++dsp->report_id);
  request.set_last(true);
  for (const auto& [block_id, info] : dsp->blocks) *request.add_blocks() = info;
  pb::BlockReportReply reply;
  const Err err = AskLossy(MessageType::kBlockReport, request, &reply);
  if (err == Err::kOk) dsp->report_wanted = false;
  if (err == Err::kStaleEpoch) dsp->dsp_id = 0;
}

void NsBench::RunDsp(FakeDsp* dsp) {
  if (dsp->dsp_id == 0) RegisterDsp(dsp);
  if (dsp->dsp_id == 0) return;
  if (dsp->report_wanted) ReportDsp(dsp);
  pb::HeartbeatRequest request;
  request.set_dsp_id(dsp->dsp_id);
  request.set_disk_id(dsp->disk_id);
  request.set_incarnation(dsp->incarnation);
  request.set_disk_idle_ms(dsp->disk_idle_ms);
  request.set_disk_state(dsp->disk_state);
  request.mutable_space()->set_total_bytes(200ull << 30);
  request.mutable_space()->set_free_bytes(dsp->free_bytes);
  request.mutable_space()->set_full_percent(dsp->full_percent);
  for (const std::string& peer : dsp->unreachable) {
    request.mutable_unreachable()->add_addresses(peer);
  }
  for (const uint64_t block_id : dsp->changed) *request.add_changed() = dsp->blocks.at(block_id);
  if (!dsp->changed.empty()) ++dsp->report_sequence;
  dsp->changed.clear();
  request.set_report_sequence(dsp->report_sequence);
  pb::HeartbeatReply reply;
  request.set_needles_corrupt(dsp->needles_corrupt);
  request.set_peers_version(dsp->heard.peers_version());
  if (AskLossy(MessageType::kHeartbeat, request, &reply) != Err::kOk) return;
  if (reply.register_again()) {
    dsp->dsp_id = 0;
    return;
  }
  dsp->block_range_end = std::max(dsp->block_range_end, reply.block_range_end());
  dsp->promised_epoch = std::max(dsp->promised_epoch, reply.epoch());
  dsp->report_wanted |= reply.report_again();
  if (reply.peers_version() != dsp->heard.peers_version()) dsp->heard = reply;
  dsp->counted = !reply.not_counted();
  for (const pb::BlockSet& set : reply.sets()) {
    dsp->told_sets[set.block_id()] = set;
    const auto block = dsp->blocks.find(set.block_id());
    if (block == dsp->blocks.end()) continue;
    block->second.set_set_version(set.set_version());
    *block->second.mutable_set_dsp_ids() = set.set_dsp_ids();
    dsp->changed.push_back(set.block_id());
  }
}

// All dsps that are told to create a block are told the same, and no id is used for a second one.
void NsBench::CheckCreation(const pb::CreateBlockRequest& request) {
  std::string order = std::to_string(request.life());
  std::set<std::string> machines;
  for (const uint32_t dsp_id : request.set_dsp_ids()) {
    order += " " + std::to_string(dsp_id);
    const FakeDsp* dsp = Find(dsp_id);
    if (dsp != nullptr && !machines.insert(dsp->machine).second) {
      broken.push_back("two copies on one machine: " + order);
    }
  }
  const auto [at, added] = created.emplace(request.block_id(), order);
  if (!added && at->second != order) {
    broken.push_back("block " + std::to_string(request.block_id()) + " is created as " +
                     at->second + " and as " + order);
  }
}

Err NsBench::CreateOn(FakeDsp* dsp, const pb::CreateBlockRequest& request, pb::BlockInfo* info) {
  CheckCreation(request);
  if (request.head().epoch() < dsp->promised_epoch) return Err::kStaleEpoch;
  if (request.incarnation() != dsp->incarnation) return Err::kStaleEpoch;
  ASSERT(request.head().block_range_end() > request.block_id());
  const bool added = dsp->blocks.try_emplace(request.block_id()).second;
  if (!added) return Err::kExists;
  info->set_block_id(request.block_id());
  info->set_opening_epoch(request.opening_epoch());
  info->set_block_epoch(request.opening_epoch());
  info->set_state(pb::BLOCK_OPEN);
  info->set_set_version(request.set_version());
  *info->mutable_set_dsp_ids() = request.set_dsp_ids();
  dsp->blocks[request.block_id()] = *info;
  dsp->changed.push_back(request.block_id());
  return Err::kOk;
}

// The union of what the named ones have, if all can be asked; as docs/replication.md says.
Err NsBench::SealOn(FakeDsp* dsp, const pb::SealBlockRequest& request, pb::BlockInfo* info) {
  std::set<uint32_t> all = dsp->needles[request.block_id()];
  for (const pb::Replica& replica : request.replicas()) {
    const auto other = std::find_if(dsps.begin(), dsps.end(), [&](const FakeDsp& each) {
      return each.address == replica.address();
    });
    if (other == dsps.end() || !other->alive) return Err::kUnavailable;
    const auto block = other->blocks.find(request.block_id());
    if (block == other->blocks.end()) return Err::kNotServing;
    if (block->second.state() == pb::BLOCK_OPEN) {
      broken.push_back("a seal while a member is open");
      return Err::kBusy;
    }
    if (other->divergent > 0) continue;  // another image under the same sequence: not taken
    const std::set<uint32_t>& its = other->needles[request.block_id()];
    all.insert(its.begin(), its.end());
  }
  if (dsp->divergent == 0) dsp->needles[request.block_id()] = all;
  const std::set<uint32_t>& kept = dsp->needles[request.block_id()];
  uint64_t digest = 14695981039346656037u;
  for (const uint32_t needle : kept) digest = (digest ^ needle) * 1099511628211u;
  info->set_digest(std::string(reinterpret_cast<const char*>(&digest), sizeof(digest)) +
                   std::string(24, 'x'));
  info->set_divergent(dsp->divergent);
  info->set_needles(static_cast<uint32_t>(kept.size()));
  info->set_state(pb::BLOCK_SEALED);
  return Err::kOk;
}

Err NsBench::RunCommandOn(FakeDsp* dsp, const RpcCall& call, pb::BlockInfo* info) {
  if (dsp->command_err != Err::kOk) return dsp->command_err;
  if (call.type == MessageType::kCreateBlock) {
    pb::CreateBlockRequest request;
    ASSERT(request.ParseFromString(call.message));
    return CreateOn(dsp, request, info);
  }
  pb::SealBlockRequest request;  // a CloseBlockRequest begins with the same fields
  ASSERT(request.ParseFromString(call.message));
  if (request.head().epoch() < dsp->promised_epoch) return Err::kStaleEpoch;
  const auto at = dsp->blocks.find(request.block_id());
  if (at == dsp->blocks.end()) return Err::kNotFound;
  const bool close = call.type == MessageType::kCloseBlock;
  if (!close && at->second.state() == pb::BLOCK_OPEN) return Err::kInvalid;
  if (close && at->second.state() == pb::BLOCK_OPEN) {
    pb::CloseBlockRequest order;
    ASSERT(order.ParseFromString(call.message));
    at->second.set_state(pb::BLOCK_CLOSED);
    at->second.set_block_epoch(std::max(at->second.block_epoch(), order.block_epoch()));
  }
  if (!close) {
    const Err err = SealOn(dsp, request, &at->second);
    if (err != Err::kOk) return err;
  }
  *info = at->second;
  return Err::kOk;
}

void NsBench::FinishLate(FakeDsp* dsp) {
  const std::vector<RpcCall> late = std::exchange(dsp->late, {});
  for (const RpcCall& call : late) {
    pb::BlockInfo info;
    (void)RunCommandOn(dsp, call, &info);
  }
}

CallDone NsBench::RunCommand(FakeDsp* dsp, const RpcCall& call) {
  dsp->commands.push_back({});
  dsp->commands.back().type = call.type;
  dsp->commands.back().message = call.message;
  pb::CreateBlockReply reply;  // the replies of the other commands have the same field
  CallDone done;
  done.call_id = call.call_id;
  done.err = Err::kTimeout;
  const bool late = lost_percent > 0 && random.Below(300) < lost_percent;
  if ((dsp->slow && call.type == MessageType::kCreateBlock) || late) {
    dsp->late.push_back({});
    dsp->late.back().type = call.type;
    dsp->late.back().message = call.message;
    return done;
  }
  if (Lost()) return done;
  const Err err = RunCommandOn(dsp, call, reply.mutable_block());
  if (Lost()) return done;
  done.err = err;
  if (done.err == Err::kOk) done.message = reply.SerializeAsString();
  return done;
}

// --- Clients ---

FakeDsp* NsBench::Find(uint32_t dsp_id) {
  for (FakeDsp& dsp : dsps) {
    if (dsp.had_dsp_id == dsp_id) return &dsp;
  }
  return nullptr;
}

// One member's part. False: it did not do it, or nobody hears of it.
bool NsBench::AppendOn(const pb::Grant& grant, const pb::Replica& replica, const FakeDsp* primary,
                       uint32_t needle) {
  FakeDsp* dsp = Find(replica.dsp_id());
  if (dsp == nullptr || !dsp->alive || dsp->incarnation != replica.incarnation() || Lost()) {
    return false;
  }
  const auto block = dsp->blocks.find(grant.block_id());
  if (block == dsp->blocks.end() || block->second.state() != pb::BLOCK_OPEN ||
      block->second.block_epoch() != grant.block_epoch()) {
    return false;
  }
  std::set<uint32_t>& own = dsp->needles[grant.block_id()];
  if (primary != dsp) {  // the primary has written it: a secondary must be where it was before
    std::set<uint32_t> expected = primary->needles.at(grant.block_id());
    expected.erase(needle);
    if (own != expected) {
      CloseBlock(dsp, grant.block_id());
      return false;
    }
  }
  own.insert(needle);
  return primary == dsp || !Lost();
}

Err NsBench::Append(const pb::Grant& grant, uint32_t needle) {
  FakeDsp* primary = Find(grant.replicas(0).dsp_id());
  if (!AppendOn(grant, grant.replicas(0), primary, needle)) return Err::kClosed;
  bool all = true;
  for (int i = 1; i < grant.replicas_size(); ++i) {
    all = AppendOn(grant, grant.replicas(i), primary, needle) && all;
  }
  if (all) return Err::kOk;
  CloseBlock(primary, grant.block_id());
  return Err::kClosed;
}

Err NsBench::DeclareGone(uint32_t dsp_id, bool even_last, pb::DeclareGoneReply* reply) {
  pb::DeclareGoneRequest request;
  request.set_dsp_id(dsp_id);
  request.set_even_last(even_last);
  return Ask(MessageType::kDeclareGone, request, reply);
}

}  // namespace hayloft
