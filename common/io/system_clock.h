// The machine's time and randomness.
#pragma once

#include "common/ports.h"

namespace hayloft {

// Since the machine started, suspended time included: a lease must not outlive a suspend.
uint64_t SystemMonotonicMs();
uint64_t SystemMonotonicUs();
uint64_t SystemWallMs();

class SystemClock : public Clock {
 public:
  uint64_t MonotonicMs() override { return SystemMonotonicMs(); }
  uint64_t WallMs() override { return SystemWallMs(); }
};

}  // namespace hayloft
