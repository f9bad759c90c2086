// Who may become the active node, by the record and what a node has.
#include "common/ha/claim.h"

#include <doctest/doctest.h>

namespace hayloft {
namespace {

const std::string kNode(kNodeIdBytes, 'n');
const std::string kOther(kNodeIdBytes, 'o');

CoordinatorView ViewOf(const pb::LeaseRecord& record) {
  return {.identity = record.identity(), .record = record, .version = 7};
}

CoordinatorView After(const LeaseClaim& claim, const CoordinatorView& view = {}) {
  const Result<pb::LeaseRecord> record = ClaimRecord(view, claim);
  REQUIRE(record.ok());
  return ViewOf(*record);
}

TEST_CASE("claim: each win raises the epoch above all that was heard of, F32") {
  CoordinatorView view = After({.node = kNode});
  CHECK_EQ(view.record.epoch(), 1);
  view = After({.node = kNode}, view);
  CHECK_EQ(view.record.epoch(), 2);
  view = After({.node = kNode, .epoch_above = 40}, view);
  CHECK_EQ(view.record.epoch(), 41);
  CHECK_EQ(view.record.holder(), kNode);
  CHECK_EQ(ClaimRecord(view, {.node = kNode, .epoch_above = UINT64_MAX}).err(), Err::kCorrupt);
}

TEST_CASE("claim: an outdated or foreign node doesn't win unless an operator says so, F61") {
  const CoordinatorView view = After({.node = kNode, .log_position = 10});
  CHECK_EQ(ClaimRecord(view, {.node = kNode, .log_position = 9}).err(), Err::kNotActive);
  CHECK(ClaimRecord(view, {.node = kNode, .log_position = 10}).ok());
  CHECK_EQ(ClaimRecord(view, {.node = kOther, .log_position = 99}).err(), Err::kNotActive);
  const LeaseClaim forced{.node = kOther, .log_position = 3, .force = true};
  const Result<pb::LeaseRecord> record = ClaimRecord(view, forced);
  REQUIRE(record.ok());
  CHECK_EQ(record->holder(), kOther);
  CHECK_EQ(record->log_position(), 3);
  CHECK_EQ(record->epoch(), 2);
  REQUIRE_EQ(record->in_sync_size(), 1);
  CHECK_EQ(record->in_sync(0), kOther);
}

TEST_CASE("claim: any member of the set may win, and leaves the others out of it") {
  CoordinatorView view = After({.node = kNode, .log_position = 10});
  view.record.add_in_sync(kOther);
  const CoordinatorView won = After({.node = kOther, .log_position = 12}, view);
  CHECK_EQ(won.record.log_position(), 12);
  CHECK_EQ(ClaimRecord(won, {.node = kNode, .log_position = 99}).err(), Err::kNotActive);
}

}  // namespace
}  // namespace hayloft
