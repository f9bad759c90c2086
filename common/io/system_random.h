// The kernel's random numbers. Threads: safe.
#pragma once

#include "common/ports.h"

namespace hayloft {

class SystemRandom : public Random {
 public:
  void Fill(MutableBytes out) override;
};

}  // namespace hayloft
