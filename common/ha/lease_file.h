// The coordinator of one machine: the record in a file, and a lock that lives as long as its
// holder.
//
// - `lease`: record, version, end of the lease (lease_format.h); replaced by rename, synced.
// - `lease.new-NODE`: what a commit makes of it; a crash may leave it behind.
// - `lease.lock`: locked while a commit compares and renames, for microseconds.
// - `alive-NODE`: locked by each process that has committed, until it ends.
//
// A holder that died is known at once: its `alive` file can be locked. One that lives and says
// nothing (stopped, hung) counts until its lease has passed; who restarts the machine ends all. The
// new file is written and synced before lease.lock is taken and the folder is synced after it, so
// that hardly any process is stopped with that lock, which the other could not pass.
#pragma once

#include <optional>
#include <string>

#include "common/ha/coordinator.h"
#include "common/io/files.h"
#include "common/ports.h"

namespace hayloft {

struct LeaseFileOptions {
  std::string folder;  // the Device's: of the locks
  uint32_t lease_ms = 3'000;
  uint32_t timeout_ms = 1'000;  // for locks; the disk takes what it takes
};

// Errors beside Coordinator's: kReadOnly, kConfig (no right to write there).
class LeaseFile : public Coordinator {
 public:
  // Borrows both.
  LeaseFile(LeaseFileOptions options, Device* device, Random* random);
  Result<CoordinatorView> Read() override;
  // A sync that failed is not tried again: kIo from then on. kExists also when another process
  // lives with the same node. REQUIRES: the same record.holder() each time.
  Result<uint64_t> Commit(const pb::LeaseRecord& record, uint64_t version) override {
    return Put(record, version, /*renews=*/true);
  }
  Result<uint64_t> Change(const pb::LeaseRecord& record, uint64_t version) override {
    return Put(record, version, /*renews=*/false);
  }
  void Release() override;

 private:
  Result<uint64_t> Put(const pb::LeaseRecord& record, uint64_t version, bool renews);
  Result<pb::StoredLease> Load();
  Result<pb::StoredLease> Next(const pb::LeaseRecord& record, uint64_t version);
  bool Lives(const pb::StoredLease& lease) const;
  Err StayAlive(const std::string& node);
  Err Prepare(const pb::StoredLease& lease);
  Err SyncFailed(Err err);
  std::string NewName() const;

  const LeaseFileOptions options_;
  Device* const device_;
  Random* const random_;
  const std::string boot_;
  std::optional<FileLock> alive_;
  std::string node_;  // whose file `alive_` is
  bool failed_ = false;
};

}  // namespace hayloft
