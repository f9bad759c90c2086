// What all parts of one simulated run share: the order of events, chance, the network, the record.
#pragma once

#include <map>

#include "common/core_io.h"
#include "tests/sim/sim_clock.h"
#include "tests/sim/sim_events.h"
#include "tests/sim/sim_net.h"
#include "tests/sim/sim_random.h"
#include "tests/sim/sim_trace.h"

namespace hayloft {

inline constexpr uint64_t kTickUs = 100'000;

struct SimWorld {
  SimWorld(uint64_t seed, bool print) : random(seed), trace(print), net(&events, &random, &trace) {}
  SimEvents events;
  SimRandom random;
  SimTrace trace;
  SimNet net;
  bool healed = false;                         // nothing is broken any more, and nothing will be
  std::map<uint64_t, uint32_t> appends_asked;  // by block, of any dsp
};

// A machine's clocks: the monotonic one starts anywhere, the other may be set at any time.
struct SimNodeClock {
  uint64_t mono_offset_ms = 0;
  int64_t wall_offset_ms = 0;
  Now Read(const SimEvents& events) const {
    const uint64_t ms = events.now_us() / 1000;
    return {ms + mono_offset_ms,
            SimClock::kStartWallMs + ms + static_cast<uint64_t>(wall_offset_ms)};
  }
};

}  // namespace hayloft
