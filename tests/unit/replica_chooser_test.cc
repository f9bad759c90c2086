#include "client/replica_chooser.h"

#include <doctest/doctest.h>

#include <map>

#include "tests/sim/sim_random.h"

namespace hayloft {
namespace {

const std::vector<std::string> kReplicas = {"dsp-0", "dsp-1", "dsp-2"};

// Reads whose time each dsp decides, one after the other.
struct Bench {
  ReplicaChooser chooser;
  SimRandom random{7};
  uint64_t now_ms = 1'000'000;
  std::map<std::string, int> asked;

  void Read(const std::map<std::string, uint64_t>& takes_ms, Err err = Err::kOk) {
    chooser.CountRead();
    const std::string& dsp = kReplicas[chooser.Choose(kReplicas, 0, now_ms, &random)];
    ++asked[dsp];
    chooser.Sent(dsp);
    const uint64_t sent_ms = now_ms;
    now_ms += takes_ms.at(dsp);
    chooser.OnEnded(dsp, {sent_ms, now_ms, err, 1'000});
    now_ms += 1;
  }
};

TEST_CASE("replica_chooser: equal replicas share the reads") {
  Bench bench;
  for (int i = 0; i < 3'000; ++i) bench.Read({{"dsp-0", 1}, {"dsp-1", 1}, {"dsp-2", 1}});
  for (const auto& [dsp, count] : bench.asked) {
    CHECK_MESSAGE(count > 800, dsp);
    CHECK_MESSAGE(count < 1'200, dsp);
  }
}

TEST_CASE("replica_chooser: a small difference does not draw all reads, and a large one fades") {
  Bench bench;
  for (int i = 0; i < 3'000; ++i) {
    const uint64_t ms = i % 40 == 0 ? 1 : 0;
    bench.Read({{"dsp-0", 0}, {"dsp-1", ms}, {"dsp-2", 0}});
  }
  CHECK(bench.asked["dsp-1"] > 700);
  bench.chooser.Sent("dsp-1");
  bench.chooser.OnEnded("dsp-1", {bench.now_ms, bench.now_ms + 80, Err::kOk, 0});
  bench.asked.clear();
  for (int i = 0; i < 500; ++i) bench.Read({{"dsp-0", 0}, {"dsp-1", 0}, {"dsp-2", 0}});
  CHECK_EQ(bench.asked["dsp-1"], 0);
  bench.now_ms += 10'000;
  for (int i = 0; i < 500; ++i) bench.Read({{"dsp-0", 0}, {"dsp-1", 0}, {"dsp-2", 0}});
  CHECK(bench.asked["dsp-1"] > 100);
}

TEST_CASE("replica_chooser: the one with more outstanding reads gets none of two") {
  Bench bench;
  const std::vector<std::string> two = {"dsp-0", "dsp-1"};
  for (int i = 0; i < 3; ++i) bench.chooser.Sent("dsp-0");
  for (int i = 0; i < 20; ++i) {
    CHECK_EQ(bench.chooser.Choose(two, 0, bench.now_ms, &bench.random), 1);
  }
  CHECK_EQ(bench.chooser.Choose(two, /*asked=*/2, bench.now_ms, &bench.random), 0);
}

TEST_CASE("replica_chooser: a slow dsp is left out, and tried again later") {
  Bench bench;
  const std::map<std::string, uint64_t> slow = {{"dsp-0", 1}, {"dsp-1", 100}, {"dsp-2", 1}};
  for (int i = 0; i < 3'000 && !bench.chooser.IsEjected("dsp-1", bench.now_ms); ++i) {
    // Outstanding reads of the others make the slow one worth a try now and then.
    bench.chooser.Sent("dsp-1");
    bench.chooser.OnEnded("dsp-1", {bench.now_ms, bench.now_ms + 100, Err::kOk, 0});
    bench.now_ms += 100;
    for (int j = 0; j < 20; ++j) bench.Read({{"dsp-0", 1}, {"dsp-1", 1}, {"dsp-2", 1}});
  }
  REQUIRE(bench.chooser.IsEjected("dsp-1", bench.now_ms));
  bench.asked.clear();
  for (int i = 0; i < 200; ++i) bench.Read(slow);
  CHECK_EQ(bench.asked["dsp-1"], 0);
  bench.now_ms += ReplicaChooser::kEjectedMs;
  for (int i = 0; i < 400; ++i) bench.Read({{"dsp-0", 1}, {"dsp-1", 1}, {"dsp-2", 1}});
  CHECK(bench.asked["dsp-1"] > 50);
}

TEST_CASE("replica_chooser: at most a third is left out, and nobody is when all are slow") {
  Bench bench;
  const auto sample = [&](const std::string& dsp, uint64_t ms) {
    bench.chooser.Sent(dsp);
    bench.chooser.OnEnded(dsp, {bench.now_ms, bench.now_ms + ms, Err::kOk, 0});
  };
  const auto count_ejected = [&] {
    int count = 0;
    for (int i = 0; i < 6; ++i) {
      count += bench.chooser.IsEjected("dsp-" + std::to_string(i), bench.now_ms) ? 1 : 0;
    }
    return count;
  };
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 6; ++i) sample("dsp-" + std::to_string(i), 200);
    bench.now_ms += 200;
  }
  CHECK_EQ(count_ejected(), 0);
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 6; ++i) sample("dsp-" + std::to_string(i), i < 3 ? 2'000 : 1);
    bench.now_ms += 200;
  }
  CHECK_EQ(count_ejected(), 2);
}

TEST_CASE("replica_chooser: a broken dsp is asked only when there is no other") {
  Bench bench;
  bench.chooser.Sent("dsp-1");
  bench.chooser.OnEnded("dsp-1", {bench.now_ms, bench.now_ms, Err::kUnavailable, 0});
  for (int i = 0; i < 50; ++i) {
    CHECK_NE(bench.chooser.Choose(kReplicas, 0, bench.now_ms, &bench.random), 1);
  }
  CHECK_EQ(bench.chooser.Choose(kReplicas, /*asked=*/5, bench.now_ms, &bench.random), 1);
}

TEST_CASE("replica_chooser: hedges come after the p95, and are one read in 20") {
  Bench bench;
  CHECK_EQ(bench.chooser.hedge_after_ms(), ReplicaChooser::kHedgeMsUnknown);
  CHECK_FALSE(bench.chooser.TakeHedge());
  for (int i = 0; i < 1'000; ++i) {
    const uint64_t ms = i % 100 < 97 ? 8 : 300;
    bench.Read({{"dsp-0", ms}, {"dsp-1", ms}, {"dsp-2", ms}});
  }
  CHECK_EQ(bench.chooser.hedge_after_ms(), 9);
  uint32_t hedges = 0;
  while (bench.chooser.TakeHedge()) ++hedges;
  CHECK_EQ(hedges, ReplicaChooser::kHedgesSavedMax);
  for (int i = 0; i < 1'000; ++i) {
    bench.chooser.CountRead();
    hedges += bench.chooser.TakeHedge() ? 1 : 0;
  }
  CHECK_EQ(hedges, ReplicaChooser::kHedgesSavedMax + 50);
}

}  // namespace
}  // namespace hayloft
