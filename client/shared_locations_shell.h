// A LocationCache under a lock, for the clients of several threads.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "client/location_cache.h"
#include "client/shared_locations.h"

namespace hayloft {

class LockedLocations : public SharedLocations {
 public:
  explicit LockedLocations(size_t blocks_max) : cache_(blocks_max) {}
  void Put(uint64_t block_id, const std::vector<std::string>& addresses) override {
    const std::lock_guard lock(mutex_);
    cache_.Put(block_id, addresses);
  }
  void Erase(uint64_t block_id) override {
    const std::lock_guard lock(mutex_);
    cache_.Erase(block_id);
  }
  std::vector<std::string> Find(uint64_t block_id) override {
    const std::lock_guard lock(mutex_);
    return cache_.Find(block_id);
  }

 private:
  std::mutex mutex_;
  LocationCache cache_;  // under mutex_
};

}  // namespace hayloft
