#include "cache/s3_fifo.h"

#include <algorithm>

#include "common/check.h"

namespace hayloft {
namespace {

// Eight slots for six memories: a bucket that happens to get more than eight forgets its oldest,
// which at this load concerns one memory in twenty.
constexpr uint64_t kBucketMemories = 6;
constexpr uint64_t kGhostEntriesMax = uint64_t{1} << 30;  // far from a time's 2^32

// The owner may have chosen this cache among others by any bits of the hash.
uint64_t Mix(uint64_t hash) {
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccdull;
  hash ^= hash >> 33;
  hash *= 0xc4ceb9fe1a85ec53ull;
  return hash ^ hash >> 33;
}

uint64_t BucketOf(uint64_t mixed, uint64_t buckets) { return (mixed >> 32) * buckets >> 32; }

}  // namespace

void S3Fifo::Queue::Push(S3Node* node) {
  node->newer = nullptr;
  node->older = newest;
  (newest != nullptr ? newest->newer : oldest) = node;
  newest = node;
  bytes += node->charge_bytes;
  ++entries;
}

void S3Fifo::Queue::Unlink(S3Node* node) {
  ASSERT(entries > 0);
  ASSERT(bytes >= node->charge_bytes);
  (node->newer != nullptr ? node->newer->older : newest) = node->older;
  (node->older != nullptr ? node->older->newer : oldest) = node->newer;
  node->newer = node->older = nullptr;
  bytes -= node->charge_bytes;
  --entries;
}

uint64_t S3Fifo::BucketsFor(uint64_t ghost_entries) {
  ASSERT(ghost_entries <= kGhostEntriesMax);
  return ghost_entries / kBucketMemories + 1;
}

uint64_t S3Fifo::GhostBytes(uint64_t ghost_entries) {
  return BucketsFor(ghost_entries) * sizeof(GhostBucket);
}

// The table's zeros are older than any window.
S3Fifo::S3Fifo(uint64_t bytes_max, uint64_t ghost_entries)
    : small_max_bytes_(bytes_max / 10),
      main_max_bytes_(bytes_max - bytes_max / 10),
      ghost_entries_(ghost_entries),
      ghost_(BucketsFor(ghost_entries)),
      ghost_time_(static_cast<uint32_t>(kGhostEntriesMax)) {}

uint32_t S3Fifo::GhostWindow() const {
  return static_cast<uint32_t>(std::min(ghost_entries_, std::max(main_.entries, small_.entries)));
}

bool S3Fifo::TakeGhost(uint64_t hash) {
  const uint64_t mixed = Mix(hash);
  const uint32_t fingerprint = static_cast<uint32_t>(mixed);
  const uint32_t window = GhostWindow();
  for (GhostSlot& slot : ghost_[BucketOf(mixed, ghost_.size())].slots) {
    if (slot.fingerprint != fingerprint || ghost_time_ - slot.time >= window) continue;
    slot.time = ghost_time_ - static_cast<uint32_t>(kGhostEntriesMax);
    return true;
  }
  return false;
}

void S3Fifo::RememberGhost(uint64_t hash) {
  const uint64_t mixed = Mix(hash);
  const uint32_t fingerprint = static_cast<uint32_t>(mixed);
  GhostBucket& bucket = ghost_[BucketOf(mixed, ghost_.size())];
  GhostSlot* oldest = &bucket.slots[0];
  for (GhostSlot& slot : bucket.slots) {
    if (slot.fingerprint == fingerprint) {
      oldest = &slot;
      break;
    }
    if (ghost_time_ - slot.time > ghost_time_ - oldest->time) oldest = &slot;
  }
  *oldest = {.fingerprint = fingerprint, .time = ++ghost_time_};
}

void S3Fifo::Add(S3Node* node) {
  ASSERT(node->newer == nullptr);
  ASSERT(node->older == nullptr);
  ASSERT(small_.newest != node);
  ASSERT(main_.newest != node);
  node->frequency = 0;
  node->in_main = TakeGhost(node->hash);
  (node->in_main ? main_ : small_).Push(node);
}

void S3Fifo::Remove(S3Node* node) { (node->in_main ? main_ : small_).Unlink(node); }

S3Node* S3Fifo::Evict() {
  if (small_.entries > 0 && (small_.bytes >= small_max_bytes_ || main_.entries == 0)) {
    return EvictSmall();
  }
  return EvictMain();
}

S3Node* S3Fifo::EvictSmall() {
  while (small_.entries > 0) {
    S3Node* const node = small_.oldest;
    small_.Unlink(node);
    if (node->frequency < kPromoteFrequency) {
      RememberGhost(node->hash);
      return node;
    }
    node->frequency = 0;
    node->in_main = true;
    main_.Push(node);
    if (main_.bytes > main_max_bytes_) return EvictMain();
  }
  return EvictMain();
}

S3Node* S3Fifo::EvictMain() {
  while (main_.entries > 0) {
    S3Node* const node = main_.oldest;
    main_.Unlink(node);
    if (node->frequency == 0) return node;
    --node->frequency;
    main_.Push(node);
  }
  return nullptr;
}

}  // namespace hayloft
