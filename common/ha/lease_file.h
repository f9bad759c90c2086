// The coordinator of one machine: the record in a file, and a lock that lives as long as its
// holder.
//
// "lease" (lease_format.h) is replaced by rename and synced. Borrows the Device (the folder) and
// the random source.
#pragma once

#include <string>

#include "common/ha/coordinator.h"
#include "common/ports.h"

namespace hayloft {

class LeaseFile : public Coordinator {
 public:
  LeaseFile(Device* device, Random* random) : device_(device), random_(random) {}
  Result<CoordinatorView> Read() override;
  Result<uint64_t> Commit(const pb::LeaseRecord& record, uint64_t version) override;
  void Release() override {}  // ends with the process

 private:
  Result<pb::StoredLease> Load();
  Err Store(const pb::StoredLease& lease);

  Device* device_;
  Random* random_;
  bool locked_ = false;
};

}  // namespace hayloft
