#include "client/location_cache.h"

#include "common/check.h"

namespace hayloft {

namespace {
// More addresses than this were never dsps of one cluster: start anew instead of growing.
constexpr size_t kAddressesMax = 100'000;
}  // namespace

LocationCache::LocationCache(size_t blocks_max) : blocks_max_(blocks_max) {
  ASSERT(blocks_max > 0);
}

uint32_t LocationCache::Intern(const std::string& address) {
  const auto found = interned_.find(address);
  if (found != interned_.end()) return found->second;
  addresses_.push_back(address);
  const auto number = static_cast<uint32_t>(addresses_.size() - 1);
  interned_.emplace(address, number);
  return number;
}

void LocationCache::Put(uint64_t block_id, const std::vector<std::string>& addresses) {
  ASSERT(!addresses.empty());
  ASSERT(addresses.size() <= kReplicasMax);
  if (addresses_.size() > kAddressesMax) {
    entries_.clear();
    index_.clear();
    addresses_.clear();
    interned_.clear();
  }
  Erase(block_id);
  if (index_.size() == blocks_max_) {
    index_.erase(entries_.back().block_id);
    entries_.pop_back();
  }
  Entry entry{.block_id = block_id, .dsps = {}, .count = 0};
  for (const std::string& address : addresses) entry.dsps[entry.count++] = Intern(address);
  entries_.push_front(entry);
  index_.emplace(block_id, entries_.begin());
  ASSERT(index_.size() == entries_.size());
}

void LocationCache::Erase(uint64_t block_id) {
  const auto found = index_.find(block_id);
  if (found == index_.end()) return;
  entries_.erase(found->second);
  index_.erase(found);
}

std::vector<std::string> LocationCache::Find(uint64_t block_id) {
  std::vector<std::string> addresses;
  const auto found = index_.find(block_id);
  if (found == index_.end()) return addresses;
  entries_.splice(entries_.begin(), entries_, found->second);
  const Entry& entry = *found->second;
  for (uint32_t i = 0; i < entry.count; ++i) addresses.push_back(addresses_[entry.dsps[i]]);
  return addresses;
}

}  // namespace hayloft
