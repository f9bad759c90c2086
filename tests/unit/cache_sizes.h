// Sizes of images as TFS had them: 61 % below 8 KiB, 17 KiB in the mean.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>

namespace hayloft {

class ImageSizes {
 public:
  explicit ImageSizes(uint64_t seed) : random_(seed) {}
  uint64_t Next() {
    if (Uniform() < 0.61) return static_cast<uint64_t>(512 * std::pow(16.0, Uniform()));
    const double tail = -std::log(1 - Uniform()) * (31.4 * 1024);
    return std::min<uint64_t>(8192 + static_cast<uint64_t>(tail), 1 << 20);
  }
  uint64_t Below(uint64_t bound) { return random_() % bound; }

 private:
  double Uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }
  std::mt19937_64 random_;
};

}  // namespace hayloft
