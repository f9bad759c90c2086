// One shard of the cache: each promise alone, then all of it against a model in random sequences.
#include "cache/cache_shard.h"

#include <doctest/doctest.h>

#include <deque>
#include <map>
#include <random>

#include "tests/unit/cache_bench.h"
#include "tests/unit/cache_sizes.h"
#include "tests/unit/no_memory.h"

using namespace hayloft;

namespace {

using Found = CacheShard::Found;

constexpr uint64_t kBytes = 4 << 20;
const FileAddress kFile = AddressOf(12, 34);

// A fill of what `address` is, and the shard that it goes to.
struct Bench : TestShard {
  explicit Bench(uint64_t bytes = kBytes) : TestShard(bytes) {}
  bool Add(const FileAddress& address, size_t bytes, uint64_t began_ms,
           std::string_view lines = "lines") {
    const std::vector<uint8_t> stored = StoredOf(address, bytes);
    return shard.Add({.address = address,
                      .lines = lines,
                      .head = AsBytes("head!"),
                      .stored = stored,
                      .anchor = feed.Anchor(began_ms),
                      .began_ms = began_ms});
  }
  CacheShard::Answer Find(const FileAddress& address, uint64_t now_ms) {
    return shard.Find(address, feed.table, now_ms);
  }
  Found FindKind(const FileAddress& address, uint64_t now_ms) {
    return Find(address, now_ms).found;
  }
  TestFeed feed;
};

}  // namespace

