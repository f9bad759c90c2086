// SHA-1 and SHA-256 of the same blocks at the same time, by the processor's own instructions.
//
// Each of the two is a chain in which every instruction waits for the one before it, so a core that
// runs one of them is idle for more than half of the time: together they take hardly longer than
// the slower one alone. 16 KiB: 10.4 us, against 17.6 one after the other.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace hayloft {

// As FIPS 180-4 names them: a to e, a to h.
struct ShaPairState {
  std::array<uint32_t, 5> sha1 = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  std::array<uint32_t, 8> sha256 = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
};

constexpr size_t kShaBlockBytes = 64;

bool ShaPairSupported();  // by this processor
// REQUIRES: ShaPairSupported().
void ShaPairBlocks(ShaPairState* state, const uint8_t* data, size_t blocks);

}  // namespace hayloft
