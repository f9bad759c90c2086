// The part of the nameserver that its log determines: applied records, and nothing else.
//
// Two nameservers that applied the same records are equal here. Who is up, free space and lengths
// are not in it: heartbeats bring them. Threads: one owner. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "common/proto/hayloft.pb.h"
#include "common/result.h"
#include "nameserver/block_table.h"

namespace hayloft {

struct NsState {
  pb::LogSettings settings;
  std::string node;           // 16 random bytes: names this data directory for ever
  uint64_t epoch = 0;         // of the last record
  uint64_t last_index = 0;    // of the last record
  uint64_t id_range_end = 1;  // block ids below it may be in use; 0 is never given
  std::map<uint32_t, pb::LogDsp> dsps;
  BlockTable blocks;
};

// kCorrupt when a record contradicts the bounds or its place: its index must follow the last one.
// The state is then as before.
Err ApplyRecord(const pb::LogRecord& record, NsState* state);

// The row of a block as the log and the store have it.
pb::LogBlock LogBlockOf(const NsState& state, const BlockRecord& record);

}  // namespace hayloft
