// The nameserver's table and log on a key-value store: what a start finds again.
//
//   "head"                 NsHead: node, epoch, last index, id range, settings
//   "block/" id            LogBlock     one row a block  (ids and indexes: 8 bytes, big-endian)
//   "dsp/" id              LogDsp
//   "log/" index           LogRecord    the last kLogKept of them, for a standby
//
// Durability: Append writes its records, and the rows that they change, as one synced batch; after
// an error the store must not be used again, and the process has to end (a failed sync is never
// repeated). Threads: one at a time. Pure; borrows the Kv.
#pragma once

#include <span>
#include <string>

#include "common/ports.h"
#include "common/proto/hayloft.pb.h"
#include "common/result.h"
#include "nameserver/ns_state.h"

namespace hayloft {

inline constexpr uint32_t kNsStoreFormat = 1;

class NsStore {
 public:
  static constexpr uint64_t kLogKept = 100'000;

  explicit NsStore(Kv* kv) : kv_(kv) {}

  // Makes a store of nothing. kExists when the Kv holds anything at all.
  Err Init(std::string_view node, const pb::LogSettings& settings);
  // kNotFound: never initialised. kUnsupported: written by a newer version. kCorrupt: damaged;
  // only a rebuild from the dsps' reports helps.
  Result<NsState> Load();
  // REQUIRES: Init or Load succeeded; the indexes follow the last one.
  Err Append(std::span<const pb::LogRecord> records);

 private:
  Err LoadRows(NsState* state);

  Kv* kv_;
  pb::NsHead head_;
};

}  // namespace hayloft
