// Four rounds of either are one group here: 20 groups of SHA-1, 16 of SHA-256. The message words
// are made on the way, each group's a few groups before it is their turn; the comments of Intel's
// "New Instructions Supporting the Secure Hash Algorithm" (2013) explain which instruction does
// what. The order in which the groups stand is only a hint to a processor that reorders them.
#include "common/sha_pair.h"

#include <cpuid.h>
#include <immintrin.h>

#include <utility>

namespace hayloft {

namespace {

alignas(16) constexpr std::array<uint32_t, 64> kSha256 = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

__m128i Load(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
void Store(void* to, __m128i words) { _mm_storeu_si128(static_cast<__m128i*>(to), words); }

struct Sha1Lanes {
  __m128i abcd;
  __m128i e[2];
  __m128i message[4];

  template <int kGroup>
  void Group() {
    __m128i& now = message[kGroup % 4];
    __m128i& mine = e[kGroup % 2];
    mine = kGroup == 0 ? _mm_add_epi32(mine, now) : _mm_sha1nexte_epu32(mine, now);
    e[(kGroup + 1) % 2] = abcd;
    __m128i& next = message[(kGroup + 1) % 4];
    if constexpr (kGroup >= 3 && kGroup <= 18) next = _mm_sha1msg2_epu32(next, now);
    abcd = _mm_sha1rnds4_epu32(abcd, mine, kGroup / 5);
    __m128i& last = message[(kGroup + 3) % 4];
    if constexpr (kGroup >= 1 && kGroup <= 16) last = _mm_sha1msg1_epu32(last, now);
    __m128i& before = message[(kGroup + 2) % 4];
    if constexpr (kGroup >= 2 && kGroup <= 17) before = _mm_xor_si128(before, now);
  }
};

struct Sha256Lanes {
  __m128i abef, cdgh;
  __m128i message[4];

  template <int kGroup>
  void Group() {
    const __m128i& now = message[kGroup % 4];
    const __m128i& last = message[(kGroup + 3) % 4];
    __m128i words = _mm_add_epi32(now, Load(kSha256.data() + 4 * kGroup));
    cdgh = _mm_sha256rnds2_epu32(cdgh, abef, words);
    if constexpr (kGroup >= 3 && kGroup <= 14) {
      __m128i& next = message[(kGroup + 1) % 4];
      next = _mm_add_epi32(next, _mm_alignr_epi8(now, last, 4));
      next = _mm_sha256msg2_epu32(next, now);
    }
    words = _mm_shuffle_epi32(words, 0x0e);
    abef = _mm_sha256rnds2_epu32(abef, cdgh, words);
    if constexpr (kGroup >= 1 && kGroup <= 12) {
      message[(kGroup + 3) % 4] = _mm_sha256msg1_epu32(last, now);
    }
  }
};

template <int... kGroup>
void AllGroups(Sha1Lanes* sha1, Sha256Lanes* sha256, std::integer_sequence<int, kGroup...>) {
  const auto both = [&]<int kNumber>(std::integral_constant<int, kNumber>) {
    sha1->Group<kNumber>();
    if constexpr (kNumber < 16) sha256->Group<kNumber>();
  };
  (both(std::integral_constant<int, kGroup>()), ...);
}

void OneBlock(Sha1Lanes* sha1, Sha256Lanes* sha256, const uint8_t* data) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  for (int i = 0; i < 4; ++i) {
    sha256->message[i] = _mm_shuffle_epi8(Load(data + 16 * i), big_endian);
    sha1->message[i] = _mm_shuffle_epi32(sha256->message[i], 0x1b);
  }
  const __m128i abcd = sha1->abcd;
  const __m128i e = sha1->e[0];
  const __m128i abef = sha256->abef;
  const __m128i cdgh = sha256->cdgh;
  AllGroups(sha1, sha256, std::make_integer_sequence<int, 20>());
  sha1->abcd = _mm_add_epi32(sha1->abcd, abcd);
  sha1->e[0] = _mm_sha1nexte_epu32(sha1->e[0], e);
  sha256->abef = _mm_add_epi32(sha256->abef, abef);
  sha256->cdgh = _mm_add_epi32(sha256->cdgh, cdgh);
}

}  // namespace

bool ShaPairSupported() {
  // Asked once: a virtual machine's is asked by way of its host, which takes 10 us and more.
  static const bool supported = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) == 1 && (b & bit_SHA) != 0;
  }();
  return supported;
}

void ShaPairBlocks(ShaPairState* state, const uint8_t* data, size_t blocks) {
  Sha1Lanes sha1;
  sha1.abcd = _mm_shuffle_epi32(Load(state->sha1.data()), 0x1b);
  sha1.e[0] = _mm_set_epi32(static_cast<int>(state->sha1[4]), 0, 0, 0);
  Sha256Lanes sha256;
  const __m128i cdab = _mm_shuffle_epi32(Load(state->sha256.data()), 0xb1);
  const __m128i efgh = _mm_shuffle_epi32(Load(state->sha256.data() + 4), 0x1b);
  sha256.abef = _mm_alignr_epi8(cdab, efgh, 8);
  sha256.cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
  for (; blocks > 0; --blocks, data += kShaBlockBytes) OneBlock(&sha1, &sha256, data);
  Store(state->sha1.data(), _mm_shuffle_epi32(sha1.abcd, 0x1b));
  state->sha1[4] = static_cast<uint32_t>(_mm_extract_epi32(sha1.e[0], 3));
  const __m128i feba = _mm_shuffle_epi32(sha256.abef, 0x1b);
  const __m128i dchg = _mm_shuffle_epi32(sha256.cdgh, 0xb1);
  Store(state->sha256.data(), _mm_blend_epi16(feba, dchg, 0xf0));
  Store(state->sha256.data() + 4, _mm_alignr_epi8(dchg, feba, 8));
}

}  // namespace hayloft
