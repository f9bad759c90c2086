#include "cache/cache_shard.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "cache/cache_hash.h"
#include "common/check.h"
#include "common/file_change.h"
#include "common/limits.h"
#include "common/mutant.h"

namespace hayloft {

namespace {

constexpr size_t kMarks = 4'096;  // times 16 shards
constexpr size_t kAbsentSlots = 1'024;
// Entries are 17 KiB in the mean; twice as many small ones still make short lists.
constexpr uint64_t kBytesPerBucket = 8 << 10;
// One image may take so much of the region at the most: else it would empty a small cache.
constexpr uint64_t kRegionParts = 4;

}  // namespace

Buffer CachedFile::stored() const {
  Buffer stored = block.Share();
  const size_t before = size_t{lines_bytes} + head_bytes;
  stored.Narrow(before, block.size() - before);
  return stored;
}

CachedFile CachedFile::Share() const {
  return {address, block.Share(), lines_bytes, head_bytes, too_large};
}

// Lies in front of the bytes that it describes, in their allocation, which lasts at least as long:
// it goes with `file.block`, or that with a reader.
struct CacheShard::Entry : S3Node {
  CachedFile file;
  FeedAnchor anchor;
  uint64_t began_ms = 0;  // of the latest read that said something of it
  Entry* next = nullptr;  // in its bucket
};

CacheShard::Plan CacheShard::PlanFor(uint64_t bytes) {
  Plan plan;
  plan.bytes = bytes;
  const uint64_t buckets = std::bit_floor(bytes / kBytesPerBucket);
  const uint64_t ghost_entries = bytes / kBytesPerBucket;
  const uint64_t tables = sizeof(CacheShard) + buckets * sizeof(Entry*) +
                          S3Fifo::GhostBytes(ghost_entries) + ChangeMarks::TableBytes(kMarks) +
                          AbsentTable::TableBytes(kAbsentSlots);
  if (bytes < 2 * tables) return plan;
  plan.table_bytes = tables;
  plan.region_bytes = (bytes - tables) / kPageBytes * kPageBytes;
  plan.ghost_entries = ghost_entries;
  plan.buckets = buckets;
  plan.marks = kMarks;
  plan.absent_slots = kAbsentSlots;
  return plan;
}

CacheShard::CacheShard(CacheMemory* memory, const Plan& plan)
    : memory_(memory),
      plan_(plan),
      buckets_(plan.buckets),
      queue_(plan.region_bytes, plan.ghost_entries),
      marks_(plan.marks),
      absent_(plan.absent_slots) {
  ASSERT(plan.table_bytes + plan.region_bytes <= plan.bytes);
  ASSERT(plan.region_bytes == 0 || memory != nullptr);
  ASSERT(plan.region_bytes == 0 || std::has_single_bit(plan.buckets));
}

CacheShard::~CacheShard() {
  for (Entry*& bucket : buckets_) {
    while (bucket != nullptr) Remove(&bucket);
  }
}

// Where the pointer to the entry is, or to none at the end of its bucket.
CacheShard::Entry** CacheShard::PlaceOf(uint64_t hash, uint64_t block_id, uint32_t sequence) {
  Entry** place = &buckets_[hash & (buckets_.size() - 1)];
  while (*place != nullptr) {
    const FileAddress& address = (*place)->file.address;
    if (address.block_id == block_id && address.file_id.sequence() == sequence) break;
    place = &(*place)->next;
  }
  return place;
}

CacheShard::Entry* CacheShard::FindEntry(const FileAddress& address) {
  if (buckets_.empty()) return nullptr;
  Entry* const entry = *PlaceOf(CacheHash(address), address.block_id, address.file_id.sequence());
  return entry != nullptr && entry->file.address == address ? entry : nullptr;
}

CacheShard::Answer CacheShard::AnswerOf(const Entry* entry, const FileAddress& address,
                                        const FeedTable& feeds, uint64_t now_ms) const {
  if (entry != nullptr) {
    const bool trusted = feeds.Trusted(entry->anchor, now_ms);
    return {trusted ? Found::kHit : Found::kAsk, Err::kOk, entry->file.Share()};
  }
  const Err absent = absent_.Find(CacheHash(address), address, now_ms);
  if (absent != Err::kOk) return {Found::kAbsent, absent};
  return {};
}

CacheShard::Answer CacheShard::Find(const FileAddress& address, const FeedTable& feeds,
                                    uint64_t now_ms) {
  Entry* const entry = FindEntry(address);
  if (entry != nullptr) S3Fifo::Touch(entry);
  Answer answer = AnswerOf(entry, address, feeds, now_ms);
  switch (answer.found) {
    case Found::kAsk:
      ++stats_.asked;
      [[fallthrough]];
    case Found::kHit:
      ++stats_.hits;
      break;
    case Found::kAbsent:
      ++stats_.absent_hits;
      break;
    case Found::kMiss:
      ++stats_.misses;
      break;
  }
  return answer;
}

CacheShard::Answer CacheShard::FindAgain(const FileAddress& address, const FeedTable& feeds,
                                         uint64_t now_ms) {
  return AnswerOf(FindEntry(address), address, feeds, now_ms);
}

bool CacheShard::ChangedSince(const FileAddress& address, uint64_t since_ms) const {
  return marks_.Since({address.block_id, address.file_id.sequence(), CacheHash(address)}, since_ms);
}

// By a change of it, or of its block.
bool CacheShard::IsOvertaken(const FileAddress& address, uint64_t began_ms) const {
  const uint64_t block_id = address.block_id;
  return ChangedSince(address, began_ms) ||
         marks_.Since({block_id, kWholeBlock, CacheHash(block_id, kWholeBlock)}, began_ms);
}

// Null: readers hold too much, or it takes too many evictions to make one hole of it. Then those
// were for nothing; the bound says how many.
void* CacheShard::MakeRoom(uint64_t bytes) {
  void* memory = memory_->Allocate(bytes);
  uint64_t given_back = 0;
  for (size_t evicted = 0; memory == nullptr && evicted < kEvictionsMax; ++evicted) {
    if (evicted >= kEvictionsMin && given_back >= 4 * bytes) break;
    auto* const victim = static_cast<Entry*>(queue_.Evict());
    if (victim == nullptr) break;
    given_back += victim->charge_bytes;
    ++stats_.evictions;
    const FileAddress& address = victim->file.address;
    Entry** const place = PlaceOf(victim->hash, address.block_id, address.file_id.sequence());
    ASSERT(*place == victim);
    Unindex(place);
    memory = memory_->Allocate(bytes);
  }
  return memory;
}

void CacheShard::Unindex(Entry** place) {
  Entry* const entry = *place;
  *place = entry->next;
  // The entry itself goes with the last of them, perhaps here.
  const Buffer last = std::move(entry->file.block);
  entry->~Entry();
}

void CacheShard::Remove(Entry** place) {
  queue_.Remove(*place);
  Unindex(place);
}

void CacheShard::Insert(Entry* entry, uint64_t hash) {
  entry->hash = hash;
  Entry*& bucket = buckets_[hash & (buckets_.size() - 1)];
  entry->next = bucket;
  bucket = entry;
  queue_.Add(entry);
}

bool CacheShard::Add(const Fill& fill) {
  const FileAddress& address = fill.address;
  const uint64_t hash = CacheHash(address);
  const uint32_t sequence = address.file_id.sequence();
  if (IsOvertaken(address, fill.began_ms) && !IsMutant(Mutant::kCacheNoMark)) {
    PROBE("cache_fill_overtaken");
    ++stats_.fills_changed;
    return false;
  }
  const bool too_large = fill.too_large || fill.stored.size() > kCachedFileBytesMax;
  const Bytes stored = too_large ? Bytes{} : fill.stored;
  if (fill.lines.size() > kCachedHeadBytesMax || fill.head.size() > kCachedHeadBytesMax) {
    ++stats_.fills_no_room;
    return false;
  }
  constexpr size_t kBlockAt = kBufferCountBytes + sizeof(Entry);
  const size_t block_bytes = fill.lines.size() + fill.head.size() + stored.size();
  const uint64_t bytes = kBlockAt + block_bytes;
  if (buckets_.empty() || bytes > plan_.region_bytes / kRegionParts) {
    ++stats_.fills_no_room;
    return false;
  }
  if (Entry** const place = PlaceOf(hash, address.block_id, sequence); *place != nullptr) {
    if ((*place)->began_ms > fill.began_ms) return false;
    Remove(place);
  }
  auto* const memory = static_cast<uint8_t*>(MakeRoom(bytes));
  if (memory == nullptr) {
    ++stats_.fills_no_room;
    return false;
  }
  uint8_t* to = std::copy(fill.lines.begin(), fill.lines.end(), memory + kBlockAt);
  to = std::copy(fill.head.begin(), fill.head.end(), to);
  to = std::copy(stored.begin(), stored.end(), to);
  ASSERT(to == memory + bytes);
  auto* const entry = new (memory + kBufferCountBytes) Entry;
  entry->file = {.address = address,
                 .block = BufferIn(memory_, memory, kBlockAt, block_bytes),
                 .lines_bytes = static_cast<uint32_t>(fill.lines.size()),
                 .head_bytes = static_cast<uint32_t>(fill.head.size()),
                 .too_large = too_large};
  entry->anchor = fill.anchor;
  entry->began_ms = fill.began_ms;
  entry->charge_bytes = static_cast<uint32_t>(CacheArena::BlockBytes(memory));
  Insert(entry, hash);
  absent_.Drop(hash, address.block_id, sequence);
  ++stats_.fills;
  return true;
}

void CacheShard::Renew(const FileAddress& address, FeedAnchor anchor, uint64_t began_ms) {
  Entry* const entry = FindEntry(address);
  if (entry == nullptr || entry->began_ms > began_ms) return;
  if (anchor == FeedAnchor{}) return;  // that of the read before may count again
  // No change came since: it would have dropped the entry, and one that is here began after it.
  entry->anchor = anchor;
  entry->began_ms = began_ms;
}

void CacheShard::Change(const FileChange& change, uint64_t now_ms) {
  const uint64_t hash = CacheHash(change.block_id, change.sequence);
  ++stats_.changes;
  marks_.Add({change.block_id, change.sequence, hash}, now_ms);
  absent_.Drop(hash, change.block_id, change.sequence);
  if (buckets_.empty()) return;
  Entry** const place = PlaceOf(hash, change.block_id, change.sequence);
  if (*place != nullptr) Remove(place);
}

size_t CacheShard::ChangeBlocks(std::span<const uint64_t> blocks, size_t bucket, uint64_t now_ms) {
  ASSERT(std::is_sorted(blocks.begin(), blocks.end()));
  ASSERT(bucket == 0 || bucket < buckets_.size());
  if (bucket == 0) {
    for (const uint64_t block_id : blocks) {
      marks_.Add({block_id, kWholeBlock, CacheHash(block_id, kWholeBlock)}, now_ms);
    }
  }
  const size_t end = std::min(bucket + kBucketsAtOnce, buckets_.size());
  for (; bucket < end; ++bucket) {
    for (Entry* entry = buckets_[bucket]; entry != nullptr; entry = entry->next) {
      if (!std::binary_search(blocks.begin(), blocks.end(), entry->file.address.block_id)) continue;
      entry->anchor = {};
      entry->began_ms =
          std::max(entry->began_ms, now_ms + 1);  // who asked before does not renew it
    }
  }
  return end == buckets_.size() ? 0 : end;
}

void CacheShard::AddAbsent(const FileAddress& address, Err err, uint64_t began_ms) {
  const uint64_t hash = CacheHash(address);
  if (FindEntry(address) != nullptr) {
    Remove(PlaceOf(hash, address.block_id, address.file_id.sequence()));
  }
  if (marks_.Since({address.block_id, address.file_id.sequence(), hash}, began_ms)) return;
  absent_.Add(hash, address, err, began_ms);
}

bool CacheShard::Join(const FileAddress& address, Waiter request, uint64_t now_ms) {
  const bool fetches = fetches_.Join(address, request, now_ms);
  if (!fetches) ++stats_.waits;
  return fetches;
}

std::vector<CacheShard::Waiter> CacheShard::Settle(const FileAddress& address, Waiter fetcher) {
  return fetches_.Settle(address, fetcher);
}

std::vector<FileAddress> CacheShard::Hottest(size_t max) const {
  std::vector<FileAddress> hottest;
  if (max == 0) return hottest;
  queue_.ForEachHottest([&](const S3Node& node) {
    hottest.push_back(static_cast<const Entry&>(node).file.address);
    return hottest.size() < max;
  });
  return hottest;
}

CacheShard::Stats CacheShard::stats() const {
  Stats stats = stats_;
  stats.entries = queue_.entries();
  stats.bytes = queue_.bytes();
  return stats;
}

}  // namespace hayloft
