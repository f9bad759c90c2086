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

#include <string>
#include <vector>

#include "common/ha/role_core.h"
#include "common/ports.h"

namespace hayloft {

inline constexpr std::string_view kServiceHeadKey = "head";

class HaStore {
 public:
  static constexpr uint64_t kRecordsKept = 100'000;  // applied ones, for a standby
  static constexpr size_t kSnapshotPartBytes = 1 << 20;

  // `records_kept`: applied ones; fewer only for tests of snapshots.
  explicit HaStore(Kv* kv, uint64_t records_kept = kRecordsKept)
      : kv_(kv), records_kept_(records_kept) {}

  // The row of a new node; part of the batch that makes the service's.
  static Kv::Change FirstRow(const pb::HaHead& head);
  static Result<pb::HaHead> ReadHead(Kv* kv);
  static bool OfService(std::string_view key);  // whether a row is the service's

  // kNotFound: there is no such row. `applied`: by the service's head. kCorrupt: damage, or a log
  // that ends before what was applied.
  Result<RoleDisk> Load(uint64_t applied);
  // Durable when it returns. After an error nothing may be written any more.
  Err Write(const RoleWrite& write);
  // Older records than are kept go, some at a time. Not synced.
  Err Truncate(uint64_t applied);
  // From `from` on, some of them; none if the first is not kept.
  Result<std::vector<pb::HaRecord>> Read(uint64_t from);
  // The rows of the service behind this key, the service's head first (for ""). REQUIRES: nothing
  // applies meanwhile. `applied`: by that head.
  Result<RoleCore::SnapshotPart> ReadSnapshot(std::string_view after, uint64_t applied);

 private:
  Err Wipe();

  Kv* kv_;
  const uint64_t records_kept_;
  pb::HaHead head_;
};

}  // namespace hayloft
