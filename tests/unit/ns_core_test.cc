#include "nameserver/ns_core.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <set>

#include "common/log.h"
#include "tests/unit/ns_bench.h"

namespace hayloft {
namespace {

size_t CountState(const FakeDsp& dsp, pb::BlockState state) {
  return static_cast<size_t>(
      std::count_if(dsp.blocks.begin(), dsp.blocks.end(),
                    [&](const auto& entry) { return entry.second.state() == state; }));
}

pb::BlockState StateOf(const NsBench& bench, uint64_t block_id) {
  const BlockRecord* record = bench.core->state().blocks.Find(block_id);
  return record == nullptr ? pb::BLOCK_UNKNOWN : static_cast<pb::BlockState>(record->state);
}

pb::LocateReply LocateBlock(NsBench* bench, uint64_t block_id) {
  pb::LocateRequest request;
  request.add_block_ids(block_id);
  pb::LocateReply reply;
  CHECK_EQ(bench->Ask(MessageType::kLocate, request, &reply), Err::kOk);
  return reply;
}

TEST_CASE("ns: each dsp gets two open blocks, and grants name them on different machines") {
  NsBench bench;
  for (int i = 0; i < 3; ++i) bench.AddDsp();
  bench.Run(3'000);
  for (const FakeDsp& dsp : bench.dsps) CHECK_EQ(CountState(dsp, pb::BLOCK_OPEN), 2);
  pb::GrantReply grants;
  CHECK_EQ(bench.Grants(8, &grants), Err::kOk);
  std::set<uint32_t> dsp_ids;
  for (const pb::Grant& grant : grants.grants()) {
    REQUIRE_EQ(grant.replicas_size(), 1);
    dsp_ids.insert(grant.replicas(0).dsp_id());
    CHECK_EQ(grant.replicas(0).incarnation(), 1);
    CHECK_EQ(StateOf(bench, grant.block_id()), pb::BLOCK_OPEN);
  }
  CHECK_EQ(grants.grants_size(), 3);
  CHECK_EQ(dsp_ids.size(), 3);
  CHECK(bench.Status().writable());
}

TEST_CASE("ns: nothing leaves before the log record that it rests on is safe, F62") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  bench.hold_log = true;
  bench.Run(3'000);
  CHECK_EQ(dsp.dsp_id, 0);  // its registration was a record
  CHECK(dsp.commands.empty());
  pb::GrantReply grants;
  CHECK_EQ(bench.Grants(1, &grants), Err::kInternal);  // no answer at all
  bench.SyncLog();
  bench.Run(3'000);
  CHECK_NE(dsp.dsp_id, 0);
  CHECK_EQ(CountState(dsp, pb::BLOCK_OPEN), 2);
}

TEST_CASE("ns: a full block is closed, sealed and replaced") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  bench.Run(3'000);
  const uint64_t block_id = dsp.blocks.begin()->first;
  bench.CloseBlock(&dsp, block_id);
  bench.Run(3'000);
  CHECK_EQ(StateOf(bench, block_id), pb::BLOCK_SEALED);
  CHECK_EQ(dsp.blocks.at(block_id).state(), pb::BLOCK_SEALED);
  CHECK_EQ(CountState(dsp, pb::BLOCK_OPEN), 2);
}

TEST_CASE("ns: a seal is repeated until it is done") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  bench.Run(3'000);
  const uint64_t block_id = dsp.blocks.begin()->first;
  bench.CloseBlock(&dsp, block_id);
  dsp.command_err = Err::kBusy;
  bench.Run(5'000);
  CHECK_EQ(StateOf(bench, block_id), pb::BLOCK_CLOSED);
  dsp.command_err = Err::kOk;
  bench.Run(2'000);
  CHECK_EQ(StateOf(bench, block_id), pb::BLOCK_SEALED);
}

// The dsp makes them all the same, one day: each is 64 MiB.
TEST_CASE("ns: a dsp whose disk is slow is not asked for ever more blocks") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  dsp.slow = true;
  bench.Run(4'000);
  CHECK_EQ(dsp.late.size(), 2);
  bench.FinishLate(&dsp);  // its next heartbeat tells
  bench.Run(2'000);
  CHECK_EQ(CountState(dsp, pb::BLOCK_OPEN), 2);
  CHECK_EQ(dsp.late.size(), 0);
  for (const auto& [block_id, info] : std::map(dsp.blocks)) bench.CloseBlock(&dsp, block_id);
  bench.Run(30'000);  // a report without them says that they are not to come
  CHECK(dsp.late.size() >= 4);
  CHECK(dsp.late.size() <= 8);
  dsp.slow = false;
  bench.RestartDsp(&dsp);  // what its last process did not do, nobody does
  dsp.late.clear();
  bench.Run(3'000);
  CHECK_EQ(CountState(dsp, pb::BLOCK_OPEN), 2);
}

TEST_CASE("ns: a block that clients find bad is replaced at once, and not closed on their word") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  bench.Run(3'000);
  pb::GrantRequest request;
  request.set_count(1);
  pb::GrantReply first;
  REQUIRE_EQ(bench.Ask(MessageType::kGrant, request, &first), Err::kOk);
  const uint64_t bad = first.grants(0).block_id();
  request.add_bad_block_ids(bad);
  pb::GrantReply second;
  REQUIRE_EQ(bench.Ask(MessageType::kGrant, request, &second), Err::kOk);
  CHECK_NE(second.grants(0).block_id(), bad);
  CHECK_EQ(CountState(dsp, pb::BLOCK_OPEN), 3);
  CHECK_EQ(StateOf(bench, bad), pb::BLOCK_OPEN);
  bench.Run(6'000);  // the dsp's report says that it is open
  CHECK_EQ(StateOf(bench, bad), pb::BLOCK_OPEN);
  CHECK_EQ(CountState(dsp, pb::BLOCK_OPEN), 3);
}

TEST_CASE("ns: the list of all blocks comes in pages, each block once, by its name") {
  NsBench bench(NsBench::DefaultSettings(), {.open_blocks_per_dsp = 64});
  for (int i = 0; i < 20; ++i) bench.AddDsp();
  bench.Run(3'000);
  std::vector<uint64_t> all;
  bench.core->state().blocks.ForEach(
      [&](const BlockRecord& record) { all.push_back(record.block_id); });
  REQUIRE_GT(all.size(), 1'000);  // more than a page
  std::vector<uint64_t> listed;
  int pages = 0;
  for (uint64_t next = 1; next != 0; ++pages) {
    pb::LocateRequest request;
    request.set_list_from(next);
    pb::LocateReply reply;
    REQUIRE_EQ(bench.Ask(MessageType::kLocate, request, &reply), Err::kOk);
    for (const pb::Location& block : reply.locations()) {
      listed.push_back(block.block_id());
      CHECK_EQ(block.opening_epoch(),
               bench.core->state().blocks.Find(block.block_id())->opening_epoch);
      CHECK_GT(block.replicas_size(), 0);
    }
    REQUIRE((reply.list_next() == 0 || reply.list_next() > next));
    next = reply.list_next();
  }
  CHECK_EQ(listed, all);
  CHECK_GT(pages, 1);
}

TEST_CASE("ns: a dsp that falls silent loses its open blocks, and comes back") {
  NsBench bench;
  for (int i = 0; i < 4; ++i) bench.AddDsp();
  bench.Run(3'000);
  FakeDsp& dsp = bench.dsps[1];
  dsp.alive = false;
  bench.Run(5'000);
  for (const auto& [block_id, info] : dsp.blocks) {
    CHECK_EQ(StateOf(bench, block_id), pb::BLOCK_CLOSED);
    const pb::LocateReply located = LocateBlock(&bench, block_id);
    CHECK_EQ(located.locations(0).replicas_size(), 1);  // it may be silent to us alone
  }
  pb::GrantReply grants;
  REQUIRE_EQ(bench.Grants(8, &grants), Err::kOk);
  CHECK_EQ(grants.grants_size(), 3);
  CHECK_EQ(bench.Status().dsps(1).state(), "suspect");
  CHECK_GT(bench.Status().dsps(1).silent_ms(), 3'000);
  CHECK_LT(bench.Status().dsps(0).silent_ms(), 3'000);
  dsp.alive = true;  // the same process: it was cut off
  bench.Run(4'000);
  CHECK_EQ(CountState(dsp, pb::BLOCK_SEALED), 2);
  CHECK_EQ(CountState(dsp, pb::BLOCK_OPEN), 2);
  CHECK_EQ(bench.Status().dsps(1).state(), "up");
}

TEST_CASE("ns: a loop that lives while its disk hangs counts as silent, F65") {
  NsBench bench;
  for (int i = 0; i < 4; ++i) bench.AddDsp();
  bench.Run(3'000);
  bench.dsps[0].disk_idle_ms = 3'500;
  bench.Run(5'000);
  CHECK_EQ(bench.Status().dsps(0).state(), "suspect");
  bench.dsps[0].disk_idle_ms = 0;
  bench.Run(2'000);
  CHECK_EQ(bench.Status().dsps(0).state(), "up");
}

TEST_CASE("ns: when half the machines fall silent at once nothing is closed, F37") {
  NsBench bench;
  for (int i = 0; i < 4; ++i) bench.AddDsp();
  bench.Run(3'000);
  bench.dsps[0].alive = false;
  bench.dsps[1].alive = false;
  bench.Run(20'000);
  CHECK_EQ(bench.Status().blocks_open(), 8);
  CHECK_EQ(bench.Status().dsps(0).state(), "suspect");
  bench.dsps[0].alive = true;  // what stays silent alone is acted on
  bench.Run(3'000);
  CHECK_EQ(bench.Status().blocks_open(), 6);
}

TEST_CASE("ns: a nameserver that stalled starts its timers anew, F33") {
  NsBench bench;
  for (int i = 0; i < 4; ++i) bench.AddDsp();
  bench.Run(3'000);
  bench.now.mono_ms += 60'000;
  bench.Run(2'000);
  CHECK_EQ(bench.Status().blocks_open(), 8);
  const pb::ClusterStatusReply status = bench.Status();
  for (const pb::DspStatus& dsp : status.dsps()) CHECK_EQ(dsp.state(), "up");
}

TEST_CASE("ns: a clock that jumps suspects nobody and gives no id twice or out of order, F34") {
  constexpr uint64_t kYearMs = 365ull * 24 * 3'600'000;
  NsBench bench;
  for (int i = 0; i < 4; ++i) bench.AddDsp();
  bench.now.wall_ms = 20 * kYearMs;
  bench.Run(3'000);
  uint64_t last = bench.core->state().id_range_end;
  for (const uint64_t wall_ms : {30 * kYearMs, 10 * kYearMs, (uint64_t{1} << 31) * 1'000}) {
    bench.now.wall_ms = wall_ms;
    bench.Run(2'000);
    const pb::ClusterStatusReply status = bench.Status();
    for (const pb::DspStatus& dsp : status.dsps()) CHECK_EQ(dsp.state(), "up");
    CHECK_EQ(status.blocks_open(), 8);
    bench.RestartNameserver();
    bench.Run(3'000);
    const uint64_t now = bench.core->state().id_range_end;
    CHECK_GE(now, last);
    CHECK_LT(now, last + 10'000);  // a range further at most, wherever the clock went
    last = now;
  }
}

TEST_CASE("ns: a dsp restarted faster than it is suspected gets new blocks, F60") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  bench.Run(3'000);
  const std::map<uint64_t, pb::BlockInfo> before = dsp.blocks;
  bench.RestartDsp(&dsp);
  bench.Run(3'000);
  for (const auto& [block_id, info] : before) CHECK_EQ(StateOf(bench, block_id), pb::BLOCK_SEALED);
  pb::GrantReply grants;
  REQUIRE_EQ(bench.Grants(1, &grants), Err::kOk);
  CHECK_FALSE(before.contains(grants.grants(0).block_id()));
  CHECK_EQ(grants.grants(0).replicas(0).incarnation(), 2);
}

TEST_CASE("ns: clones and old copies of a disk are refused, a moved disk is welcome, F50") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  bench.Run(3'000);
  FakeDsp& clone = bench.AddDsp();
  clone.disk_id = dsp.disk_id;
  clone.incarnation = dsp.incarnation;
  bench.Run(2'000);
  CHECK_EQ(clone.register_err, Err::kExists);
  clone.incarnation = dsp.incarnation + 1;  // it restarted, but its twin is up
  bench.Run(2'000);
  CHECK_EQ(clone.register_err, Err::kExists);
  dsp.alive = false;  // not a clone: the disk was moved
  bench.Run(6'000);
  CHECK_EQ(clone.register_err, Err::kOk);
  CHECK_EQ(clone.dsp_id, dsp.dsp_id);
  dsp.alive = true;  // the old one comes back
  bench.Run(3'000);
  CHECK_EQ(dsp.register_err, Err::kStaleEpoch);
  CHECK_EQ(bench.Status().dsps_size(), 1);
}

TEST_CASE("ns: two disks that were swapped find their places, F50") {
  NsBench bench;
  FakeDsp& one = bench.AddDsp();
  FakeDsp& two = bench.AddDsp();
  bench.Run(3'000);
  const uint32_t one_id = one.dsp_id;
  const uint32_t two_id = two.dsp_id;
  std::swap(one.address, two.address);
  bench.RestartDsp(&one);
  bench.RestartDsp(&two);
  bench.Run(8'000);
  CHECK_EQ(one.dsp_id, one_id);
  CHECK_EQ(two.dsp_id, two_id);
  CHECK_EQ(bench.core->state().dsps.at(one_id).address(), one.address);
}

TEST_CASE("ns: a disk of another cluster is refused, F51") {
  NsBench bench;
  pb::RegisterRequest request;
  request.set_cluster_id(std::string(16, 'x'));
  request.set_disk_id(std::string(16, 'd'));
  request.set_incarnation(1);
  request.set_address("10.0.0.1:1");
  pb::RegisterReply reply;
  CHECK_EQ(bench.Ask(MessageType::kRegister, request, &reply), Err::kConfig);
}

TEST_CASE("ns: a restart of the nameserver finds everything, and leaves open blocks open, F10") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  bench.Run(3'000);
  const uint64_t sealed = dsp.blocks.begin()->first;
  bench.CloseBlock(&dsp, sealed);
  bench.Run(3'000);
  const std::set<uint64_t> open_before = [&] {
    std::set<uint64_t> open;
    for (const auto& [block_id, info] : dsp.blocks) {
      if (info.state() == pb::BLOCK_OPEN) open.insert(block_id);
    }
    return open;
  }();
  const uint64_t epoch = bench.core->state().epoch;
  bench.RestartNameserver();
  CHECK(bench.core->state().epoch > epoch);
  CHECK_EQ(StateOf(bench, sealed), pb::BLOCK_SEALED);
  CHECK_FALSE(LocateBlock(&bench, 4711).complete());
  pb::GrantReply grants;
  CHECK_EQ(bench.Grants(1, &grants), Err::kNoBlock);  // nobody has reported yet
  bench.Run(3'000);
  CHECK(LocateBlock(&bench, 4711).complete());
  REQUIRE_EQ(bench.Grants(1, &grants), Err::kOk);
  CHECK(open_before.contains(grants.grants(0).block_id()));
  CHECK_EQ(CountState(dsp, pb::BLOCK_OPEN), 2);
}

TEST_CASE("ns: block ids are never given twice, whatever dies, F48") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  for (int i = 0; i < 5; ++i) {
    bench.Run(3'000);
    dsp.command_err = Err::kTimeout;  // ids are spent on blocks that never come to be
    for (const auto& [block_id, info] : std::map(dsp.blocks)) {
      if (info.state() == pb::BLOCK_OPEN) bench.CloseBlock(&dsp, block_id);
    }
    bench.Run(3'000);
    dsp.command_err = Err::kOk;
    bench.RestartNameserver();
  }
  bench.Run(3'000);
  std::set<uint64_t> created;
  for (const RpcCall& command : dsp.commands) {
    if (command.type != MessageType::kCreateBlock) continue;
    pb::CreateBlockRequest request;
    REQUIRE(request.ParseFromString(command.message));
    CHECK(created.insert(request.block_id()).second);
  }
  CHECK(created.size() > 20);
}

TEST_CASE("ns: a lost store comes back from reports, with ids far above all marks, F10 F48") {
  NsBench bench;
  for (int i = 0; i < 3; ++i) bench.AddDsp();
  bench.Run(3'000);
  for (FakeDsp& dsp : bench.dsps) {
    for (const auto& [block_id, info] : std::map(dsp.blocks)) bench.CloseBlock(&dsp, block_id);
  }
  bench.Run(5'000);
  const uint64_t mark = bench.core->state().id_range_end;
  const uint64_t blocks = bench.core->state().blocks.size();
  REQUIRE_EQ(blocks, 12);
  bench.RestartNameserver();
  bench.Run(3'000);
  for (FakeDsp& dsp : bench.dsps) dsp.dsp_id = 0;
  bench.dsps[2].alive = false;
  pb::LogSettings settings = NsBench::DefaultSettings();
  settings.set_rebuilding(true);
  settings.set_rebuild_dsps(3);
  bench.WipeNameserver(settings);
  bench.Run(8'000);
  // The dsps have promised the old nameserver's epoch.
  CHECK_FALSE(bench.raised.empty());
  CHECK_FALSE(LocateBlock(&bench, 1).complete());  // one is missing
  bench.dsps[2].alive = true;
  bench.Run(5'000);
  CHECK(LocateBlock(&bench, 1).complete());
  uint64_t reported = 0;
  for (const FakeDsp& dsp : bench.dsps) {
    reported += dsp.blocks.size();
    for (const auto& [block_id, info] : dsp.blocks) {
      CHECK_EQ(StateOf(bench, block_id), info.state());
      const bool old = block_id < mark;
      CHECK((old || block_id >= mark + NsCore::kIdJump));
    }
  }
  CHECK_EQ(bench.core->state().blocks.size(), reported);
  CHECK(reported >= blocks);
}

// Ten minutes of waiting used to end it: then the missing dsp's blocks were "not found".
TEST_CASE("ns: a rebuild ends when all have spoken or an operator says so, never by time, F10") {
  for (const bool by_operator : {false, true}) {
    NsBench bench;
    for (int i = 0; i < 3; ++i) bench.AddDsp();
    bench.Run(3'000);
    const uint64_t missed = bench.dsps[2].blocks.begin()->first;
    bench.dsps[2].alive = false;
    pb::LogSettings settings = NsBench::DefaultSettings();
    settings.set_rebuilding(true);
    settings.set_rebuild_dsps(by_operator ? 0 : 3);  // 0: it is not known how many
    bench.WipeNameserver(settings);
    bench.Run(700'000);
    CHECK(bench.core->state().settings.rebuilding());
    CHECK_FALSE(LocateBlock(&bench, missed).complete());
    CHECK(bench.Status().writable());  // uploads don't wait for that
    if (by_operator) {
      bench.options.end_rebuild = true;
      bench.RestartNameserver();
      CHECK(bench.core->state().settings.rebuilding());  // not before those that live have spoken
    } else {
      bench.dsps[2].alive = true;
    }
    bench.Run(5'000);
    CHECK_FALSE(bench.core->state().settings.rebuilding());
    CHECK(LocateBlock(&bench, missed).complete());
    CHECK_EQ(LocateBlock(&bench, missed).locations(0).replicas_size(), by_operator ? 0 : 1);
  }
}

TEST_CASE("ns: what was reported to a lower epoch does not end a rebuild, F32") {
  NsBench bench;
  FakeDsp& first = bench.AddDsp();
  pb::LogSettings settings = NsBench::DefaultSettings();
  settings.set_rebuilding(true);
  settings.set_rebuild_dsps(2);
  bench.WipeNameserver(settings);
  bench.Run(3'000);
  CHECK_EQ(bench.core->DspsReported(), 1);
  const uint64_t reports = first.report_id;
  first.alive = false;
  FakeDsp& second = bench.AddDsp();
  second.promised_epoch = 40;
  bench.Run(2'900);  // the first one is not suspected yet
  CHECK_EQ(bench.raised.size(), 1);
  CHECK_EQ(bench.core->DspsReported(), 1);  // the second one
  CHECK(bench.core->state().settings.rebuilding());
  first.alive = true;
  bench.Run(5'000);
  CHECK(first.report_id > reports);
  CHECK_FALSE(bench.core->state().settings.rebuilding());
}

// Numbers given anew, in the order of coming, made one dsp's heartbeats count for another.
TEST_CASE("ns: a rebuilt nameserver gives each disk the number that it had, F10") {
  NsBench bench;
  for (int i = 0; i < 3; ++i) bench.AddDsp();
  bench.Run(3'000);
  std::vector<uint32_t> had;
  for (FakeDsp& dsp : bench.dsps) had.push_back(dsp.dsp_id);
  for (FakeDsp& dsp : bench.dsps) dsp.alive = false;
  pb::LogSettings settings = NsBench::DefaultSettings();
  settings.set_rebuilding(true);
  settings.set_rebuild_dsps(3);
  bench.WipeNameserver(settings);
  bench.dsps[2].alive = true;  // its process never ended: it goes on under its number
  bench.AddDsp();
  bench.Run(5'000);
  CHECK_EQ(bench.dsps[2].dsp_id, had[2]);
  CHECK(bench.dsps[3].dsp_id > 1 << 16);  // a new disk: any small number may be in use
  for (FakeDsp& dsp : bench.dsps) dsp.alive = true;
  bench.Run(8'000);
  for (size_t i = 0; i < had.size(); ++i) CHECK_EQ(bench.dsps[i].dsp_id, had[i]);
}

TEST_CASE("ns: a restored backup gives out no id that the cluster has heard of, F48 F54") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  dsp.block_range_end = 500'000;  // handed out after the backup was made
  bench.Run(3'000);
  REQUIRE_EQ(dsp.blocks.size(), 2);
  CHECK(dsp.blocks.begin()->first >= 500'000 + NsCore::kIdJump);
}

TEST_CASE("ns: the last block id is used and none after it, F47") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  dsp.block_range_end = kBlockIdMax + 1 - NsCore::kIdJump - 1;  // leaves one
  bench.Run(3'000);
  REQUIRE_EQ(dsp.blocks.size(), 1);
  CHECK_EQ(dsp.blocks.begin()->first, kBlockIdMax);
  bench.CloseBlock(&dsp, kBlockIdMax);
  bench.Run(5'000);
  CHECK_EQ(dsp.blocks.size(), 1);
  pb::GrantReply grants;
  CHECK_EQ(bench.Grants(1, &grants), Err::kNoBlock);
}

TEST_CASE("ns: the epoch is raised above one that a dsp has promised, F32") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  dsp.promised_epoch = 40;
  bench.Run(3'000);
  REQUIRE_EQ(bench.raised.size(), 1);
  CHECK_EQ(bench.core->state().epoch, 41);
  CHECK_EQ(CountState(dsp, pb::BLOCK_OPEN), 2);
}

TEST_CASE("ns: a dsp that goes on refusing the epoch makes it rise, F32") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  dsp.command_err = Err::kStaleEpoch;  // it has promised this epoch to another node
  bench.Run(8'000);
  CHECK_FALSE(bench.raised.empty());
}

TEST_CASE("ns: any order of start ends the same, F49") {
  for (const bool dsps_first : {false, true}) {
    NsBench bench;
    for (int i = 0; i < 3; ++i) bench.AddDsp();
    bench.Run(3'000);
    for (FakeDsp& dsp : bench.dsps) bench.RestartDsp(&dsp);
    for (FakeDsp& dsp : bench.dsps) dsp.alive = dsps_first;
    bench.RestartNameserver();
    bench.Run(10'000);
    for (FakeDsp& dsp : bench.dsps) dsp.alive = true;
    bench.Run(5'000);
    CHECK_EQ(bench.Status().dsps_reported(), 3);
    CHECK_EQ(bench.Status().blocks_sealed(), 6);
    CHECK_EQ(bench.Status().blocks_open(), 6);
    CHECK_EQ(bench.Status().blocks_lost(), 0);
    CHECK(bench.Status().writable());
  }
}

TEST_CASE("ns: a gap in the numbered changes asks for all blocks") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  bench.Run(3'000);
  const uint64_t block_id = dsp.blocks.begin()->first;
  bench.CloseBlock(&dsp, block_id);
  dsp.changed.clear();  // the message got lost
  dsp.report_sequence += 1;
  bench.CloseBlock(&dsp, std::next(dsp.blocks.begin())->first);
  bench.Run(5'000);
  CHECK_EQ(StateOf(bench, block_id), pb::BLOCK_SEALED);
}

TEST_CASE("ns: a block that its dsp no longer has is counted as lost, F30") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  bench.Run(3'000);
  bench.CloseBlock(&dsp, dsp.blocks.begin()->first);
  bench.Run(3'000);
  const uint64_t gone = dsp.blocks.begin()->first;
  dsp.blocks.erase(gone);
  bench.RestartDsp(&dsp);
  bench.Run(3'000);
  CHECK_EQ(bench.Status().blocks_lost(), 1);
  CHECK_EQ(bench.Status().blocks_under_replicated(), 1);
  CHECK_EQ(LocateBlock(&bench, gone).locations(0).replicas_size(), 0);
}

TEST_CASE("ns: full disks get nothing, and when all are full clients are told so, F22") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  dsp.free_bytes = 5ull << 30;  // of 200 GiB: more than 95 % are used
  bench.Run(3'000);
  CHECK(dsp.blocks.empty());
  pb::GrantReply grants;
  CHECK_EQ(bench.Grants(1, &grants), Err::kFull);
  CHECK_FALSE(bench.Status().writable());
}

TEST_CASE("ns: a dsp's own limit decides when it is full, F22") {
  NsBench bench;
  for (int i = 0; i < 3; ++i) bench.AddDsp();
  bench.dsps[0].full_percent = 50;  // of 200 GiB 100 are free
  bench.dsps[1].full_percent = 51;
  bench.dsps[2].full_percent = 99;
  bench.dsps[2].free_bytes = 5ull << 30;
  bench.Run(3'000);
  CHECK(bench.dsps[0].blocks.empty());
  CHECK_EQ(CountState(bench.dsps[1], pb::BLOCK_OPEN), 2);
  CHECK_EQ(CountState(bench.dsps[2], pb::BLOCK_OPEN), 2);
}

std::atomic<int> nearly_full_lines{0};

TEST_CASE("ns: a disk that gets nearly full is warned of once for each crossing") {
  SetLogSink(
      [](LogLevel, std::string_view line) {
        if (line.starts_with("dsp_nearly_full")) ++nearly_full_lines;
      },
      LogLevel::kWarn);
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  nearly_full_lines = 0;
  const auto after = [&](uint64_t used_percent) {
    dsp.free_bytes = (200ull << 30) / 100 * (100 - used_percent);
    bench.Run(3'000);
    return nearly_full_lines.load();
  };
  CHECK_EQ(after(84), 0);
  CHECK_EQ(after(86), 1);
  CHECK(bench.core->membership().Find(dsp.dsp_id)->nearly_full);
  CHECK_EQ(after(84), 1);  // it hovers
  CHECK_EQ(after(86), 1);
  CHECK_EQ(after(80), 1);
  CHECK_FALSE(bench.core->membership().Find(dsp.dsp_id)->nearly_full);
  CHECK_EQ(after(90), 2);
  dsp.disk_state = pb::DISK_FAILED;
  CHECK_EQ(after(100), 2);
  CHECK_FALSE(bench.core->membership().Find(dsp.dsp_id)->nearly_full);
  SetLogSink([](LogLevel, std::string_view) {}, LogLevel::kDebug);
}

TEST_CASE("ns: a failed disk is named, and not written to, F20 F24") {
  NsBench bench;
  for (int i = 0; i < 2; ++i) bench.AddDsp();
  bench.Run(3'000);
  bench.dsps[0].disk_state = pb::DISK_FAILED;
  bench.Run(3'000);
  CHECK_EQ(bench.Status().dsps(0).state(), "failed");
  CHECK_EQ(bench.Status().blocks_open(), 2);
  pb::GrantReply grants;
  REQUIRE_EQ(bench.Grants(8, &grants), Err::kOk);
  CHECK_EQ(grants.grants_size(), 1);
}

TEST_CASE("ns: a failed disk that cannot raise its incarnation is taken in again, F21") {
  NsBench bench;
  FakeDsp& dsp = bench.AddDsp();
  bench.Run(3'000);
  bench.RestartDsp(&dsp);
  bench.Run(3'000);
  dsp.disk_state = pb::DISK_FAILED;
  bench.RestartDsp(&dsp);
  dsp.incarnation = 1;
  bench.Run(3'000);
  CHECK_EQ(dsp.register_err, Err::kOk);
  CHECK_EQ(bench.Status().dsps(0).state(), "failed");
  dsp.disk_state = pb::DISK_HEALTHY;  // an old copy of a sound disk is another matter
  bench.RestartDsp(&dsp);
  dsp.incarnation = 0;
  bench.Run(2'000);
  CHECK_NE(dsp.register_err, Err::kOk);
}

TEST_CASE("ns: malformed and foreign requests are answered, not obeyed") {
  NsBench bench;
  bench.AddDsp();
  bench.Run(3'000);
  const std::string junk = "\xff\xff\xff";
  for (const MessageType type :
       {MessageType::kRegister, MessageType::kHeartbeat, MessageType::kBlockReport,
        MessageType::kGrant, MessageType::kLocate}) {
    CHECK_EQ(bench.Send(type, junk).err, Err::kInvalid);
  }
  CHECK_EQ(bench.Send(MessageType::kAppend, "").err, Err::kUnsupported);
  pb::HeartbeatRequest unknown;
  unknown.set_dsp_id(99);
  pb::HeartbeatReply reply;
  CHECK_EQ(bench.Ask(MessageType::kHeartbeat, unknown, &reply), Err::kOk);
  CHECK(reply.register_again());
}

}  // namespace
}  // namespace hayloft
