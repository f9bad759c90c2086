// Seeded randomness for simulations: the same seed gives the same bytes on every machine, which
// <random>'s distributions do not promise. xoshiro256** (Blackman, Vigna 2018) seeded by
// SplitMix64. Not cryptographically strong. Threads: none of its own; one owner.
#pragma once

#include "common/ports.h"

namespace hayloft {

// One step of SplitMix64: also a good way to derive many seeds from one.
inline uint64_t SplitMix64(uint64_t* state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

class SimRandom : public Random {
 public:
  explicit SimRandom(uint64_t seed) {
    for (uint64_t& word : state_) word = SplitMix64(&seed);
  }
  uint64_t Next() {
    const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }
  void Fill(MutableBytes out) override {
    for (size_t i = 0; i < out.size(); i += sizeof(uint64_t)) {
      const uint64_t word = Next();
      std::memcpy(&out[i], &word, std::min(sizeof(word), out.size() - i));
    }
  }
  bool Chance(uint64_t percent) { return Below(100) < percent; }
  // Both ends included.
  uint64_t Between(uint64_t least, uint64_t most) { return least + Below(most - least + 1); }

 private:
  uint64_t state_[4];
};

}  // namespace hayloft
