#include "client/grant_cache.h"

#include <algorithm>

#include "common/check.h"

namespace hayloft {

namespace {
constexpr size_t kGrantsMax = 64;
constexpr size_t kBadBlocksMax = 64;
constexpr size_t kLateDspsMax = 64;
constexpr uint64_t kCompanyBytes = 1 << 20;  // takes a disk about as long as a sync
constexpr uint64_t kSilentMs = 100;          // many commits

uint64_t Mixed(uint64_t value) {  // MurmurHash3's finalizer
  value = (value ^ (value >> 33)) * 0xff51afd7ed558ccd;
  value = (value ^ (value >> 33)) * 0xc4ceb9fe1a85ec53;
  return value ^ (value >> 33);
}

template <typename T>
bool Contains(const std::vector<T>& list, const T& one) {
  return std::find(list.begin(), list.end(), one) != list.end();
}
}  // namespace

bool GrantCache::IsBad(uint64_t block_id, uint64_t now_ms) const {
  return std::any_of(bad_blocks_.begin(), bad_blocks_.end(), [&](const BadBlock& bad) {
    return bad.block_id == block_id && bad.until_ms > now_ms;
  });
}

bool GrantCache::IsLate(const pb::Grant& grant, uint64_t now_ms) const {
  for (const pb::Replica& replica : grant.replicas()) {
    const auto late = late_dsps_.find(replica.dsp_id());
    if (late != late_dsps_.end() && late->second > now_ms) return true;
  }
  return false;
}

size_t GrantCache::Add(const pb::GrantReply& reply, uint64_t now_ms) {
  size_t added = 0;
  for (const pb::Grant& grant : reply.grants()) {
    if (grants_.size() == kGrantsMax) break;
    if (grant.replicas().empty() || IsBad(grant.block_id(), now_ms)) continue;
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

GrantCache::Rank GrantCache::RankOf(const Held& held, const Wish& wish, uint64_t now_ms) const {
  size_t failed = 0;
  for (const pb::Replica& replica : held.grant.replicas()) {
    failed += Contains(wish.failed_dsps, replica.dsp_id()) ? 1 : 0;
  }
  const bool company = held.bytes_in_flight > 0 &&
                       held.bytes_in_flight + wish.bytes <= kCompanyBytes &&
                       now_ms < held.answered_ms + kSilentMs;
  return {IsLate(held.grant, now_ms),
          held.grant.block_id() != wish.block_id,
          failed,
          !company,
          company ? kCompanyBytes - held.bytes_in_flight : held.bytes_in_flight,
          Mixed(held.grant.block_id() ^ preference_)};
}

const pb::Grant* GrantCache::Take(const Wish& wish, uint64_t now_ms) {
  Held* best = nullptr;
  Rank best_rank;
  for (auto& [block_id, held] : grants_) {
    if (Contains(wish.tried, block_id)) continue;
    const Rank rank = RankOf(held, wish, now_ms);
    const bool late = std::get<0>(rank);
    if (late && !wish.late_too) continue;
    if (best != nullptr && rank >= best_rank) continue;
    best = &held;
    best_rank = rank;
  }
  if (best == nullptr) return nullptr;
  best->bytes_in_flight += wish.bytes;
  return &best->grant;
}

size_t GrantCache::usable(uint64_t now_ms) const {
  return static_cast<size_t>(std::count_if(grants_.begin(), grants_.end(), [&](const auto& entry) {
    return !IsLate(entry.second.grant, now_ms);
  }));
}

void GrantCache::Answered(uint64_t block_id, uint64_t bytes, uint64_t now_ms) {
  Failed(block_id, bytes);
  const auto found = grants_.find(block_id);
  if (found != grants_.end()) found->second.answered_ms = now_ms;
}

void GrantCache::Failed(uint64_t block_id, uint64_t bytes) {
  const auto found = grants_.find(block_id);
  if (found == grants_.end()) return;
  // Fewer when the grant was dropped and given again while the append was on its way.
  Held& held = found->second;
  held.bytes_in_flight -= std::min(held.bytes_in_flight, bytes);
}

void GrantCache::DropBlock(uint64_t block_id, uint64_t now_ms) {
  grants_.erase(block_id);
  if (IsBad(block_id, now_ms)) return;
  if (bad_blocks_.size() == kBadBlocksMax) bad_blocks_.pop_front();
  bad_blocks_.push_back({.block_id = block_id, .until_ms = now_ms + kBadBlockMs});
}

void GrantCache::SkipDsp(uint32_t dsp_id, uint64_t late_until_ms) {
  if (late_dsps_.size() == kLateDspsMax && !late_dsps_.contains(dsp_id)) {
    late_dsps_.erase(late_dsps_.begin());
  }
  uint64_t& until_ms = late_dsps_[dsp_id];
  until_ms = std::max(until_ms, late_until_ms);
}

void GrantCache::SkipAddress(const std::string& address, uint64_t late_until_ms) {
  for (const auto& [block_id, held] : grants_) {
    for (const pb::Replica& replica : held.grant.replicas()) {
      if (replica.address() == address) return SkipDsp(replica.dsp_id(), late_until_ms);
    }
  }
}

void GrantCache::DropDsp(uint32_t dsp_id, uint64_t late_until_ms) {
  SkipDsp(dsp_id, late_until_ms);
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
  for (const BadBlock& bad : bad_blocks_) {
    if (bad.until_ms > now_ms) request->add_bad_block_ids(bad.block_id);
  }
}

}  // namespace hayloft
