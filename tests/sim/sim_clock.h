// Time that passes only when a test says so.
#pragma once

#include "common/ports.h"

namespace hayloft {

class SimClock : public Clock {
 public:
  // Some day in 2026, so that no test takes "0" for "not set".
  static constexpr uint64_t kStartWallMs = 1'795'000'000'000;
  uint64_t MonotonicMs() override { return mono_ms_; }
  uint64_t WallMs() override { return wall_ms_; }
  void Advance(uint64_t ms) {
    mono_ms_ += ms;
    wall_ms_ += ms;
  }
  // Somebody, or NTP, sets the clock: only wall time moves.
  void JumpWall(int64_t ms) { wall_ms_ += static_cast<uint64_t>(ms); }

 private:
  uint64_t mono_ms_ = 1'000'000;
  uint64_t wall_ms_ = kStartWallMs;
};

}  // namespace hayloft
