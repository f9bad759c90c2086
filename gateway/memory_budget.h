// A bound on bytes held for one purpose by all loops of a gateway together.
//
// Threads: safe. A charge must be gone before its budget.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "common/check.h"

namespace hayloft {

class MemoryBudget {
 public:
  explicit MemoryBudget(uint64_t bytes_max) : bytes_max_(bytes_max) {}
  MemoryBudget(const MemoryBudget&) = delete;  // charges hold its address

  uint64_t used_bytes() const { return used_.load(std::memory_order_relaxed); }
  uint64_t bytes_max() const { return bytes_max_; }
  // Whether so many bytes would fit now. Another may take them before the charge.
  bool HasRoom(uint64_t bytes) const {
    const uint64_t used = used_bytes();
    return used <= bytes_max_ && bytes <= bytes_max_ - used;
  }
  bool TryCharge(uint64_t bytes) {
    uint64_t used = used_bytes();
    do {
      if (used > bytes_max_ || bytes > bytes_max_ - used) return false;
    } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    return true;
  }
  // Beyond the bound too: for bytes that are here already. HasRoom then says no.
  void Charge(uint64_t bytes) { used_.fetch_add(bytes, std::memory_order_relaxed); }
  void Release(uint64_t bytes) {
    const uint64_t used = used_.fetch_sub(bytes, std::memory_order_relaxed);
    ASSERT(used >= bytes);
  }

 private:
  const uint64_t bytes_max_;
  std::atomic<uint64_t> used_{0};
};

// Bytes charged to a budget, given back when it goes.
class MemoryCharge {
 public:
  explicit MemoryCharge(MemoryBudget* budget) : budget_(budget) {}
  MemoryCharge(const MemoryCharge&) = delete;  // bytes would be given back twice
  ~MemoryCharge() { Clear(); }

  // Makes the charge this large, or leaves it as it was and returns false.
  bool TryGrowTo(uint64_t bytes) {
    ASSERT(bytes >= bytes_);
    if (!budget_->TryCharge(bytes - bytes_)) return false;
    bytes_ = bytes;
    return true;
  }
  void Force(uint64_t bytes) {
    budget_->Charge(bytes);
    bytes_ += bytes;
  }
  void Clear() {
    if (bytes_ > 0) budget_->Release(std::exchange(bytes_, 0));
  }
  // Hands the charge over to the caller, who releases it from the budget later.
  uint64_t Detach() { return std::exchange(bytes_, 0); }
  uint64_t bytes() const { return bytes_; }

 private:
  MemoryBudget* const budget_;
  uint64_t bytes_ = 0;
};

}  // namespace hayloft
