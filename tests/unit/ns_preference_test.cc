// What makes the nameserver prefer one dsp to another: ranks, faults, shares, who reaches whom.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "nameserver/block_share.h"
#include "nameserver/fault_pauses.h"
#include "nameserver/placement.h"
#include "nameserver/reachability.h"
#include "tests/sim/sim_random.h"
#include "tests/unit/ns_bench.h"

namespace hayloft {
namespace {

constexpr uint64_t kGib = 1ull << 30;

// --- Placement of several copies ---

TEST_CASE("placement: worse ranks are left out as long as enough machines remain") {
  using enum PlacementRank;
  const std::vector<PlacementCandidate> candidates = {
      {.dsp_id = 1, .machine = "a", .rank = kDoubtful},
      {.dsp_id = 2, .machine = "b", .rank = kFine},
      {.dsp_id = 3, .machine = "b", .rank = kFine},
      {.dsp_id = 4, .machine = "c", .rank = kShareExceeded},
      {.dsp_id = 5, .machine = "d", .rank = kDoubtful}};
  const auto kept = [&](size_t machines_min) {
    std::vector<uint32_t> dsp_ids;
    for (const PlacementCandidate& each : KeepPreferred(candidates, machines_min)) {
      dsp_ids.push_back(each.dsp_id);
    }
    return dsp_ids;
  };
  CHECK_EQ(kept(0), std::vector<uint32_t>{2, 3});
  CHECK_EQ(kept(1), std::vector<uint32_t>{2, 3});
  CHECK_EQ(kept(2), std::vector<uint32_t>{2, 3, 4});
  CHECK_EQ(kept(3), std::vector<uint32_t>{1, 2, 3, 4, 5});
  CHECK_EQ(kept(9), std::vector<uint32_t>{1, 2, 3, 4, 5});
  CHECK(KeepPreferred({}, 1).empty());
}

TEST_CASE("placement: copies lie on machines of their own, and over all zones there are") {
  SimRandom random(11);
  std::vector<PlacementCandidate> candidates;
  for (uint32_t i = 0; i < 12; ++i) {  // machines 0-5 with two dsps each; zone y has one machine
    const uint32_t machine = i / 2;
    candidates.push_back({.dsp_id = i + 1,
                          .machine = "m" + std::to_string(machine),
                          .weight = 100 * kGib,
                          .zone = machine == 5 ? "y" : "x"});
  }
  for (size_t copies = 1; copies <= kReplicasMax; ++copies) {
    for (int i = 0; i < 200; ++i) {
      const std::vector<uint32_t> set = ChooseReplicas(candidates, {copies, 1}, &random);
      REQUIRE_EQ(set.size(), copies);
      std::set<uint32_t> machines;
      for (const uint32_t dsp_id : set) machines.insert((dsp_id - 1) / 2);
      CHECK_EQ(machines.size(), copies);
      if (copies >= 2) CHECK(machines.contains(5));  // the other zone
    }
  }
}

TEST_CASE("placement: fewer machines than copies give what there is, down to min_copies") {
  SimRandom random(12);
  std::vector<PlacementCandidate> candidates = {{.dsp_id = 1, .machine = "a", .weight = kGib},
                                                {.dsp_id = 2, .machine = "a", .weight = kGib},
                                                {.dsp_id = 3, .machine = "b", .weight = kGib},
                                                {.dsp_id = 4, .machine = "b", .weight = kGib}};
  CHECK_EQ(ChooseReplicas(candidates, {3, 2}, &random).size(), 2);
  CHECK(ChooseReplicas(candidates, {3, 3}, &random).empty());
  CHECK(ChooseReplicas({}, {1, 1}, &random).empty());
  candidates[2].rank = PlacementRank::kDoubtful;  // a preference must not cost the second copy
  candidates[3].rank = PlacementRank::kDoubtful;
  CHECK_EQ(ChooseReplicas(candidates, {2, 2}, &random).size(), 2);
  const std::vector<uint32_t> one = ChooseReplicas(candidates, {2, 1}, &random);
  REQUIRE_EQ(one.size(), 1);
  CHECK(one[0] <= 2);
}

// 30 dsps of 1 to 8 units on 10 machines, three copies a block, until half of all space is in use.
// One zone: of three unequal ones each would get a copy of every block. Open blocks end after a
// while, so that primaries are counted as a nameserver does.
TEST_CASE("placement: disks of different sizes get full together, primaries are spread evenly") {
  SimRandom random(13);
  std::vector<PlacementCandidate> candidates;
  std::map<uint32_t, uint64_t> size;
  uint64_t all_bytes = 0;
  for (uint32_t i = 0; i < 30; ++i) {
    const uint64_t bytes = (1 + i % 8) * 100 * kGib;
    candidates.push_back(
        {.dsp_id = i + 1, .machine = "m" + std::to_string(i / 3), .weight = bytes});
    size[i + 1] = bytes;
    all_bytes += bytes;
  }
  constexpr uint64_t kBlock = kGib / 4;
  std::vector<std::vector<uint32_t>> open;
  uint64_t blocks = 0;
  for (uint64_t used = 0; used < all_bytes / 2; used += 3 * kBlock, ++blocks) {
    const std::vector<uint32_t> set = ChooseReplicas(candidates, {3, 2}, &random);
    REQUIRE_EQ(set.size(), 3);
    for (const uint32_t dsp_id : set) candidates[dsp_id - 1].weight -= kBlock;
    ++candidates[set[0] - 1].primaries;
    open.push_back(set);
    if (open.size() <= 60) continue;
    const size_t full = random.Below(open.size());
    --candidates[open[full][0] - 1].primaries;
    open.erase(open.begin() + static_cast<ptrdiff_t>(full));
    const auto [least, most] =
        std::minmax_element(candidates.begin(), candidates.end(),
                            [](const auto& a, const auto& b) { return a.primaries < b.primaries; });
    REQUIRE(most->primaries <= 6);  // of 60 open blocks on 30 dsps
  }
  for (const PlacementCandidate& each : candidates) {
    CAPTURE(each.dsp_id);
    const double used =
        1 - static_cast<double>(each.weight) / static_cast<double>(size[each.dsp_id]);
    CHECK(used > 0.42);
    CHECK(used < 0.58);
  }
}

// --- Faults ---

TEST_CASE("fault_pauses: each fault doubles the pause, up to ten minutes, a quiet minute ends it") {
  FaultPauses pauses;
  const FaultyParty dsp = FaultyParty::Dsp(3);
  uint64_t now_ms = 1'000'000;
  CHECK_FALSE(pauses.Paused(dsp, now_ms));
  uint64_t expected_ms = 5'000;
  for (int i = 0; i < 12; ++i) {
    CHECK_EQ(pauses.OnFault(dsp, now_ms), expected_ms);
    CHECK(pauses.Paused(dsp, now_ms + expected_ms - 1));
    CHECK_FALSE(pauses.Paused(dsp, now_ms + expected_ms));
    now_ms += expected_ms + FaultPauses::kForgottenMs - 1;  // not quite a minute
    expected_ms = std::min<uint64_t>(expected_ms * 2, 600'000);
  }
  pauses.Forget(now_ms);
  CHECK_EQ(pauses.size(), 1);
  now_ms += 600'000 + FaultPauses::kForgottenMs;
  CHECK_EQ(pauses.OnFault(dsp, now_ms), 5'000);
  pauses.Forget(now_ms + 5'000 + FaultPauses::kForgottenMs);
  CHECK_EQ(pauses.size(), 0);
}

TEST_CASE("fault_pauses: a pair is neither of its dsps, and has no order") {
  FaultPauses pauses;
  (void)pauses.OnFault(FaultyParty::Pair(4, 2), 1'000);
  CHECK(pauses.Paused(FaultyParty::Pair(2, 4), 1'000));
  CHECK_FALSE(pauses.Paused(FaultyParty::Dsp(2), 1'000));
  CHECK_FALSE(pauses.Paused(FaultyParty::Dsp(4), 1'000));
}

// --- Shares ---

TEST_CASE("block_share: at most twice the share of its size in a minute, few blocks are free") {
  BlockShare share(/*few=*/4);
  const BlockShare::Size tenth{.own_bytes = 100 * kGib, .all_bytes = 1'000 * kGib};
  uint64_t now_ms = 10'000'000;
  for (uint64_t i = 0; i < 4; ++i) {
    CHECK_FALSE(share.Exceeded(1, tenth, now_ms));
    share.OnCreated(1, now_ms);
  }
  CHECK(share.Exceeded(1, tenth, now_ms));  // 4 of 4
  for (uint32_t i = 0; i < 21; ++i) share.OnCreated(2 + i % 9, now_ms);
  CHECK_FALSE(share.Exceeded(1, tenth, now_ms));  // 4 of 25 are less than a fifth, 5 of 26 too
  share.OnCreated(1, now_ms);
  CHECK(share.Exceeded(1, tenth, now_ms));
  const BlockShare::Size large{.own_bytes = 400 * kGib, .all_bytes = 1'000 * kGib};
  CHECK_FALSE(share.Exceeded(1, large, now_ms));
  CHECK_EQ(share.Recent(1, now_ms), 5);
  now_ms += BlockShare::kWindowMs + BlockShare::kStepMs;
  CHECK_EQ(share.Recent(1, now_ms), 0);
  CHECK_FALSE(share.Exceeded(1, tenth, now_ms));
}

TEST_CASE("block_share: one disk alone is never too much") {
  BlockShare share(0);
  const BlockShare::Size all{.own_bytes = kGib, .all_bytes = kGib};
  for (int i = 0; i < 100; ++i) {
    CHECK_FALSE(share.Exceeded(1, all, 5'000));
    share.OnCreated(1, 5'000);
  }
}

// --- Who reaches whom ---

TEST_CASE("reachability: two reporters make a dsp unreachable, for ten seconds") {
  Reachability reach;
  const std::array<uint32_t, 1> third = {3};
  reach.Hear(100, third, 1'000);
  CHECK_EQ(reach.Unreachable(1'000), std::set<uint32_t>{3});  // nobody else has ever spoken
  reach.Hear(101, {}, 1'500);
  CHECK(reach.Unreachable(1'500).empty());
  reach.Hear(101, third, 2'000);
  CHECK_EQ(reach.Unreachable(2'000), std::set<uint32_t>{3});
  CHECK_EQ(reach.Unreachable(11'000), std::set<uint32_t>{3});
  CHECK(reach.Unreachable(11'001).empty());  // the first one's word is old
  reach.Hear(100, third, 11'500);
  CHECK_EQ(reach.Unreachable(11'500), std::set<uint32_t>{3});
  reach.Hear(100, {}, 11'600);  // another worker of the same gateway
  CHECK_EQ(reach.Unreachable(11'600), std::set<uint32_t>{3});
}

TEST_CASE("reachability: who has not spoken for a minute is not waited for, and bounds hold") {
  Reachability reach;
  const std::array<uint32_t, 1> third = {3};
  reach.Hear(101, {}, 1'000);
  reach.Hear(100, third, 61'001);
  CHECK_EQ(reach.Unreachable(61'001), std::set<uint32_t>{3});
  for (uint64_t i = 0; i < 2 * Reachability::kReportersMax; ++i) reach.Hear(i, third, 62'000);
  CHECK_EQ(reach.reporters(), Reachability::kReportersMax);
  std::vector<uint32_t> many(1'000);
  for (uint32_t i = 0; i < many.size(); ++i) many[i] = i + 10;
  reach.Hear(0, many, 62'000);
  reach.Hear(1, many, 62'000);
  CHECK_EQ(reach.Unreachable(62'000).size(), Reachability::kNamedMax);
}

// --- What the nameserver makes of it ---

uint64_t OpenBlocks(const FakeDsp& dsp) {
  return static_cast<uint64_t>(
      std::count_if(dsp.blocks.begin(), dsp.blocks.end(),
                    [](const auto& entry) { return entry.second.state() == pb::BLOCK_OPEN; }));
}

// The dsps that a request for many grants names.
std::set<uint32_t> Granted(NsBench* bench, const pb::GrantRequest& like = {}) {
  pb::GrantRequest request = like;
  request.set_count(16);
  pb::GrantReply reply;
  CHECK_EQ(bench->Ask(MessageType::kGrant, request, &reply), Err::kOk);
  std::set<uint32_t> dsp_ids;
  for (const pb::Grant& grant : reply.grants()) dsp_ids.insert(grant.replicas(0).dsp_id());
  return dsp_ids;
}

pb::GrantRequest Naming(uint64_t reporter, std::initializer_list<const FakeDsp*> dsps) {
  pb::GrantRequest request;
  request.mutable_unreachable()->set_reporter(reporter);
  for (const FakeDsp* dsp : dsps) request.mutable_unreachable()->add_addresses(dsp->address);
  return request;
}

TEST_CASE("ns: a dsp that two clients can't reach loses its open blocks and is chosen last") {
  NsBench bench;
  for (int i = 0; i < 4; ++i) bench.AddDsp();
  bench.Run(3'000);
  const FakeDsp& dsp = bench.dsps[1];
  const std::map<uint64_t, pb::BlockInfo> before = dsp.blocks;
  (void)Granted(&bench, Naming(2, {}));  // it speaks, and reaches all
  CHECK_EQ(Granted(&bench, Naming(1, {&dsp})).size(), 4);
  bench.Run(200);
  CHECK(bench.core->unreachable().empty());  // one's word is not enough
  (void)Granted(&bench, Naming(2, {&dsp}));
  bench.Run(2'000);
  CHECK_EQ(bench.core->unreachable(), std::set<uint32_t>{dsp.dsp_id});
  for (const auto& [block_id, info] : before) {
    CHECK_NE(dsp.blocks.at(block_id).state(), pb::BLOCK_OPEN);
  }
  CHECK_EQ(OpenBlocks(dsp), 2);  // others may reach it
  CHECK_EQ(Granted(&bench).size(), 3);
  CHECK_FALSE(Granted(&bench).contains(dsp.dsp_id));
  CHECK_EQ(bench.Status().dsps(1).state(), "up");  // never counted as lost
  CHECK_EQ(bench.Status().blocks_lost(), 0);
  const size_t blocks = dsp.blocks.size();
  for (int i = 0; i < 5; ++i) {  // named on: closed once
    (void)Granted(&bench, Naming(1, {&dsp}));
    (void)Granted(&bench, Naming(2, {&dsp}));
    bench.Run(1'000);
  }
  CHECK_EQ(dsp.blocks.size(), blocks);
  bench.Run(11'000);
  CHECK(bench.core->unreachable().empty());
  CHECK_EQ(Granted(&bench).size(), 4);
}

TEST_CASE(
    "ns: the only client is believed, dsps report too, and an unreachable one is better than "
    "none") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  bench.Run(3'000);
  (void)Granted(&bench, Naming(1, {&dsp}));
  bench.Run(200);
  CHECK_EQ(bench.core->unreachable().size(), 1);
  bench.Run(1'000);
  CHECK_EQ(Granted(&bench), std::set<uint32_t>{dsp.dsp_id});

  NsBench other;
  for (int i = 0; i < 4; ++i) other.AddDsp();
  other.Run(3'000);
  other.dsps[0].unreachable = other.dsps[1].unreachable = {other.dsps[3].address};
  other.Run(2'000);
  CHECK_EQ(other.core->unreachable(), std::set<uint32_t>{other.dsps[3].dsp_id});
}

TEST_CASE("ns: who names dsps of several machines, too many at once, is not believed") {
  NsBench bench;
  for (int i = 0; i < 4; ++i) bench.AddDsp();
  bench.Run(3'000);
  (void)Granted(&bench, Naming(1, {&bench.dsps[0], &bench.dsps[1]}));
  bench.Run(2'000);
  CHECK(bench.core->unreachable().empty());
  CHECK_EQ(bench.Status().blocks_open(), 8);
  CHECK_EQ(Granted(&bench).size(), 4);
}

TEST_CASE("ns: a dsp whose blocks a fault closed is chosen last, twice as long the second time") {
  NsBench bench;
  for (int i = 0; i < 3; ++i) bench.AddDsp();
  bench.Run(3'000);
  FakeDsp& dsp = bench.dsps[1];
  const auto until_chosen = [&] {
    bench.Run(2'000);  // it registers, and has new blocks
    REQUIRE_EQ(OpenBlocks(dsp), 2);
    uint64_t ms = 2'000;
    for (; !Granted(&bench).contains(dsp.dsp_id); ms += 100) bench.Run(100);
    return ms;
  };
  bench.RestartDsp(&dsp);
  const uint64_t first_ms = until_chosen();
  CHECK(first_ms >= 5'000);
  CHECK(first_ms <= 6'200);  // from when the nameserver heard of it
  bench.RestartDsp(&dsp);    // two blocks, one fault
  const uint64_t second_ms = until_chosen();
  CHECK(second_ms >= 10'000);
  CHECK(second_ms <= 11'200);
  bench.RestartDsp(&bench.dsps[0]);
  bench.RestartDsp(&bench.dsps[1]);
  bench.RestartDsp(&bench.dsps[2]);
  bench.Run(2'000);
  CHECK_EQ(Granted(&bench).size(), 3);  // all had a fault: none is worse than the others
}

// Clients that fill whatever block they are granted. By free space alone the empty disk would get
// 20 of 21 blocks.
TEST_CASE("ns: an empty disk among full ones gets at most twice its share of new blocks") {
  NsBench bench;
  for (int i = 0; i < 10; ++i) bench.AddDsp();
  for (FakeDsp& dsp : bench.dsps) dsp.free_bytes = 11 * kGib;
  bench.dsps[4].free_bytes = 190 * kGib;
  bench.dsps[4].full_percent = 99;
  bench.Run(3'000);
  const auto created = [&] {
    std::map<uint32_t, size_t> blocks;
    for (const FakeDsp& dsp : bench.dsps) blocks[dsp.dsp_id] = dsp.blocks.size();
    return blocks;
  };
  const std::map<uint32_t, size_t> before = created();
  size_t total = 0;
  for (int i = 0; i < 100; ++i) {
    pb::GrantReply grants;
    REQUIRE_EQ(bench.Grants(1, &grants), Err::kOk);
    for (FakeDsp& dsp : bench.dsps) {
      const auto block = dsp.blocks.find(grants.grants(0).block_id());
      if (block != dsp.blocks.end()) bench.CloseBlock(&dsp, block->first);
    }
    bench.Run(1'000);
  }
  std::map<uint32_t, size_t> after = created();
  for (const auto& [dsp_id, blocks] : before) total += after[dsp_id] - blocks;
  const uint32_t empty = bench.dsps[4].dsp_id;
  const size_t got = after[empty] - before.at(empty);
  CHECK(total >= 90);
  CHECK(got <= total / 5 + 4);  // two minutes begin with blocks that are not counted
  CHECK(got > total / 10);
}

}  // namespace
}  // namespace hayloft
