// The rate limits of one gateway, for all of its workers.
//
// Threads: any. Each request takes one lock, of the part of the table that its client falls into;
// parts lie on cache lines of their own.
#pragma once

#include <array>
#include <memory>
#include <mutex>

#include "common/io/system_random.h"
#include "gateway/gateway_options.h"
#include "gateway/rate_limiter.h"
#include "gateway/trusted_proxies.h"

namespace hayloft {

inline constexpr size_t kRateEntriesMax = 65'536;  // clients whose buckets are not full

class SharedRateTable {
 public:
  SharedRateTable(const RateLimits& limits, uint64_t seed) : seed_(seed) {
    for (std::unique_ptr<Part>& part : parts_) {
      part = std::make_unique<Part>(limits, kRateEntriesMax / kParts, seed);
    }
  }
  // As RateTable has them.
  uint64_t TakeRequest(const RateKey& key, uint64_t now_ms) {
    Part& part = PartOf(key);
    const std::lock_guard<std::mutex> lock(part.mutex);
    return part.table.TakeRequest(key, now_ms);
  }
  uint64_t BeginUpload(const RateKey& key, uint64_t now_ms) {
    Part& part = PartOf(key);
    const std::lock_guard<std::mutex> lock(part.mutex);
    return part.table.BeginUpload(key, now_ms);
  }
  uint64_t TakeBytes(const RateKey& key, uint64_t bytes, uint64_t now_ms) {
    Part& part = PartOf(key);
    const std::lock_guard<std::mutex> lock(part.mutex);
    return part.table.TakeBytes(key, bytes, now_ms);
  }

 private:
  static constexpr size_t kParts = 16;
  struct alignas(64) Part {
    Part(const RateLimits& limits, size_t entries_max, uint64_t seed)
        : table(limits, entries_max, seed) {}
    std::mutex mutex;
    RateTable table;
  };
  Part& PartOf(const RateKey& key) { return *parts_[RateHash(key, ~seed_) % kParts]; }

  const uint64_t seed_;
  std::array<std::unique_ptr<Part>, kParts> parts_;
};

// Null when the limits are off.
inline std::unique_ptr<SharedRateTable> RateTableOf(const RateLimits& limits) {
  if (!limits.is_on()) return nullptr;
  return std::make_unique<SharedRateTable>(limits, SystemRandom().Next64());
}

}  // namespace hayloft
