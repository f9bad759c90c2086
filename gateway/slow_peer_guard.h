// Tells when a peer moves bytes too slowly: slowloris on bodies, and readers that never read.
//
// Looked at window by window, so that a burst long ago does not buy hours of dripping. Pure.
#pragma once

#include <cstdint>

namespace hayloft {

class SlowPeerGuard {
 public:
  void Start(uint64_t now_ms) {
    window_start_ms_ = now_ms;
    window_start_bytes_ = 0;
  }
  // `bytes` have moved since Start. True when less than the rate did in a whole window.
  bool IsTooSlow(uint64_t now_ms, uint64_t bytes, uint64_t bytes_per_s, uint64_t window_ms) {
    if (now_ms - window_start_ms_ < window_ms) return false;
    if (bytes - window_start_bytes_ < bytes_per_s * window_ms / 1'000) return true;
    window_start_ms_ = now_ms;
    window_start_bytes_ = bytes;
    return false;
  }

 private:
  uint64_t window_start_ms_ = 0;
  uint64_t window_start_bytes_ = 0;
};

}  // namespace hayloft
