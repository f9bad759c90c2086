#include "cache/arena.h"

#include <algorithm>
#include <bit>

#include "common/check.h"

namespace hayloft {

namespace {

constexpr uint64_t kHoleBit = 1;  // block bytes are multiples of 16
constexpr uint64_t kLeastBytes = 32;

}  // namespace

struct CacheArena::Block {
  uint64_t previous_bytes;  // 0: it is the first
  uint64_t bytes_and_hole;
  // Of holes only; else the owner's first bytes.
  Block* next_hole;
  Block* previous_hole;

  uint64_t bytes() const { return bytes_and_hole & ~kHoleBit; }
  bool is_hole() const { return (bytes_and_hole & kHoleBit) != 0; }
  uint8_t* begin() { return reinterpret_cast<uint8_t*>(this); }
  uint8_t* memory() { return begin() + kHeadBytes; }
  Block* after() { return reinterpret_cast<Block*>(begin() + bytes()); }
  Block* before() { return reinterpret_cast<Block*>(begin() - previous_bytes); }
  static Block* Of(const void* memory) {
    auto* begin = const_cast<uint8_t*>(static_cast<const uint8_t*>(memory)) - kHeadBytes;
    return reinterpret_cast<Block*>(begin);
  }
};

CacheArena::CacheArena(MutableBytes region) : region_bytes_(region.size()) {
  static_assert(sizeof(Block) == kLeastBytes);
  ASSERT(region.size() <= kRegionBytesMax);
  if (region.size() < kRegionBytesMin) return;
  const auto address = reinterpret_cast<uintptr_t>(region.data());
  const uintptr_t begin = (address + kBlockAlign - 1) & ~(kBlockAlign - 1);
  const uintptr_t end = ((address + region.size()) & ~(kBlockAlign - 1)) - kHeadBytes;
  ASSERT(end - begin >= kLeastBytes);
  first_ = reinterpret_cast<Block*>(region.data() + (begin - address));
  end_ = reinterpret_cast<Block*>(region.data() + (end - address));
  end_->bytes_and_hole = kHeadBytes;
  first_->previous_bytes = 0;
  AddHole(first_, end - begin);
}

// The list that a hole of so many bytes lies in.
CacheArena::List CacheArena::ListOf(uint64_t bytes) {
  const auto bits = static_cast<int>(std::bit_width(bytes));
  if (bits <= kSmallBits) return {0, bytes >> 4};
  const auto level = static_cast<size_t>(bits - kSmallBits);
  return {level, (bytes >> (bits - 1 - kSplitBits)) - kSplits};
}

// A hole of at least so many bytes, out of the smallest list all of whose holes suffice.
CacheArena::Block* CacheArena::FindHole(uint64_t bytes) {
  uint64_t rounded = bytes;
  if (const auto bits = static_cast<int>(std::bit_width(bytes)); bits > kSmallBits) {
    rounded += (uint64_t{1} << (bits - 1 - kSplitBits)) - 1;
  }
  const List list = ListOf(rounded);
  if (list.level >= kLevels) return nullptr;
  uint32_t splits = splits_[list.level] & (~uint32_t{0} << list.split);
  size_t level = list.level;
  if (splits == 0) {
    const uint64_t levels = levels_ & (~uint64_t{0} << (list.level + 1));
    if (levels == 0) {
      // The list that `bytes` itself belongs to may have one that is large enough. Its first is
      // looked at, as an exact fit is common: what was freed last, or all of the region.
      const List own = ListOf(bytes);
      Block* const hole = lists_[own.level][own.split];
      return hole != nullptr && hole->bytes() >= bytes ? hole : nullptr;
    }
    level = static_cast<size_t>(std::countr_zero(levels));
    splits = splits_[level];
  }
  ASSERT(splits != 0);
  Block* const hole = lists_[level][static_cast<size_t>(std::countr_zero(splits))];
  ASSERT(hole->is_hole());
  ASSERT(hole->bytes() >= bytes);
  return hole;
}

// Makes [block, block + bytes) a hole, whose neighbours are none.
void CacheArena::AddHole(Block* block, uint64_t bytes) {
  ASSERT(bytes >= kLeastBytes);
  block->bytes_and_hole = bytes | kHoleBit;
  block->after()->previous_bytes = bytes;
  const List list = ListOf(bytes);
  Block*& first = lists_[list.level][list.split];
  block->previous_hole = nullptr;
  block->next_hole = first;
  if (first != nullptr) first->previous_hole = block;
  first = block;
  levels_ |= uint64_t{1} << list.level;
  splits_[list.level] |= uint32_t{1} << list.split;
  hole_bytes_ += bytes;
  ++holes_;
}

void CacheArena::RemoveHole(Block* block) {
  ASSERT(block->is_hole());
  const List list = ListOf(block->bytes());
  if (block->next_hole != nullptr) block->next_hole->previous_hole = block->previous_hole;
  if (block->previous_hole != nullptr) {
    block->previous_hole->next_hole = block->next_hole;
  } else {
    Block*& first = lists_[list.level][list.split];
    ASSERT(first == block);
    first = block->next_hole;
    if (first == nullptr) splits_[list.level] &= ~(uint32_t{1} << list.split);
    if (splits_[list.level] == 0) levels_ &= ~(uint64_t{1} << list.level);
  }
  block->bytes_and_hole = block->bytes();
  hole_bytes_ -= block->bytes();
  --holes_;
}

// Gives back what lies behind the first `bytes` of a block, if that is enough for a hole.
void CacheArena::SplitTail(Block* block, uint64_t bytes) {
  const uint64_t rest = block->bytes() - bytes;
  if (rest < kLeastBytes) return;
  block->bytes_and_hole = bytes;
  Block* const tail = block->after();
  tail->previous_bytes = bytes;
  AddHole(tail, rest);
}

void* CacheArena::Allocate(size_t bytes) {
  if (bytes == 0 || bytes > region_bytes_) return nullptr;
  const uint64_t own =
      std::max((bytes + kHeadBytes + kBlockAlign - 1) / kBlockAlign * kBlockAlign, kLeastBytes);
  Block* const block = FindHole(own);
  if (block == nullptr) return nullptr;
  RemoveHole(block);
  SplitTail(block, own);
  ASSERT(block->bytes() >= own);
  ASSERT(block->after()->previous_bytes == block->bytes());
  return block->memory();
}

void CacheArena::Free(void* memory) {
  ASSERT(memory != nullptr);
  Block* block = Block::Of(memory);
  ASSERT(block >= first_ && block < end_);
  ASSERT(!block->is_hole());
  uint64_t bytes = block->bytes();
  Block* const after = block->after();
  ASSERT(after->previous_bytes == bytes);  // nobody wrote beyond his bytes
  if (after->is_hole()) {
    bytes += after->bytes();
    RemoveHole(after);
  }
  if (block->previous_bytes != 0 && block->before()->is_hole()) {
    block = block->before();
    bytes += block->bytes();
    RemoveHole(block);
  }
  AddHole(block, bytes);
}

uint64_t CacheArena::BlockBytes(const void* memory) { return Block::Of(memory)->bytes(); }

bool CacheArena::IsSound() const {
  if (first_ == nullptr) return holes_ == 0;
  uint64_t previous = 0;
  uint64_t hole_bytes = 0;
  uint64_t holes = 0;
  bool after_hole = false;
  Block* block = first_;
  for (; block < end_; block = block->after()) {
    if (block->previous_bytes != previous) return false;
    if (block->bytes() < kLeastBytes || block->bytes() % kBlockAlign != 0) return false;
    if (block->is_hole() && after_hole) return false;  // should be one
    after_hole = block->is_hole();
    holes += after_hole ? 1 : 0;
    hole_bytes += after_hole ? block->bytes() : 0;
    previous = block->bytes();
  }
  return block == end_ && end_->previous_bytes == previous && holes == holes_ &&
         hole_bytes == hole_bytes_;
}

}  // namespace hayloft
