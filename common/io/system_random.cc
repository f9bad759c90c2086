#include "common/io/system_random.h"

#include <sys/random.h>

#include <cerrno>

namespace hayloft {

void SystemRandom::Fill(MutableBytes out) {
  while (!out.empty()) {
    const ssize_t got = getrandom(out.data(), out.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    ASSERT(got > 0);  // the kernel has been able to answer since early boot
    out = out.subspan(static_cast<size_t>(got));
  }
}

}  // namespace hayloft
