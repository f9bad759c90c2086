#include "client/grant_cache.h"

#include <algorithm>
#include <tuple>

#include "common/check.h"

namespace hayloft {

namespace {
constexpr size_t kGrantsMax = 64;
constexpr size_t kBadBlocksMax = 64;
constexpr size_t kLateDspsMax = 64;
}  // namespace

bool GrantCache::IsBad(uint64_t block_id) const {
  return std::find(bad_blocks_.begin(), bad_blocks_.end(), block_id) != bad_blocks_.end();
}

bool GrantCache::IsLate(const pb::Grant& grant, uint64_t now_ms) const {
  for (const pb::Replica& replica : grant.replicas()) {
    const auto late = late_dsps_.find(replica.dsp_id());
    if (late != late_dsps_.end() && late->second > now_ms) return true;
  }
  return false;
}

void GrantCache::RememberBad(uint64_t block_id) {
  if (IsBad(block_id)) return;
  if (bad_blocks_.size() == kBadBlocksMax) bad_blocks_.pop_front();
  bad_blocks_.push_back(block_id);
}

size_t GrantCache::Add(const pb::GrantReply& reply) {
  size_t added = 0;
  for (const pb::Grant& grant : reply.grants()) {
    if (grants_.size() == kGrantsMax) break;
    if (grant.replicas().empty() || IsBad(grant.block_id())) continue;
    const auto known = grants_.find(grant.block_id());
    if (known != grants_.end()) {
      known->second.grant = grant;  // an address or incarnation may have changed
      continue;
    }
    grants_[grant.block_id()].grant = grant;
    ++added;
  }
  return added;
}

const pb::Grant* GrantCache::Take(const std::vector<uint64_t>& tried, uint64_t now_ms) {
  Held* best = nullptr;
  bool best_late = false;
  for (auto& [block_id, held] : grants_) {
    if (std::find(tried.begin(), tried.end(), block_id) != tried.end()) continue;
    const bool late = IsLate(held.grant, now_ms);
    const bool better = best == nullptr || std::tuple(late, held.in_flight, held.taken) <
                                               std::tuple(best_late, best->in_flight, best->taken);
    if (!better) continue;
    best = &held;
    best_late = late;
  }
  if (best == nullptr) return nullptr;
  ++best->in_flight;
  best->taken = ++takes_;
  return &best->grant;
}

void GrantCache::Release(uint64_t block_id) {
  const auto found = grants_.find(block_id);
  // Zero when the grant was dropped and given again while the append was on its way.
  if (found != grants_.end() && found->second.in_flight > 0) --found->second.in_flight;
}

void GrantCache::DropBlock(uint64_t block_id) {
  grants_.erase(block_id);
  RememberBad(block_id);
}

void GrantCache::DropDsp(uint32_t dsp_id, uint64_t late_until_ms) {
  if (late_dsps_.size() == kLateDspsMax && !late_dsps_.contains(dsp_id)) {
    late_dsps_.erase(late_dsps_.begin());
  }
  late_dsps_[dsp_id] = late_until_ms;
  std::erase_if(grants_, [&](const auto& entry) {
    const auto& replicas = entry.second.grant.replicas();
    return std::any_of(replicas.begin(), replicas.end(),
                       [&](const pb::Replica& replica) { return replica.dsp_id() == dsp_id; });
  });
}

void GrantCache::Describe(uint64_t now_ms, pb::GrantRequest* request) const {
  for (const auto& [dsp_id, until_ms] : late_dsps_) {
    if (until_ms > now_ms) request->add_avoid_dsp_ids(dsp_id);
  }
  for (const uint64_t block_id : bad_blocks_) request->add_bad_block_ids(block_id);
}

}  // namespace hayloft
