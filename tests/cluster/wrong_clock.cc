// For LD_PRELOAD: a process whose wall clock is wrong by the seconds, an int64, at the beginning of
// the file that HAYLOFT_TEST_CLOCK names. They may change at any time. Other clocks stay right.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <ctime>

namespace {

const volatile int64_t* Offset() {
  static const volatile int64_t* const offset = [] {
    static const int64_t right = 0;
    const char* path = getenv("HAYLOFT_TEST_CLOCK");
    const int fd = path == nullptr ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return &right;
    void* mapped = mmap(nullptr, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    return mapped == MAP_FAILED ? &right : static_cast<const int64_t*>(mapped);
  }();
  return offset;
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* now) noexcept {
  const long code = syscall(SYS_clock_gettime, clock, now);
  const bool wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
  if (code == 0 && wall) now->tv_sec += *Offset();
  return static_cast<int>(code);
}

int gettimeofday(timeval* now, void*) noexcept {
  timespec wall;
  const int code = clock_gettime(CLOCK_REALTIME, &wall);
  *now = {.tv_sec = wall.tv_sec, .tv_usec = wall.tv_nsec / 1000};
  return code;
}

time_t time(time_t* seconds) noexcept {
  timespec wall;
  clock_gettime(CLOCK_REALTIME, &wall);
  if (seconds != nullptr) *seconds = wall.tv_sec;
  return wall.tv_sec;
}
}
