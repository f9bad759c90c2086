// The coordinator of one machine: what its file holds, and what two processes may do with it.
#include "common/ha/lease_file.h"

#include <doctest/doctest.h>

#include "common/ha/claim.h"
#include "common/ha/lease_format.h"
#include "tests/sim/sim_device.h"
#include "tests/sim/sim_random.h"
#include "tests/unit/golden.h"

namespace hayloft {
namespace {

const std::string kNode(kNodeIdBytes, 'n');
const std::string kOther(kNodeIdBytes, 'o');

pb::LeaseRecord RecordOf(const std::string& holder, uint64_t epoch) {
  pb::LeaseRecord record;
  record.set_holder(holder);
  record.set_epoch(epoch);
  record.add_in_sync(holder);
  return record;
}

struct LeaseBench {
  SimDevice disk{1};
  SimRandom random{4};
  void Kill() {
    disk.Crash(CrashMode::kKill);
    disk.Restart();
  }
  // As a process of its own, after the last one was killed: claims the role for kNode.
  Result<uint64_t> Win(uint64_t epoch_above = 0) {
    Kill();
    LeaseFile lease(&disk, &random);
    TRY_ASSIGN(const CoordinatorView view, lease.Read());
    TRY_ASSIGN(const pb::LeaseRecord record,
               ClaimRecord(view, {.node = kNode, .epoch_above = epoch_above}));
    TRY_ASSIGN([[maybe_unused]] const uint64_t version, lease.Commit(record, view.version));
    return record.epoch();
  }
};

pb::LeaseRecord GoldenRecord() {
  pb::LeaseRecord record = RecordOf(kNode, 41);
  record.set_identity("0123456789abcdef");
  record.set_log_position(1'000);
  return record;
}

TEST_CASE("lease_file: the golden bytes are what is written today, and are read") {
  pb::StoredLease lease;
  *lease.mutable_record() = GoldenRecord();
  lease.set_version(7);
  lease.set_ends_ms(300'000);
  lease.set_boot("4ec0c9a1-6f0b-4b6e-9f6f-0e2d1c3b5a79");
  const std::string golden = Golden("lease_v2.hex");
  CHECK_EQ(ToHex(AsBytes(EncodeLease(lease))), ToHex(AsBytes(golden)));
  const Result<pb::StoredLease> read = DecodeLease(AsBytes(golden));
  REQUIRE(read.ok());
  CHECK_EQ(read->SerializeAsString(), lease.SerializeAsString());
  for (size_t size = 0; size < golden.size(); ++size) {
    CHECK_EQ(DecodeLease(AsBytes(golden).first(size)).err(), Err::kCorrupt);
  }
}

TEST_CASE("lease_file: what versions without a second node wrote is a record without a lease") {
  const std::string golden = Golden("lease_v1.hex");
  const Result<pb::StoredLease> read = DecodeLease(AsBytes(golden));
  REQUIRE(read.ok());
  CHECK_EQ(read->record().SerializeAsString(), GoldenRecord().SerializeAsString());
  CHECK_EQ(read->version(), 1);
  CHECK_EQ(read->ends_ms(), 0);
  for (size_t size = 0; size < golden.size(); ++size) {
    CHECK_EQ(DecodeLease(AsBytes(golden).first(size)).err(), Err::kCorrupt);
  }
}

TEST_CASE("lease_file: one process at a time") {
  LeaseBench bench;
  LeaseFile first(&bench.disk, &bench.random);
  LeaseFile second(&bench.disk, &bench.random);
  const Result<uint64_t> version = first.Commit(RecordOf(kNode, 1), 0);
  REQUIRE(version.ok());
  CHECK_EQ(second.Commit(RecordOf(kNode, 2), *version).err(), Err::kExists);
  CHECK(first.Commit(RecordOf(kNode, 2), *version).ok());
}

TEST_CASE("lease_file: a commit needs the version, and keeps the identity") {
  LeaseBench bench;
  LeaseFile lease(&bench.disk, &bench.random);
  CHECK_EQ(lease.Read()->version, 0);
  CHECK_EQ(lease.Commit(RecordOf(kNode, 1), 5).err(), Err::kExists);
  const uint64_t version = lease.Commit(RecordOf(kNode, 1), 0).value();
  const std::string identity = lease.Read()->identity;
  CHECK_EQ(identity.size(), 16);
  CHECK_EQ(lease.Commit(RecordOf(kNode, 2), 0).err(), Err::kExists);
  const uint64_t next = lease.Commit(RecordOf(kNode, 2), version).value();
  CHECK_NE(next, version);
  CHECK_EQ(lease.Commit(RecordOf(kNode, 3), version).err(), Err::kExists);
  const Result<CoordinatorView> view = lease.Read();
  REQUIRE(view.ok());
  CHECK_EQ(view->version, next);
  CHECK_EQ(view->record.epoch(), 2);
  CHECK_EQ(view->identity, identity);
}

TEST_CASE("lease_file: a holder that was overtaken is told, F33") {
  LeaseBench bench;
  LeaseFile old_holder(&bench.disk, &bench.random);
  const Result<uint64_t> version = old_holder.Commit(RecordOf(kNode, 1), 0);
  REQUIRE(version.ok());
  bench.Kill();  // its lock is gone, and it does not know
  LeaseFile new_holder(&bench.disk, &bench.random);
  REQUIRE(new_holder.Commit(RecordOf(kOther, 2), *version).ok());
  CHECK_EQ(old_holder.Commit(RecordOf(kNode, 1), *version).err(), Err::kExists);
}

TEST_CASE("lease_file: any damaged byte is noticed, and replaced only by an operator's word, F63") {
  LeaseBench bench;
  REQUIRE(bench.Win().ok());
  const size_t size = bench.disk.FileImage("lease").size();
  CHECK(size > 40);
  for (uint64_t at = 0; at < size; ++at) {
    bench.disk.FlipBit("lease", at, 4);
    CHECK_EQ(bench.Win().err(), Err::kCorrupt);
    if (at + 1 < size) bench.disk.FlipBit("lease", at, 4);
  }
  bench.Kill();
  LeaseFile lease(&bench.disk, &bench.random);
  CHECK_EQ(lease.Commit(RecordOf(kNode, 9), 1).err(), Err::kExists);
  CHECK(lease.Commit(RecordOf(kNode, 9), 0).ok());
  CHECK_EQ(bench.Win().value(), 10);
}

TEST_CASE("lease_file: a power cut leaves the old record or the new one") {
  for (const CrashMode mode : {CrashMode::kClean, CrashMode::kTorn, CrashMode::kReordered}) {
    for (uint64_t operation = 1; operation < 12; ++operation) {
      LeaseBench bench;
      REQUIRE(bench.Win(/*epoch_above=*/10).ok());
      bench.Kill();
      LeaseFile lease(&bench.disk, &bench.random);
      const Result<CoordinatorView> view = lease.Read();
      REQUIRE(view.ok());
      bench.disk.CrashAtOperation(operation);
      const bool won = lease.Commit(RecordOf(kNode, 12), view->version).ok();
      bench.disk.Crash(mode);
      bench.disk.Restart();
      const Result<uint64_t> next = bench.Win();
      REQUIRE(next.ok());
      CHECK(*next > (won ? 12 : 11));
    }
  }
}

}  // namespace
}  // namespace hayloft
