// The hash of a file that a cache knows it by. Gateways of different versions agree by it on who
// keeps which file: frozen.
#pragma once

#include <cstdint>

#include "common/file_address.h"

namespace hayloft {

// The finalizer of MurmurHash3 (Appleby, public domain): a bijection, each bit depends on all.
inline uint64_t MixBits(uint64_t bits) {
  bits ^= bits >> 33;
  bits *= 0xff51afd7ed558ccd;
  bits ^= bits >> 33;
  bits *= 0xc4ceb9fe1a85ec53;
  return bits ^ bits >> 33;
}

// Without the cookie, which a delete does not name.
inline uint64_t CacheHash(uint64_t block_id, uint32_t sequence) {
  return MixBits(block_id << 24 ^ sequence);
}
inline uint64_t CacheHash(const FileAddress& address) {
  return CacheHash(address.block_id, address.file_id.sequence());
}

}  // namespace hayloft
