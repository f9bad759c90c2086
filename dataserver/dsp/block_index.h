// Where each sequence of a block lies, in memory. Sequences are dense, so an index is an array of
// offsets, not a hash: there is nothing to store but the offsets themselves, in units of 8 bytes.
//
//   open block    OpenIndex     u32 each                                     4.0 bytes a needle
//   sealed block  SealedIndex   Elias-Fano (Elias 1974; Vigna 2013)          1.7 bytes at 16 KB
//   each
//
// A needle's length is the distance to the next offset; the offset after the last sequence is the
// end of the data. Equal neighbours mean that the sequence has no needle here (lost or purged).
// Pure; each has one owner.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/result.h"

namespace hayloft {

// Bytes of the block's file: where a needle begins, and where the next one does.
struct NeedleSpan {
  uint64_t offset = 0;
  uint64_t next = 0;
  bool present() const { return next > offset; }
};

// Grows by chunks, never copies, so that a full block wastes less than one chunk.
class OpenIndex {
 public:
  void Add(uint64_t offset);  // REQUIRES: a multiple of 8, not below the last one
  uint32_t size() const { return size_; }
  // REQUIRES: sequence < size(); `end` is where the last needle ends at the latest.
  NeedleSpan Find(uint32_t sequence, uint64_t end) const;
  uint64_t memory_bytes() const;

 private:
  static constexpr uint32_t kChunk = 1024;
  uint64_t Offset(uint32_t sequence) const;

  std::vector<std::unique_ptr<uint32_t[]>> chunks_;
  uint32_t size_ = 0;
};

// Elias-Fano: each offset's low bits as they are, its high bits in unary, and where every 64th one
// lies among the latter. One allocation.
class SealedIndex {
 public:
  SealedIndex() = default;
  // Offsets in units of 8 bytes, not decreasing; `end` in the same units, not below the last.
  SealedIndex(std::span<const uint32_t> offsets, uint32_t end);
  uint32_t size() const { return size_; }
  NeedleSpan Find(uint32_t sequence) const;  // REQUIRES: sequence < size()
  uint64_t memory_bytes() const;

 private:
  static constexpr uint32_t kSample = 64;
  uint64_t Low(uint32_t index) const;
  uint64_t HighPosition(uint32_t index) const;  // of the index-th one among the high bits
  uint64_t NextOne(uint64_t position) const;    // the first one behind `position`
  uint64_t* high() const { return words_.get(); }
  uint64_t* low() const { return words_.get() + high_words_; }
  uint32_t* samples() const;
  uint64_t word_count() const;

  std::unique_ptr<uint64_t[]> words_;  // high bits | low bits | samples
  uint32_t size_ = 0;                  // sequences; the array holds one value more, the end
  uint32_t high_words_ = 0;
  uint32_t low_words_ = 0;
  uint32_t low_bits_ = 0;
};

}  // namespace hayloft
