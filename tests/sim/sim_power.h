// The moment at which a simulated process dies, shared by its disk and its key-value store: counts
// everything that changes either, and cuts at a chosen one.
#pragma once

#include <cstdint>

namespace hayloft {

class SimPower {
 public:
  // Everything that changed the disk or the store, or tried to, since the start.
  uint64_t operations() const { return operations_; }
  // The `n`-th operation from now (1: the next one) is the process' last. 0: none.
  void CutAtOperation(uint64_t n) { cut_at_ = n == 0 ? 0 : operations_ + n; }
  void Cut() { off_ = true; }
  void Restore() {
    off_ = false;
    cut_at_ = 0;
  }
  bool off() const { return off_; }

  // Counts one operation. False when the process dies in it: the operation may have happened, in
  // part or not at all, and nobody hears of it.
  bool Operate() {
    ++operations_;
    if (operations_ == cut_at_) off_ = true;
    return !off_;
  }

 private:
  uint64_t operations_ = 0;
  uint64_t cut_at_ = 0;
  bool off_ = false;
};

}  // namespace hayloft
