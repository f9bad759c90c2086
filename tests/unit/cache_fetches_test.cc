// One fetch for many, and nobody gets what is older than he may be told.
#include "cache/fetches.h"

#include <doctest/doctest.h>

#include <map>
#include <random>
#include <set>

#include "tests/unit/cache_bench.h"

using namespace hayloft;

namespace {
using Waiter = Fetches::Waiter;
using Waiters = std::vector<Waiter>;
const FileAddress kFile = AddressOf(1, 2);
}  // namespace

TEST_CASE("fetches: the first fetches, a hundred wait, and the next one is a first again") {
  Fetches fetches;
  CHECK(fetches.Join(kFile, {0, 1}, 1'000));
  Waiters waiting;
  for (uint64_t i = 2; i < 102; ++i) {
    waiting.push_back({static_cast<uint32_t>(i % 4), i});
    CHECK_FALSE(fetches.Join(kFile, waiting.back(), 1'000 + i));
  }
  CHECK(fetches.Join(AddressOf(1, 2, 8), {0, 200}, 1'100));  // of another cookie
  CHECK_EQ(fetches.waiters(), 100);
  CHECK_EQ(fetches.Settle(kFile, {0, 1}), waiting);
  CHECK_EQ(fetches.waiters(), 0);
  CHECK_EQ(fetches.fetches(), 1);
  CHECK(fetches.Join(kFile, {0, 1}, 1'200));
  CHECK(fetches.Settle(kFile, {0, 2}).empty());  // it fetches nothing
  CHECK(fetches.Settle(AddressOf(9, 9), {0, 1}).empty());
}

TEST_CASE("fetches: an old fetch takes nobody in, and its answer goes to those of its time only") {
  Fetches fetches;
  CHECK(fetches.Join(kFile, {0, 1}, 1'000));
  CHECK_FALSE(fetches.Join(kFile, {0, 2}, 999 + kJoinMs));
  CHECK(fetches.Join(kFile, {0, 3}, 1'000 + kJoinMs));
  CHECK_FALSE(fetches.Join(kFile, {0, 4}, 1'001 + kJoinMs));
  SUBCASE("the old one is answered first") {
    CHECK_EQ(fetches.Settle(kFile, {0, 1}), Waiters{{0, 2}});
    CHECK_FALSE(fetches.Join(kFile, {0, 5}, 1'100 + kJoinMs));
    CHECK_EQ(fetches.Settle(kFile, {0, 3}), Waiters{{0, 4}, {0, 5}});
  }
  SUBCASE("the new one is answered first, to all") {
    CHECK_EQ(fetches.Settle(kFile, {0, 3}), Waiters{{0, 2}, {0, 4}});
    CHECK(fetches.Join(kFile, {0, 5}, 1'100 + kJoinMs));
    CHECK(fetches.Settle(kFile, {0, 1}).empty());
    CHECK(fetches.Settle(kFile, {0, 5}).empty());
  }
  CHECK_EQ(fetches.fetches(), 0);
  CHECK_EQ(fetches.waiters(), 0);
}

TEST_CASE("fetches: beyond the bounds each fetches for himself, and nobody is lost") {
  Fetches fetches;
  for (uint64_t i = 0; i < kFetchesMax; ++i) {
    REQUIRE(fetches.Join(AddressOf(i, 1), {0, i}, 1'000));
  }
  CHECK(fetches.Join(kFile, {1, 1}, 1'000));
  CHECK(fetches.Join(kFile, {1, 2}, 1'000));
  CHECK(fetches.Settle(kFile, {1, 1}).empty());
  for (uint64_t i = 0; i < kWaitersMax; ++i) {
    REQUIRE_FALSE(fetches.Join(AddressOf(5, 1), {2, i}, 1'000));
  }
  CHECK(fetches.Join(AddressOf(5, 1), {3, 1}, 1'000));
  CHECK_EQ(fetches.Settle(AddressOf(5, 1), {0, 5}).size(), kWaitersMax);
  CHECK(fetches.Settle(AddressOf(5, 1), {3, 1}).empty());
  CHECK_EQ(fetches.fetches(), kFetchesMax - 1);
}

TEST_CASE("fetches: in any order each waiter is answered once, by a fetch of its time") {
  std::mt19937_64 random(5);
  Fetches fetches;
  std::map<uint64_t, uint64_t> fetching;  // request -> began
  std::map<uint64_t, uint64_t> waiting;   // request -> joined
  uint64_t answered = 0;
  uint64_t now = 1'000;
  for (uint64_t id = 1; id < 50'000; ++id) {
    now += random() % 60;
    if (fetches.Join(kFile, {0, id}, now)) {
      fetching[id] = now;
    } else {
      waiting[id] = now;
    }
    if (fetching.empty() || random() % 3 != 0) continue;
    auto which = fetching.begin();
    std::advance(which, random() % fetching.size());
    for (const Waiter& waiter : fetches.Settle(kFile, {0, which->first})) {
      const auto joined = waiting.find(waiter.id);
      REQUIRE(joined != waiting.end());
      REQUIRE_LT(joined->second, which->second + kJoinMs);
      waiting.erase(joined);
      ++answered;
    }
    fetching.erase(which);
    REQUIRE_EQ(fetches.fetches(), fetching.size());
    REQUIRE_EQ(fetches.waiters(), waiting.size());
    if (fetching.empty()) REQUIRE(waiting.empty());
  }
  CHECK_GT(answered, 10'000);
}
