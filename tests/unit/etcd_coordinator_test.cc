// The coordinator of several machines, with real etcd: 3.4 of Debian.
#include "common/ha/etcd_coordinator.h"

#include <doctest/doctest.h>
#include <signal.h>

#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/io/system_random.h"
#include "tests/unit/etcd_members.h"
#include "tests/unit/lease_record.h"

namespace hayloft {
namespace {

constexpr char kPrefix[] = "/hayloft/test/nameserver";
constexpr uint32_t kPatientMs = 10'000;  // on a machine that is busy with other tests

EtcdOptions OptionsOf(std::vector<std::string> endpoints, uint32_t timeout_ms = kPatientMs) {
  return {.endpoints = std::move(endpoints), .prefix = kPrefix, .timeout_ms = timeout_ms};
}

struct Client {
  explicit Client(EtcdOptions options) : etcd(std::move(options), &random) {}
  explicit Client(const EtcdMembers& members) : Client(OptionsOf(members.Urls())) {}
  SystemRandom random;
  EtcdCoordinator etcd;
};

// All run and answer.
struct RunningMembers : EtcdMembers {
  explicit RunningMembers(size_t count = 1) : EtcdMembers(count) {
    for (size_t i = 0; i < count; ++i) Start(i);
    for (const std::string& url : Urls()) {
      REQUIRE(Eventually([&] {
        const Err err = Client(OptionsOf({url}, 1'000)).etcd.Read().err();
        return err == Err::kOk || err == Err::kDenied;
      }));
    }
  }
  // A first record, of which a snapshot is made: its file.
  std::string SaveFirst(EtcdCoordinator* etcd, uint64_t* version) {
    *version = etcd->Commit(RecordOf(kNode, 1), 0).value();
    REQUIRE_EQ(Ctl({"snapshot", "save", Path("snapshot")}), 0);
    return Path("snapshot");
  }
};

TEST_CASE("etcd: a commit needs the version, and keeps the identity") {
  RunningMembers members;
  Client client(members);
  EtcdCoordinator& etcd = client.etcd;
  CHECK_EQ(etcd.Read()->version, 0);
  CHECK_EQ(etcd.Read()->identity, "");
  CHECK_EQ(etcd.Commit(RecordOf(kNode, 1), 5).err(), Err::kExists);
  const uint64_t version = etcd.Commit(RecordOf(kNode, 1), 0).value();
  Result<CoordinatorView> view = etcd.Read();
  REQUIRE(view.ok());
  CHECK_EQ(view->version, version);
  CHECK(view->held);
  const std::string identity = view->identity;
  CHECK_GT(identity.size(), kNodeIdBytes);
  CHECK_EQ(etcd.Commit(RecordOf(kNode, 2), 0).err(), Err::kExists);
  const uint64_t next = etcd.Commit(RecordOf(kNode, 2), version).value();
  CHECK_EQ(etcd.Commit(RecordOf(kNode, 3), version).err(), Err::kExists);
  view = Client(members).etcd.Read();
  REQUIRE(view.ok());
  CHECK_EQ(view->version, next);
  CHECK_EQ(view->record.epoch(), 2);
  CHECK_EQ(view->identity, identity);

  // What can't be understood is replaced by an operator's word only.
  REQUIRE_EQ(members.Ctl({"put", std::string(kPrefix) + "/record", "hello"}), 0);
  CHECK_EQ(etcd.Read().err(), Err::kCorrupt);
  CHECK_EQ(etcd.Commit(RecordOf(kNode, 3), next).err(), Err::kExists);
  REQUIRE(etcd.Commit(RecordOf(kNode, 9), 0).ok());
  CHECK_EQ(etcd.Read()->record.epoch(), 9);
  CHECK_NE(etcd.Read()->identity, identity);
  CHECK_EQ(etcd.Read()->identity.size(), identity.size());
  // And a record that was lost is another one, if it comes again.
  const std::string before = etcd.Read()->identity;
  REQUIRE_EQ(members.Ctl({"del", std::string(kPrefix) + "/record"}), 0);
  CHECK_EQ(etcd.Read()->version, 0);
  REQUIRE(etcd.Commit(RecordOf(kNode, 1), 0).ok());
  CHECK_NE(etcd.Read()->identity, before);
}

TEST_CASE("etcd: of two that commit at once one wins each version") {
  constexpr uint64_t kRounds = 200;
  RunningMembers members;
  uint64_t wins[2] = {0, 0};
  const auto compete = [&](uint64_t* won) {
    Client client(members);
    for (;;) {
      const Result<CoordinatorView> view = client.etcd.Read();
      if (!view.ok() || view->record.epoch() >= kRounds) return;
      // One holder: its lease keeps neither from the commit.
      const pb::LeaseRecord record = RecordOf(kNode, view->record.epoch() + 1);
      const Result<uint64_t> version = client.etcd.Commit(record, view->version);
      if (version.ok()) ++*won;
      if (!version.ok() && version.err() != Err::kExists) return;
    }
  };
  std::thread other([&] { compete(&wins[1]); });
  compete(&wins[0]);
  other.join();
  CHECK_EQ(wins[0] + wins[1], kRounds);
  CHECK_EQ(Client(members).etcd.Read()->record.epoch(), kRounds);
  MESSAGE("wins: ", wins[0], " and ", wins[1]);
}

TEST_CASE("etcd: nobody else commits while a lease lives, renewed it lives on, silent it ends") {
  constexpr uint32_t kLeaseMs = 1'000;
  RunningMembers members;
  EtcdOptions options = OptionsOf(members.Urls());
  options.lease_ms = kLeaseMs;
  Client holder(options);
  Client standby(options);
  uint64_t renewed_ms = SystemMonotonicMs();
  uint64_t version = holder.etcd.Commit(RecordOf(kNode, 1), 0).value();
  const uint64_t end_ms = SystemMonotonicMs() + 2 * kLeaseMs;
  while (SystemMonotonicMs() < end_ms) {
    renewed_ms = SystemMonotonicMs();
    version = holder.etcd.Commit(RecordOf(kNode, 1), version).value();
    CHECK(standby.etcd.Read()->held);
    CHECK_EQ(standby.etcd.Commit(RecordOf(kOther, 2), version).err(), Err::kExists);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  CHECK(Eventually([&] { return standby.etcd.Commit(RecordOf(kOther, 2), version).ok(); }));
  CHECK_GE(SystemMonotonicMs(), renewed_ms + kLeaseMs);
  CHECK_EQ(holder.etcd.Commit(RecordOf(kNode, 1), version).err(), Err::kExists);
  // Who gives up lets the other in at once, and is let in again with a new lease.
  version = standby.etcd.Read()->version;
  standby.etcd.Release();
  CHECK_FALSE(holder.etcd.Read()->held);
  CHECK_EQ(holder.etcd.Read()->version, version);
  version = holder.etcd.Commit(RecordOf(kNode, 3), version).value();
  standby.etcd.Release();  // not its own any more
  CHECK(holder.etcd.Read()->held);
  holder.etcd.Release();
  CHECK(holder.etcd.Commit(RecordOf(kNode, 4), version).ok());
}

TEST_CASE("etcd: changes of the record do not prolong the lease") {
  RunningMembers members;
  EtcdOptions options = OptionsOf(members.Urls());
  options.lease_ms = 1'000;
  Client holder(options);
  Client standby(options);
  uint64_t version = holder.etcd.Commit(RecordOf(kNode, 1), 0).value();
  REQUIRE(standby.etcd.Read()->held);
  CHECK(Eventually([&] {
    version = holder.etcd.Change(RecordOf(kNode, 1), version).value();
    REQUIRE_EQ(standby.etcd.Read()->version, version);
    return standby.etcd.Commit(RecordOf(kOther, 2), version).ok();
  }));
  CHECK_EQ(holder.etcd.Change(RecordOf(kNode, 1), version).err(), Err::kExists);
}

TEST_CASE("etcd: members that are killed, stopped and all gone cost a bounded time") {
  constexpr uint32_t kTimeoutMs = 1'500;
  RunningMembers members(3);
  Client client(OptionsOf(members.Urls(), kTimeoutMs));
  const auto in_time = [&](const std::function<void()>& call) {
    const uint64_t begun_ms = SystemMonotonicMs();
    call();
    CHECK_LT(SystemMonotonicMs() - begun_ms, kTimeoutMs + 2'000);  // and what a busy machine adds
  };
  uint64_t epoch = 0;
  uint64_t last = 0;
  const auto commit = [&] {
    bool won = false;
    in_time([&] {
      const Result<CoordinatorView> view = client.etcd.Read();
      if (!view.ok()) return;
      CHECK_GE(view->record.epoch(), epoch);  // nothing that was acknowledged is lost
      const pb::LeaseRecord record = RecordOf(kNode, view->record.epoch() + 1);
      const Result<uint64_t> version = client.etcd.Commit(record, view->version);
      won = version.ok();
      if (won) epoch = record.epoch();
      if (won) last = *version;
      // Nobody competes: what was not done must not be called somebody else's.
      if (!won) CHECK_NE(version.err(), Err::kExists);
    });
    return won;
  };
  REQUIRE(Eventually(commit));
  // Each in turn, so that the leader and the endpoint that is asked first are among them.
  for (size_t i = 0; i < 3; ++i) {
    members.Signal(i, SIGSTOP);
    CHECK(Eventually(commit));
    CHECK(commit());
    members.Signal(i, SIGCONT);
    REQUIRE(Eventually(commit));
  }
  for (size_t i = 0; i < 3; ++i) {
    members.Kill(i);
    CHECK(Eventually(commit));
    members.Start(i);
    const std::string url = members.Url(i);
    REQUIRE(Eventually([&] { return Client(OptionsOf({url}, 1'000)).etcd.Read().ok(); }));
  }
  // Without most of them nothing is decided.
  members.Signal(0, SIGSTOP);
  members.Signal(1, SIGSTOP);
  REQUIRE_NE(last, 0);
  in_time([&] { CHECK_FALSE(client.etcd.Read().ok()); });
  in_time([&] { CHECK_NE(client.etcd.Commit(RecordOf(kNode, 99), last).err(), Err::kExists); });
  members.Signal(2, SIGSTOP);
  in_time([&] { CHECK_EQ(client.etcd.Read().err(), Err::kTimeout); });
  for (size_t i = 0; i < 3; ++i) members.Kill(i);
  in_time([&] { CHECK_EQ(client.etcd.Read().err(), Err::kUnavailable); });
  in_time([&] { client.etcd.Release(); });
}

TEST_CASE("etcd: a commit whose answer was lost is neither done twice nor called another's") {
  RunningMembers members;
  const uint64_t version = Client(members).etcd.Commit(RecordOf(kNode, 1), 0).value();
  {
    FaultyServer proxy(members.port(0), "compare");
    Client client(OptionsOf({proxy.Url()}));
    REQUIRE_EQ(client.etcd.Read()->version, version);
    CHECK_EQ(client.etcd.Commit(RecordOf(kNode, 2), version).err(), Err::kUnavailable);
    CHECK_EQ(proxy.lost(), 1);
    CHECK_EQ(client.etcd.Read()->record.epoch(), 2);
  }
  FaultyServer proxy(members.port(0), "compare");
  Client client(OptionsOf({proxy.Url(), members.Url(0)}));
  const uint64_t next = client.etcd.Read()->version;
  CHECK_EQ(client.etcd.Commit(RecordOf(kNode, 3), next).err(), Err::kUnavailable);
  CHECK_EQ(proxy.lost(), 1);
  CHECK_EQ(client.etcd.Read()->record.epoch(), 3);
}

TEST_CASE("etcd: what is no etcd is unavailable, and another endpoint is asked") {
  const std::string ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
  RunningMembers members;
  const std::string answers[] = {
      "",
      "SSH-2.0-OpenSSH_9.2\r\n",
      "HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>",
      "HTTP/1.1 302 Found\r\nLocation: " + members.Url(0) +
          "/v3/kv/txn\r\nContent-Length: 0\r\n\r\n",
      ok + "Content-Length: 900\r\n\r\n{\"header\":{",
      ok + "Content-Length: 2\r\n\r\n[]",
      ok + "Content-Length: 1000000\r\n\r\n" + std::string(1'000'000, ' '),
  };
  for (const std::string& answer : answers) {
    INFO(answer.substr(0, 60));
    FaultyServer server(answer);
    Client alone(OptionsOf({server.Url()}));
    CHECK_EQ(alone.etcd.Read().err(), Err::kUnavailable);
    CHECK_EQ(alone.etcd.Commit(RecordOf(kNode, 1), 0).err(), Err::kUnavailable);
    CHECK(Client(OptionsOf({server.Url(), members.Url(0)})).etcd.Read().ok());
  }
  // An object that lacks what it should have is no record, and no damaged one either.
  FaultyServer server(ok + "Content-Length: 2\r\n\r\n{}");
  Client alone(OptionsOf({server.Url()}));
  CHECK_EQ(alone.etcd.Read().err(), Err::kUnavailable);
  CHECK_EQ(alone.etcd.Commit(RecordOf(kNode, 1), 0).err(), Err::kUnavailable);
}

TEST_CASE("etcd: user and password; a token that has ended is replaced") {
  RunningMembers members;
  REQUIRE_EQ(members.Ctl({"user", "add", "root:secret"}), 0);
  REQUIRE_EQ(members.Ctl({"user", "grant-role", "root", "root"}), 0);
  EtcdOptions options = OptionsOf(members.Urls());
  options.user = "root";
  options.password_file = members.Path("password");
  REQUIRE_EQ(ReplaceFile(options.password_file, "secret\n", 0600), Err::kOk);
  Client early(options);
  CHECK(early.etcd.Read().ok());  // it asks for none yet
  REQUIRE_EQ(members.Ctl({"auth", "enable"}), 0);
  CHECK(early.etcd.Read().ok());
  CHECK_EQ(Client(members).etcd.Read().err(), Err::kDenied);

  Client client(options);
  uint64_t version = client.etcd.Commit(RecordOf(kNode, 1), 0).value();
  members.Kill(0);  // and with it all tokens
  members.Start(0);
  REQUIRE(Eventually([&] { return client.etcd.Read().ok(); }));
  CHECK(client.etcd.Commit(RecordOf(kNode, 2), version).ok());

  REQUIRE_EQ(ReplaceFile(options.password_file, "wrong", 0600), Err::kOk);
  Client wrong(options);
  CHECK_EQ(wrong.etcd.Read().err(), Err::kDenied);
  CHECK_EQ(wrong.etcd.Commit(RecordOf(kNode, 3), 0).err(), Err::kDenied);
  options.password_file = members.Path("none");
  CHECK_EQ(Client(options).etcd.Read().err(), Err::kDenied);
}

TEST_CASE("etcd: TLS, with certificates on both sides") {
  const TempFolder keys;
  const auto openssl = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"env", "-C", keys.path(), "openssl"});
    REQUIRE_EQ(RunQuietly(words), 0);
  };
  for (const std::string name : {"ca", "stranger"}) {
    openssl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "2", "-subj", "/CN=" + name, "-keyout", name + ".key", "-out",
             name + ".pem"});
  }
  REQUIRE_EQ(ReplaceFile(keys / "ext", "subjectAltName=IP:127.0.0.1\n"), Err::kOk);
  openssl({"req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
           "/CN=node", "-keyout", "node.key", "-out", "node.csr"});
  openssl({"x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
           "-CAcreateserial", "-days", "2", "-extfile", "ext", "-out", "node.pem"});
  EtcdMembers members(1,
                      {"--cert-file=" + keys / "node.pem", "--key-file=" + keys / "node.key",
                       "--client-cert-auth", "--trusted-ca-file=" + keys / "ca.pem"},
                      "https");
  members.Start(0);
  EtcdOptions options = OptionsOf(members.Urls());
  options.ca_file = keys / "ca.pem";
  options.cert_file = keys / "node.pem";
  options.key_file = keys / "node.key";
  REQUIRE(Eventually([&] { return Client(options).etcd.Read().ok(); }));
  CHECK(Client(options).etcd.Commit(RecordOf(kNode, 1), 0).ok());

  EtcdOptions without_own = options;
  without_own.cert_file = without_own.key_file = "";
  CHECK_EQ(Client(without_own).etcd.Read().err(), Err::kUnavailable);
  EtcdOptions strange = options;
  strange.ca_file = keys / "stranger.pem";
  CHECK_EQ(Client(strange).etcd.Read().err(), Err::kUnavailable);
  strange.ca_file = keys / "none.pem";
  CHECK_EQ(Client(strange).etcd.Read().err(), Err::kUnavailable);
}

TEST_CASE("etcd: a restore from a snapshot is another history, and no commit gets into it") {
  RunningMembers members;
  Client client(members);
  EtcdCoordinator& etcd = client.etcd;
  uint64_t first = 0;
  const std::string snapshot = members.SaveFirst(&etcd, &first);
  uint64_t version = etcd.Commit(RecordOf(kNode, 2), first).value();
  const Result<CoordinatorView> before = etcd.Read();
  REQUIRE(before.ok());

  // With a new token etcd makes another cluster id.
  members.Restore(snapshot, "another");
  REQUIRE(Eventually([&] { return Client(members).etcd.Read().ok(); }));
  CHECK_EQ(etcd.Commit(RecordOf(kNode, 3), version).err(), Err::kExists);
  CHECK_EQ(etcd.Commit(RecordOf(kNode, 3), first).err(), Err::kExists);  // though it is that one
  Result<CoordinatorView> after = etcd.Read();
  REQUIRE(after.ok());
  CHECK_EQ(after->record.epoch(), 1);
  CHECK_NE(after->identity, before->identity);
  CHECK_EQ(after->record.identity(), before->record.identity());
  CHECK_EQ(Client(members).etcd.Read()->identity, after->identity);

  // With the old token it makes the same one. The record then gets the very version that this one
  // has seen, by another's hand.
  version = etcd.Commit(RecordOf(kNode, 5), after->version).value();
  REQUIRE_EQ(version, first + 1);
  members.Restore(snapshot, "another");
  REQUIRE(Eventually([&] { return Client(members).etcd.Read().ok(); }));
  CHECK_EQ(Client(members).etcd.Read()->identity, after->identity);
  REQUIRE_EQ(members.Ctl({"put", std::string(kPrefix) + "/record", "x"}), 0);
  CHECK_EQ(etcd.Commit(RecordOf(kNode, 6), version).err(), Err::kExists);
  CHECK_EQ(Client(members).etcd.Read().err(), Err::kCorrupt);  // still theirs
}

TEST_CASE("etcd: a restore with the old token has the identity, and a lower version") {
  RunningMembers members;
  Client client(members);
  EtcdCoordinator& etcd = client.etcd;
  uint64_t first = 0;
  const std::string snapshot = members.SaveFirst(&etcd, &first);
  const uint64_t second = etcd.Commit(RecordOf(kNode, 2), first).value();
  const std::string identity = etcd.Read()->identity;
  members.Restore(snapshot, "etcd-cluster");
  Result<CoordinatorView> after = Err::kTimeout;
  REQUIRE(Eventually([&] { return (after = etcd.Read()).ok(); }));
  CHECK_EQ(after->record.epoch(), 1);
  CHECK_EQ(after->identity, identity);
  CHECK_EQ(after->version, first);
  CHECK_LT(first, second);
  CHECK_EQ(etcd.Commit(RecordOf(kNode, 3), second).err(), Err::kExists);
}

}  // namespace
}  // namespace hayloft
