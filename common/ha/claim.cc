#include "common/ha/claim.h"

#include <algorithm>

#include "common/check.h"
#include "common/log.h"

namespace hayloft {

Result<pb::LeaseRecord> ClaimRecord(const CoordinatorView& view, const LeaseClaim& claim) {
  ASSERT(claim.node.size() == kNodeIdBytes);
  pb::LeaseRecord record;
  if (view.version != 0) {
    record = view.record;
    const auto& set = record.in_sync();
    const bool member = std::find(set.begin(), set.end(), claim.node) != set.end();
    const bool may_win = member && claim.log_position >= record.log_position();
    if (!may_win && !claim.force) return Err::kNotActive;
  } else if (claim.epoch_above > 0) {
    // Not the first start: it was lost. No other node is known that could know more than this one.
    LOG_WARN("lease_record_lost", "action=new_record");
  }
  const uint64_t highest = std::max(record.epoch(), claim.epoch_above);
  if (highest == UINT64_MAX) return Err::kCorrupt;  // no count of wins comes that far
  record.set_epoch(highest + 1);
  record.set_holder(claim.node);
  record.clear_in_sync();
  record.add_in_sync(claim.node);
  record.set_log_position(claim.log_position);
  return record;
}

}  // namespace hayloft
