#include "nameserver/block_share.h"

#include "common/check.h"

namespace hayloft {

void BlockShare::Forget(uint64_t now_ms) {
  while (!steps_.empty() && (steps_.front().number + 1) * kStepMs + kWindowMs <= now_ms) {
    for (const auto& [dsp_id, created] : steps_.front().created) {
      const auto count = counts_.find(dsp_id);
      ASSERT(count != counts_.end());
      ASSERT(count->second >= created);
      count->second -= created;
      total_ -= created;
      if (count->second == 0) counts_.erase(count);
    }
    steps_.pop_front();
  }
}

void BlockShare::OnCreated(uint32_t dsp_id, uint64_t now_ms) {
  Forget(now_ms);
  const uint64_t number = now_ms / kStepMs;
  if (steps_.empty() || steps_.back().number != number) {
    steps_.push_back({.number = number, .created = {}});
  }
  ++steps_.back().created[dsp_id];
  ++counts_[dsp_id];
  ++total_;
}

uint64_t BlockShare::Recent(uint32_t dsp_id, uint64_t now_ms) {
  Forget(now_ms);
  const auto found = counts_.find(dsp_id);
  return found == counts_.end() ? 0 : found->second;
}

bool BlockShare::Exceeded(uint32_t dsp_id, const Size& size, uint64_t now_ms) {
  ASSERT(size.own_bytes <= size.all_bytes);
  const uint64_t recent = Recent(dsp_id, now_ms);
  if (recent < few_) return false;
  // Gigabytes, so that no product overflows: 10,000 disks of 100 TB and a million blocks.
  constexpr uint64_t kUnit = 1 << 30;
  const uint64_t own = size.own_bytes / kUnit + 1;
  const uint64_t all = size.all_bytes / kUnit + 1;
  return (recent + 1) * all > 2 * (total_ + 1) * own;
}

}  // namespace hayloft
