// The file of the coordinator of one machine. Pure.
//
//   "lease":  | magic, 4 | size, 4 | crc32c, 4 | StoredLease |
//
// Magic HLS1 stands before a LeaseRecord: what versions wrote that knew no second node.
#pragma once

#include <string>

#include "common/le.h"
#include "common/proto/hayloft.pb.h"
#include "common/result.h"

namespace hayloft {

inline constexpr uint64_t kLeaseFileBytesMax = 4096;

std::string EncodeLease(const pb::StoredLease& lease);
// kCorrupt for anything but what Encode writes, or wrote.
Result<pb::StoredLease> DecodeLease(Bytes bytes);

}  // namespace hayloft
