// The log of a pair on a key-value store, and what a node knows of it in memory.
#include "common/ha/ha_store.h"

#include <doctest/doctest.h>

#include "nameserver/ns_store.h"
#include "tests/sim/mem_kv.h"

namespace hayloft {
namespace {

const std::string kNode(kNodeIdBytes, 'n');
const std::string kOther(kNodeIdBytes, 'o');

pb::HaRecord Record(uint64_t index, uint64_t epoch, const std::string& node = kNode,
                    const std::string& body = "x") {
  pb::HaRecord record;
  record.set_index(index);
  record.set_epoch(epoch);
  record.set_node(node);
  record.set_body(body);
  return record;
}

pb::HaPoint Point(uint64_t index, uint64_t epoch, const std::string& node = kNode) {
  pb::HaPoint point;
  point.set_index(index);
  point.set_epoch(epoch);
  point.set_node(node);
  return point;
}

// As NsStore makes it: a service without rows, and an empty log.
void InitStore(MemKv* kv) { REQUIRE_EQ(NsStore(kv).Init(kNode, {}), Err::kOk); }

TEST_CASE("log_tail: a record is known by index, epoch and node") {
  LogTail log{pb::HaPoint()};
  CHECK(log.Has(pb::HaPoint()));
  log.Append(Record(1, 2));
  log.Append(Record(2, 2));
  log.Append(Record(3, 5, kOther));
  CHECK_EQ(log.last(), 3);
  CHECK(log.Has(Point(2, 2)));
  CHECK_FALSE(log.Has(Point(2, 5)));
  CHECK_FALSE(log.Has(Point(3, 5, kNode)));
  CHECK_FALSE(log.Has(Point(4, 5, kOther)));
  CHECK_EQ(log.FirstOfEpoch(3), 3);
  CHECK_EQ(log.FirstOfEpoch(2), 1);
  log.CutFrom(2);
  CHECK_EQ(log.last(), 1);
  CHECK_FALSE(log.Has(Point(2, 2)));
  log.Append(Record(2, 7));
  CHECK(log.Has(Point(2, 7)));
}

TEST_CASE("log_tail: what was applied leaves the memory once there is too much of it") {
  LogTail log{Point(10, 1)};
  const std::string body(1 << 20, 'b');
  for (uint64_t index = 11; index <= 20; ++index) log.Append(Record(index, 1, kNode, body));
  log.Trim(20);
  CHECK(log.Read(11, 1).empty());
  const std::vector<pb::HaRecord> records = log.Read(19, 1);
  REQUIRE_EQ(records.size(), 1);  // at least one, whatever the bound
  CHECK_EQ(records[0].index(), 19);
  CHECK_EQ(log.Read(18, 3 << 20).size(), 2);
  CHECK(log.Has(Point(12, 1)));
}

TEST_CASE("ha_store: records that were synced are found again, with what was promised") {
  MemKv kv(3);
  InitStore(&kv);
  {
    HaStore store(&kv);
    Result<RoleDisk> disk = store.Load(0);
    REQUIRE(disk.ok());
    CHECK_EQ(disk->head.node(), kNode);
    RoleWrite write;
    write.head = disk->head;
    write.head->set_promised_epoch(4);
    write.records = {Record(1, 4), Record(2, 4), Record(3, 4)};
    REQUIRE_EQ(store.Write(write), Err::kOk);
    write = {};
    write.cut_from = 3;
    write.records = {Record(3, 6, kOther)};
    REQUIRE_EQ(store.Write(write), Err::kOk);
  }
  kv.Crash(CrashMode::kClean);
  kv.Restart();
  HaStore store(&kv);
  Result<RoleDisk> disk = store.Load(0);
  REQUIRE(disk.ok());
  CHECK_EQ(disk->head.promised_epoch(), 4);
  CHECK_EQ(disk->log.last(), 3);
  CHECK(disk->log.Has(Point(3, 6, kOther)));
  CHECK_EQ(store.Read(2)->size(), 2);
  CHECK(store.Read(4)->empty());
  // A log that ends before what was applied lost records that were synced.
  CHECK_EQ(HaStore(&kv).Load(4).err(), Err::kCorrupt);
}

TEST_CASE("ha_store: applied records are kept up to a bound of bytes, also after a restart") {
  MemKv kv(5);
  InitStore(&kv);
  uint64_t next = 1;
  uint64_t base = 0;
  const std::string body(1'000, 'b');
  for (int start = 0; start < 3; ++start) {
    HaStore store(&kv, 10'000);
    REQUIRE(store.Load(base).ok());
    for (const uint64_t last = next + 30; next <= last; ++next) {
      RoleWrite write;
      write.records = {Record(next, 1, kNode, body)};
      REQUIRE_EQ(store.Write(write), Err::kOk);
      if (start == 1) {  // the last one is replaced by another node's
        write.cut_from = next;
        REQUIRE_EQ(store.Write(write), Err::kOk);
      }
      REQUIRE_EQ(store.Truncate(base), Err::kOk);
      CHECK_EQ(HaStore::ReadHead(&kv)->base().index(), base);  // what wasn't applied is kept
    }
    REQUIRE_EQ(store.Truncate(next - 1), Err::kOk);
    base = HaStore::ReadHead(&kv)->base().index();
    CHECK_EQ(store.Read(base + 1)->size(), 9);  // of a little more than 1,000 bytes each
    CHECK(store.Read(base)->empty());
    CHECK_EQ(base + 9, next - 1);
  }
}

TEST_CASE("ha_store: a damaged or missing record is told, never skipped") {
  for (const bool missing : {false, true}) {
    MemKv kv(1);
    InitStore(&kv);
    HaStore store(&kv);
    REQUIRE(store.Load(0).ok());
    RoleWrite write;
    write.records = {Record(1, 1), Record(2, 1), Record(3, 1)};
    REQUIRE_EQ(store.Write(write), Err::kOk);
    std::string key = "log/" + std::string(7, '\0') + '\2';
    Kv::Change change{.key = key, .value = kv.contents().at(key), .remove = missing};
    change.value.back() ^= 1;
    REQUIRE_EQ(kv.Write({&change, 1}, true), Err::kOk);
    CHECK_EQ(HaStore(&kv).Load(0).err(), Err::kCorrupt);
  }
}

TEST_CASE(
    "ha_store: a snapshot replaces everything, and one that was cut short counts as nothing") {
  MemKv from(1);
  REQUIRE_EQ(NsStore(&from).Init(kOther, {}), Err::kOk);
  NsStore rows(&from);
  REQUIRE(rows.Load().ok());
  std::vector<pb::LogRecord> records;
  for (uint64_t index = 1; index <= 50; ++index) {
    pb::LogRecord& record = records.emplace_back();
    record.set_index(index);
    record.mutable_dsp()->set_dsp_id(static_cast<uint32_t>(index));
    record.mutable_dsp()->set_disk_id(std::string(16, static_cast<char>(index)));
  }
  REQUIRE_EQ(rows.Apply(records, true), Err::kOk);
  HaStore source(&from);

  for (const bool whole : {true, false}) {
    MemKv to(2);
    InitStore(&to);
    HaStore store(&to);
    Result<RoleDisk> disk = store.Load(0);
    REQUIRE(disk.ok());
    RoleWrite old;
    old.records = {Record(1, 1), Record(2, 1)};
    REQUIRE_EQ(store.Write(old), Err::kOk);
    std::string after;
    for (bool first = true;; first = false) {
      Result<RoleCore::SnapshotPart> part = source.ReadSnapshot(after, rows.applied());
      REQUIRE(part.ok());
      RoleWrite write;
      write.wipe = first;
      write.head = disk->head;
      *write.head->mutable_base() = Point(50, 3, kOther);
      write.head->set_installing(!part->last || !whole);
      write.rows = part->rows;
      REQUIRE_EQ(store.Write(write), Err::kOk);
      after = part->after;
      if (part->last) break;
    }
    to.Crash(CrashMode::kClean);
    to.Restart();
    Result<RoleDisk> installed = HaStore(&to).Load(whole ? 50 : 0);
    REQUIRE(installed.ok());
    CHECK_EQ(installed->head.node(), kNode);
    CHECK_EQ(installed->head.installing(), !whole);
    CHECK_EQ(installed->log.last(), whole ? 50 : 0);
    if (!whole) continue;
    Result<NsState> state = NsStore(&to).Load();
    REQUIRE(state.ok());
    CHECK_EQ(state->node, kNode);
    CHECK_EQ(state->dsps.size(), 50);
    CHECK_EQ(state->last_index, 50);
  }
}

TEST_CASE("ns_store: a store of format 1 is taken over, its log begins behind what it applied") {
  MemKv kv(1);
  pb::NsHead head;
  head.set_format(1);
  head.set_node(kNode);
  head.set_epoch(7);
  head.set_last_index(2);
  head.mutable_settings()->set_cluster_id("cluster");
  const Kv::Change changes[] = {{.key = "head", .value = head.SerializeAsString()},
                                {.key = "log/" + std::string(7, '\0') + '\1', .value = "old"}};
  REQUIRE_EQ(kv.Write(changes, true), Err::kOk);
  Result<NsState> state = NsStore(&kv).Load();
  REQUIRE(state.ok());
  CHECK_EQ(state->node, kNode);
  CHECK_EQ(state->epoch, 7);
  Result<RoleDisk> disk = HaStore(&kv).Load(state->last_index);
  REQUIRE(disk.ok());
  CHECK_EQ(disk->log.last(), 2);
  CHECK(disk->log.Has(Point(2, 7)));
}

}  // namespace
}  // namespace hayloft
