// Keeps a flood of one event from filling the disk (FAULTS S23): each event may write 50 lines at
// once and one a second after that. What is left out is counted and said with the next line.
//
// Threads: none of its own; the caller locks. Memory: at most 512 events; all others share one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

namespace hayloft {

class LogLimiter {
 public:
  static constexpr uint64_t kBurst = 50;
  static constexpr uint64_t kRefillMs = 1'000;
  static constexpr size_t kEventsMax = 512;

  struct Verdict {
    bool pass = false;
    uint64_t suppressed = 0;  // lines of this event that were left out since its last one
  };
  // `line` starts with the event's name and a space.
  Verdict Ask(std::string_view line, uint64_t now_ms) {
    const std::string_view event = line.substr(0, line.find(' '));
    const bool known = buckets_.contains(std::string(event));
    Bucket& bucket =
        buckets_[known || buckets_.size() < kEventsMax ? std::string(event) : std::string()];
    if (bucket.seen) {
      const uint64_t refill = (now_ms - bucket.refilled_ms) / kRefillMs;
      bucket.tokens = refill < kBurst - bucket.tokens ? bucket.tokens + refill : kBurst;
      bucket.refilled_ms += refill * kRefillMs;
    } else {
      bucket = {.seen = true, .tokens = kBurst, .refilled_ms = now_ms, .suppressed = 0};
    }
    if (bucket.tokens == 0) {
      bucket.suppressed += 1;
      return {};
    }
    bucket.tokens -= 1;
    const uint64_t suppressed = bucket.suppressed;
    bucket.suppressed = 0;
    return {.pass = true, .suppressed = suppressed};
  }

 private:
  struct Bucket {
    bool seen = false;
    uint64_t tokens = 0;
    uint64_t refilled_ms = 0;
    uint64_t suppressed = 0;
  };
  std::unordered_map<std::string, Bucket> buckets_;
};

}  // namespace hayloft
