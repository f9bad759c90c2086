// How many of the last minute's new blocks each dsp got, and whether one more were too many.
//
// A dsp's share is that of its disk's size in all of them, so that large disks may take more than
// small ones, and an empty one among full ones, which placement by free space would send nearly
// everything, gets at most twice what it would get for ever: all other disks go on working too.
// The minute moves in steps of 5 s. Memory: 13 counts a dsp at most.
// Threads: one owner. Pure.
#pragma once

#include <cstdint>
#include <deque>
#include <map>

namespace hayloft {

class BlockShare {
 public:
  static constexpr uint64_t kWindowMs = 60'000;
  static constexpr uint64_t kStepMs = 5'000;

  // `few`: so many a minute are never too many; of so few, shares can't be told.
  explicit BlockShare(uint64_t few) : few_(few) {}
  void OnCreated(uint32_t dsp_id, uint64_t now_ms);
  struct Size {
    uint64_t own_bytes = 0;
    uint64_t all_bytes = 0;  // of all disks that could take blocks now, this one included
  };
  // With one more it would have more than twice its share.
  bool Exceeded(uint32_t dsp_id, const Size& size, uint64_t now_ms);
  uint64_t Recent(uint32_t dsp_id, uint64_t now_ms);

 private:
  struct Step {
    uint64_t number = 0;  // time / kStepMs
    std::map<uint32_t, uint64_t> created;
  };
  void Forget(uint64_t now_ms);

  const uint64_t few_;
  std::deque<Step> steps_;
  std::map<uint32_t, uint64_t> counts_;  // sums over steps_
  uint64_t total_ = 0;                   // sum over counts_
};

}  // namespace hayloft
