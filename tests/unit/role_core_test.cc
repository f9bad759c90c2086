// The rules of a pair, one by one. What orders of events can do to them is left to the random
// walks of the simulator (tests/sim/pair_walk.h), of which some run here.
#include "common/ha/role_core.h"

#include <doctest/doctest.h>

#include "common/log.h"
#include "tests/sim/pair_walk.h"

namespace hayloft {
namespace {

const std::string kNode(kNodeIdBytes, 'n');
const std::string kPeer(kNodeIdBytes, 'p');

// One node whose disk and coordinator do what the test says.
struct RoleBench {
  RoleOptions options;
  pb::HaHead head;
  std::unique_ptr<RoleCore> role;
  Now now{.mono_ms = 1'000'000, .wall_ms = 0};
  RoleOutbox out;
  std::vector<pb::HaRecord> committed;

  RoleBench() {
    options.node = kNode;
    options.address = "10.0.0.1:7000";
    options.peer = "10.0.0.2:7000";
  }
  void Start(uint64_t records = 0, uint64_t epoch = 1) {
    LogTail log{pb::HaPoint()};
    for (uint64_t index = 1; index <= records; ++index) {
      pb::HaRecord record;
      record.set_index(index);
      record.set_epoch(epoch);
      record.set_node(kPeer);
      log.Append(record);
    }
    RoleDisk disk{.head = head, .log = std::move(log), .applied = 0};
    role = std::make_unique<RoleCore>(options, std::move(disk), 1);
    role->Start(now, &out);
  }
  // What it asked the coordinator.
  CoordinatorCall Asked() {
    REQUIRE(out.coordinator.has_value());
    CoordinatorCall call = *out.coordinator;
    out.coordinator.reset();
    return call;
  }
  void See(const pb::LeaseRecord& record, uint64_t version, bool held,
           const std::string& identity = "one") {
    REQUIRE_EQ(Asked().kind, CoordinatorCall::Kind::kRead);
    CoordinatorDone done;
    done.view = {.identity = identity, .record = record, .version = version, .held = held};
    role->OnCoordinatorDone(std::move(done), now, &out);
  }
  void Answer(Err err, uint64_t version = 0) {
    CoordinatorDone done;
    done.err = err;
    done.version = version;
    role->OnCoordinatorDone(std::move(done), now, &out);
  }
  void Written() {
    while (out.write.has_value()) {
      out.write.reset();
      role->OnWritten(now, &out);
    }
    for (pb::HaRecord& record : out.committed) committed.push_back(record);
    out.committed.clear();
  }
  void Pass(uint64_t ms) {
    now.mono_ms += ms;
    role->OnTick(now, &out);
  }
  Err Request(MessageType type, const std::string& message, std::string* reply = nullptr) {
    RpcRequest request;
    request.type = type;
    request.message = message;
    out.replies.clear();
    role->OnRequest(std::move(request), now, &out);
    Written();
    REQUIRE_EQ(out.replies.size(), 1);
    if (reply != nullptr) *reply = out.replies[0].message;
    return out.replies[0].err;
  }
  pb::LeaseRecord RecordOf(uint64_t epoch, uint64_t position, bool member,
                           const std::string& holder = kPeer) {
    pb::LeaseRecord record;
    record.set_holder(holder);
    record.set_epoch(epoch);
    record.add_in_sync(kPeer);
    if (member) record.add_in_sync(kNode);
    record.set_log_position(position);
    return record;
  }
  // It claims, wins and is active, with a first record under its epoch.
  void Win(const pb::LeaseRecord& record, uint64_t version) {
    See(record, version, false);
    CHECK_EQ(Asked().kind, CoordinatorCall::Kind::kCommit);
    Answer(Err::kOk, version + 1);
    Written();
    REQUIRE(out.promoted.has_value());
    role->Propose(role->last() + 1, {"start"}, now, &out);
    Written();
  }
};

pb::ShipRequest ShipOf(uint64_t epoch, const pb::HaPoint& previous, uint64_t records) {
  pb::ShipRequest ship;
  ship.set_epoch(epoch);
  ship.set_node(kPeer);
  ship.set_identity("one");
  *ship.mutable_previous() = previous;
  for (uint64_t i = 1; i <= records; ++i) {
    pb::HaRecord& record = *ship.add_records();
    record.set_index(previous.index() + i);
    record.set_epoch(epoch);
    record.set_node(kPeer);
  }
  ship.set_last_index(previous.index() + records);
  return ship;
}

TEST_CASE("role_core: the first node of a cluster wins, promises, and only then is active") {
  RoleBench bench;
  bench.Start();
  bench.See({}, 0, false, "");
  const CoordinatorCall claim = bench.Asked();
  CHECK_EQ(claim.kind, CoordinatorCall::Kind::kCommit);
  CHECK_EQ(claim.version, 0);
  CHECK_EQ(claim.record.epoch(), 1);
  bench.Answer(Err::kOk, 1);
  pb::LeaseRecord record = claim.record;
  record.set_identity("made");
  bench.See(record, 1, true);  // the identity is the coordinator's
  CHECK_FALSE(bench.role->active());
  REQUIRE(bench.out.write.has_value());
  CHECK_EQ(bench.out.write->head->promised_epoch(), 1);
  CHECK_EQ(bench.out.write->head->identity(), "one");
  bench.Written();
  CHECK(bench.role->active());
}

TEST_CASE("role_core: F61: who is not in the set, or whose log is short, does not win") {
  RoleBench bench;
  bench.Start(5);
  bench.See(bench.RecordOf(3, 5, /*member=*/false), 1, false);
  CHECK_FALSE(bench.out.coordinator.has_value());
  bench.Pass(RoleCore::kPollMs);
  bench.See(bench.RecordOf(3, 6, /*member=*/true), 2, false);
  CHECK_FALSE(bench.out.coordinator.has_value());
  CHECK_EQ(bench.role->why_waiting(), "its log is too short");
  bench.Pass(RoleCore::kPollMs);
  bench.See(bench.RecordOf(3, 5, /*member=*/true), 3, true);  // somebody's lease lives
  CHECK_FALSE(bench.out.coordinator.has_value());
  bench.Pass(RoleCore::kPollMs);
  bench.See(bench.RecordOf(3, 5, /*member=*/true), 3, false);
  CHECK_EQ(bench.Asked().record.epoch(), 4);
}

TEST_CASE("role_core: F63: a record that was lost or restored is not believed") {
  RoleBench bench;
  bench.head.set_identity("one");
  bench.Start(5);
  bench.See({}, 0, false, "");
  CHECK_FALSE(bench.out.coordinator.has_value());
  bench.Pass(RoleCore::kPollMs);
  bench.See(bench.RecordOf(1, 1, true), 1, false, "another");
  CHECK_FALSE(bench.out.coordinator.has_value());
  // An operator says so: after a lease that nobody could see any more.
  bench.role->Force(bench.now);
  bench.Pass(RoleCore::kPollMs);
  bench.See(bench.RecordOf(1, 1, true), 1, false, "another");
  CHECK_FALSE(bench.out.coordinator.has_value());
  bench.Pass(bench.options.lease_ms);
  bench.See(bench.RecordOf(1, 1, true), 1, false, "another");
  CHECK_EQ(bench.Asked().record.forced_epoch(), 2);
}

TEST_CASE("role_core: F63: a record whose version fell is not believed until another is active") {
  RoleBench bench;
  bench.head.set_identity("one");
  bench.head.set_record_version(7);
  bench.Start(5);
  bench.See(bench.RecordOf(1, 5, true), 6, false);
  CHECK_FALSE(bench.out.coordinator.has_value());
  CHECK_FALSE(bench.role->in_sync());
  CHECK_EQ(bench.role->why_waiting(),
           "the coordinator's record is from a backup: force-promote decides");
  // The other one was forced, and takes this one back.
  pb::HaPoint last;
  last.set_index(5);
  last.set_epoch(1);
  last.set_node(kPeer);
  CHECK_EQ(bench.Request(MessageType::kShip, ShipOf(2, last, 1).SerializeAsString()), Err::kOk);
  bench.Pass(RoleCore::kPollMs);
  bench.See(bench.RecordOf(2, 6, true), 4, true);
  CHECK(bench.role->in_sync());
  bench.Pass(RoleCore::kPollMs);
  bench.See(bench.RecordOf(2, 6, true), 3, false);  // and again
  CHECK_FALSE(bench.out.coordinator.has_value());
  bench.Pass(RoleCore::kPollMs);
  bench.See(bench.RecordOf(2, 6, true), 5, false);
  CHECK_EQ(bench.Asked().kind, CoordinatorCall::Kind::kCommit);
}

TEST_CASE("role_core: F63: an active one whose record went back ends") {
  RoleBench bench;
  bench.Start(2);
  bench.Win(bench.RecordOf(1, 2, true), 7);
  CHECK_EQ(bench.role->head().record_version(), 8);
  for (int i = 0; i < 15 && !bench.out.coordinator.has_value(); ++i) bench.Pass(100);
  const CoordinatorCall renewal = bench.Asked();
  bench.Answer(Err::kOk, 9);
  bench.role->Propose(bench.role->last() + 1, {"nothing"}, bench.now, &bench.out);
  REQUIRE(bench.out.write.has_value());
  REQUIRE(bench.out.write->head.has_value());
  CHECK_EQ(bench.out.write->head->record_version(), 9);
  bench.Written();
  for (int i = 0; i < 15 && !bench.out.coordinator.has_value(); ++i) bench.Pass(100);
  CHECK_EQ(bench.Asked().version, 9);
  bench.Answer(Err::kExists);
  bench.Pass(100);
  CHECK(bench.out.exit.empty());
  bench.See(renewal.record, 8, false);  // its own, as it was before
  CHECK_FALSE(bench.out.exit.empty());
}

TEST_CASE("role_core: what was put off is written in a hurry, with the next record, by the tick") {
  RoleBench bench;
  bench.options.peer.clear();
  bench.Start(2);
  bench.Win(bench.RecordOf(1, 2, true), 7);
  const auto put_off = [&] {
    bench.role->PutOff(bench.role->last() + 1, {"put off"});
    CHECK_FALSE(bench.out.write.has_value());
  };
  const auto written = [&](size_t records) {
    REQUIRE(bench.out.write.has_value());
    CHECK_EQ(bench.out.write->records.size(), records);
    bench.Written();
    CHECK_EQ(bench.role->committed(), bench.role->last());
  };
  put_off();
  put_off();
  bench.role->Hurry(bench.now, &bench.out);
  written(2);
  bench.role->Hurry(bench.now, &bench.out);
  CHECK_FALSE(bench.out.write.has_value());
  put_off();
  bench.role->Propose(bench.role->last() + 1, {"waited for"}, bench.now, &bench.out);
  written(2);
  put_off();
  bench.Pass(50);
  written(1);
}

TEST_CASE("role_core: F63: an operator's word does not outlive another's being active") {
  RoleBench bench;
  bench.Start(5);
  bench.See(bench.RecordOf(3, 9, false), 1, false);
  bench.role->Force(bench.now);
  bench.Pass(RoleCore::kPollMs);
  bench.See(bench.RecordOf(4, 9, false), 2, true);  // it has come back meanwhile
  bench.Pass(bench.options.lease_ms);
  bench.See(bench.RecordOf(4, 9, false), 2, false);
  bench.Pass(bench.options.lease_ms);
  bench.See(bench.RecordOf(4, 9, false), 2, false);
  CHECK_FALSE(bench.out.coordinator.has_value());
}

TEST_CASE("role_core: F62: with a silent standby nothing is committed until the set is smaller") {
  RoleBench bench;
  bench.Start(2);
  bench.Win(bench.RecordOf(1, 2, true), 7);
  // The standby answers, catches up and joins.
  REQUIRE_EQ(bench.out.calls.size(), 1);
  pb::ShipReply reply;
  reply.set_node(kPeer);
  reply.set_process(9);
  reply.set_matched(3);
  const auto answer = [&](Err err) {
    CallDone done;
    done.call_id = bench.out.calls.back().call_id;
    done.err = err;
    done.message = reply.SerializeAsString();
    bench.out.calls.clear();
    bench.role->OnCallDone(std::move(done), bench.now, &bench.out);
  };
  answer(Err::kOk);
  if (!bench.out.calls.empty()) answer(Err::kOk);
  CoordinatorCall join = bench.Asked();
  CHECK_EQ(join.record.in_sync_size(), 2);
  bench.Answer(Err::kOk, 9);
  CHECK_FALSE(bench.role->solo());

  const uint64_t before = bench.role->committed();
  bench.role->Propose(bench.role->last() + 1, {"create"}, bench.now, &bench.out);
  bench.Written();
  CHECK_EQ(bench.role->committed(), before);
  // Its packets are dropped: no answer comes. The lease is renewed; then a smaller set is asked
  // for, and that answer gets lost.
  CoordinatorCall leave;
  uint64_t version = 9;
  for (int i = 0; i < 40 && leave.record.in_sync_size() != 1; ++i) {
    bench.Pass(50);
    if (!bench.out.coordinator.has_value()) continue;
    leave = bench.Asked();
    if (leave.record.in_sync_size() == 2) bench.Answer(Err::kOk, ++version);
  }
  CHECK_EQ(leave.record.in_sync_size(), 1);
  CHECK_FALSE(leave.renews);  // nothing was synced since the last renewal
  bench.Answer(Err::kTimeout);
  CHECK_EQ(bench.role->committed(), before);  // unsettled: it waits for both sets
  for (int i = 0; i < 30 && !bench.out.coordinator.has_value(); ++i) bench.Pass(50);
  CHECK_EQ(bench.Asked().record.in_sync_size(), 1);
  bench.Answer(Err::kOk, ++version);
  bench.Written();
  CHECK(bench.role->solo());
  CHECK_EQ(bench.role->committed(), bench.role->last());
}

TEST_CASE("role_core: who hands over to one that is gone ends at once, else it waits for it") {
  for (const Err peer : {Err::kUnavailable, Err::kTimeout, Err::kOk}) {
    RoleBench bench;
    bench.Start(2);
    bench.Win(bench.RecordOf(1, 2, true), 7);
    uint64_t version = 8;
    bool begun = false;
    uint64_t told_ms = 0;
    for (int i = 0; i < 200 && bench.out.exit.empty(); ++i) {
      if (bench.out.coordinator.has_value()) {
        const CoordinatorCall call = bench.Asked();
        if (call.kind == CoordinatorCall::Kind::kRead) {
          CoordinatorDone done;
          done.view = {.identity = "one",
                       .record = bench.RecordOf(2, 3, true, kNode),
                       .version = version,
                       .held = false};
          bench.role->OnCoordinatorDone(std::move(done), bench.now, &bench.out);
        } else {
          bench.Answer(Err::kOk, ++version);
        }
      }
      for (const RpcCall& call : std::exchange(bench.out.calls, {})) {
        CallDone done;
        done.call_id = call.call_id;
        if (call.type == MessageType::kTakeOver) {
          told_ms = bench.now.mono_ms;
          done.err = peer;
        } else {
          pb::ShipReply reply;
          reply.set_node(kPeer);
          reply.set_process(9);
          reply.set_matched(bench.role->last());
          done.message = reply.SerializeAsString();
        }
        bench.role->OnCallDone(std::move(done), bench.now, &bench.out);
      }
      bench.Written();
      if (!begun) begun = bench.role->HandOver(bench.now, &bench.out);
      bench.Pass(50);
    }
    REQUIRE_NE(told_ms, 0);
    REQUIRE_FALSE(bench.out.exit.empty());
    const uint64_t waited_ms = bench.now.mono_ms - told_ms;
    if (peer == Err::kUnavailable) CHECK_LE(waited_ms, 100);
    if (peer != Err::kUnavailable) CHECK_GE(waited_ms, RoleCore::kTakeOverMs);
  }
}

TEST_CASE("role_core: F33 F36: an active one answers for 2/3 of its lease, and ends at its end") {
  RoleBench bench;
  bench.Start(2);
  bench.Win(bench.RecordOf(1, 2, true), 7);
  CHECK(bench.role->MayAnswer(bench.now));
  bench.now.mono_ms += 1'999;
  CHECK(bench.role->MayAnswer(bench.now));
  bench.now.mono_ms += 1;
  CHECK_FALSE(bench.role->MayAnswer(bench.now));
  bench.now.mono_ms += 1'000;
  bench.role->OnTick(bench.now, &bench.out);
  CHECK_FALSE(bench.out.exit.empty());
}

TEST_CASE("role_core: F34: the clock of the wall decides nothing of a lease") {
  constexpr uint64_t kYearMs = 365ull * 24 * 3'600'000;
  constexpr uint64_t kTodayMs = 1'795'000'000'000;
  constexpr uint64_t k2038Ms = (uint64_t{1} << 31) * 1'000;
  for (const uint64_t wall_ms :
       {kTodayMs - 3'600'000, kTodayMs + 3'600'000, kTodayMs - 10 * kYearMs,
        kTodayMs + 10 * kYearMs, k2038Ms - 1, k2038Ms, uint64_t{0}}) {
    RoleBench bench;
    bench.now.wall_ms = kTodayMs;
    bench.Start(2);
    bench.Win(bench.RecordOf(1, 2, true), 7);
    bench.now.wall_ms = wall_ms;
    bench.Pass(1'050);
    CHECK_EQ(bench.Asked().kind, CoordinatorCall::Kind::kCommit);  // renewed as ever
    bench.now.mono_ms += 949;
    CHECK(bench.role->MayAnswer(bench.now));
    bench.now.wall_ms = kTodayMs;
    bench.now.mono_ms += 1;
    CHECK_FALSE(bench.role->MayAnswer(bench.now));
    bench.Pass(1'000);
    CHECK_FALSE(bench.out.exit.empty());
  }
}

TEST_CASE("role_core: F65: no sync, no renewal") {
  RoleBench bench;
  bench.Start(2);
  bench.Win(bench.RecordOf(1, 2, true), 7);
  // An idle one writes a record to show that its disk works.
  for (int i = 0; i < 15 && !bench.out.coordinator.has_value(); ++i) bench.Pass(100);
  CHECK(bench.Asked().renews);
  bench.Answer(Err::kTimeout);
  // That may have renewed it: before the next one there is a sync.
  for (int i = 0; i < 3; ++i) bench.Pass(100);
  CHECK_FALSE(bench.out.coordinator.has_value());
  CHECK(bench.out.want_record);
  bench.role->Propose(bench.role->last() + 1, {"nothing"}, bench.now, &bench.out);
  bench.Written();
  bench.Pass(100);
  CHECK(bench.Asked().renews);
  bench.Answer(Err::kOk, 9);
  bench.out.want_record = false;
  for (int i = 0; i < 12; ++i) bench.Pass(100);
  CHECK(bench.out.want_record);
  CHECK_FALSE(bench.out.coordinator.has_value());
  bench.role->Propose(bench.role->last() + 1, {"nothing"}, bench.now, &bench.out);
  REQUIRE(bench.out.write.has_value());  // its disk hangs: nothing is asked for
  for (int i = 0; i < 12; ++i) bench.Pass(50);
  CHECK_FALSE(bench.out.coordinator.has_value());
}

TEST_CASE(
    "role_core: F32: what was promised is kept: lower epochs and equal ones of another node") {
  RoleBench bench;
  bench.head.set_promised_epoch(5);
  bench.head.set_promised_node(kPeer);
  bench.Start();
  CHECK_EQ(bench.Request(MessageType::kShip, ShipOf(4, {}, 1).SerializeAsString()),
           Err::kStaleEpoch);
  pb::ShipRequest other = ShipOf(5, {}, 1);
  other.set_node(std::string(kNodeIdBytes, 'q'));
  CHECK_EQ(bench.Request(MessageType::kShip, other.SerializeAsString()), Err::kStaleEpoch);
  CHECK_EQ(bench.Request(MessageType::kShip, ShipOf(5, {}, 1).SerializeAsString()), Err::kOk);
  CHECK_EQ(bench.Request(MessageType::kShip, "\xff"), Err::kInvalid);
  other.set_node(kNode);  // its own words
  CHECK_EQ(bench.Request(MessageType::kShip, other.SerializeAsString()), Err::kInvalid);
  CHECK_EQ(bench.Request(MessageType::kShip, ShipOf(kEpochMax + 1, {}, 1).SerializeAsString()),
           Err::kInvalid);
  pb::ShipRequest gap = ShipOf(5, {}, 2);
  gap.mutable_records(1)->set_index(7);
  CHECK_EQ(bench.Request(MessageType::kShip, gap.SerializeAsString()), Err::kInvalid);
}

TEST_CASE("role_core: F42: a log is cut only for whom the record names") {
  RoleBench bench;
  bench.Start(5, 1);
  pb::HaPoint previous;
  previous.set_index(3);
  previous.set_epoch(1);
  previous.set_node(kPeer);
  const std::string ship = ShipOf(2, previous, 1).SerializeAsString();
  CHECK_EQ(bench.Request(MessageType::kShip, ship), Err::kBusy);
  CHECK_EQ(bench.role->last(), 5);
  bench.See(bench.RecordOf(3, 5, true), 1, true);  // it names a later one
  CHECK_EQ(bench.Request(MessageType::kShip, ship), Err::kBusy);
  CHECK_EQ(bench.role->last(), 5);
  bench.Pass(RoleCore::kPollMs);
  bench.See(bench.RecordOf(2, 3, true), 2, true);
  std::string reply;
  CHECK_EQ(bench.Request(MessageType::kShip, ship, &reply), Err::kOk);
  pb::ShipReply parsed;
  REQUIRE(parsed.ParseFromString(reply));
  CHECK_EQ(parsed.matched(), 4);
  CHECK_EQ(bench.role->last(), 4);
}

TEST_CASE("role_core: an epoch that nobody could win above is not believed") {
  RoleBench bench;
  bench.Start(2);
  bench.role->OnHeardEpoch(UINT64_MAX);
  bench.See(bench.RecordOf(1, 2, true), 7, false);
  CHECK_EQ(bench.Asked().record.epoch(), 2);
}

TEST_CASE("role_core: 3,000 random walks of a pair break no promise") {
  SetLogSink([](LogLevel, std::string_view) {}, LogLevel::kError);
  for (uint64_t seed = 1; seed <= 3'000; ++seed) {
    SimTrace trace(/*print=*/false);
    (void)WalkPair(seed, &trace);
    REQUIRE_MESSAGE(!trace.failed(), "walk ", seed, ": ", trace.failures()[0]);
  }
}

}  // namespace
}  // namespace hayloft