TEST_CASE("cache_shard: a hit is what was added, in one piece") {
  Bench bench;
  CHECK_EQ(bench.FindKind(kFile, 1'100), Found::kMiss);
  REQUIRE(bench.Add(kFile, 5'000, 1'100, "ETag: x\r\n"));
  const CacheShard::Answer answer = bench.Find(kFile, 1'200);
  REQUIRE_EQ(answer.found, Found::kHit);
  CHECK_EQ(answer.file.address, kFile);
  CHECK_EQ(answer.file.lines(), "ETag: x\r\n");
  CHECK_EQ(AsText(answer.file.head()), "head!");
  const std::vector<uint8_t> stored = StoredOf(kFile, 5'000);
  CHECK(std::ranges::equal(answer.file.stored_bytes(), stored));
  CHECK(std::ranges::equal(answer.file.stored().bytes(), stored));
  CHECK_EQ(answer.file.block.size(), 9 + 5 + 5'000);
  CHECK_FALSE(answer.file.too_large);
}

TEST_CASE("cache_shard: a hit allocates nothing and is no copy") {
  Bench bench;
  REQUIRE(bench.Add(kFile, 50'000, 1'100));
  const uint8_t* first = bench.Find(kFile, 1'200).file.block.data();
  const uint64_t used = bench.memory.arena().used_bytes();
  for (int i = 0; i < 100; ++i) {
    const NoMemory none(0);
    const CacheShard::Answer answer = bench.Find(kFile, 1'200);
    const Buffer stored = answer.file.stored();
    REQUIRE_EQ(answer.file.block.data(), first);
    REQUIRE_EQ(bench.memory.arena().used_bytes(), used);
    REQUIRE_FALSE(none.reached());
  }
}

TEST_CASE("cache_shard: of a file that is too large the head is kept") {
  Bench bench(32 << 20);
  REQUIRE(bench.Add(kFile, kCachedFileBytesMax, 1'100));
  CHECK_FALSE(bench.Find(kFile, 1'200).file.too_large);
  REQUIRE(bench.Add(kFile, kCachedFileBytesMax + 1, 1'100));
  CacheShard::Answer answer = bench.Find(kFile, 1'200);
  CHECK(answer.file.too_large);
  CHECK_EQ(answer.file.stored_bytes().size(), 0);
  CHECK_EQ(answer.file.stored().size(), 0);
  CHECK_EQ(AsText(answer.file.head()), "head!");
  const FileAddress other = AddressOf(1, 1);
  REQUIRE(bench.shard.Add({.address = other, .head = AsBytes("h"), .too_large = true}));
  answer = bench.Find(other, 1'200);
  CHECK(answer.file.too_large);
  CHECK_EQ(answer.file.block.size(), 1);
}

TEST_CASE("cache_shard: what can't be kept is not, and what is there stays") {
  Bench bench;
  REQUIRE(bench.Add(kFile, 1'000, 1'100));
  const std::vector<uint8_t> head(kCachedHeadBytesMax + 1);
  CHECK_FALSE(bench.shard.Add({.address = AddressOf(1, 1), .head = head}));
  CHECK_FALSE(bench.Add(AddressOf(1, 1), 100, 1'100, std::string(kCachedHeadBytesMax + 1, 'x')));
  CHECK_FALSE(bench.Add(AddressOf(1, 1), bench.plan.region_bytes / 4, 1'100));
  CHECK_EQ(bench.FindKind(AddressOf(1, 1), 1'200), Found::kMiss);
  CHECK_EQ(bench.FindKind(kFile, 1'200), Found::kHit);
  CHECK_EQ(bench.shard.stats().fills_no_room, 3);
}

TEST_CASE("cache_shard: another cookie is a miss and displaces nothing") {
  Bench bench;
  REQUIRE(bench.Add(kFile, 1'000, 1'100));
  for (uint64_t cookie = 100; cookie < 10'000; ++cookie) {
    const FileAddress guess = AddressOf(12, 34, cookie);
    REQUIRE_EQ(bench.FindKind(guess, 1'200), Found::kMiss);
    bench.shard.AddAbsent(guess, Err::kNotFound, 1'200);
    bench.shard.Renew(guess, {}, 1'200);
  }
  CHECK_EQ(bench.FindKind(kFile, 1'200), Found::kHit);
  CHECK_EQ(bench.FindKind(AddressOf(12, 34, 9'999), 1'300), Found::kAbsent);
}

TEST_CASE("cache_shard: an entry is asked about when its feed is silent, until that is renewed") {
  Bench bench;
  REQUIRE(bench.Add(kFile, 1'000, 1'100));
  CHECK_EQ(bench.FindKind(kFile, 1'000 + kFeedTrustMs - 1), Found::kHit);
  CHECK_EQ(bench.FindKind(kFile, 1'000 + kFeedTrustMs), Found::kAsk);
  CHECK_EQ(bench.Find(kFile, 2'000).file.block.size(), 10 + 1'000);
  bench.feed.Answer(2'500, /*gap=*/true);
  CHECK_EQ(bench.FindKind(kFile, 2'510), Found::kAsk);
  bench.shard.Renew(kFile, bench.feed.Anchor(2'400), 2'400);  // asked before the gap was heard of
  CHECK_EQ(bench.FindKind(kFile, 2'520), Found::kAsk);
  bench.shard.Renew(AddressOf(12, 35), bench.feed.Anchor(2'510), 2'510);
  CHECK_EQ(bench.FindKind(kFile, 2'520), Found::kAsk);
  bench.shard.Renew(kFile, bench.feed.Anchor(2'510), 2'510);
  CHECK_EQ(bench.FindKind(kFile, 2'520), Found::kHit);
  CHECK_EQ(bench.shard.stats().asked, 5);
}

TEST_CASE("cache_shard: an answer to an old question does not renew what a newer one said") {
  Bench bench;
  REQUIRE(bench.Add(kFile, 1'000, 1'100));
  bench.shard.Renew(kFile, {.feed = 3, .epoch = 9}, 1'050);
  CHECK_EQ(bench.FindKind(kFile, 1'200), Found::kHit);
  bench.shard.Renew(kFile, {}, 1'150);  // the feed of who said it has just begun
  CHECK_EQ(bench.FindKind(kFile, 1'200), Found::kHit);
  bench.shard.Change({99, 99}, 1'100);
  bench.shard.Renew(kFile, {.feed = 3, .epoch = 9}, 1'160);
  CHECK_EQ(bench.FindKind(kFile, 1'200), Found::kAsk);
}

TEST_CASE("cache_shard: what an older read brought does not replace what a newer one did") {
  Bench bench;
  REQUIRE(bench.Add(kFile, 1'000, 1'200, "newer"));
  CHECK_FALSE(bench.Add(kFile, 1'000, 1'199, "older"));
  CHECK_EQ(bench.Find(kFile, 1'300).file.lines(), "newer");
  CHECK(bench.Add(kFile, 1'000, 1'200, "equal"));
  CHECK_EQ(bench.Find(kFile, 1'300).file.lines(), "equal");
  CHECK_EQ(bench.shard.stats().entries, 1);
}

TEST_CASE("cache_shard: a change drops the entry, and what was read before it is not kept") {
  Bench bench;
  REQUIRE(bench.Add(kFile, 1'000, 1'100));
  bench.shard.AddAbsent(AddressOf(12, 34, 99), Err::kNotFound, 1'150);
  bench.shard.Change({12, 34}, 1'200);
  CHECK_EQ(bench.FindKind(kFile, 1'200), Found::kMiss);
  CHECK_EQ(bench.FindKind(AddressOf(12, 34, 99), 1'200), Found::kMiss);
  CHECK_FALSE(bench.Add(kFile, 1'000, 1'150));
  CHECK_FALSE(bench.Add(kFile, 1'000, 1'200));
  bench.shard.AddAbsent(kFile, Err::kGone, 1'200);
  CHECK_EQ(bench.FindKind(kFile, 1'210), Found::kMiss);
  CHECK_EQ(bench.shard.stats().fills_changed, 2);
  CHECK(bench.Add(AddressOf(12, 35), 1'000, 1'150));
  CHECK(bench.Add(AddressOf(13, 34), 1'000, 1'150));
  CHECK(bench.Add(kFile, 1'000, 1'201));
  bench.shard.Renew(kFile, {.feed = 3, .epoch = 9}, 1'200);  // asked before the change
  CHECK_EQ(bench.FindKind(kFile, 1'210), Found::kHit);
}

TEST_CASE("cache_shard: a mark that had to go is not forgotten, its time counts for all") {
  Bench bench;
  bench.shard.Change({12, 34}, 2'000);
  for (uint32_t i = 1; i < bench.plan.marks; ++i) bench.shard.Change({5, i}, 3'000 + i);
  CHECK(bench.Add(AddressOf(1, 1), 100, 1'100));
  CHECK_FALSE(bench.Add(kFile, 100, 1'999));
  bench.shard.Change({6, 1}, 9'000);  // in place of the first
  CHECK_FALSE(bench.Add(kFile, 100, 1'999));
  CHECK_FALSE(bench.Add(AddressOf(1, 2), 100, 2'000));
  CHECK(bench.Add(AddressOf(1, 2), 100, 2'001));
  CHECK_FALSE(bench.Add(AddressOf(5, 1), 100, 3'001));
  CHECK(bench.Add(AddressOf(5, 1), 100, 3'002));
}

TEST_CASE("cache_shard: absent for a second from the beginning of the read that said so") {
  Bench bench;
  bench.shard.AddAbsent(kFile, Err::kGone, 5'000);
  const CacheShard::Answer answer = bench.Find(kFile, 5'999);
  CHECK_EQ(answer.found, Found::kAbsent);
  CHECK_EQ(answer.err, Err::kGone);
  CHECK_EQ(bench.FindKind(kFile, 6'000), Found::kMiss);
  CHECK_EQ(bench.FindKind(AddressOf(12, 34, 8), 5'500), Found::kMiss);
  bench.shard.AddAbsent(kFile, Err::kNotFound, 5'100);
  CHECK_EQ(bench.Find(kFile, 6'050).err, Err::kNotFound);
  CHECK(bench.Add(kFile, 10, 6'060));
  CHECK_EQ(bench.FindKind(kFile, 6'070), Found::kAsk);
  bench.shard.AddAbsent(kFile, Err::kGone, 6'080);
  CHECK_EQ(bench.FindKind(kFile, 6'090), Found::kAbsent);
  // The table is full of others' guesses: those are forgotten, nothing else.
  for (uint32_t i = 0; i < 20'000; ++i) {
    bench.shard.AddAbsent(AddressOf(i, i), Err::kNotFound, 6'100);
  }
  CHECK_EQ(bench.FindKind(AddressOf(19'999, 19'999), 6'100), Found::kAbsent);
  CHECK_EQ(bench.FindKind(kFile, 6'100), Found::kMiss);
}

// What such a feed does not tell, others may: the file may live, and is only asked about.
TEST_CASE(
    "cache_shard: of a block that its feed leaves each file is asked about once, no other is") {
  Bench bench;
  REQUIRE(bench.Add(kFile, 1'000, 1'100));
  REQUIRE(bench.Add(AddressOf(12, 35), 1'000, 1'100));
  REQUIRE(bench.Add(AddressOf(13, 34), 1'000, 1'100));
  const std::vector<uint64_t> blocks = {11, 12};
  size_t bucket = 0;
  do {
    bucket = bench.shard.ChangeBlocks(blocks, bucket, 1'200);
  } while (bucket != 0);
  CHECK_EQ(bench.FindKind(kFile, 1'200), Found::kAsk);
  CHECK_EQ(bench.FindKind(AddressOf(12, 35), 1'200), Found::kAsk);
  CHECK_EQ(bench.FindKind(AddressOf(13, 34), 1'200), Found::kHit);
  // Who said before that it lives may be the dsp that has left it.
  bench.shard.Renew(kFile, bench.feed.Anchor(1'200), 1'200);
  CHECK_EQ(bench.FindKind(kFile, 1'200), Found::kAsk);
  bench.shard.Renew(kFile, bench.feed.Anchor(1'201), 1'201);
  CHECK_EQ(bench.FindKind(kFile, 1'201), Found::kHit);
  CHECK_FALSE(bench.Add(AddressOf(12, 36), 1'000, 1'200));
  CHECK(bench.Add(AddressOf(12, 36), 1'000, 1'201));
  CHECK(bench.Add(AddressOf(13, 36), 1'000, 1'200));
}

TEST_CASE("cache_shard: bytes that a reader holds outlive their entry, and come back after him") {
  Bench bench;
  const uint64_t empty = bench.memory.arena().used_bytes();
  REQUIRE(bench.Add(kFile, 9'000, 1'100));
  CacheShard::Answer held = bench.Find(kFile, 1'100);
  const uint64_t used = bench.memory.arena().used_bytes();
  SUBCASE("changed") { bench.shard.Change({12, 34}, 1'100); }
  SUBCASE("found absent") { bench.shard.AddAbsent(kFile, Err::kGone, 1'100); }
  CHECK_EQ(bench.FindKind(AddressOf(12, 34), 2'200), Found::kMiss);
  CHECK_EQ(bench.memory.arena().used_bytes(), used);
  CHECK_EQ(bench.shard.stats().bytes, 0);
  CHECK(std::ranges::equal(held.file.stored_bytes(), StoredOf(kFile, 9'000)));
  Buffer stored = held.file.stored();
  held = {};
  CHECK_EQ(bench.memory.arena().used_bytes(), used);
  stored = Buffer();
  CHECK_EQ(bench.memory.arena().used_bytes(), empty);
}

TEST_CASE(
    "cache_shard: when readers hold all, a fill is refused in bounded time, and no harm done") {
  Bench bench;
  std::vector<CacheShard::Answer> held;
  uint32_t sequence = 0;
  for (; bench.shard.stats().fills_no_room == 0; ++sequence) {
    REQUIRE_LT(sequence, 1'000);
    if (bench.Add(AddressOf(1, sequence), 40'000, 1'100)) {
      held.push_back(bench.Find(AddressOf(1, sequence), 1'100));
      REQUIRE_EQ(held.back().found, Found::kHit);
    }
  }
  for (const CacheShard::Answer& each : held) {
    CHECK(std::ranges::equal(each.file.stored_bytes(), StoredOf(each.file.address, 40'000)));
  }
  CHECK_GT(held.size(), 80);
  held.clear();
  CHECK(bench.Add(AddressOf(2, 0), 40'000, 1'100));
}

TEST_CASE("cache_shard: all that it has lies within its bytes; too few bytes keep nothing") {
  for (const uint64_t bytes : {0ull, 1ull, 1'000ull, 300'000ull, 1ull << 20, 8ull << 20,
                               (8ull << 20) + 12'345, 1ull << 30, 64ull << 30}) {
    CAPTURE(bytes);
    const CacheShard::Plan plan = CacheShard::PlanFor(bytes);
    CHECK_LE(plan.region_bytes + plan.table_bytes, bytes);
    CHECK_EQ(plan.region_bytes % kPageBytes, 0);
    if (bytes >= (8 << 20)) CHECK_GE(plan.region_bytes, bytes / 100 * 96);
    if (bytes >= (64 << 20)) CHECK_GE(plan.region_bytes, bytes / 1'000 * 993);
  }
  CacheShard none(nullptr, CacheShard::PlanFor(0));
  TestFeed feed;
  CHECK_FALSE(none.Add({.address = kFile, .head = AsBytes("h"), .began_ms = 5}));
  none.AddAbsent(kFile, Err::kGone, 5);
  none.Change({12, 34}, 6);
  none.Renew(kFile, {}, 7);
  CHECK_EQ(none.Find(kFile, feed.table, 5).found, Found::kMiss);
  CHECK(none.Hottest(10).empty());
  CHECK(none.Join(kFile, {0, 1}, 5));
  CHECK_FALSE(none.Join(kFile, {0, 2}, 5));
  CHECK_EQ(none.Settle(kFile, {0, 1}), std::vector<CacheShard::Waiter>{{0, 2}});
}

TEST_CASE("cache_shard: what is asked for most is the hottest, and stays") {
  Bench bench;
  for (uint32_t i = 0; i < 2'000; ++i) {
    REQUIRE(bench.Add(AddressOf(1, i), 10'000, 1'100));
    for (uint32_t hot = 0; hot < 10 && hot <= i; ++hot) {
      REQUIRE_EQ(bench.FindKind(AddressOf(1, hot), 1'100), Found::kHit);
    }
  }
  std::vector<FileAddress> hottest = bench.shard.Hottest(10);
  REQUIRE_EQ(hottest.size(), 10);
  for (const FileAddress& each : hottest) CHECK_LT(each.file_id.sequence(), 10);
  CHECK_EQ(bench.shard.Hottest(3).size(), 3);
  CHECK(bench.shard.Hottest(0).empty());
  CHECK_EQ(bench.shard.Hottest(10'000).size(), bench.shard.stats().entries);
  CHECK_GT(bench.shard.stats().evictions, 1'000);
}

namespace {

// The shard against a map. What it may do beyond the map: forget (it is full), and say "ask" or
// "hit" as the feed says.
class ShardModel {
 public:
  explicit ShardModel(uint64_t seed) : random_(seed), sizes_(seed + 1'000), bench_(3 << 20) {
    empty_bytes_ = bench_.memory.arena().used_bytes();
  }
  void Run(uint64_t steps) {
    for (uint64_t i = 0; i < steps; ++i) {
      Step();
      if (i % 500 == 0) Account();
    }
    readers_.clear();
    Account();
    const CacheShard::Stats stats = bench_.shard.stats();
    CHECK_EQ(bench_.memory.arena().used_bytes(), empty_bytes_ + stats.bytes);
    for (uint64_t key = 0; key < kFiles; ++key) {
      bench_.shard.Change({key % 7, static_cast<uint32_t>(key)}, now_);
    }
    CHECK_EQ(bench_.shard.stats().entries, 0);
    CHECK_EQ(bench_.memory.arena().used_bytes(), empty_bytes_);
    CHECK_EQ(bench_.memory.arena().holes(), 1);
  }
  uint64_t hits = 0;
  uint64_t refused = 0;
  uint64_t absent = 0;
  uint64_t evictions() const { return bench_.shard.stats().evictions; }

 private:
  static constexpr uint64_t kFiles = 700;
  struct Kept {
    FileAddress address;
    std::string lines;
    size_t bytes;
    FeedAnchor anchor;
    uint64_t began_ms;
  };
  struct Gone {
    Err err;
    uint64_t began_ms;
  };
  struct Reader {
    CacheShard::Answer answer;
    std::string lines;
    size_t bytes;
  };

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  FileAddress Any() {
    const uint64_t key = std::min(Below(kFiles), Below(kFiles));
    return AddressOf(key % 7, static_cast<uint32_t>(key), Below(20) == 0 ? 8 : 7);
  }
  static uint64_t KeyOf(const FileAddress& address) { return address.file_id.sequence(); }
  bool Changed(const FileAddress& address, uint64_t began_ms) {
    const auto change = changes_.find(KeyOf(address));
    return change != changes_.end() && change->second >= began_ms;
  }

  void Step() {
    now_ += Below(3);
    const FileAddress address = Any();
    // Reads take up to a second.
    const uint64_t began_ms = now_ - std::min<uint64_t>(Below(8) == 0 ? Below(1'000) : 0, 900);
    switch (Below(16)) {
      case 0:
        return Change(address);
      case 1:
        return AddAbsent(address, began_ms);
      case 2:
        return Renew(address, began_ms);
      case 3:
        return TurnFeed();
      case 4:
        if (!readers_.empty()) Release();
        return;
      case 5:
      case 6:
      case 7:
      case 8:
        return Add(address, began_ms);
      default:
        return Find(address);
    }
  }
  void TurnFeed() {
    if (Below(10) != 0 || now_ < 300 + fed_ms_) return;
    bench_.feed.Answer(now_, /*gap=*/Below(6) == 0);
    fed_ms_ = now_;
  }
  void Change(const FileAddress& address) {
    bench_.shard.Change({address.block_id, address.file_id.sequence()}, now_);
    changes_[KeyOf(address)] = now_;
    kept_.erase(KeyOf(address));
    std::erase_if(gone_, [&](const auto& each) { return KeyOf(each.first) == KeyOf(address); });
  }
  void AddAbsent(const FileAddress& address, uint64_t began_ms) {
    const Err err = Below(2) == 0 ? Err::kGone : Err::kNotFound;
    bench_.shard.AddAbsent(address, err, began_ms);
    const auto kept = kept_.find(KeyOf(address));
    if (kept != kept_.end() && kept->second.address == address) kept_.erase(kept);
    if (!Changed(address, began_ms)) gone_[address] = {err, began_ms};
  }
  void Renew(const FileAddress& address, uint64_t began_ms) {
    const FeedAnchor anchor = bench_.feed.Anchor(began_ms);
    bench_.shard.Renew(address, anchor, began_ms);
    const auto kept = kept_.find(KeyOf(address));
    if (kept == kept_.end() || kept->second.address != address) return;
    if (anchor == FeedAnchor{} || kept->second.began_ms > began_ms) return;
    kept->second.anchor = anchor;
    kept->second.began_ms = began_ms;
  }
  void Add(const FileAddress& address, uint64_t began_ms) {
    const Kept kept = {address, std::string(Below(300), static_cast<char>('a' + Below(26))),
                       sizes_.Next(), bench_.feed.Anchor(began_ms), began_ms};
    const std::vector<uint8_t> stored = StoredOf(address, kept.bytes);
    const bool added = bench_.shard.Add({.address = address,
                                         .lines = kept.lines,
                                         .stored = stored,
                                         .anchor = kept.anchor,
                                         .began_ms = began_ms});
    if (Changed(address, began_ms)) {
      REQUIRE_FALSE(added);
      ++refused;
      return;
    }
    if (!added) return;
    kept_[KeyOf(address)] = kept;
    std::erase_if(gone_, [&](const auto& each) { return KeyOf(each.first) == KeyOf(address); });
  }
  void Find(const FileAddress& address) {
    CacheShard::Answer answer = bench_.Find(address, now_);
    const auto kept = kept_.find(KeyOf(address));
    const bool there = kept != kept_.end() && kept->second.address == address;
    switch (answer.found) {
      case Found::kMiss:
        if (there) kept_.erase(kept);  // evicted
        return;
      case Found::kAbsent: {
        const auto gone = gone_.find(address);
        REQUIRE(gone != gone_.end());
        REQUIRE_EQ(gone->second.err, answer.err);
        REQUIRE_LT(now_, gone->second.began_ms + kAbsentMs);
        ++absent;
        return;
      }
      case Found::kHit:
      case Found::kAsk:
        break;
    }
    REQUIRE(there);
    REQUIRE_EQ(answer.found == Found::kHit, bench_.feed.table.Trusted(kept->second.anchor, now_));
    readers_.push_back({std::move(answer), kept->second.lines, kept->second.bytes});
    Check(readers_.back());
    if (readers_.size() > 20) Release();
    ++hits;
  }
  void Check(const Reader& reader) {
    const CachedFile& file = reader.answer.file;
    REQUIRE_EQ(file.lines(), reader.lines);
    REQUIRE(std::ranges::equal(file.stored_bytes(), StoredOf(file.address, reader.bytes)));
  }
  // Whatever became of the entry meanwhile.
  void Release() {
    Check(readers_.front());
    readers_.pop_front();
  }
  void Account() {
    REQUIRE(bench_.memory.arena().IsSound());
    const CacheShard::Stats stats = bench_.shard.stats();
    REQUIRE_GE(bench_.memory.arena().used_bytes(), empty_bytes_ + stats.bytes);
    REQUIRE_LE(stats.entries, kept_.size());
  }

  std::mt19937_64 random_;
  ImageSizes sizes_;
  Bench bench_;
  uint64_t empty_bytes_ = 0;
  uint64_t now_ = 2'000;
  uint64_t fed_ms_ = 0;
  std::map<uint64_t, Kept> kept_;
  std::map<FileAddress, Gone> gone_;
  std::map<uint64_t, uint64_t> changes_;
  std::deque<Reader> readers_;
};

}  // namespace

TEST_CASE("cache_shard: random use never answers what was changed, nor wrong bytes, nor leaks") {
  uint64_t hits = 0;
  uint64_t refused = 0;
  uint64_t absent = 0;
  uint64_t evictions = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    CAPTURE(seed);
    ShardModel model(seed);
    model.Run(12'000);
    hits += model.hits;
    refused += model.refused;
    absent += model.absent;
    evictions += model.evictions();
  }
  CHECK_GT(hits, 10'000);
  CHECK_GT(refused, 100);
  CHECK_GT(absent, 100);
  CHECK_GT(evictions, 1'000);
}
