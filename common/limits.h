// Every bound in the system that is not an option, and the relations between them.
//
// Reaching a bound is answered at once (kTooLarge, kBusy, kClosed); nothing grows past one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hayloft {

// --- Files and blocks
// ---------------------------------------------------------------------------------
inline constexpr uint64_t kPageBytes = 4096;  // unit of atomicity that we assume of no disk
inline constexpr uint64_t kPieceBytes = 64
                                        << 10;  // one data CRC for each (GFS: a checksum per 64 KB)
inline constexpr uint64_t kBlockBytes = 64 << 20;      // default size of a block file
inline constexpr uint64_t kBlockBytesMin = 256 << 10;  // smaller blocks are for tests
inline constexpr uint64_t kBlockBytesMax = 1 << 30;
inline constexpr uint64_t kFileBytesMax = 60
                                          << 20;  // largest stored file, whatever the options say
inline constexpr uint64_t kMetadataBytesMax = 8 << 10;
inline constexpr uint32_t kSequenceMax = (1u << 24) - 1;          // 24 bits in a file id
inline constexpr uint64_t kCookieMax = (uint64_t{1} << 40) - 1;   // 40 bits in a file id
inline constexpr uint64_t kBlockIdMax = (uint64_t{1} << 40) - 1;  // 40 bits in an address
inline constexpr uint32_t kNeedlesPerBlockMax = 1 << 20;  // a block closes when it holds as many
inline constexpr uint32_t kReplicasMax = 5;

// --- Group commit
// -------------------------------------------------------------------------------------
inline constexpr uint64_t kCommitBytesMax =
    8 << 20;  // one group commit takes more only for a single file
inline constexpr uint32_t kCommitNeedlesMax =
    512;  // header, data and padding stay below IOV_MAX parts

// A commit on its way to a secondary: pages that begin below kCommitBytesMax, and a last file.
inline constexpr uint32_t kReplicaAppendBytesMax =
    kFileBytesMax + kCommitBytesMax + kMetadataBytesMax + (64 << 10);

// --- RPC
// ----------------------------------------------------------------------------------------------
inline constexpr uint32_t kMessageBytesMax = 4 << 20;        // the Protocol Buffers part of a frame
inline constexpr uint32_t kPayloadBytesMax = kFileBytesMax;  // the bytes of an image beside it
inline constexpr uint32_t kRpcInFlightMax = 16'384;  // requests awaiting an answer, a connection
inline constexpr uint64_t kRpcOutboxBytesMax = 128 << 20;  // bytes queued towards one peer
inline constexpr uint32_t kRpcConnectionsMax = 10'000;     // accepted by one server
inline constexpr uint32_t kRpcConnectMs = 1'000;      // a peer that takes longer is unavailable
inline constexpr uint32_t kReportBlocksMax = 10'000;  // blocks in one message of a report

// --- Gateways' caches
// -----------------------------------------------------------------------------------
inline constexpr int kFeedChangesMax = 2'000;  // changes in one message of a dsp's feed of deletes
inline constexpr int kHottestMax = 10'000;     // files that one gateway names to another

// --- Directory
// ----------------------------------------------------------------------------------------
inline constexpr int kDirBatchMax = 256;    // contents or uploads in one message
inline constexpr int kDirAdoptMax = 64;     // files in one: each costs the shard a look at the dsps
inline constexpr int kDirDeadMax = 16;      // files that an upload found dead
inline constexpr int kDirNamesMax = 1'000;  // names in one page of a list
inline constexpr size_t kNameBytesMax = 1'024;

// --- Time
// ---------------------------------------------------------------------------------------------
inline constexpr uint64_t kHeartbeatMs = 1'000;
// A dsp whose heartbeats stay unanswered for so long serves nothing as a fact; nobody stops to wait
// for it with a delete any sooner.
inline constexpr uint64_t kDoubtMs = 3'000;
inline constexpr uint64_t kDiskStallMs =
    3'000;  // work waits and the disk finished nothing for so long

static_assert(kFileBytesMax + kMetadataBytesMax + (kFileBytesMax / kPieceBytes) * 4 +
                      64 * kPageBytes <
                  kBlockBytes,
              "the largest file fits into an empty block beside header and footer");
static_assert(kNeedlesPerBlockMax - 1 <= kSequenceMax);
static_assert(kCommitNeedlesMax * 2 + 2 <= 1026, "a commit is one pwritev or two");

}  // namespace hayloft
