// Two nodes and their records, for tests of coordinators.
#pragma once

#include <string>

#include "common/ha/coordinator.h"

namespace hayloft {

inline const std::string kNode(kNodeIdBytes, 'n');
inline const std::string kOther(kNodeIdBytes, 'o');

inline pb::LeaseRecord RecordOf(const std::string& holder, uint64_t epoch) {
  pb::LeaseRecord record;
  record.set_holder(holder);
  record.set_epoch(epoch);
  record.add_in_sync(holder);
  return record;
}

}  // namespace hayloft
