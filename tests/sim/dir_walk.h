// A directory shard and its users under random schedules: many short walks, so that rare orders of
// few events come up.
//
// A real DirCore on a log that loses what was not committed; two gateways, each a real DedupCore;
// files without dsps. Messages sit in a bag and are delivered in any order, late, twice or never;
// gateways and the shard crash at any step; dsps fail, before or after they did what was asked; a
// standby that lags is promoted by force; the shard is rebuilt by adoption, and unpinned; files are
// taken down, purged, or removed from the disks (FAULTS F11, F45, F71, F72).
// Checked:
//   I1 a file that a user holds (acknowledged, no delete of his own begun) is live, at every step
//   I2 an acknowledged upload has exactly the uploader's bytes and type
//   I3 after a 204 for the last reference the file is deleted, for ever
//   I4 in a shard that never lost records a held reference is there, and not removed
//   I5 a name's file is live, and no older write undoes a newer one
//   I6 when all is quiet nothing is pending
//   I7 an acknowledged upload with an Idempotency-Key leaves no second reference
//   I8 a file that was taken down does not come back; the mark of a takedown is on no live file
//   I9 when all is quiet a CDN, which has all that can be read, has no file that was deleted
#pragma once

#include <cstdint>

#include "tests/sim/sim_trace.h"

namespace hayloft {

struct DirWalkResult {
  uint64_t stored = 0;
  uint64_t duplicates = 0;
  uint64_t deletes = 0;
  uint64_t unchecked = 0;
  uint64_t purges = 0;  // deleted files that a CDN must not have any more
};

// One schedule. What is found goes to the trace.
DirWalkResult WalkDirectory(uint64_t seed, SimTrace* trace);

}  // namespace hayloft
