// Memory for a cache inside one region of fixed size, so that what the cache holds is bounded to
// the byte, and lies where its owner wants it.
//
// Two-level segregated fit (TLSF: Masmano, Ripoll, Crespo, Real, "TLSF: a new dynamic memory
// allocator for real-time systems", ECRTS 2004): holes lie in lists by size, 32 lists for each
// power of two, and two bitmaps find a list that has one. Allocate and Free take a bounded number
// of steps; a hole's neighbours are merged into it at once.
//
//   region: | block | block | hole          | block | end |
//   block:  | bytes of the one before, 8 | own bytes and whether it is a hole, 8 | yours ...
//
// A block's bytes are a multiple of 16, at least 32. Pages that no block ever reached are not
// touched, but for the last one.
//
// Threads: one owner. Ownership: borrows the region, which must outlive it. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/le.h"

namespace hayloft {

class CacheArena {
 public:
  static constexpr size_t kBlockAlign = 16;
  static constexpr size_t kHeadBytes = 16;       // of each block
  static constexpr size_t kRegionBytesMin = 64;  // a smaller one is full from the start
  static constexpr uint64_t kRegionBytesMax = uint64_t{1} << 42;

  // REQUIRES: at most kRegionBytesMax.
  explicit CacheArena(MutableBytes region);
  CacheArena(const CacheArena&) = delete;  // both would give away the same bytes
  CacheArena& operator=(const CacheArena&) = delete;

  // The address of `bytes` bytes, aligned to 16. Null: no hole is large enough, or `bytes` is 0.
  void* Allocate(size_t bytes);
  // REQUIRES: from Allocate, once.
  void Free(void* memory);

  // What an allocation takes, its head and rounding included.
  static uint64_t BlockBytes(const void* memory);
  // All that is not a hole: allocations, their heads, the region's ends.
  uint64_t used_bytes() const { return region_bytes_ - hole_bytes_; }
  uint64_t region_bytes() const { return region_bytes_; }
  uint64_t holes() const { return holes_; }
  // For tests: all blocks in order. False: their heads contradict each other.
  bool IsSound() const;

 private:
  struct Block;
  static constexpr int kSplitBits = 5;  // 32 lists for each power of two
  static constexpr size_t kSplits = size_t{1} << kSplitBits;
  static constexpr int kSmallBits =
      kSplitBits + 4;  // below 2^9 bytes: a list for each multiple of 16
  static constexpr size_t kLevels = 42 - kSmallBits + 2;

  struct List {
    size_t level = 0;
    size_t split = 0;
  };
  static List ListOf(uint64_t bytes);
  Block* FindHole(uint64_t bytes);
  void AddHole(Block* block, uint64_t bytes);
  void RemoveHole(Block* block);
  void SplitTail(Block* block, uint64_t bytes);

  uint64_t region_bytes_ = 0;
  uint64_t hole_bytes_ = 0;
  uint64_t holes_ = 0;
  Block* first_ = nullptr;
  Block* end_ = nullptr;  // a head only, never a hole: nothing is merged beyond it
  uint64_t levels_ = 0;   // bit: the level has a list that isn't empty
  std::array<uint32_t, kLevels> splits_{};
  std::array<std::array<Block*, kSplits>, kLevels> lists_{};
};

}  // namespace hayloft
