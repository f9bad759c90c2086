// Who is the active node of a pair: one small record, changed by transactions only.
//
// The record names the holder, its epoch, the nodes that have all that was acknowledged (the
// in-sync set) and how far the log had come. A backend decides nothing but two things, in one
// transaction: is the record still the version that the caller saw, and does another's lease live?
// Everything else is judged by the role core, which is pure.
//
// A lease bounds how long a node that nobody can reach goes on answering, and how long another
// waits before it takes over. No safety rests on it: whoever wins fences the former holder by its
// epoch. Backends: lease_file.h (one machine), etcd_coordinator.h.
#pragma once

#include <cstdint>
#include <string>

#include "common/proto/hayloft.pb.h"
#include "common/result.h"

namespace hayloft {

inline constexpr size_t kNodeIdBytes = 16;  // random; the name of a node's data directory
inline constexpr uint64_t kEpochMax = uint64_t{1} << 48;  // above it nobody could win

struct CoordinatorView {
  // What the record's history hangs on: another one means that the record was lost or restored
  // from a backup, and that nothing is known of what happened since. Empty when there is none.
  std::string identity;
  pb::LeaseRecord record;
  // Rises with each commit; 0: there is no record. One that fell is from a backup.
  uint64_t version = 0;
  bool held = false;  // somebody's lease lives
};

// Threads: one at a time; calls block for `timeout` of the backend at most (disk, network).
class Coordinator {
 public:
  virtual ~Coordinator() = default;

  // kOk with version 0 when there is no record. kTimeout, kUnavailable, kDenied, kIo, kFull;
  // kCorrupt: there is one and it can't be understood.
  virtual Result<CoordinatorView> Read() = 0;

  // Makes `record` the record if its version is still `version` (0: if there is still none) and
  // nobody but `record.holder()` holds a lease; that holder's lease begins anew. The version after
  // it, or kExists: the version is another one or somebody else holds the lease, nothing was
  // changed and nothing will be. After any other error it may have happened, or may still happen
  // until the version changes. The identity is the backend's: made with the first record and kept
  // by all later ones, whatever `record` has. Version 0 also replaces what Read called kCorrupt:
  // only an operator's word leads there.
  virtual Result<uint64_t> Commit(const pb::LeaseRecord& record, uint64_t version) = 0;

  // As Commit, but for the lease: it ends when it would have ended, and none begins.
  virtual Result<uint64_t> Change(const pb::LeaseRecord& record, uint64_t version) = 0;

  // Ends this process's lease, so that the other need not wait for its end. Errors don't matter.
  virtual void Release() = 0;
};

}  // namespace hayloft
