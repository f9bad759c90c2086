// Planted bugs, for proving that the simulator finds such bugs.
//
// Each names a promise that a core keeps at one line. `make mutants` switches one on at a time and
// demands that a campaign of seeds fails. Only the simulator sets the switch; in a server it stays
// kNone.
#pragma once

namespace hayloft {

// X(name, what goes wrong)
#define HAYLOFT_MUTANTS(X)                                                            \
  X(kAckBeforeSync, "an append is acknowledged when written, not when synced")        \
  X(kSkipCommitSync, "the group commit leaves its fdatasync out")                     \
  X(kReuseSequence, "after a restart a block gives a sequence out again")             \
  X(kForgetDirSync, "a new block is announced before its directory entry is durable") \
  X(kAcceptOldLife, "a scan takes needles of the file's former life")                 \
  X(kDeleteNotLogged, "a delete is acknowledged before its record is synced")         \
  X(kTrustLength, "a scan believes a needle's sizes without its header CRC")          \
  X(kStaleGrant, "an append under a closed block's old epoch is taken")               \
  X(kServeBeforeMerging, "a restarted replica serves before it has merged deletes")   \
  X(kMergeByMinimum, "merging takes the smaller delete counter")                      \
  X(kBelieveShortReplica, "a replica that is not complete says not found")            \
  X(kBelieveDoubtful, "a replica in doubt says gone")                                 \
  X(kNeverInDoubt, "a dsp whose heartbeats stay unanswered serves on")                \
  X(kAckAfterTwo, "an append is acknowledged before the last replica has answered")   \
  X(kAnswerBeforeSync, "a secondary answers when it has written, not synced")         \
  X(kIgnoreIncarnation, "a restart leaves blocks open, and incarnations are ignored") \
  X(kStaleReplicaAppend, "a secondary takes commits of a block that it has closed")   \
  X(kSealShortest, "a seal cuts to what all replicas have")                           \
  X(kDeleteByAnyOne, "a delete is acknowledged when one replica has it")              \
  X(kDeleteAsIncrement, "a delete raises the counter instead of setting it")          \
  X(kFeedForgetDoubt, "the feed of deletes goes on after a doubt")                    \
  X(kFeedNeverDoubtful, "a dsp in doubt vouches for its feed of deletes")             \
  X(kCacheNoMark, "a cache keeps what a delete overtook on its way")                  \
  X(kCacheTrustGap, "a gap in a feed changes nothing")                                \
  X(kCacheTrustSilence, "a cache answers though the feed is silent")                  \
  X(kCacheAnyEpoch, "a read from before a gap is kept as one from after it")          \
  X(kCacheDoubtKept, "a cache keeps what a replica in doubt gave")                    \
  X(kHaActBeforeCommit, "a record counts as safe before the standby has it")          \
  X(kHaWinOutsideSet, "a node wins that is not in the in-sync set")                   \
  X(kHaIgnorePosition, "a node wins with a log that ends too early")                  \
  X(kHaSoloBeforeCommit, "the active goes on alone before that is committed")         \
  X(kHaReuseEpoch, "an epoch is won that was promised already")                       \
  X(kHaKeepTail, "a node that follows keeps what differs")                            \
  X(kHaForgetUnsettled, "a set that may be committed is not waited for")              \
  X(kHaSettleByRead, "a read of the old record settles a change of the set")          \
  X(kHaBelieveRestored, "a coordinator's record from a backup is believed")           \
  X(kHaAnswerLate, "an active one answers when its lease is over")                    \
  X(kHaRenewUnsynced, "a change of the set renews the lease of a log that hangs")     \
  X(kHaIdsBeforeCommit, "a block id is used before its range is safe")                \
  X(kDirAnswerUnsynced, "a reference is answered before its record is committed")     \
  X(kDirAnyEpoch, "an upload rests on a look-up of another epoch")                    \
  X(kDirAddToDead, "a reference is added to a file that is dead or dying")            \
  X(kDirForgetKey, "the Idempotency-Key is not looked at in the write")               \
  X(kDirAnswerEarly, "a last delete is answered before the dsps have it")             \
  X(kDirForgetReviving, "an undelete makes no entry that outlives a crash")           \
  X(kDirAdoptDying, "a file that is deleted or dying is adopted")                     \
  X(kDirUnpinned, "a shard that lost records adopts without a pin")                   \
  X(kDirNameAnyVersion, "a name is written whatever its version is by now")           \
  X(kDirForgetDrop, "an overwritten name's reference is left")                        \
  X(kDirTrustRecord, "a hit's needle is not looked at")                               \
  X(kDirForgetPurge, "a purge is forgotten when it is sent, not when the CDN has it") \
  X(kDirSlowAnswersOwn, "an upload is answered with its own file though an insert may be done")

enum class Mutant {
  kNone,
#define X(name, meaning) name,
  HAYLOFT_MUTANTS(X)
#undef X
};

extern Mutant g_mutant;  // written before any core runs, by the simulator's main only
inline bool IsMutant(Mutant mutant) { return __builtin_expect(g_mutant == mutant, 0); }

}  // namespace hayloft
