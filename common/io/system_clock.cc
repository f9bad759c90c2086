#include "common/io/system_clock.h"

#include <ctime>

namespace hayloft {

namespace {
uint64_t ReadMs(clockid_t clock) {
  timespec now{};
  const int code = clock_gettime(clock, &now);
  ASSERT(code == 0);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
}
}  // namespace

uint64_t SystemMonotonicMs() { return ReadMs(CLOCK_BOOTTIME); }
uint64_t SystemWallMs() { return ReadMs(CLOCK_REALTIME); }

}  // namespace hayloft
