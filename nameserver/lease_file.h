// The coordinator of one machine: the record in a file, and a lock that lives as long as its
// holder.
//
//   "lease":  | magic, 4 | size, 4 | crc32c, 4 | LeaseRecord |      replaced by rename, synced
//
// Pure; borrows the Device (the folder) and the random source.
#pragma once

#include <string>

#include "common/ports.h"
#include "nameserver/coordinator.h"

namespace hayloft {

// The file's bytes. Decode: kCorrupt for anything but what Encode writes.
std::string EncodeLease(const pb::LeaseRecord& record);
Result<pb::LeaseRecord> DecodeLease(Bytes bytes);

class LeaseFile : public Coordinator {
 public:
  LeaseFile(Device* device, Random* random) : device_(device), random_(random) {}
  Result<pb::LeaseRecord> Read() override;
  Result<uint64_t> Acquire(const LeaseClaim& claim) override;
  Err Renew(uint64_t log_position) override;

 private:
  Err Store(const pb::LeaseRecord& record);

  Device* device_;
  Random* random_;
  bool locked_ = false;
  pb::LeaseRecord held_;  // as last stored by this process
};

}  // namespace hayloft
