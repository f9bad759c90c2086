#include "cache/cache_shell.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cinttypes>

#include "cache/cache_hash.h"
#include "common/check.h"
#include "common/file_change.h"
#include "common/log.h"

namespace hayloft {

namespace {

class LockedMemory : public CacheMemory {
 public:
  explicit LockedMemory(MutableBytes region) : arena_(region) {}
  void* Allocate(size_t bytes) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return arena_.Allocate(bytes);
  }
  void Free(void* memory) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    arena_.Free(memory);
  }
  uint64_t used_bytes() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return arena_.used_bytes();
  }

 private:
  mutable std::mutex mutex_;
  CacheArena arena_;
};

size_t ShardsFor(uint64_t cache_bytes) {
  // Without memory they are for fetches only.
  if (cache_bytes == 0) return kCacheShardsMax;
  const uint64_t shards = std::max<uint64_t>(cache_bytes / kCacheShardBytesMin, 1);
  return std::min<uint64_t>(std::bit_floor(shards), kCacheShardsMax);
}

#define CACHE_METRICS(X)                                                                    \
  X(Gauge, bytes, "bytes in use: images, their entries, tables")                            \
  X(Gauge, bytes_max, "bytes that may be in use")                                           \
  X(Gauge, entries, "images that are kept")                                                 \
  X(Counter, hits_total, "look-ups that found an image, asked_total included")              \
  X(Counter, misses_total, "look-ups that found nothing")                                   \
  X(Counter, asked_total, "images found whose dsp had to be asked whether they still live") \
  X(Counter, absent_hits_total, "look-ups of what a dsp had just said to be absent")        \
  X(Counter, fills_total, "images that were kept")                                          \
  X(Counter, evictions_total, "images that had to go for others")                           \
  X(Counter, changes_total, "deletes and undeletes that feeds told of")                     \
  X(Counter, waits_total, "requests answered by another one's read")
struct CacheMetrics {
  HAYLOFT_METRICS("hayloft_gateway_cache_", CACHE_METRICS)
};

}  // namespace

// On a cache line of its own: other shards' mutexes change hands elsewhere.
struct alignas(64) SharedCache::Shard {
  Shard(MutableBytes region, const CacheShard::Plan& plan) : memory(region), shard(&memory, plan) {}
  mutable std::mutex mutex;
  LockedMemory memory;
  CacheShard shard;
};

void SharedCache::Unmap::operator()(uint8_t* region) const { ::munmap(region, bytes); }

SharedCache::SharedCache(uint64_t cache_bytes, size_t shards)
    : bytes_max_(cache_bytes), region_(nullptr, Unmap{0}), shards_(shards) {
  ASSERT(std::has_single_bit(shards));
}

SharedCache::~SharedCache() = default;

Err SharedCache::MapRegion(uint64_t bytes) {
  void* const region =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (region == MAP_FAILED) {
    LOG_ERROR("cache_memory", "bytes=%" PRIu64 " errno=%d", bytes, errno);
    return Err::kIo;
  }
  region_ = {static_cast<uint8_t*>(region), Unmap{bytes}};
  return Err::kOk;
}

Result<std::unique_ptr<SharedCache>> SharedCache::Create(uint64_t cache_bytes) {
  const size_t shards = ShardsFor(cache_bytes);
  const CacheShard::Plan plan = CacheShard::PlanFor(cache_bytes / shards);
  std::unique_ptr<SharedCache> cache(new SharedCache(cache_bytes, shards));
  const uint64_t each = plan.region_bytes;
  if (each > 0) TRY(cache->MapRegion(each * shards));
  for (size_t i = 0; i < shards; ++i) {
    const MutableBytes region =
        each > 0 ? MutableBytes(cache->region_.get() + i * each, each) : MutableBytes();
    cache->shards_[i] = std::make_unique<Shard>(region, plan);
  }
  return cache;
}

SharedCache::Shard& SharedCache::ShardOf(uint64_t block_id, uint32_t sequence) const {
  // The highest bits: a shard's own tables use others.
  static_assert(kCacheShardsMax <= 1 << 8);
  return *shards_[CacheHash(block_id, sequence) >> 56 & (shards_.size() - 1)];
}

CacheShard::Answer SharedCache::Find(const FileAddress& address, const FeedTable& feeds,
                                     uint64_t now_ms) {
  Shard& shard = ShardOf(address);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  return shard.shard.Find(address, feeds, now_ms);
}

CacheShard::Answer SharedCache::FindAgain(const FileAddress& address, const FeedTable& feeds,
                                          uint64_t now_ms) {
  Shard& shard = ShardOf(address);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  return shard.shard.FindAgain(address, feeds, now_ms);
}

bool SharedCache::ChangedSince(const FileAddress& address, uint64_t since_ms) const {
  Shard& shard = ShardOf(address);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  return shard.shard.ChangedSince(address, since_ms);
}

