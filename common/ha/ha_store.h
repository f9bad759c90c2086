// A node's log and what it promised, beside the rows of its service in one key-value store.
//
//   "ha/head"      HaHead: promise, identity, what precedes the first record that is kept
//   "log/" index   | crc32c, 4 | HaRecord |     index: 8 bytes, big-endian
//   "head"         of the service: its rows with all that was applied, and how far that is
//
// Records are synced before they are committed, rows are written when they are (unsynced: the log
// repeats what a crash takes). A damaged or missing record is never skipped: kCorrupt.
// Threads: one at a time. Pure; borrows the Kv.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "common/ha/role_core.h"
#include "common/ports.h"

namespace hayloft {

inline constexpr std::string_view kServiceHeadKey = "head";

class HaStore {
 public:
  static constexpr size_t kLogBytesKept = 32 << 20;  // of applied records, for a standby
  static constexpr size_t kSnapshotPartBytes = 1 << 20;

  // `bytes_kept`: of applied records.
  explicit HaStore(Kv* kv, size_t bytes_kept = kLogBytesKept) : kv_(kv), bytes_kept_(bytes_kept) {}

  // The row of a new node; part of the batch that makes the service's.
  static Kv::Change FirstRow(const pb::HaHead& head);
  static Result<pb::HaHead> ReadHead(Kv* kv);
  static bool OfService(std::string_view key);  // whether a row is the service's

  // kNotFound: there is no such row. `applied`: by the service's head. kCorrupt: damage, or a log
  // that ends before what was applied.
  Result<RoleDisk> Load(uint64_t applied);
  // Durable when it returns. After an error nothing may be written any more.
  Err Write(const RoleWrite& write);
  // Applied records that are more than are kept go, the oldest first. Not synced.
  Err Truncate(uint64_t applied);
  // From `from` on, some of them; none if the first is not kept.
  Result<std::vector<pb::HaRecord>> Read(uint64_t from);
  // The rows of the service behind this key, the service's head first (for ""). REQUIRES: nothing
  // applies meanwhile. `applied`: by that head.
  Result<RoleCore::SnapshotPart> ReadSnapshot(std::string_view after, uint64_t applied);

 private:
  Err Wipe();

  void CountRow(size_t bytes);

  Kv* kv_;
  const size_t bytes_kept_;
  pb::HaHead head_;
  std::deque<uint32_t> row_bytes_;  // of each record behind the base
  size_t log_bytes_ = 0;            // their sum
};

}  // namespace hayloft
