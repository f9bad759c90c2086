// Where blocks are, as any client of a process last heard: for those that have not asked yet.
//
// A gateway has a client for each of its loops. One that misses a block in its own cache looks
// here before it asks a nameserver, of which there may be none just now. Only a miss and a
// nameserver's answer come here, so that what is read often costs no lock
// (shared_locations_shell.h).
// Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hayloft {

// As LocationCache.
class SharedLocations {
 public:
  virtual ~SharedLocations() = default;
  virtual void Put(uint64_t block_id, const std::vector<std::string>& addresses) = 0;
  virtual void Erase(uint64_t block_id) = 0;
  virtual std::vector<std::string> Find(uint64_t block_id) = 0;
};

}  // namespace hayloft
