// The nameserver's table on a key-value store: what its log amounts to, as far as it was applied.
//
//   "head"                 NsHead: node, epoch, last index, id range, settings
//   "block/" id            LogBlock     one row a block  (ids: 8 bytes, big-endian)
//   "dsp/" id              LogDsp
//
// The log itself lies beside it (common/ha/ha_store.h): a record is synced there, committed, then
// applied here. After an error the store must not be used again, and the process has to end.
// Threads: one at a time. Pure; borrows the Kv.
#pragma once

#include <span>
#include <string>

#include "common/ports.h"
#include "common/proto/hayloft.pb.h"
#include "common/result.h"
#include "nameserver/ns_state.h"

namespace hayloft {

inline constexpr uint32_t kNsStoreFormat = 2;  // 1: records in the rows' batch, for one node

class NsStore {
 public:
  explicit NsStore(Kv* kv) : kv_(kv) {}

  // Makes a store of nothing, and the log beside it. `joining`: of a node that is to follow another
  // one, which has the settings. kExists when the Kv holds anything at all.
  Err Init(std::string_view node, const pb::LogSettings& settings, bool joining = false);
  // kNotFound: never initialised. kUnsupported: written by a newer version. kCorrupt: damaged;
  // only a rebuild from the dsps' reports helps.
  Result<NsState> Load();
  // REQUIRES: Init or Load succeeded; the indexes follow the last one.
  Err Apply(std::span<const pb::LogRecord> records, bool sync);
  Err Apply(std::span<const pb::HaRecord> records, bool sync);  // whose bodies those are
  // Whether rows of a snapshot can be taken: of this version, and behind the place that it names.
  static bool CanTake(const pb::SnapshotRequest& snapshot);
  uint64_t applied() const { return head_.last_index(); }

 private:
  Err LoadRows(NsState* state);
  Err Upgrade();

  Kv* kv_;
  pb::NsHead head_;
};

}  // namespace hayloft