bool SharedCache::Add(const CacheShard::Fill& fill) {
  Shard& shard = ShardOf(fill.address);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  return shard.shard.Add(fill);
}

void SharedCache::Renew(const FileAddress& address, FeedAnchor anchor, uint64_t began_ms) {
  Shard& shard = ShardOf(address);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  shard.shard.Renew(address, anchor, began_ms);
}

void SharedCache::Change(const FileChange& change, uint64_t now_ms) {
  Shard& shard = ShardOf(change.block_id, change.sequence);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  shard.shard.Change(change, now_ms);
}

void SharedCache::Apply(std::span<const FileChange> changes, uint64_t now_ms) {
  std::vector<uint64_t> blocks;
  for (const FileChange& change : changes) {
    if (change.sequence != kWholeBlock) {
      Change(change, now_ms);
    } else {
      blocks.push_back(change.block_id);
    }
  }
  if (blocks.empty()) return;
  std::sort(blocks.begin(), blocks.end());
  for (const std::unique_ptr<Shard>& shard : shards_) {
    size_t bucket = 0;
    do {
      const std::lock_guard<std::mutex> lock(shard->mutex);
      bucket = shard->shard.ChangeBlocks(blocks, bucket, now_ms);
    } while (bucket != 0);
  }
}

void SharedCache::AddAbsent(const FileAddress& address, Err err, uint64_t began_ms) {
  Shard& shard = ShardOf(address);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  shard.shard.AddAbsent(address, err, began_ms);
}

bool SharedCache::Join(const FileAddress& address, Fetches::Waiter request, uint64_t now_ms) {
  Shard& shard = ShardOf(address);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  return shard.shard.Join(address, request, now_ms);
}

std::vector<Fetches::Waiter> SharedCache::Settle(const FileAddress& address,
                                                 Fetches::Waiter fetcher) {
  Shard& shard = ShardOf(address);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  return shard.shard.Settle(address, fetcher);
}

// Files are spread evenly, so each shard names its share; in turns, the hottest of each first.
std::vector<FileAddress> SharedCache::Hottest(size_t max) const {
  std::vector<std::vector<FileAddress>> parts;
  size_t longest = 0;
  for (const std::unique_ptr<Shard>& shard : shards_) {
    const std::lock_guard<std::mutex> lock(shard->mutex);
    parts.push_back(shard->shard.Hottest((max + shards_.size() - 1) / shards_.size()));
    longest = std::max(longest, parts.back().size());
  }
  std::vector<FileAddress> hottest;
  for (size_t i = 0; i < longest; ++i) {
    for (const std::vector<FileAddress>& part : parts) {
      if (i < part.size() && hottest.size() < max) hottest.push_back(part[i]);
    }
  }
  return hottest;
}

uint64_t SharedCache::used_bytes() const {
  uint64_t bytes = 0;
  for (const std::unique_ptr<Shard>& shard : shards_) {
    bytes += shard->memory.used_bytes() + shard->shard.table_bytes();
  }
  return bytes;
}

CacheShard::Stats SharedCache::stats() const {
  CacheShard::Stats sum;
  for (const std::unique_ptr<Shard>& each : shards_) {
    const std::lock_guard<std::mutex> lock(each->mutex);
    const CacheShard::Stats stats = each->shard.stats();
    sum.entries += stats.entries;
    sum.bytes += stats.bytes;
    sum.hits += stats.hits;
    sum.misses += stats.misses;
    sum.asked += stats.asked;
    sum.absent_hits += stats.absent_hits;
    sum.fills += stats.fills;
    sum.fills_changed += stats.fills_changed;
    sum.fills_no_room += stats.fills_no_room;
    sum.evictions += stats.evictions;
    sum.changes += stats.changes;
    sum.waits += stats.waits;
  }
  return sum;
}

void SharedCache::Print(MetricsText* out) const {
  const CacheShard::Stats sum = stats();
  CacheMetrics metrics;
  metrics.bytes.Set(static_cast<int64_t>(used_bytes()));
  metrics.bytes_max.Set(static_cast<int64_t>(bytes_max_));
  metrics.entries.Set(static_cast<int64_t>(sum.entries));
  metrics.hits_total.Add(sum.hits);
  metrics.misses_total.Add(sum.misses);
  metrics.asked_total.Add(sum.asked);
  metrics.absent_hits_total.Add(sum.absent_hits);
  metrics.fills_total.Add(sum.fills);
  metrics.evictions_total.Add(sum.evictions);
  metrics.changes_total.Add(sum.changes);
  metrics.waits_total.Add(sum.waits);
  metrics.Print(out);
  const MetricsText::Row refused = {"hayloft_gateway_cache_", "fills_refused_total",
                                    "images that were read and not kept"};
  Counter changed;
  changed.Add(sum.fills_changed);
  out->Add(refused, changed, {{"reason", "changed"}});
  Counter no_room;
  no_room.Add(sum.fills_no_room);
  out->Add(refused, no_room, {{"reason", "no_room"}});
}

}  // namespace hayloft
