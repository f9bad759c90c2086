// The kernel's random numbers. Threads: safe; not for a child that was forked without exec, which
// would repeat its parent's.
#pragma once

#include "common/ports.h"

namespace hayloft {

class SystemRandom : public Random {
 public:
  void Fill(MutableBytes out) override;
};

}  // namespace hayloft
