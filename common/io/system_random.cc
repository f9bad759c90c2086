#include "common/io/system_random.h"

#include <sys/random.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace hayloft {

namespace {

void FillFromKernel(MutableBytes out) {
  while (!out.empty()) {
    const ssize_t got = getrandom(out.data(), out.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    ASSERT(got > 0);  // the kernel has been able to answer since early boot
    out = out.subspan(static_cast<size_t>(got));
  }
}

// A call a number would cost each read of an image half a microsecond. Bytes are wiped as they are
// handed out, so that none is given twice and none can be found later.
struct Stock {
  std::array<uint8_t, 512> bytes{};
  size_t left = 0;
};

}  // namespace

void SystemRandom::Fill(MutableBytes out) {
  static thread_local Stock stock;
  if (out.size() > stock.bytes.size()) return FillFromKernel(out);
  if (stock.left < out.size()) {
    FillFromKernel(stock.bytes);
    stock.left = stock.bytes.size();
  }
  stock.left -= out.size();
  uint8_t* taken = stock.bytes.data() + stock.left;
  std::memcpy(out.data(), taken, out.size());
  std::memset(taken, 0, out.size());
}

}  // namespace hayloft
