#include "nameserver/reachability.h"

#include <algorithm>

namespace hayloft {

void Reachability::Hear(uint64_t reporter, std::span<const uint32_t> dsp_ids, uint64_t now_ms) {
  if (!reporters_.contains(reporter) && reporters_.size() >= kReportersMax) return;
  Word& word = reporters_[reporter];
  word.spoke_ms = now_ms;
  std::erase_if(word.named, [&](const auto& one) { return one.second + kRecentMs < now_ms; });
  for (const uint32_t dsp_id : dsp_ids) {
    if (word.named.size() < kNamedMax || word.named.contains(dsp_id)) word.named[dsp_id] = now_ms;
  }
}

std::set<uint32_t> Reachability::Unreachable(uint64_t now_ms) {
  std::erase_if(reporters_,
                [&](const auto& one) { return one.second.spoke_ms + kReporterMs < now_ms; });
  std::map<uint32_t, size_t> named_by;
  for (const auto& [reporter, word] : reporters_) {
    for (const auto& [dsp_id, named_ms] : word.named) {
      if (named_ms + kRecentMs >= now_ms) ++named_by[dsp_id];
    }
  }
  const size_t needed = std::min(reporters_.size(), kReportersNeeded);
  std::set<uint32_t> unreachable;
  for (const auto& [dsp_id, reporters] : named_by) {
    if (reporters >= needed) unreachable.insert(dsp_id);
  }
  return unreachable;
}

}  // namespace hayloft
