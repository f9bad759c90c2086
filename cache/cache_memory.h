// How a cache's bytes are given out and come back: a port, because the last reader of an answer
// lets go of it on any thread, and only a shell has the lock for that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cache/arena.h"
#include "common/buffer.h"
#include "common/check.h"

namespace hayloft {

// Threads: as the implementation says; Free on any thread where readers have threads of their own.
class CacheMemory {
 public:
  virtual ~CacheMemory() = default;
  // As CacheArena has them.
  virtual void* Allocate(size_t bytes) = 0;
  virtual void Free(void* memory) = 0;
};

// An arena of one thread: tests, the simulator.
class PlainCacheMemory : public CacheMemory {
 public:
  explicit PlainCacheMemory(MutableBytes region) : arena_(region) {}
  void* Allocate(size_t bytes) override { return arena_.Allocate(bytes); }
  void Free(void* memory) override { arena_.Free(memory); }
  const CacheArena& arena() const { return arena_; }

 private:
  CacheArena arena_;
};

// A Buffer inside an allocation of `memory`, whose first kBufferCountBytes the count of its holders
// takes: the last one gives the allocation back. `memory` must outlive them all.
inline constexpr size_t kBufferCountBytes = 64;

template <typename T>
struct AllocationAsCount {  // the allocator of a shared_ptr's count
  using value_type = T;
  AllocationAsCount(CacheMemory* owner, void* allocation) : memory(owner), begin(allocation) {}
  template <typename Other>
  AllocationAsCount(const AllocationAsCount<Other>& other)  // NOLINT: allocators convert
      : memory(other.memory), begin(other.begin) {}
  T* allocate(size_t count) {
    static_assert(sizeof(T) <= kBufferCountBytes && alignof(T) <= CacheArena::kBlockAlign);
    ASSERT(count == 1);
    return static_cast<T*>(begin);
  }
  void deallocate(T*, size_t) { memory->Free(begin); }
  template <typename Other>
  bool operator==(const AllocationAsCount<Other>& other) const {
    return begin == other.begin;
  }

  CacheMemory* memory;
  void* begin;
};

// The bytes [offset, offset + size) of the allocation. REQUIRES: offset >= kBufferCountBytes.
inline Buffer BufferIn(CacheMemory* memory, void* allocation, size_t offset, size_t size) {
  ASSERT(offset >= kBufferCountBytes);
  uint8_t* const bytes = static_cast<uint8_t*>(allocation) + offset;
  return Buffer::Over(std::shared_ptr<uint8_t[]>(
                          bytes, [](uint8_t*) {}, AllocationAsCount<uint8_t>(memory, allocation)),
                      size);
}

}  // namespace hayloft
