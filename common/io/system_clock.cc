#include "common/io/system_clock.h"

#include <ctime>

namespace hayloft {

namespace {
uint64_t ReadUs(clockid_t clock) {
  timespec now{};
  const int code = clock_gettime(clock, &now);
  ASSERT(code == 0);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1'000;
}
}  // namespace

uint64_t SystemMonotonicUs() { return ReadUs(CLOCK_BOOTTIME); }
uint64_t SystemMonotonicMs() { return SystemMonotonicUs() / 1'000; }
uint64_t SystemWallMs() { return ReadUs(CLOCK_REALTIME) / 1'000; }

}  // namespace hayloft
