// S3-FIFO against the algorithm of its paper, written again with lists; and what it is for: a scan
// does not wash out what is asked for.
#include "cache/s3_fifo.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <list>
#include <map>
#include <set>
#include <vector>

#include "tests/sim/sim_random.h"
#include "tests/unit/no_memory.h"

using namespace hayloft;

namespace {

uint64_t HashOf(uint64_t key) {
  uint64_t state = key;
  return SplitMix64(&state);
}

struct Entry {
  S3Node node;
  uint64_t key = 0;
};

const Entry& EntryOf(const S3Node& node) { return reinterpret_cast<const Entry&>(node); }

// The paper's READ, INSERT, EVICTS and EVICTM on lists of keys, front = newest; the ghost remembers
// every key exactly.
class PaperS3Fifo {
 public:
  explicit PaperS3Fifo(uint64_t size) : size_(size) {}

  void Insert(uint64_t key, uint64_t bytes) {
    bytes_of_[key] = bytes;
    hits_[key] = 0;
    const size_t window = std::max(small_.size(), main_.size());
    const auto remembered = std::find(ghost_.begin(), ghost_.end(), key);
    const bool in_ghost =
        remembered != ghost_.end() && static_cast<size_t>(remembered - ghost_.begin()) < window;
    if (in_ghost) *remembered = kForgotten;
    (in_ghost ? main_ : small_).push_front(key);
  }
  void Read(uint64_t key) { hits_[key] = std::min(hits_[key] + 1, 3); }
  void Delete(uint64_t key) {
    small_.remove(key);
    main_.remove(key);
  }
  // The key that leaves; kForgotten: none.
  uint64_t Evict() {
    if (main_.empty()) return EvictSmall();
    if (small_.empty() || BytesOf(small_) < size_ / 10) return EvictMain();
    return EvictSmall();
  }
  static constexpr uint64_t kForgotten = ~uint64_t{0};

  uint64_t BytesOf(const std::list<uint64_t>& queue) const {
    uint64_t sum = 0;
    for (const uint64_t key : queue) sum += bytes_of_.at(key);
    return sum;
  }
  const std::list<uint64_t>& small() const { return small_; }
  const std::list<uint64_t>& main() const { return main_; }

 private:
  uint64_t EvictSmall() {
    while (!small_.empty()) {
      const uint64_t key = small_.back();
      small_.pop_back();
      if (hits_[key] <= 1) {
        ghost_.insert(ghost_.begin(), key);
        return key;
      }
      hits_[key] = 0;
      main_.push_front(key);
      if (BytesOf(main_) > size_ - size_ / 10) return EvictMain();
    }
    return EvictMain();
  }
  uint64_t EvictMain() {
    while (!main_.empty()) {
      const uint64_t key = main_.back();
      main_.pop_back();
      if (hits_[key] == 0) return key;
      --hits_[key];
      main_.push_front(key);
    }
    return kForgotten;
  }

