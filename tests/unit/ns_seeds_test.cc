// The nameserver with several copies under seeds: dsps that crash, hang and are cut off, messages
// that are lost, late, or whose answers are lost, a store that is lost. Rules are checked on the
// way; at the end all is healed, and what was acknowledged must lie on every member.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/unit/ns_bench.h"

namespace hayloft {
namespace {

constexpr uint64_t kSeeds = 300;

pb::LogSettings SettingsOf(uint32_t copies, bool rebuilding, uint32_t dsps) {
  pb::LogSettings settings = NsBench::DefaultSettings();
  settings.set_copies(copies);
  settings.set_rebuilding(rebuilding);
  settings.set_rebuild_dsps(rebuilding ? dsps : 0);
  return settings;
}

class SeededRun {
 public:
  explicit SeededRun(uint64_t seed)
      : random_(seed),
        copies_(static_cast<uint32_t>(random_.Between(2, 4))),
        dsps_(static_cast<uint32_t>(random_.Between(3, 6))),
        bench_(SettingsOf(copies_, false, dsps_)) {
    bench_.random = SimRandom(seed * 7 + 1);
    for (uint32_t i = 0; i < dsps_; ++i) bench_.AddDsp();
    bench_.Run(3'000);
    bench_.lost_percent = random_.Chance(70) ? static_cast<uint32_t>(random_.Below(15)) : 0;
  }

  std::vector<std::string> Run() {
    const uint64_t steps = random_.Between(20, 60);
    for (uint64_t step = 0; step < steps; ++step) {
      Trouble();
      bench_.Run(random_.Between(1, 15) * 100);
      Upload();
    }
    Heal();
    Judge();
    return bench_.broken;
  }

 private:
  void Broken(const std::string& what, uint64_t block_id) {
    bench_.broken.push_back(what + ": block " + std::to_string(block_id));
  }

  FakeDsp& AnyDsp() { return bench_.dsps[random_.Below(bench_.dsps.size())]; }

  void Trouble() {
    FakeDsp& dsp = AnyDsp();
    switch (random_.Below(12)) {
      case 0:
      case 1:
        dsp.alive = false;
        return;
      case 2:
      case 3:
      case 4:
        if (!dsp.alive && random_.Chance(50)) {
          dsp.alive = true;  // it was cut off
        } else {
          dsp.late.clear();  // of its last process
          bench_.RestartDsp(&dsp);
        }
        return;
      case 5:
        dsp.slow = !dsp.slow;
        return;
      case 6:
        if (dsp.alive) bench_.FinishLate(&dsp);
        return;
      case 7:
        return CloseSome(&dsp);
      case 8:
        if (random_.Chance(40)) bench_.RestartNameserver();
        return;
      case 9:
        if (!random_.Chance(15)) return;
        return bench_.WipeNameserver(SettingsOf(copies_, true, dsps_));
      case 10:
        if (dsp.alive || dsp.had_dsp_id == 0 || !random_.Chance(30)) return;
        (void)bench_.DeclareGone(dsp.had_dsp_id, false, &gone_);
        return;
      default:
        dsp.command_err = random_.Chance(70) ? Err::kOk : Err::kBusy;
    }
  }

  void CloseSome(FakeDsp* dsp) {
    for (const auto& [block_id, info] : std::map(dsp->blocks)) {
      if (info.state() != pb::BLOCK_OPEN || !random_.Chance(30)) continue;
      bench_.CloseBlock(dsp, block_id);
    }
  }

  // With new grants and old ones, which clients keep.
  void Upload() {
    pb::GrantRequest request;
    request.set_count(2);
    if (random_.Chance(20)) request.add_avoid_dsp_ids(AnyDsp().had_dsp_id);
    pb::GrantReply reply;
    if (bench_.Ask(MessageType::kGrant, request, &reply) == Err::kOk) {
      for (const pb::Grant& grant : reply.grants()) {
        CheckGrant(grant);
        grants_.push_back(grant);
      }
    }
    if (grants_.size() > 8) grants_.erase(grants_.begin(), grants_.begin() + 2);
    for (const pb::Grant& grant : grants_) {
      const uint32_t needle = ++needles_;
      if (bench_.Append(grant, needle) == Err::kOk) acknowledged_[grant.block_id()].insert(needle);
    }
  }

  void CheckGrant(const pb::Grant& grant) {
    std::vector<uint32_t> dsp_ids;
    if (static_cast<uint32_t>(grant.replicas_size()) < std::min(copies_, 2u)) {
      Broken("a grant of too few replicas", grant.block_id());
    }
    for (const pb::Replica& replica : grant.replicas()) {
      dsp_ids.push_back(replica.dsp_id());
      const DspLive* live = bench_.core->membership().Find(replica.dsp_id());
      if (live == nullptr || !live->Writable() || live->incarnation != replica.incarnation()) {
        Broken("a grant on a dsp that is not up", grant.block_id());
      }
    }
    const auto [at, added] = granted_.emplace(grant.block_id(), dsp_ids);
    if (!added && at->second != dsp_ids) Broken("two sets for one block", grant.block_id());
  }

  void Heal() {
    bench_.lost_percent = 0;
    for (FakeDsp& dsp : bench_.dsps) {
      dsp.slow = false;
      dsp.command_err = Err::kOk;
      if (!dsp.alive) bench_.RestartDsp(&dsp);
      bench_.FinishLate(&dsp);
    }
    bench_.Run(30'000);
  }

  void Judge() {
    const NsState& state = bench_.core->state();
    state.blocks.ForEach([&](const BlockRecord& record) {
      if (record.state == pb::BLOCK_CLOSED) Broken("closed for ever", record.block_id);
      if (record.state == pb::BLOCK_SEALED) JudgeReplicas(record);
    });
    for (const auto& [block_id, needles] : acknowledged_) {
      const BlockRecord* record = state.blocks.Find(block_id);
      if (record == nullptr) {
        Broken("acknowledged and not known", block_id);
        continue;
      }
      for (const uint32_t dsp_id : Holders(*record)) {
        const std::set<uint32_t>& has = bench_.Find(dsp_id)->needles[block_id];
        if (!std::includes(has.begin(), has.end(), needles.begin(), needles.end())) {
          Broken("acknowledged and not on dsp " + std::to_string(dsp_id), block_id);
        }
      }
    }
    if (bench_.core->state().settings.rebuilding()) Broken("a rebuild without end", 0);
    if (bench_.Status().blocks_divergent() > 0) Broken("divergent", 0);
    if (!bench_.Status().writable()) Broken("not writable", 0);
    pb::GrantReply reply;
    if (bench_.Grants(1, &reply) != Err::kOk) Broken("no grant", 0);
  }

  // Members that have not said that they lack it. After a lost store a set has those again that
  // were left out at the creation.
  std::vector<uint32_t> Holders(const BlockRecord& record) {
    std::vector<uint32_t> holders;
    const std::vector<uint32_t>& members = bench_.core->state().blocks.SetMembers(record.set);
    for (size_t i = 0; i < members.size(); ++i) {
      const bool has = bench_.Find(members[i])->blocks.contains(record.block_id);
      const bool absent = ((record.absent >> i) & 1u) != 0;
      if (has == absent) Broken("absent is not so", record.block_id);
      if (has) holders.push_back(members[i]);
    }
    if (holders.empty()) Broken("nobody has it", record.block_id);
    return holders;
  }

  void JudgeReplicas(const BlockRecord& record) {
    const std::vector<uint32_t> holders = Holders(record);
    for (const uint32_t dsp_id : holders) {
      FakeDsp* dsp = bench_.Find(dsp_id);
      if (dsp->blocks.at(record.block_id).state() != pb::BLOCK_SEALED) {
        Broken("sealed, and not on dsp " + std::to_string(dsp_id), record.block_id);
      }
      if (dsp->needles[record.block_id] != bench_.Find(holders[0])->needles[record.block_id]) {
        Broken("replicas differ", record.block_id);
      }
    }
  }

  SimRandom random_;
  const uint32_t copies_;
  const uint32_t dsps_;
  NsBench bench_;
  std::vector<pb::Grant> grants_;
  std::map<uint64_t, std::vector<uint32_t>> granted_;
  std::map<uint64_t, std::set<uint32_t>> acknowledged_;
  uint32_t needles_ = 0;
  pb::DeclareGoneReply gone_;
};

TEST_CASE(
    "ns copies: whatever fails, sets, ids and acknowledged needles hold, F04 F48 F59 F60 F66") {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const std::vector<std::string> broken = SeededRun(seed).Run();
    CAPTURE(seed);
    for (const std::string& each : broken) MESSAGE(each);
    REQUIRE(broken.empty());
  }
}

}  // namespace
}  // namespace hayloft
