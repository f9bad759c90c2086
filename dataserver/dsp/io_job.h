// What the dsp's core wants done on its disk: lists of steps, run in order by a thread that may
// block.
//
// The core decides and builds; the shell's writer thread (or the simulator, which crashes between
// any two steps) runs. Jobs of one lane run one after the other, in the order of their issue.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/buffer.h"
#include "common/ports.h"
#include "dataserver/dsp/block_scan.h"

namespace hayloft {

enum class IoLane : uint8_t {
  kCommit,      // commits, creation, close records, superblock, deletes: somebody waits for them
  kBackground,  // sealing, filling the pool: long, and on files that no commit touches
};

// A needle on its way into a new life of its block.
struct NeedleMove {
  uint64_t from = 0;  // offsets in the two files
  uint64_t to = 0;
  uint64_t bytes = 0;
};

struct IoStep {
  enum class Op : uint8_t {
    kCreate,      // name; later steps without a file of their own work on the new one
    kWrite,       // owned, at offset
    kWriteZeros,  // [offset, offset + size), synced now and then
    kSync,
    kAllocate,  // size
    kTruncate,  // size
    kRename,    // name -> target
    kRemove,    // name
    kSyncDir,
    kKvWrite,  // changes, not synced: LevelDB is only the fast start
    kScan,     // scan_target; the result is in JobDone
    kMove,     // needles of `from`, each with its head made anew for its place in this job's file
  };
  Op op = Op::kSync;
  FileHandle file{};  // invalid: the one that this job created
  std::string name{};
  std::string target{};
  uint64_t offset = 0;
  uint64_t size = 0;
  std::vector<Buffer> owned{};
  std::vector<Kv::Change> changes{};
  ScanTarget scan_target{};
  ScanTarget from{};  // kMove: the old life
  uint64_t life = 0;  // kMove: the new one
  std::vector<NeedleMove> moves{};
};

struct IoJob {
  uint64_t id = 0;
  IoLane lane = IoLane::kCommit;
  std::vector<IoStep> steps{};
};

struct JobDone {
  uint64_t id = 0;
  Err err = Err::kOk;  // of the first step that failed; later ones were not begun
  // Nobody knows what the disk holds now: EIO of a change, or a sync that failed, whatever its
  // errno. A full disk, or a lack of descriptors or memory, before any sync is none of that.
  bool disk_failed = false;
  FileHandle file{};  // that the job created, if any
  std::unique_ptr<ScanResult> scan{};
};

// Runs the steps until one fails. A damaged scan target is a result, not a failure. LevelDB's
// failures are not passed on: it is only the fast start, and rebuilt when it lacks something.
JobDone RunJob(const IoJob& job, Device* device, Kv* kv);

// What a failed sync is outside of a job, whatever its errno: kIo, a failure of the disk. A second
// sync of the same file would answer success with the data gone. kReadOnly stays what it is.
inline Err SyncErr(Err err) { return err == Err::kOk || err == Err::kReadOnly ? err : Err::kIo; }
// Likewise the error of a job that recovery runs.
inline Err JobErr(const JobDone& done) { return done.disk_failed ? Err::kIo : done.err; }

}  // namespace hayloft
