// Who is the active nameserver: one small record, changed by transactions only.
//
// The record names the holder, its epoch, the nodes that have all that was acknowledged (the
// in-sync set) and how far the log had come. To win, a node must be in that set and its log must
// reach that position; winning raises the epoch above every one that was promised. Nodes are named
// by the random id of their data directory. Threads: one at a time.
#pragma once

#include <cstdint>
#include <string>

#include "common/proto/hayloft.pb.h"
#include "common/result.h"

namespace hayloft {

struct LeaseClaim {
  std::string node;           // 16 bytes
  uint64_t log_position = 0;  // of its own log
  uint64_t epoch_above = 0;   // the highest epoch that this node or a dsp has heard of
  bool force = false;         // an operator says that this node shall be the only one in the set
};

class Coordinator {
 public:
  virtual ~Coordinator() = default;
  // kNotFound: there is none. kCorrupt, kIo.
  virtual Result<pb::LeaseRecord> Read() = 0;
  // The new epoch; the set is {node}, and the holder may claim again to raise its epoch.
  // kExists: another process holds the role. kNotActive: this node is not in the set, or its log
  // is too short. kCorrupt (unless forced), kIo, kFull.
  virtual Result<uint64_t> Acquire(const LeaseClaim& claim) = 0;
  // Says how far the log has come. kNotActive: another one has won meanwhile.
  virtual Err Renew(uint64_t log_position) = 0;
};

}  // namespace hayloft
