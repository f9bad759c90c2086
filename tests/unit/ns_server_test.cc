// What a nameserver makes of its role and its log, where the simulator does not lead.
#include "nameserver/ns_server.h"

#include <doctest/doctest.h>

#include "tests/sim/sim_random.h"

namespace hayloft {
namespace {

const std::string kNode(kNodeIdBytes, 'n');

// A node alone, with one record in its log that is not applied; it wins.
struct ServerBench {
  SimRandom random{1};
  Now now{.mono_ms = 1'000'000, .wall_ms = 0};
  HaOutbox out;
  std::unique_ptr<NsServer> server;

  ServerBench(const std::string& body, bool strict) {
    NsState state;
    state.node = kNode;
    state.settings.set_cluster_id(std::string(16, 'c'));
    RoleDisk disk{.head = {}, .log = LogTail(pb::HaPoint())};
    disk.head.set_node(kNode);
    disk.head.set_identity("one");
    pb::HaRecord record;
    record.set_index(1);
    record.set_epoch(1);
    record.set_node(kNode);
    record.set_body(body);
    disk.log.Append(record);
    RoleOptions role;
    role.node = kNode;
    role.strict = strict;
    server = std::make_unique<NsServer>(NsOptions{}, role, state, std::move(disk), &random);
    server->Start(now, &out);
  }
  void Win() {
    CoordinatorDone read;
    read.view.identity = "one";
    read.view.version = 3;
    read.view.record.set_holder(kNode);
    read.view.record.set_epoch(1);
    read.view.record.add_in_sync(kNode);
    out = {};
    server->OnCoordinatorDone(std::move(read), now, &out);
    REQUIRE(out.coordinator.has_value());
    CoordinatorDone won;
    won.version = 4;
    out = {};
    server->OnCoordinatorDone(std::move(won), now, &out);
    REQUIRE(out.write.has_value());
    out = {};
    server->OnWritten(now, &out);
  }
};

pb::LogRecord Nothing() {
  pb::LogRecord record;
  record.set_index(1);
  record.mutable_nothing();
  return record;
}

TEST_CASE("ns_server: a record that can't be understood ends the process with its cause") {
  pb::LogRecord without_operation = Nothing();
  without_operation.clear_nothing();
  pb::LogRecord misplaced = Nothing();
  misplaced.set_index(2);
  pb::LogRecord impossible = Nothing();
  impossible.mutable_id_range()->set_end(UINT64_MAX);
  const std::string bodies[] = {"\xff", without_operation.SerializeAsString(),
                                misplaced.SerializeAsString(), impossible.SerializeAsString()};
  for (const bool strict : {false, true}) {  // one that has to wait is applied all the same
    for (const std::string& body : bodies) {
      ServerBench bench(body, strict);
      bench.Win();
      CHECK_EQ(bench.out.exit, "record 1 of the log can't be understood");
      CHECK_EQ(bench.out.exit_err, Err::kCorrupt);
      CHECK_EQ(bench.out.promoted_epoch, 0);
      CHECK(bench.out.apply.empty());
      CHECK_EQ(bench.server->core(), nullptr);
      CHECK_FALSE(bench.server->Answers(bench.now));
      bench.now.mono_ms += 1'000;  // what comes before it has ended changes nothing
      bench.out = {};
      bench.server->OnTick(bench.now, &bench.out);
      CHECK_FALSE(bench.out.write.has_value());
    }
    ServerBench sound(Nothing().SerializeAsString(), strict);
    sound.Win();
    CHECK_EQ(sound.out.exit, "");
    CHECK_NE(sound.out.promoted_epoch, 0);
  }
}

}  // namespace
}  // namespace hayloft