  const uint64_t size_;
  std::list<uint64_t> small_;
  std::list<uint64_t> main_;
  std::vector<uint64_t> ghost_;  // newest first; a forgotten one keeps its place
  std::map<uint64_t, uint64_t> bytes_of_;
  std::map<uint64_t, int> hits_;
};

// Both at once; each step compares what they did.
class Pair {
 public:
  // A ghost with room to spare, so that none of its buckets overflows.
  explicit Pair(uint64_t bytes_max)
      : bytes_max_(bytes_max), tested_(bytes_max, 20'000), paper_(bytes_max) {}

  void Get(uint64_t key, uint32_t bytes) {
    const auto found = entries_.find(key);
    if (found != entries_.end()) {
      S3Fifo::Touch(&found->second.node);
      paper_.Read(key);
      return;
    }
    while (tested_.bytes() + bytes > bytes_max_) EvictOne();
    Entry& entry = entries_[key];
    entry = {.node = {.hash = HashOf(key), .charge_bytes = bytes}, .key = key};
    tested_.Add(&entry.node);
    paper_.Insert(key, bytes);
  }
  void Delete(uint64_t key) {
    const auto found = entries_.find(key);
    if (found == entries_.end()) return;
    tested_.Remove(&found->second.node);
    entries_.erase(found);
    paper_.Delete(key);
  }
  bool EvictOne() {
    const S3Node* const victim = tested_.Evict();
    const uint64_t expected = paper_.Evict();
    if (victim == nullptr) {
      REQUIRE_EQ(expected, PaperS3Fifo::kForgotten);
      return false;
    }
    REQUIRE_EQ(EntryOf(*victim).key, expected);
    REQUIRE_EQ(entries_.erase(expected), 1);
    return true;
  }
  void CheckQueues() const {
    REQUIRE_EQ(tested_.small_bytes(), paper_.BytesOf(paper_.small()));
    REQUIRE_EQ(tested_.main_bytes(), paper_.BytesOf(paper_.main()));
    REQUIRE_EQ(tested_.entries(), paper_.small().size() + paper_.main().size());
    REQUIRE_EQ(tested_.entries(), entries_.size());
  }
  const S3Fifo& tested() const { return tested_; }

 private:
  const uint64_t bytes_max_;
  S3Fifo tested_;
  PaperS3Fifo paper_;
  std::map<uint64_t, Entry> entries_;
};

// Of `keys`, the low ones far more often.
uint64_t Skewed(SimRandom* random, uint64_t keys) {
  return random->Below(1 + random->Below(1 + random->Below(keys)));
}

}  // namespace

TEST_CASE("s3_fifo: every victim is the paper's, for sizes, deletes and evictions of all kinds") {
  uint64_t promoted = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    SimRandom random(seed);
    const bool one_size = seed % 2 == 0;
    const uint64_t bytes_max = 200 + random.Below(6'000);
    Pair pair(bytes_max);
    for (int step = 0; step < 6'000; ++step) {
      const uint64_t key = Skewed(&random, 2'000);
      const uint64_t what = random.Below(200);
      if (what == 0) {
        (void)pair.EvictOne();  // as an owner does whose memory is in pieces
      } else if (what < 4) {
        pair.Delete(key);
      } else {
        const uint64_t size = one_size ? 10 : 1 + HashOf(key) % 100;
        pair.Get(key, static_cast<uint32_t>(size));
      }
      if (step % 50 == 0) pair.CheckQueues();
    }
    promoted += pair.tested().main_bytes();
    while (pair.EvictOne()) pair.CheckQueues();
  }
  CHECK_GT(promoted, 40 * 1'000);  // the main queue was in use
}

TEST_CASE("s3_fifo: two hits in the small queue are a place in the main one, one hit is not") {
  S3Fifo fifo(1'000, 100);
  std::vector<S3Node> nodes(10);
  for (size_t i = 0; i < nodes.size(); ++i) {
    nodes[i].hash = HashOf(i);
    nodes[i].charge_bytes = 100;
    fifo.Add(&nodes[i]);
  }
  S3Fifo::Touch(&nodes[0]);
  S3Fifo::Touch(&nodes[1]);
  S3Fifo::Touch(&nodes[1]);
  CHECK_EQ(fifo.Evict(), &nodes[0]);
  CHECK_EQ(fifo.Evict(), &nodes[2]);
  CHECK(nodes[1].in_main);
  CHECK_EQ(nodes[1].frequency, 0);
  CHECK_EQ(fifo.main_bytes(), 100);
  CHECK_EQ(fifo.small_bytes(), 700);
}

TEST_CASE("s3_fifo: who comes back soon after it left goes to the main queue, later it does not") {
  S3Fifo fifo(1'000, 4);
  std::vector<S3Node> nodes(20);
  for (size_t i = 0; i < nodes.size(); ++i) {
    nodes[i].hash = HashOf(i);
    nodes[i].charge_bytes = 100;
    fifo.Add(&nodes[i]);
  }
  for (size_t i = 0; i < 5; ++i) REQUIRE_EQ(fifo.Evict(), &nodes[i]);
  fifo.Add(&nodes[0]);  // five ago, of four remembered
  CHECK_FALSE(nodes[0].in_main);
  fifo.Add(&nodes[1]);
  CHECK(nodes[1].in_main);
  // It has used up its memory: the next time it comes as a stranger.
  fifo.Remove(&nodes[1]);
  fifo.Add(&nodes[1]);
  CHECK_FALSE(nodes[1].in_main);
}

TEST_CASE("s3_fifo: the ghost as it is sized forgets few of whom it should remember") {
  constexpr uint64_t kEntries = 60'000;
  S3Fifo fifo(kEntries * 10, kEntries);
  std::vector<S3Node> nodes(2 * kEntries);
  for (size_t i = 0; i < nodes.size(); ++i) {
    nodes[i].hash = HashOf(i) & ~uint64_t{0xfff};  // as in a shard that low bits have chosen
    nodes[i].charge_bytes = 10;
    fifo.Add(&nodes[i]);
  }
  for (size_t i = 0; i < kEntries; ++i) REQUIRE_EQ(fifo.Evict(), &nodes[i]);
  uint64_t remembered = 0;
  for (size_t i = 0; i < kEntries; ++i) {
    fifo.Add(&nodes[i]);
    remembered += nodes[i].in_main ? 1 : 0;
  }
  const double share = static_cast<double>(remembered) / kEntries;
  MESSAGE("remembered of as many as there should be: "
          << share
          << ", bytes each: " << static_cast<double>(S3Fifo::GhostBytes(kEntries)) / kEntries);
  CHECK_GE(share, 0.93);
  CHECK_LE(S3Fifo::GhostBytes(kEntries), kEntries * 11);
  S3Node stranger{.hash = HashOf(1ull << 40), .charge_bytes = 10};
  fifo.Add(&stranger);
  CHECK_FALSE(stranger.in_main);
}

TEST_CASE("s3_fifo: a scan of ten times the cache leaves what is asked for where it is") {
  S3Fifo fifo(10'000, 1'000);
  std::vector<S3Node> hot(500);
  std::vector<S3Node> scanned(10'000);
  std::set<const S3Node*> gone;
  const auto add = [&](S3Node* node, uint64_t hash) {
    node->hash = HashOf(hash);
    node->charge_bytes = 10;
    while (fifo.bytes() + 10 > 10'000) gone.insert(fifo.Evict());
    fifo.Add(node);
  };
  for (size_t i = 0; i < hot.size(); ++i) {
    add(&hot[i], i);
    S3Fifo::Touch(&hot[i]);
    S3Fifo::Touch(&hot[i]);
  }
  for (size_t i = 0; i < scanned.size(); ++i) {
    add(&scanned[i], 1'000'000 + i);
    if (i % 10 == 0) S3Fifo::Touch(&hot[i / 10 % hot.size()]);
  }
  uint64_t lost = 0;
  for (const S3Node& node : hot) lost += gone.count(&node);
  CHECK_EQ(lost, 0);
  CHECK_EQ(gone.size(), hot.size() + scanned.size() - fifo.entries());
}

TEST_CASE("s3_fifo: the hottest come first, each once, until the caller has enough") {
  S3Fifo fifo(1'000, 100);
  std::vector<S3Node> nodes(10);
  for (size_t i = 0; i < nodes.size(); ++i) {
    nodes[i].hash = i;
    nodes[i].charge_bytes = 100;
    fifo.Add(&nodes[i]);
    for (size_t hits = 0; hits < i % 5; ++hits) S3Fifo::Touch(&nodes[i]);
  }
  REQUIRE_EQ(fifo.Evict(), &nodes[0]);
  REQUIRE_EQ(fifo.Evict(), &nodes[1]);
  REQUIRE_EQ(fifo.Evict(), &nodes[5]);  // 2, 3 and 4 were promoted
  S3Fifo::Touch(&nodes[3]);
  std::vector<uint64_t> order;
  fifo.ForEachHottest([&](const S3Node& node) {
    order.push_back(node.hash);
    return true;
  });
  CHECK_EQ(order, std::vector<uint64_t>{3, 4, 2, 9, 8, 7, 6});
  size_t seen = 0;
  fifo.ForEachHottest([&](const S3Node&) { return ++seen < 2; });
  CHECK_EQ(seen, 2);
}

TEST_CASE("s3_fifo: nothing is allocated after construction") {
  S3Fifo fifo(1'000, 100);
  std::vector<S3Node> nodes(300);
  const NoMemory none(0);
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < nodes.size(); ++i) {
      nodes[i].hash = HashOf(i % 120);
      nodes[i].charge_bytes = 10;
      fifo.Add(&nodes[i]);
      if (i % 3 == 0) S3Fifo::Touch(&nodes[i]);
      if (i % 7 == 0) fifo.Remove(&nodes[i]);
    }
    while (fifo.Evict() != nullptr) {
    }
  }
  CHECK_FALSE(none.reached());
  CHECK_EQ(fifo.bytes(), 0);
}
