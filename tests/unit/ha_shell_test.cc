// The process of a node of a pair: what a wrong store makes of it, and how it ends.
#include "common/ha/ha_shell.h"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "common/io/rpc_client.h"
#include "common/io/server_start.h"
#include "common/io/socket_address.h"
#include "common/log.h"
#include "nameserver/ns_shell.h"
#include "tests/unit/temp_folder.h"

namespace hayloft {
namespace {

constexpr uint64_t kPatienceMs = 20'000;

std::string FreeAddress() {
  const Result<UniqueFd> taken = ListenOn(*ParseSocketAddress("127.0.0.1:0"), {});
  REQUIRE(taken.ok());
  return SocketAddressText(BoundAddress(taken->get()));
}

std::string g_errors;

// A nameserver alone, whose store a test changes before it starts.
struct Node {
  TempFolder folder{TempFolder::Where::kMemory};
  NsConfig config;
  NsShell process{config};
  std::string why;

  Node() {
    config.data = folder / "data";
    config.cluster_id = std::string(32, 'c');
    config.listen = FreeAddress();
    config.lease_ms = 1'000;
    REQUIRE_EQ(HaShell::Init(config, &process, /*joining=*/false, &why), Err::kOk);
  }
  void Change(const std::string& key, const google::protobuf::MessageLite& row) {
    const auto kv = LevelDbKv::Open(config.data + "/leveldb").value();
    const Kv::Change change{.key = key, .value = row.SerializeAsString()};
    REQUIRE_EQ(kv->Write({&change, 1}, /*sync=*/true), Err::kOk);
  }
  pb::NsHead Head() { return Row<pb::NsHead>("head"); }
  template <typename Message>
  Message Row(const std::string& key) {
    Message row;
    const auto kv = LevelDbKv::Open(config.data + "/leveldb").value();
    REQUIRE(row.ParseFromString(kv->Get(key).value()));
    return row;
  }
  void Log(pb::HaRecord record) {
    const auto kv = LevelDbKv::Open(config.data + "/leveldb").value();
    HaStore log(kv.get());
    REQUIRE(log.Load(0).ok());
    RoleWrite write;
    write.records.push_back(std::move(record));
    REQUIRE_EQ(log.Write(write), Err::kOk);
  }
  Err Start() {
    Loop loop;
    HaShell shell(&loop, config, {.role = "nameserver"}, &process);
    return shell.Start(&why);
  }
  // Its exit code, and in `g_errors` what it logged as an error.
  int Run() {
    g_errors.clear();
    SetLogSink([](LogLevel, std::string_view line) { g_errors += line; }, LogLevel::kError);
    Loop loop;
    HaShell shell(&loop, config, {.role = "nameserver"}, &process);
    REQUIRE_EQ(shell.Start(&why), Err::kOk);
    const Loop::Handle patience = loop.After(kPatienceMs, [&] { loop.Stop(); });
    loop.Run();
    SetLogSink([](LogLevel, std::string_view) {}, LogLevel::kDebug);
    CHECK_FALSE(shell.begins_anew());
    return shell.exit_code();
  }
};

pb::HaRecord Record(const std::string& body) {
  pb::HaRecord record;
  record.set_index(1);
  record.set_epoch(1);
  record.set_node(std::string(kNodeIdBytes, 'n'));
  record.set_body(body);
  return record;
}

TEST_CASE("ha_shell: a log that can't be understood ends the process with its cause, F28") {
  Node node;
  node.config.force_promote = true;  // its log is one that no coordinator knows of
  node.Log(Record("\xff"));
  CHECK_EQ(node.Run(), kExitDisk);
  CHECK(g_errors.find("record 1 of the log can't be understood") != std::string::npos);
}

TEST_CASE("ha_shell: rows of an epoch that nobody has won yet end it with their cause, F28") {
  Node node;
  pb::NsHead head = node.Head();
  head.set_epoch(100);
  node.Change("head", head);
  CHECK_EQ(node.Run(), kExitDisk);
  CHECK(g_errors.find("its rows are of epoch 100, and the one that was won is 1") !=
        std::string::npos);
}

TEST_CASE("ha_shell: what no node can have written is damage, and not started with, F28") {
  Node node;
  SUBCASE("an epoch of the rows") {
    pb::NsHead head = node.Head();
    head.set_epoch(kEpochMax + 1);
    node.Change("head", head);
  }
  SUBCASE("ids that no address can name") {
    pb::NsHead head = node.Head();
    head.set_id_range_end(UINT64_MAX);
    node.Change("head", head);
  }
  SUBCASE("a promise above all epochs") {
    auto head = node.Row<pb::HaHead>("ha/head");
    head.set_promised_epoch(UINT64_MAX);
    node.Change("ha/head", head);
  }
  SUBCASE("a log that begins at the end") {
    auto head = node.Row<pb::HaHead>("ha/head");
    head.mutable_base()->set_index(UINT64_MAX);
    node.Change("ha/head", head);
    pb::NsHead rows = node.Head();
    rows.set_last_index(UINT64_MAX);
    node.Change("head", rows);
  }
  SUBCASE("a record of nobody") {
    pb::HaRecord record = Record("");
    record.clear_node();
    node.Log(record);
  }
  SUBCASE("a record above all epochs") {
    pb::HaRecord record = Record("");
    record.set_epoch(UINT64_MAX);
    node.Log(record);
  }
  CHECK_EQ(node.Start(), Err::kConfig);
  CHECK(node.why.find("the store in " + node.config.data) != std::string::npos);
}

// A later active one's word ends an active node in the turn in which it is answered.
void ShipUntilAnswered(const std::string& address, std::atomic<bool>* answered) {
  pb::ShipRequest ship;
  ship.set_epoch(1'000);
  ship.set_node(std::string(kNodeIdBytes, 'o'));
  Loop loop;
  RpcClient client(&loop, {.role = "nameserver"});
  client.OnDone([&](CallDone&&) {
    *answered = true;
    loop.Stop();
  });
  RpcCall call;
  call.call_id = 1;
  call.address = address;
  call.type = MessageType::kShip;
  call.timeout_ms = kPatienceMs;
  call.message = ship.SerializeAsString();
  client.Call(std::move(call));
  loop.Run();
}

TEST_CASE("ha_shell: what is answered in the turn that ends the process leaves before") {
  Node node;
  Loop loop;
  HaShell shell(&loop, node.config, {.role = "nameserver"}, &node.process);
  REQUIRE_EQ(shell.Start(&node.why), Err::kOk);
  std::atomic<bool> answered{false};
  std::thread other;
  const Loop::Handle wait = loop.Every(5, [&] {
    if (other.joinable() || !node.process.server()->role().active()) return;
    other = std::thread([&] { ShipUntilAnswered(node.config.listen, &answered); });
  });
  const Loop::Handle patience = loop.After(kPatienceMs, [&] { loop.Stop(); });
  loop.Run();
  CHECK(shell.begins_anew());
  CHECK_EQ(shell.exit_code(), kExitRoleLost);
  // From here on the process would be another one.
  for (int i = 0; i < 500 && !answered; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  CHECK(answered);
  REQUIRE(other.joinable());
  other.join();
}

}  // namespace
}  // namespace hayloft
