// A line on a terminal that says how far thousands of files are. Silent when stderr is none.
#pragma once

#include <unistd.h>

#include <cinttypes>
#include <cstdio>

#include "common/io/system_clock.h"

namespace hayloft {

class Progress {
 public:
  Progress(const char* verb, size_t total) : verb_(verb), total_(total) {}
  ~Progress() {
    if (shown_) std::fputs("\r\x1b[K", stderr);
  }
  Progress(const Progress&) = delete;  // one line, one writer
  Progress& operator=(const Progress&) = delete;

  void Add(uint64_t bytes) {
    ++done_;
    bytes_ += bytes;
    const uint64_t now_ms = SystemMonotonicMs();
    if (!on_terminal_ || now_ms - last_ms_ < 100) return;
    last_ms_ = now_ms;
    shown_ = true;
    const uint64_t share = total_ == 0 ? 20 : done_ * 20 / total_;
    std::fprintf(stderr, "\r%s [%-20.*s] %zu of %zu, %" PRIu64 " MB", verb_,
                 static_cast<int>(share), "####################", done_, total_,
                 bytes_ / 1'000'000);
  }
  size_t done() const { return done_; }
  uint64_t bytes() const { return bytes_; }

 private:
  const char* verb_;
  const size_t total_;
  size_t done_ = 0;
  uint64_t bytes_ = 0;
  uint64_t last_ms_ = 0;
  const bool on_terminal_ = isatty(2) == 1;
  bool shown_ = false;
};

}  // namespace hayloft
