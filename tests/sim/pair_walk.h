// A pair of nodes and their coordinator under random schedules: many short walks instead of one
// long life, so that rare orders of few events come up.
//
// Two RoleCores, each with a log on a disk that forgets what was not synced; a service that makes
// ids from logged ranges; a coordinator whose answers are late, lost or come after all; two dsps
// that obey by epoch. Everything sits in a bag and is delivered in any order, late or never; any
// lease may end at any step. Checked:
//   history  a committed index has one content for ever, on both nodes
//   lost     who becomes active has every committed record
//   epoch    is held once by a node (that of a lost record may be won by the other one)
//   ids      are used by one operation
//   lease    is renewed once for a sync of the log
//   obey     a dsp obeys nothing that is not in the one history
//   stuck    when all is healed, a member of the set becomes active, takes the other back, commits
#pragma once

#include <cstdint>

#include "tests/sim/sim_trace.h"

namespace hayloft {

struct PairWalkResult {
  uint64_t promotions = 0;
  uint64_t committed = 0;
  uint64_t versions = 0;  // of the coordinator's record
};

// One schedule. What is found goes to the trace.
PairWalkResult WalkPair(uint64_t seed, SimTrace* trace);

}  // namespace hayloft
