// Which files are deleted: a counter per file, odd = deleted, in memory and in an append-only log.
//
//   deletes:  | header page | page: records, zeros | page | ...      one group commit = whole pages
//
// The log is the truth; LevelDB has a copy that is asked only when the log is damaged. Counters
// only rise, so that repeated, late and merged operations do no harm. Pure but for Load, which
// reads.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "common/ports.h"
#include "dataserver/dsp/io_job.h"

namespace hayloft {

struct DeleteEntry {
  uint32_t sequence = 0;
  uint32_t counter = 0;
  uint64_t changed_ms = 0;  // wall clock
  bool deleted() const { return counter % 2 == 1; }
};

// A value that a file's counter shall have.
struct DeleteChange {
  uint64_t block_id = 0;
  DeleteEntry entry;
};

// Only files that were ever deleted cost memory: 16 bytes each.
class DeleteState {
 public:
  DeleteEntry Find(uint64_t block_id, uint32_t sequence) const;  // counter 0 when never deleted
  bool Raise(const DeleteChange& change);  // false when the counter is not lower than that
  uint32_t DeletedIn(uint64_t block_id) const;
  uint64_t entries() const { return entries_; }
  const std::map<uint64_t, std::vector<DeleteEntry>>& blocks() const { return blocks_; }

 private:
  std::map<uint64_t, std::vector<DeleteEntry>> blocks_;  // each ascending by sequence
  uint64_t entries_ = 0;
};

class DeleteLog {
 public:
  // Reads the log and LevelDB's copy of it into `state`; changes nothing on the disk. That there is
  // no log is no error. kIo, kUnsupported (a later version wrote it).
  Err Load(Device* device, Kv* kv, DeleteState* state);
  // After Load: makes what was read durable before it is believed. A torn tail is cut and the rest
  // fsynced; a log that is missing, was damaged or ends in a page torn in its middle is written
  // anew with `new_log_id`, from what is sound of it and LevelDB's copy. kIo (a failed sync,
  // whatever its errno), kFull, kBusy.
  Err Settle(Device* device, Kv* kv, uint64_t new_log_id, const DeleteState& state);

  // Steps that make the changes durable: pages, sync, LevelDB. One such job may be under way at a
  // time. REQUIRES: !changes.empty().
  std::vector<IoStep> AppendSteps(const std::vector<DeleteChange>& changes);
  // The last such job met a full disk, maybe with some of its pages written: steps that cut them
  // off, so that no later start finds a delete that was refused. The next append goes to the same
  // place.
  std::vector<IoStep> TakeBackSteps();

  // More than half of the log is stale, and it is longer than `bytes_min`.
  bool NeedsRewrite(const DeleteState& state, uint64_t bytes_min) const;
  // Steps that replace the log by one that holds just `state`; then Replaced() with the new file,
  // which answers the old one, to be closed.
  std::vector<IoStep> RewriteSteps(const DeleteState& state, uint64_t new_log_id);
  FileHandle Replaced(FileHandle file);

  uint64_t size_bytes() const { return end_; }
  uint64_t damaged_records() const { return damaged_; }

 private:
  Err ReadAll(Device* device, DeleteState* state);
  void FillFastStart(Kv* kv, const DeleteState& state);
  Err MergeFastStart(Kv* kv, DeleteState* state);

  DeleteState fast_start_;  // LevelDB's copy, while Load compares
  FileHandle file_;
  uint64_t log_id_ = 0;
  uint64_t end_ = 0;  // where the next commit goes
  uint64_t damaged_ = 0;
  bool torn_page_ = false;     // the last page with a sound record also holds unsound ones
  uint64_t append_bytes_ = 0;  // of the last commit
  uint64_t rewrite_log_id_ = 0;
  uint64_t rewrite_end_ = 0;
};

}  // namespace hayloft
