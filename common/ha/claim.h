// May this node become the active one? What a claim makes of the coordinator's record. Pure.
//
// To win, a node must be in the in-sync set and its log must reach the record's position; winning
// raises the epoch above every one that was promised. Nodes are named by the random id of their
// data directory.
#pragma once

#include <cstdint>
#include <string>

#include "common/ha/coordinator.h"

namespace hayloft {

inline constexpr size_t kNodeIdBytes = 16;

struct LeaseClaim {
  std::string node;           // kNodeIdBytes
  uint64_t log_position = 0;  // of its own log
  uint64_t epoch_above = 0;   // the highest epoch that this node or a dsp has heard of
  bool force = false;         // an operator says that this node shall be the only one in the set
};

// The record to commit with the view's version: the epoch is a new one, the set is {node}; the
// holder may claim again to raise its epoch. kNotActive: this node is not in the set, or its log is
// too short. Whether another's lease lives is left to the commit.
Result<pb::LeaseRecord> ClaimRecord(const CoordinatorView& view, const LeaseClaim& claim);

}  // namespace hayloft
