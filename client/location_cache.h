// Which dsps hold a block: the last answers of a nameserver, least recently used first out.
//
// An entry may be out of date; whoever uses one and finds it wrong asks again. Addresses are
// interned (a cluster has few dsps and many blocks): some 100 bytes a block.
// Threads: one owner.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/limits.h"

namespace hayloft {

class LocationCache {
 public:
  explicit LocationCache(size_t blocks_max);
  // Replaces what was known. REQUIRES: 1 to kReplicasMax addresses.
  void Put(uint64_t block_id, const std::vector<std::string>& addresses);
  void Erase(uint64_t block_id);
  // Empty when nothing is known. The entry becomes the most recently used.
  std::vector<std::string> Find(uint64_t block_id);
  size_t size() const { return index_.size(); }

 private:
  struct Entry {
    uint64_t block_id;
    std::array<uint32_t, kReplicasMax> dsps;  // into addresses_
    uint32_t count;
  };
  uint32_t Intern(const std::string& address);

  size_t blocks_max_;
  std::list<Entry> entries_;  // most recently used first
  std::unordered_map<uint64_t, std::list<Entry>::iterator> index_;
  std::vector<std::string> addresses_;
  std::unordered_map<std::string, uint32_t> interned_;
};

}  // namespace hayloft
