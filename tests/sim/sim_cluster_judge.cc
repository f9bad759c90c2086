// A cluster after its troubles: what has to be true once everything runs again.
#include <algorithm>
#include <cinttypes>
#include <set>

#include "tests/sim/sim_cluster.h"

namespace hayloft {

// --- Healing and judgement ----------------------------------------------------------------------

void SimCluster::Heal() {
  world_.trace.Note("heal");
  troubled_ = false;
  healed_us_ = world_.events.now_us();
  DeclareStrangersGone();
  for (const auto& client : clients_) client->Finish();
  for (const auto& gateway : gateways_) gateway->Finish();
  world_.net.SetWeather({});
  world_.net.HealCuts();
  coordinator_.StopFor(0);
  coordinator_.SetTroubled(false);
  for (const auto& gateway : gateways_) gateway->Stall(0);
  for (const auto& one : nameservers_) {
    one->Stall(0);
    one->FailNextWrite(Err::kOk);
    if (!one->running()) one->Start();
    one->clock().wall_offset_ms = 0;
    if (one->server().state().settings.rebuilding()) gone_ = false;  // it waits for all
  }
  if (victim_->running()) gone_ = false;  // it was only cut off
  for (const auto& dsp : dsps_) {
    dsp->Stall(0);
    dsp->CrashAtOperation(0, CrashMode::kKill);
    dsp->disk().SetTotalBytes(SimDsp::kDiskBytes);
    dsp->disk().HealReads();
    dsp->clock().wall_offset_ms = 0;
    // A block whose header could not be read stays unserved until the next start.
    if (bad_reads_ && dsp->running()) dsp->Crash(CrashMode::kKill);
    // What a lie has not cost yet, it costs now, and the honest ones mend it.
    if (copies_ > 1 && dsp.get() == victim_ && dsp->lies()) dsp->Crash(CrashMode::kClean);
    if (world_.random.Chance(30) && dsp->running()) dsp->Crash(AnyCrash());
  }
}

// Everything runs, nothing is under way, and the nameserver has heard of all.
bool SimCluster::Settled() { return DescribeUnsettled().empty(); }

std::string SimCluster::DescribeUnsettled() {
  constexpr uint64_t kDoubtUs = 5'000'000;  // what was lost before may still bring a dsp in doubt
  if (world_.events.now_us() < healed_us_ + kDoubtUs) return "it has healed only now";
  for (const auto& client : clients_) {
    if (!client->running() || !client->finished()) return "a client has work under way";
  }
  for (const auto& gateway : gateways_) {
    if (!gateway->running() || !gateway->idle()) return "a gateway has reads under way";
  }
  size_t expected = 0;
  for (const auto& dsp : dsps_) {
    if (gone_ && dsp.get() == victim_) continue;
    ++expected;
    if (!dsp->running()) return dsp->address() + " does not run";
    if (!dsp->idle()) return dsp->address() + " has work under way";
    if (!dsp->core().registered()) return dsp->address() + " is not registered";
  }
  if (gone_ && !declared_gone_) return "a dsp is gone and was not declared so";
  for (const auto& one : nameservers_) {
    if (!one->running()) return one->address() + " does not run";
    if (!one->idle()) return one->address() + " has records under way";
    if (!one->server().role().in_sync()) return one->address() + " is not in sync";
  }
  const NsCore* core = ActiveCore();
  if (core == nullptr) return "no nameserver is active";
  // After a restart it waits for who is gone, until that is down.
  if (!gone_ && !core->Complete()) return "the nameserver has not heard of all";
  if (core->DspsReported() < expected) return "a dsp has not reported";
  const size_t failed = static_cast<size_t>(std::count_if(
      dsps_.begin(), dsps_.end(), [](const auto& dsp) { return dsp->disk_failed(); }));
  // Without one that is gone there may be too few machines.
  if (failed == 0 && !gone_ && !core->Writable()) return "nothing is writable";
  return copies_ > 1 ? DescribeUnsealed() : "";
}

// Every block that isn't open is sealed, and served by every sound member.
std::string SimCluster::DescribeUnsealed() {
  std::string unsealed;
  ActiveCore()->state().blocks.ForEach([&](const BlockRecord& record) {
    if (!unsealed.empty()) return;
    const std::string id = std::to_string(record.block_id);
    for (SimDsp* dsp : MembersOf(record.block_id)) {
      if (!dsp->running() || !Sound(*dsp)) continue;
      const auto block = dsp->core().blocks().find(record.block_id);
      if (block == dsp->core().blocks().end()) continue;  // it never made it
      if (block->second.state == pb::BLOCK_CLOSED) {
        char known[100];
        std::snprintf(known, sizeof(known), "set_version=%u absent=%x closed=%x sealed=%x state=%u",
                      record.set_version, record.absent, record.closed, record.sealed,
                      record.state);
        unsealed = "block " + id + " of " + dsp->address() + " is not sealed: " + known;
      } else if (block->second.needles() > 0 && !dsp->core().Serves(block->second)) {
        unsealed = "block " + id + " of " + dsp->address() +
                   " is not served: " + dsp->core().DescribeServing(block->second);
      }
    }
  });
  return unsealed;
}

SimDsp* SimCluster::DspAt(const std::string& address) {
  for (const auto& dsp : dsps_) {
    if (dsp->address() == address) return dsp.get();
  }
  return nullptr;
}

// It never lost anything, and takes writes.
bool SimCluster::Sound(const SimDsp& dsp) const {
  return !(victim_lost_ && copies_ > 1 && &dsp == victim_) && !dsp.disk_failed();
}

// As the nameserver has them, but for those that say that they never made the block: who was left
// out at the creation is a member once more after a rebuild.
std::vector<SimDsp*> SimCluster::MembersOf(uint64_t block_id) {
  std::vector<SimDsp*> members;
  const NsCore* core = ActiveCore();
  if (core == nullptr) return members;
  const NsState& state = core->state();
  const BlockRecord* record = state.blocks.Find(block_id);
  if (record == nullptr) return members;
  const std::vector<uint32_t>& set = state.blocks.SetMembers(record->set);
  for (size_t i = 0; i < set.size(); ++i) {
    if (((record->absent >> i) & 1u) != 0) continue;
    const auto known = state.dsps.find(set[i]);
    SimDsp* dsp = known == state.dsps.end() ? nullptr : DspAt(known->second.address());
    if (dsp != nullptr) members.push_back(dsp);
  }
  return members;
}

// At the moment of the acknowledgement each member has it; one that died since, when it is back.
void SimCluster::CheckSyncedEverywhere(const FileAddress& address) {
  // One that lost its store may not have heard yet who was left out at the creation.
  const NsCore* core = ActiveCore();
  if (core == nullptr || core->state().settings.rebuilding()) return;
  for (SimDsp* dsp : MembersOf(address.block_id)) {
    if (!dsp->running() || !Sound(*dsp)) continue;
    const auto block = dsp->core().blocks().find(address.block_id);
    const bool there =
        block != dsp->core().blocks().end() && block->second.needles() > address.file_id.sequence();
    if (there) holders_[address.block_id].insert(dsp->address());
    if (there || bad_reads_) continue;
    world_.trace.Fail("%s was acknowledged, and %s does not have it", ToText(address).c_str(),
                      dsp->address().c_str());
  }
}

bool SimCluster::ReadAllBack(std::vector<SimClient::ReadBackOne> files) {
  constexpr uint64_t kReadBackMsMax = 120'000;
  SimClient* reader = clients_[0].get();
  reader->ReadBack(std::move(files));
  if (RunUntil(kReadBackMsMax, [reader] { return reader->finished(); })) return true;
  world_.trace.Fail("reading back does not end");
  return false;
}

// Twice: from wherever the bytes come, and then from memory.
bool SimCluster::ReadByGateways() {
  constexpr uint64_t kReadBackMsMax = 60'000;
  const auto idle = [this] {
    return std::all_of(gateways_.begin(), gateways_.end(),
                       [](const auto& gateway) { return gateway->idle(); });
  };
  for (int round = 0; round < 2; ++round) {
    for (const auto& gateway : gateways_) {
      for (size_t file = 0; file < model_.files(); ++file) gateway->ReadBack(file);
    }
    if (RunUntil(kReadBackMsMax, idle)) continue;
    world_.trace.Fail("the reads of gateways do not end");
    return false;
  }
  return true;
}

void SimCluster::Judge() {
  if (world_.trace.failed()) return;  // the first failure is the one to read
  world_.healed = true;
  // As a client does, and then from every replica that never lost anything.
  std::vector<SimClient::ReadBackOne> files, replicas;
  for (size_t file = 0; file < model_.files(); ++file) {
    files.push_back({.file = file, .dsp = {}});
    for (const SimDsp* dsp : MembersOf(model_.file(file).address.block_id)) {
      if (!Sound(*dsp) && copies_ > 1) continue;
      const uint64_t block_id = model_.file(file).address.block_id;
      const bool has = dsp->core().blocks().contains(block_id);
      if (!has && holders_[block_id].contains(dsp->address())) {
        world_.trace.Fail("%s has lost block %" PRIx64, dsp->address().c_str(), block_id);
      }
      // Who was left out at the creation may count as a member until its next report.
      if (has || copies_ == 1) replicas.push_back({.file = file, .dsp = dsp->address()});
    }
  }
  if (!ReadAllBack(std::move(files)) || !ReadAllBack(std::move(replicas))) return;
  if (!ReadByGateways()) return;
  // Every delete finds all whom it must wait for; and what it did is read back.
  std::vector<SimClient::ReadBackOne> deletes, deleted;
  for (size_t file = 0; file < model_.files() && copies_ > 1; ++file) {
    const std::vector<SimDsp*> members = MembersOf(model_.file(file).address.block_id);
    const auto sound = std::count_if(members.begin(), members.end(), [&](const SimDsp* dsp) {
      return Sound(*dsp) && dsp->core().blocks().contains(model_.file(file).address.block_id);
    });
    if (sound < 2 || world_.random.Chance(50)) continue;
    deletes.push_back({.file = file, .dsp = {}, .remove = true});
    deleted.push_back({.file = file, .dsp = {}});
  }
  if (!ReadAllBack(std::move(deletes)) || !ReadAllBack(std::move(deleted))) return;
  (void)RunUntil(1'100, [] { return false; });  // until gateways must know of the deletes
  if (!ReadByGateways()) return;
  constexpr uint64_t kQuietMs = 5'000;  // what is on the way arrives, closes and seals are done
  (void)RunUntil(kQuietMs, [] { return false; });
  // A block lies on its disk before its creation is answered: compare when nothing is on the way.
  constexpr uint64_t kSettleMsMax = 30'000;
  (void)RunUntil(kSettleMsMax, [this] {
    return world_.net.Unanswered() == 0 && world_.net.InFlight() == 0 && Settled();
  });
  if (world_.net.InFlight() > 0) world_.trace.Fail("calls are under way without an end");
  if (world_.net.Unanswered() > 0) {
    world_.trace.Fail("never answered: %s", world_.net.DescribeUnanswered().c_str());
  }
  if (const std::string unsettled = DescribeUnsettled(); !unsettled.empty()) {
    world_.trace.Fail("after reading back: %s", unsettled.c_str());
  }
  CompareMap();
  if (copies_ > 1) CompareReplicas();
}

// Of each sealed block, the sound members have the same needles and the same deletes.
void SimCluster::CompareReplicas() {
  if (world_.trace.failed()) return;
  ActiveCore()->state().blocks.ForEach([this](const BlockRecord& record) { CompareBlock(record); });
}

void SimCluster::CompareBlock(const BlockRecord& record) {
  const SimDsp* first = nullptr;
  for (const SimDsp* dsp : MembersOf(record.block_id)) {
    if (!dsp->running() || !Sound(*dsp)) continue;
    const auto found = dsp->core().blocks().find(record.block_id);
    if (found == dsp->core().blocks().end()) continue;
    if (first == nullptr) first = dsp;
    const Block& block = found->second;
    const Block& other = first->core().blocks().at(record.block_id);
    const auto deletes_of = [&](const SimDsp* of) {
      std::map<uint32_t, uint32_t> counters;
      const auto& blocks = of->core().deletes().blocks();
      const auto entries = blocks.find(record.block_id);
      if (entries == blocks.end()) return counters;
      for (const DeleteEntry& entry : entries->second) counters[entry.sequence] = entry.counter;
      return counters;
    };
    const bool equal = block.state == other.state && block.digest == other.digest &&
                       block.needles() == other.needles() && block.lost == other.lost;
    if (!equal) {
      world_.trace.Fail("block %" PRIx64 " differs between %s and %s", record.block_id,
                        first->address().c_str(), dsp->address().c_str());
    }
    // A delete that was never acknowledged may have reached only some.
    for (size_t file = 0; file < model_.files(); ++file) {
      const SimFile& one = model_.file(file);
      if (one.address.block_id != record.block_id || one.doubts > 0) continue;
      const uint32_t sequence = one.address.file_id.sequence();
      if (deletes_of(dsp)[sequence] == one.counter_acked) continue;
      world_.trace.Fail("%s has delete counter %u at %s, not %u", ToText(one.address).c_str(),
                        deletes_of(dsp)[sequence], dsp->address().c_str(), one.counter_acked);
    }
  }
}

// The nameserver's map is the union of the blocks that lie on the disks.
void SimCluster::CompareMap() {
  std::map<uint64_t, std::set<std::string>> on_disks;
  for (const auto& dsp : dsps_) {
    if (gone_ && dsp.get() == victim_) continue;
    if (!dsp->running()) return;
    dsp->CheckBlocks();
    for (const auto& [id, block] : dsp->core().blocks()) {
      on_disks[id].insert(dsp->address());
    }
  }
  const NsState& state = ActiveCore()->state();
  for (const auto& [id, addresses] : on_disks) {
    const BlockRecord* record = state.blocks.Find(id);
    if (record == nullptr) {
      world_.trace.Fail("block %" PRIx64 " of %s is not in the map", id,
                        addresses.begin()->c_str());
      continue;
    }
    std::set<std::string> members;
    const std::vector<uint32_t>& set = state.blocks.SetMembers(record->set);
    for (size_t i = 0; i < set.size(); ++i) {
      // One that was left out at the creation comes back with a rebuild, and says that it has none.
      const bool absent = copies_ > 1 && ((record->absent >> i) & 1u) != 0;
      if (!absent && state.dsps.contains(set[i])) members.insert(state.dsps.at(set[i]).address());
    }
    // Who was late at a creation may hold a replica outside of the set; one copy is never late.
    const bool right = copies_ == 1
                           ? members == addresses
                           : victim_lost_ || std::includes(addresses.begin(), addresses.end(),
                                                           members.begin(), members.end());
    if (!right) world_.trace.Fail("block %" PRIx64 " is mapped to other dsps", id);
  }
  state.blocks.ForEach([&](const BlockRecord& record) {
    if (on_disks.contains(record.block_id) || gone_ || victim_lost_) return;
    world_.trace.Fail("block %" PRIx64 " is in the map and on no disk", record.block_id);
  });
}

}  // namespace hayloft
