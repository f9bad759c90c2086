// The cache's allocator against a model that knows only who was given which bytes.
#include "cache/arena.h"

#include <doctest/doctest.h>

#include <cstring>
#include <deque>
#include <map>
#include <vector>

#include "tests/unit/cache_sizes.h"

using namespace hayloft;

namespace {

// A region that begins and ends at any address.
struct Region {
  explicit Region(size_t bytes, size_t offset = 0)
      : memory(bytes + offset + 4096), region(memory.data() + offset, bytes) {}
  std::vector<uint8_t> memory;
  MutableBytes region;
};

struct Given {
  size_t bytes;
  uint8_t fill;
};

bool Holds(const uint8_t* memory, const Given& given) {
  for (size_t i = 0; i < given.bytes; ++i) {
    if (memory[i] != given.fill) return false;
  }
  return true;
}

double Share(uint64_t part, uint64_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

TEST_CASE("cache_arena: random allocations never overlap, are aligned, and become one hole again") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    ImageSizes random(seed);
    Region region((64 << 10) + random.Below(1 << 20), random.Below(64));
    CacheArena arena(region.region);
    const uint64_t used_at_first = arena.used_bytes();
    CHECK_LE(used_at_first, 64);
    std::map<uint8_t*, Given> model;
    uint64_t failures = 0;
    for (int step = 0; step < 20'000; ++step) {
      if (model.empty() || random.Below(100) < 55) {
        // From single bytes to pages; now and then larger than all.
        const size_t bytes = 1 + random.Below(uint64_t{1} << random.Below(20));
        auto* memory = static_cast<uint8_t*>(arena.Allocate(bytes));
        if (memory == nullptr) {
          ++failures;
          continue;
        }
        REQUIRE_EQ(reinterpret_cast<uintptr_t>(memory) % 16, 0);
        REQUIRE_GE(memory, region.region.data());
        REQUIRE_LE(memory + bytes, region.region.data() + region.region.size());
        const auto next = model.lower_bound(memory);
        if (next != model.end()) REQUIRE_LE(memory + bytes, next->first);
        if (next != model.begin()) {
          const auto previous = std::prev(next);
          REQUIRE_LE(previous->first + previous->second.bytes, memory);
        }
        const auto fill = static_cast<uint8_t>(random.Below(256));
        std::memset(memory, fill, bytes);
        model.emplace(memory, Given{bytes, fill});
      } else {
        auto victim = model.begin();
        std::advance(victim,
                     static_cast<ptrdiff_t>(random.Below(std::min<size_t>(64, model.size()))));
        REQUIRE(Holds(victim->first, victim->second));
        arena.Free(victim->first);
        model.erase(victim);
      }
      if (step % 256 != 0) continue;
      REQUIRE(arena.IsSound());
      uint64_t bytes = used_at_first;
      for (const auto& [memory, given] : model) bytes += CacheArena::BlockBytes(memory);
      REQUIRE_EQ(arena.used_bytes(), bytes);
    }
    CHECK_GT(failures, 0);
    for (const auto& [memory, given] : model) {
      REQUIRE(Holds(memory, given));
      arena.Free(memory);
    }
    CHECK(arena.IsSound());
    CHECK_EQ(arena.holes(), 1);
    CHECK_EQ(arena.used_bytes(), used_at_first);
  }
}

TEST_CASE("cache_arena: all of an empty region can be one allocation, and nothing beside it") {
  Region region(1 << 20);
  CacheArena arena(region.region);
  const size_t all = arena.region_bytes() - arena.used_bytes() - CacheArena::kHeadBytes;
  CHECK_EQ(arena.Allocate(all + 1), nullptr);
  CHECK_EQ(arena.Allocate(SIZE_MAX), nullptr);
  CHECK_EQ(arena.Allocate(0), nullptr);
  void* const memory = arena.Allocate(all);
  REQUIRE_NE(memory, nullptr);
  CHECK_EQ(arena.used_bytes(), arena.region_bytes());
  CHECK_EQ(arena.holes(), 0);
  CHECK_EQ(arena.Allocate(1), nullptr);
  arena.Free(memory);
  CHECK_EQ(arena.holes(), 1);
}

TEST_CASE("cache_arena: a region too small for a block gives nothing") {
  for (size_t bytes = 0; bytes < 200; ++bytes) {
    CAPTURE(bytes);
    Region region(bytes, bytes % 16);
    CacheArena arena(region.region);
    CHECK(arena.IsSound());
    CHECK_LE(arena.used_bytes(), bytes);
    void* const memory = arena.Allocate(1);
    if (bytes < CacheArena::kRegionBytesMin) CHECK_EQ(memory, nullptr);
    if (bytes >= CacheArena::kRegionBytesMin + 16) CHECK_NE(memory, nullptr);
  }
}

// What a cache asks of it: images come and go, the oldest first, or some oldest and some at random
// (a cache that keeps what is hot). How full is the region whenever there is no hole for the next?
TEST_CASE("cache_arena: churn of images of TFS's sizes fills the region before a hole is missed") {
  for (const uint64_t random_percent : {0, 20, 100}) {
    CAPTURE(random_percent);
    Region region(64 << 20);
    CacheArena arena(region.region);
    ImageSizes sizes(/*seed=*/random_percent + 1);
    struct Image {
      void* memory;
      uint64_t bytes;
    };
    std::deque<Image> images;
    uint64_t asked = 0;
    uint64_t failures = 0;
    double filled_sum = 0;
    double filled_min = 1;
    double first = 0;
    for (int i = 0; i < 200'000; ++i) {
      const uint64_t bytes = sizes.Next() + 700;  // answer lines and the needle's head
      void* memory = nullptr;
      bool missed = false;
      while ((memory = arena.Allocate(bytes)) == nullptr) {
        if (!missed) {
          missed = true;
          ++failures;
          const double filled = Share(asked, arena.region_bytes());
          if (failures == 1) first = filled;
          filled_sum += filled;
          filled_min = std::min(filled_min, filled);
        }
        const size_t which =
            sizes.Below(100) < random_percent ? sizes.Below(images.size()) : size_t{0};
        std::swap(images[which], images.front());
        arena.Free(images.front().memory);
        asked -= images.front().bytes;
        images.pop_front();
      }
      images.push_back({memory, bytes});
      asked += bytes;
    }
    const double mean = filled_sum / static_cast<double>(failures);
    MESSAGE("evicted at random: ", random_percent, " %; filled at the first miss ", first,
            ", mean ", mean, ", least ", filled_min, "; misses ", failures);
    CHECK_GE(first, 0.98);
    CHECK_GE(mean, 0.92);
    CHECK(arena.IsSound());
  }
}
