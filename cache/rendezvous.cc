#include "cache/rendezvous.h"

#include <tuple>

#include "cache/cache_hash.h"
#include "common/check.h"

namespace hayloft {

uint64_t MemberHash(std::string_view address) {
  // FNV-1a (Fowler, Noll, Vo), whose low bits alone are good.
  uint64_t hash = 0xcbf29ce484222325;
  for (const char each : address) {
    hash = (hash ^ static_cast<uint8_t>(each)) * 0x100000001b3;
  }
  return MixBits(hash);
}

size_t OwnerOf(const std::vector<uint64_t>& member_hashes, const FileAddress& address) {
  ASSERT(!member_hashes.empty());
  const uint64_t file = CacheHash(address);
  size_t owner = 0;
  uint64_t highest = 0;
  for (size_t i = 0; i < member_hashes.size(); ++i) {
    const uint64_t weight = MixBits(member_hashes[i] ^ file);
    // MixBits is a bijection: equal weights are of equal members.
    if (i == 0 || weight > highest) std::tie(owner, highest) = std::tuple(i, weight);
  }
  return owner;
}

}  // namespace hayloft
