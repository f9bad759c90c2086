// The cache of a whole gateway: bytes, and loops that use it at once.
#include <doctest/doctest.h>

#include <atomic>
#include <random>
#include <thread>

#include "cache/cache_shell.h"
#include "common/file_change.h"
#include "tests/unit/cache_bench.h"
#include "tests/unit/cache_sizes.h"

using namespace hayloft;

namespace {

using Found = CacheShard::Found;

std::unique_ptr<SharedCache> Make(uint64_t bytes) {
  Result<std::unique_ptr<SharedCache>> cache = SharedCache::Create(bytes);
  REQUIRE(cache.ok());
  return std::move(cache).value();
}

bool AddTo(SharedCache* cache, const FileAddress& address, size_t bytes, uint64_t began_ms,
           FeedAnchor anchor) {
  const std::vector<uint8_t> stored = StoredOf(address, bytes);
  return cache->Add({.address = address,
                     .lines = "lines",
                     .stored = stored,
                     .anchor = anchor,
                     .began_ms = began_ms});
}

}  // namespace

TEST_CASE("shared_cache: as many shards as have 8 MiB each, within its bytes, whatever they are") {
  struct Row {
    uint64_t bytes;
    size_t shards;
  };
  for (const Row& row :
       {Row{0, 16}, Row{1'000, 1}, Row{8 << 20, 1}, Row{(16 << 20) - 1, 1}, Row{16 << 20, 2},
        Row{100 << 20, 8}, Row{128 << 20, 16}, Row{uint64_t{3} << 30, 16}}) {
    CAPTURE(row.bytes);
    const std::unique_ptr<SharedCache> cache = Make(row.bytes);
    CHECK_EQ(cache->shards(), row.shards);
    CHECK_EQ(cache->bytes_max(), row.bytes);
    CHECK_LE(cache->used_bytes(), row.bytes);
  }
}

TEST_CASE("shared_cache: full, it is within its bytes, and most of them are images") {
  constexpr uint64_t kBytes = 64 << 20;
  const std::unique_ptr<SharedCache> cache = Make(kBytes);
  ImageSizes sizes(3);
  for (uint32_t i = 0; i < 30'000; ++i) {
    const std::vector<uint8_t> stored(sizes.Next());
    (void)cache->Add({.address = AddressOf(i % 977, i), .stored = stored, .began_ms = 1});
    if (i % 1'000 == 0) REQUIRE_LE(cache->used_bytes(), kBytes);
  }
  const CacheShard::Stats stats = cache->stats();
  MESSAGE("of 64 MiB in use: ", cache->used_bytes() * 100 / kBytes, " %, entries ", stats.entries,
          ", evictions ", stats.evictions, ", refused ", stats.fills_no_room);
  CHECK_GT(cache->used_bytes(), kBytes / 100 * 95);
  CHECK_LT(stats.fills_no_room, stats.fills / 1000);
  MetricsText text;
  cache->Print(&text);
  CHECK_NE(text.text().find("hayloft_gateway_cache_evictions_total "), std::string::npos);
  CHECK_NE(text.text().find("hayloft_gateway_cache_bytes_max 67108864"), std::string::npos);
  CHECK_NE(text.text().find("fills_refused_total{reason=\"changed\"} 0"), std::string::npos);
}

TEST_CASE("shared_cache: without memory nothing is kept, and one still fetches for many") {
  const std::unique_ptr<SharedCache> cache = Make(0);
  TestFeed feed;
  const FileAddress address = AddressOf(1, 2);
  CHECK_FALSE(AddTo(cache.get(), address, 100, 1'100, feed.Anchor(1'100)));
  cache->AddAbsent(address, Err::kGone, 1'100);
  CHECK_EQ(cache->Find(address, feed.table, 1'100).found, Found::kMiss);
  CHECK(cache->Join(address, {0, 1}, 1'100));
  CHECK_FALSE(cache->Join(address, {1, 1}, 1'100));
  CHECK_EQ(cache->Settle(address, {0, 1}), std::vector<Fetches::Waiter>{{1, 1}});
  CHECK_EQ(cache->stats().waits, 1);
}

TEST_CASE("shared_cache: what feeds told is applied, a whole block to all shards") {
  const std::unique_ptr<SharedCache> cache = Make(64 << 20);
  TestFeed feed;
  for (uint32_t i = 0; i < 2'000; ++i) {
    REQUIRE(AddTo(cache.get(), AddressOf(i % 2, i), 100, 1'100, feed.Anchor(1'100)));
  }
  const std::vector<FileChange> changes = {{0, 10}, {1, kWholeBlock}, {0, 12}};
  cache->Apply(changes, 1'200);
  for (uint32_t i = 0; i < 2'000; ++i) {
    const bool deleted = i == 10 || i == 12;
    const Found wanted = deleted ? Found::kMiss : i % 2 == 1 ? Found::kAsk : Found::kHit;
    REQUIRE_EQ(cache->Find(AddressOf(i % 2, i), feed.table, 1'250).found, wanted);
  }
}

TEST_CASE("shared_cache: the hottest of all shards come first") {
  const std::unique_ptr<SharedCache> cache = Make(64 << 20);
  TestFeed feed;
  for (uint32_t i = 0; i < 1'000; ++i) {
    REQUIRE(AddTo(cache.get(), AddressOf(1, i), 100, 1'100, feed.Anchor(1'100)));
  }
  for (int times = 0; times < 3; ++times) {
    for (uint32_t i = 0; i < 40; ++i) (void)cache->Find(AddressOf(1, i), feed.table, 1'200);
  }
  const std::vector<FileAddress> hottest = cache->Hottest(10'000);
  CHECK_EQ(hottest.size(), 1'000);
  // 40 over 8 shards: in turns, so all of them come within some times as many.
  for (size_t i = 0; i < 8; ++i) CHECK_LT(hottest[i].file_id.sequence(), 40);
  CHECK_EQ(cache->Hottest(3).size(), 3);
}

// Four loops read, fill, hold and let go of images while a fifth deletes them. A file's bytes tell
// its version: after a change only reads that began later may bring any.
TEST_CASE("shared_cache: loops at once get right bytes, and nothing older than a change") {
  const std::unique_ptr<SharedCache> cache = Make(8 << 20);
  TestFeed feed;
  constexpr uint32_t kFiles = 2'000;
  std::atomic<uint64_t> clock{2'000};
  std::vector<std::atomic<uint64_t>> changed_ms(kFiles);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> hits{0};
  std::atomic<uint64_t> wrong{0};
  const auto loop = [&](uint64_t seed) {
    ImageSizes random(seed);
    std::vector<CacheShard::Answer> held;
    for (int i = 0; i < 30'000; ++i) {
      const auto file = static_cast<uint32_t>(std::min(random.Below(kFiles), random.Below(kFiles)));
      const FileAddress address = AddressOf(5, file);
      const uint64_t changed_before_ms = changed_ms[file].load();
      CacheShard::Answer answer = cache->Find(address, feed.table, clock.load());
      if (answer.found == Found::kMiss) {
        const uint64_t began_ms = clock.load();
        std::vector<uint8_t> stored = StoredOf(address, 64 + random.Next());
        std::copy_n(reinterpret_cast<const uint8_t*>(&began_ms), 8, stored.begin());
        (void)cache->Add({.address = address, .stored = stored, .began_ms = began_ms});
        continue;
      }
      ++hits;
      uint64_t began_ms = 0;
      std::copy_n(answer.file.block.data(), 8, reinterpret_cast<uint8_t*>(&began_ms));
      if (changed_before_ms >= began_ms) ++wrong;
      held.push_back(std::move(answer));
      if (held.size() < 16) continue;
      for (const CacheShard::Answer& each : held) {
        const Bytes bytes = each.file.stored_bytes();
        const std::vector<uint8_t> stored = StoredOf(each.file.address, bytes.size());
        if (!std::equal(bytes.begin() + 8, bytes.end(), stored.begin() + 8)) ++wrong;
      }
      held.clear();
    }
  };
  std::vector<std::thread> loops;
  for (uint64_t seed = 1; seed <= 4; ++seed) loops.emplace_back(loop, seed);
  std::thread poller([&] {
    std::mt19937_64 random(99);
    while (!stop) {
      const uint64_t now_ms = ++clock;
      const auto file = static_cast<uint32_t>(random() % kFiles);
      cache->Change({5, file}, now_ms);
      changed_ms[file].store(now_ms);
      std::this_thread::yield();
    }
  });
  for (std::thread& each : loops) each.join();
  stop = true;
  poller.join();
  CHECK_EQ(wrong.load(), 0);
  CHECK_GT(hits.load(), 5'000);
  for (uint32_t file = 0; file < kFiles; ++file) cache->Change({5, file}, ++clock);
  CHECK_EQ(cache->stats().entries, 0);
  CHECK_LT(cache->used_bytes(), 1 << 20);  // tables alone: all bytes came back
}
