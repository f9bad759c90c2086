// Planted bugs, for proving that the simulator finds such bugs.
//
// Each names a promise that a core keeps at one line. `make mutants` switches one on at a time and
// demands that a campaign of seeds fails. Only the simulator sets the switch; in a server it stays
// kNone.
#pragma once

namespace hayloft {

enum class Mutant {
  kNone,
  kAckBeforeSync,    // an append is acknowledged when written, not when synced
  kSkipCommitSync,   // the group commit leaves its fdatasync out
  kReuseSequence,    // after a restart a block gives a sequence out again
  kForgetDirSync,    // a new block is announced before its directory entry is durable
  kAcceptOldLife,    // a scan takes needles of the file's former life
  kDeleteNotLogged,  // a delete is acknowledged before its record is synced
  kTrustLength,      // a scan believes a needle's sizes without its header CRC
  kStaleGrant,       // an append under a closed block's old epoch is taken
};

extern Mutant g_mutant;  // written before any core runs, by the simulator's main only
inline bool IsMutant(Mutant mutant) { return __builtin_expect(g_mutant == mutant, 0); }

}  // namespace hayloft
