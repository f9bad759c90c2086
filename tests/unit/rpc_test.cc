// RPC over real loopback sockets: many calls in flight, deadlines, breaks, hostile frames, keys.
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>

#include "common/io/rpc_client.h"
#include "common/io/rpc_server.h"
#include "common/io/socket_address.h"
#include "common/io/system_clock.h"
#include "common/proto/hayloft.pb.h"

using namespace hayloft;

namespace {

constexpr uint64_t kPatienceMs = 20'000;  // far beyond what any case needs
const std::string kKey(32, 'k');

// Runs the loop until `done`, which is asked every few milliseconds. False when patience ends.
bool RunUntil(Loop* loop, const std::function<bool()>& done) {
  const uint64_t end_ms = SystemMonotonicMs() + kPatienceMs;
  const Loop::Handle poll = loop->Every(2, [&] {
    if (done() || SystemMonotonicMs() > end_ms) loop->Stop();
  });
  if (!done()) loop->Run();
  return done();
}

struct Answers {
  std::map<uint64_t, CallDone> by_id;
  explicit Answers(RpcClient* client) {
    client->OnDone([this](CallDone&& done) {
      const uint64_t id = done.call_id;
      CHECK(by_id.emplace(id, std::move(done)).second);  // exactly one each
    });
  }
  Err err(uint64_t id) const { return by_id.at(id).err; }
};

std::string FrameText(FrameParts parts, std::string_view message) {
  parts.message = AsBytes(message);
  const FrameHeader header = MakeFrameHeader(parts);
  return std::string(AsText(StructBytes(header))) + std::string(message);
}

RpcCall Call(uint64_t id, const std::string& address, MessageType type = MessageType::kRead) {
  return RpcCall{.call_id = id, .address = address, .type = type, .timeout_ms = 10'000};
}

// Answers each request with its own message and payload.
void Echo(RpcServer* server) {
  server->OnRequest([server](RpcRequest&& request) {
    server->Reply(RpcReply{.token = request.token,
                           .type = request.type,
                           .message = std::move(request.message),
                           .payload = std::move(request.payload)});
  });
}

struct Pair {
  Loop loop;
  RpcServer server;
  RpcClient client;
  Answers answers;
  explicit Pair(RpcServerOptions server_options = {}, RpcClientOptions client_options = {})
      : server(&loop, WithListen(std::move(server_options))),
        client(&loop, std::move(client_options)),
        answers(&client) {
    Echo(&server);
    std::string why;
    REQUIRE_EQ(server.Listen(&why), Err::kOk);
  }
  static RpcServerOptions WithListen(RpcServerOptions options) {
    options.listen = "127.0.0.1:0";
    return options;
  }
  bool RunUntilAnswered(size_t count) {
    return RunUntil(&loop, [&] { return answers.by_id.size() >= count; });
  }
};

// A blocking client without our code: sends bytes, reads until the server hangs up.
struct RawPeer {
  UniqueFd fd;
  explicit RawPeer(const std::string& address) {
    const SocketAddress to = *ParseSocketAddress(address);
    fd.Reset(socket(to.storage.ss_family, SOCK_STREAM, 0));
    REQUIRE_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&to.storage), to.length), 0);
  }
  void Send(std::string_view bytes) {
    REQUIRE_EQ(::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), ssize_t(bytes.size()));
  }
};

std::string HelloBytes(std::string_view nonce = "0123456789abcdef") {
  pb::HelloRequest hello;
  hello.set_client_nonce(std::string(nonce));
  return FrameText({.type = MessageType::kHello, .message = {}}, hello.SerializeAsString());
}

}  // namespace

TEST_CASE("rpc: message and payload of every size come back, over Unix socket and TCP") {
  for (const bool unix_sockets : {true, false}) {
    Pair pair({.cluster_key = kKey}, {.cluster_key = kKey, .unix_sockets = unix_sockets});
    const std::vector<size_t> sizes = {0, 1, 100, 65'535, 300'000, 5 << 20};
    for (size_t i = 0; i < sizes.size(); ++i) {
      RpcCall call = Call(i, pair.server.address(), MessageType::kAppend);
      call.message = std::string(i * 1000, 'm');
      call.payload = Buffer(sizes[i]);
      for (size_t at = 0; at < sizes[i]; ++at)
        call.payload.mutable_bytes()[at] = uint8_t(at * 31 + i);
      pair.client.Call(std::move(call));
    }
    REQUIRE(pair.RunUntilAnswered(sizes.size()));
    for (size_t i = 0; i < sizes.size(); ++i) {
      const CallDone& done = pair.answers.by_id.at(i);
      CHECK_EQ(done.err, Err::kOk);
      CHECK_EQ(done.message.size(), i * 1000);
      REQUIRE_EQ(done.payload.size(), sizes[i]);
      size_t wrong = 0;
      for (size_t at = 0; at < sizes[i]; ++at)
        wrong += done.payload.data()[at] != uint8_t(at * 31 + i);
      CHECK_EQ(wrong, 0);
    }
    CHECK_EQ(pair.client.metrics().connects_total.value(), 1);
  }
}

TEST_CASE("rpc: ten thousand calls in flight are each answered once, with their own answer") {
  Pair pair;
  std::vector<RpcRequest> held;
  pair.server.OnRequest([&](RpcRequest&& request) { held.push_back(std::move(request)); });
  constexpr size_t kCalls = 10'000;
  for (size_t i = 0; i < kCalls; ++i) {
    RpcCall call = Call(i, pair.server.address());
    call.message = std::to_string(i);
    pair.client.Call(std::move(call));
  }
  REQUIRE(RunUntil(&pair.loop, [&] { return held.size() == kCalls; }));
  // Last come, first served: order must not matter.
  for (; !held.empty(); held.pop_back()) {
    pair.server.Reply(RpcReply{.token = held.back().token,
                               .type = held.back().type,
                               .message = std::move(held.back().message)});
  }
  REQUIRE(pair.RunUntilAnswered(kCalls));
  for (size_t i = 0; i < kCalls; ++i) CHECK_EQ(pair.answers.by_id.at(i).message, std::to_string(i));
}

TEST_CASE("rpc: an unanswered call times out, and its late answer is dropped (F42)") {
  Pair pair;
  std::vector<RpcRequest> held;
  pair.server.OnRequest([&](RpcRequest&& request) { held.push_back(std::move(request)); });
  RpcCall call = Call(1, pair.server.address());
  call.timeout_ms = 60;
  pair.client.Call(std::move(call));
  REQUIRE(pair.RunUntilAnswered(1));
  CHECK_EQ(pair.answers.err(1), Err::kTimeout);
  REQUIRE_EQ(held.size(), 1);
  CHECK_GT(held[0].deadline_ms, 0);
  pair.server.Reply(RpcReply{.token = held[0].token, .type = held[0].type});
  Echo(&pair.server);
  pair.client.Call(Call(2, pair.server.address()));
  REQUIRE(pair.RunUntilAnswered(2));
  CHECK_EQ(pair.answers.err(2), Err::kOk);
  CHECK_EQ(pair.client.metrics().late_replies_total.value(), 1);
  CHECK_EQ(pair.client.metrics().broken_total.value(), 0);
}

TEST_CASE("rpc: a server that dies fails what is in flight, and its successor is found") {
  Loop loop;
  RpcClient client(&loop, {});
  Answers answers(&client);
  std::string why;
  std::string address;
  {
    RpcServer server(&loop, {.listen = "127.0.0.1:0"});
    REQUIRE_EQ(server.Listen(&why), Err::kOk);
    address = server.address();
    size_t seen = 0;
    server.OnRequest([&](RpcRequest&&) { ++seen; });
    client.Call(Call(1, address));
    REQUIRE(RunUntil(&loop, [&] { return seen == 1; }));
  }
  REQUIRE(RunUntil(&loop, [&] { return answers.by_id.size() == 1; }));
  CHECK_EQ(answers.err(1), Err::kUnavailable);
  client.Call(Call(2, address));  // nobody listens
  REQUIRE(RunUntil(&loop, [&] { return answers.by_id.size() == 2; }));
  CHECK_EQ(answers.err(2), Err::kUnavailable);
  RpcServer successor(&loop, {.listen = address});
  REQUIRE_EQ(successor.Listen(&why), Err::kOk);
  Echo(&successor);
  uint64_t id = 3;
  REQUIRE(RunUntil(&loop, [&] {
    if (answers.by_id.contains(id) && answers.err(id) == Err::kOk) return true;
    if (id == 3 || answers.by_id.contains(id)) client.Call(Call(++id, address));
    return false;
  }));
}

TEST_CASE("rpc: a malformed frame closes its connection, is counted, and harms no other (S05)") {
  Pair pair;
  pair.client.Call(Call(1, pair.server.address()));
  REQUIRE(pair.RunUntilAnswered(1));
  const std::string hello = HelloBytes();
  const std::string read = FrameText({.type = MessageType::kRead, .message = {}}, "m");
  std::vector<std::string> hostile;
  hostile.push_back(std::string(100, 'x'));          // wrong magic
  hostile.push_back(hello + std::string(44, '\0'));  // zeros
  std::string lie = read;
  lie[24] = char(0xff);  // the message's length, under a CRC that no longer fits
  hostile.push_back(hello + lie);
  std::string damaged = read;
  damaged.back() = 'n';  // the message no longer fits its CRC
  hostile.push_back(hello + damaged);
  hostile.push_back(hello + hello);  // a second hello
  hostile.push_back(HelloBytes("short"));
  hostile.push_back(hello +
                    FrameText({.type = MessageType::kRead, .reply = true, .message = {}}, ""));
  hostile.push_back(hello +
                    FrameText({.type = MessageType::kAuth, .message = {}}, ""));  // no key here
  hostile.push_back(FrameText({.type = MessageType::kHello, .message = {}}, "\xff\xff"));
  for (size_t i = 0; i < hostile.size(); ++i) {
    CAPTURE(i);
    RawPeer peer(pair.server.address());
    peer.Send(hostile[i]);
    CHECK(RunUntil(&pair.loop,
                   [&] { return pair.server.metrics().bad_frames_total.value() == i + 1; }));
  }
  pair.client.Call(Call(2, pair.server.address()));
  REQUIRE(pair.RunUntilAnswered(2));
  CHECK_EQ(pair.answers.err(2), Err::kOk);
  CHECK_EQ(pair.client.metrics().connects_total.value(), 1);
  CHECK_EQ(pair.server.metrics().connections.value(), 1);
}

TEST_CASE("rpc: who does not prove the cluster key is refused, both ways (S21)") {
  const std::string other(32, 'x');
  const std::vector<std::pair<std::string, std::string>> keys = {
      {kKey, other}, {kKey, ""}, {"", kKey}};
  for (const auto& [server_key, client_key] : keys) {
    Pair pair({.cluster_key = server_key}, {.cluster_key = client_key});
    size_t handed_out = 0;
    pair.server.OnRequest([&](RpcRequest&&) { ++handed_out; });
    pair.client.Call(Call(1, pair.server.address()));
    REQUIRE(pair.RunUntilAnswered(1));
    CHECK_EQ(pair.answers.err(1), Err::kDenied);
    CHECK_EQ(handed_out, 0);
  }
}

TEST_CASE("rpc: a request before the proof, or after a false one, is not handed out (S21)") {
  Pair pair({.cluster_key = kKey});
  size_t handed_out = 0;
  pair.server.OnRequest([&](RpcRequest&&) { ++handed_out; });
  const std::string read = FrameText({.type = MessageType::kRead, .message = {}}, "");
  pb::AuthRequest auth;
  auth.set_client_mac(std::string(32, 'm'));
  const std::string false_proof =
      FrameText({.type = MessageType::kAuth, .message = {}}, auth.SerializeAsString());
  const std::string ping = FrameText({.type = MessageType::kPing, .message = {}}, "");
  const std::vector<std::string> tries = {read, HelloBytes() + read, ping,
                                          HelloBytes() + false_proof + read};
  for (size_t i = 0; i < tries.size(); ++i) {
    RawPeer peer(pair.server.address());
    peer.Send(tries[i]);
    CHECK(
        RunUntil(&pair.loop, [&] { return pair.server.metrics().denied_total.value() == i + 1; }));
    CHECK(RunUntil(&pair.loop, [&] { return pair.server.metrics().connections.value() == 0; }));
  }
  CHECK_EQ(handed_out, 0);
}

TEST_CASE("rpc: a server that others can reach does not start without a key (S21, F53)") {
  Loop loop;
  std::string why;
  RpcServer open(&loop, {.listen = "0.0.0.0:0"});
  CHECK_EQ(open.Listen(&why), Err::kConfig);
  CHECK_NE(why.find("cluster key"), std::string::npos);
  RpcServer short_key(&loop, {.listen = "0.0.0.0:0", .cluster_key = "short"});
  CHECK_EQ(short_key.Listen(&why), Err::kConfig);
  RpcServer nonsense(&loop, {.listen = "localhost"});
  CHECK_EQ(nonsense.Listen(&why), Err::kConfig);
  RpcServer with_key(&loop, {.listen = "0.0.0.0:0", .cluster_key = kKey});
  CHECK_EQ(with_key.Listen(&why), Err::kOk);
  RpcServer in_use(&loop, {.listen = with_key.address(), .cluster_key = kKey});
  CHECK_EQ(in_use.Listen(&why), Err::kConfig);
}

TEST_CASE("rpc: a full client queue is not read further; replica and control pass it (F66)") {
  RpcServerOptions options;
  options.bounds[size_t(RpcQueue::kClient)] = {.requests_max = 1000, .bytes_max = 1 << 20};
  Pair pair(std::move(options));
  std::vector<RpcRequest> held;
  uint64_t bytes_max_seen = 0;
  pair.server.OnRequest([&](RpcRequest&& request) {
    const auto bytes = uint64_t(pair.server.metrics().request_bytes.value());
    bytes_max_seen = std::max(bytes_max_seen, bytes);
    if (request.type == MessageType::kAppend) {
      held.push_back(std::move(request));
    } else {
      pair.server.Reply(RpcReply{.token = request.token, .type = request.type});
    }
  });
  constexpr size_t kAppends = 100;
  for (size_t i = 0; i < kAppends; ++i) {
    RpcCall call = Call(i, pair.server.address(), MessageType::kAppend);
    call.payload = Buffer(100'000);
    std::memset(call.payload.mutable_bytes().data(), int(i), call.payload.size());
    pair.client.Call(std::move(call));
  }
  REQUIRE(RunUntil(&pair.loop, [&] { return pair.server.metrics().paused_total.value() > 0; }));
  CHECK_EQ(held.size(), 10);  // ten of 100 KB are what a bound of 1 MiB admits
  pair.client.Call(Call(1000, pair.server.address(), MessageType::kReplicaAppend));
  pair.client.Call(Call(1001, pair.server.address(), MessageType::kCloseBlock));
  REQUIRE(RunUntil(&pair.loop, [&] { return pair.answers.by_id.size() == 2; }));
  CHECK_EQ(pair.answers.err(1000), Err::kOk);
  CHECK_EQ(pair.answers.err(1001), Err::kOk);
  CHECK_EQ(held.size(), 10);
  // As answers leave, the rest comes in, all of it, and never above the bound.
  REQUIRE(RunUntil(&pair.loop, [&] {
    std::vector<RpcRequest> batch;
    batch.swap(held);
    for (RpcRequest& request : batch) {
      pair.server.Reply(RpcReply{.token = request.token, .type = request.type});
    }
    return pair.answers.by_id.size() == kAppends + 2;
  }));
  CHECK_LE(bytes_max_seen, (1 << 20) + 1000);
  CHECK_EQ(pair.server.metrics().request_bytes.value(), 0);
}

TEST_CASE("rpc: a client is busy beyond its bounds, at once") {
  Pair pair({}, {.in_flight_max = 5});
  std::vector<RpcRequest> held;
  pair.server.OnRequest([&](RpcRequest&& request) { held.push_back(std::move(request)); });
  for (uint64_t i = 0; i < 8; ++i) pair.client.Call(Call(i, pair.server.address()));
  REQUIRE(pair.RunUntilAnswered(3));
  for (uint64_t i = 5; i < 8; ++i) CHECK_EQ(pair.answers.err(i), Err::kBusy);
  REQUIRE(RunUntil(&pair.loop, [&] { return held.size() == 5; }));
}

TEST_CASE("rpc: of a peer that does not read its replies no more requests are read") {
  Pair pair;
  pair.server.OnRequest([&](RpcRequest&& request) {
    pair.server.Reply(
        RpcReply{.token = request.token, .type = request.type, .payload = Buffer(10 << 20)});
  });
  RawPeer peer(pair.server.address());
  std::string requests = HelloBytes();
  for (int i = 0; i < 10; ++i)
    requests += FrameText({.type = MessageType::kRead, .message = {}}, "");
  peer.Send(requests);
  CHECK(RunUntil(&pair.loop, [&] { return pair.server.metrics().paused_total.value() > 0; }));
  CHECK_LT(pair.server.metrics().requests_total.value(), 10);
}

TEST_CASE("rpc: replies beyond the bound of a connection become busy, not memory") {
  Pair pair;
  std::vector<RpcRequest> held;
  pair.server.OnRequest([&](RpcRequest&& request) { held.push_back(std::move(request)); });
  RawPeer peer(pair.server.address());
  std::string requests = HelloBytes();
  for (int i = 0; i < 10; ++i)
    requests += FrameText({.type = MessageType::kRead, .message = {}}, "");
  peer.Send(requests);
  REQUIRE(RunUntil(&pair.loop, [&] { return held.size() == 10; }));
  for (const RpcRequest& request : held) {
    pair.server.Reply(
        RpcReply{.token = request.token, .type = request.type, .payload = Buffer(20 << 20)});
  }
  CHECK_EQ(pair.server.metrics().replies_busy_total.value(), 4);  // six of 20 MiB fit in 128
}

TEST_CASE("rpc: a listener that never answers costs a second, then calls fail at once (F41)") {
  Loop loop;
  RpcClient client(&loop, {.connect_ms = 100, .backoff_ms_min = 2'000, .backoff_ms_max = 2'000});
  Answers answers(&client);
  const Result<UniqueFd> silent = ListenOn(*ParseSocketAddress("127.0.0.1:0"), {});
  REQUIRE(silent.ok());
  const std::string address = SocketAddressText(BoundAddress(silent->get()));
  client.Call(Call(1, address));
  REQUIRE(RunUntil(&loop, [&] { return answers.by_id.size() == 1; }));
  CHECK_EQ(answers.err(1), Err::kUnavailable);
  const uint64_t before_ms = SystemMonotonicMs();
  client.Call(Call(2, address));
  REQUIRE(RunUntil(&loop, [&] { return answers.by_id.size() == 2; }));
  CHECK_EQ(answers.err(2), Err::kUnavailable);
  CHECK_LT(SystemMonotonicMs() - before_ms, 1'000);
  CHECK_EQ(client.metrics().connect_failures_total.value(), 1);
}

// The server runs on a loop that is not run any more: to its peer it is a process that was stopped.
TEST_CASE("rpc: a peer that hangs is noticed by a ping and broken off (F41)") {
  Loop server_loop;
  RpcServer server(&server_loop, {.listen = "127.0.0.1:0"});
  std::string why;
  REQUIRE_EQ(server.Listen(&why), Err::kOk);
  Echo(&server);
  Loop loop;
  RpcClient client(&loop, {.ping_ms = 60});
  Answers answers(&client);
  const Loop::Handle serve = loop.Every(1, [&] {
    if (answers.by_id.empty()) {
      const Loop::Handle stop = server_loop.After(1, [&] { server_loop.Stop(); });
      server_loop.Run();
    }
  });
  client.Call(Call(1, server.address()));
  REQUIRE(RunUntil(&loop, [&] { return answers.by_id.size() == 1; }));
  RpcCall quick = Call(2, server.address());
  quick.timeout_ms = 50;
  client.Call(std::move(quick));
  client.Call(Call(3, server.address()));  // would wait 10 s
  REQUIRE(RunUntil(&loop, [&] { return answers.by_id.size() == 3; }));
  CHECK_EQ(answers.err(1), Err::kOk);
  CHECK_EQ(answers.err(2), Err::kTimeout);
  CHECK_EQ(answers.err(3), Err::kUnavailable);
  CHECK_EQ(client.metrics().hung_total.value(), 1);
}

TEST_CASE("rpc: without descriptors accepting pauses, and goes on when there are some (F23)") {
  Pair pair;
  RawPeer waiting(pair.server.address());
  rlimit before{};
  REQUIRE_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  // Not one more than are open now.
  const UniqueFd probe(dup(0));
  rlimit none = before;
  none.rlim_cur = rlim_t(probe.get());
  REQUIRE_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const bool paused =
      RunUntil(&pair.loop, [&] { return pair.server.metrics().accept_pauses_total.value() >= 1; });
  REQUIRE_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  CHECK(paused);
  CHECK_LT(pair.server.metrics().accept_pauses_total.value(), 10);  // not a busy loop
  CHECK(RunUntil(&pair.loop, [&] { return pair.server.metrics().accepted_total.value() == 1; }));
}

TEST_CASE("rpc: a connection in excess is refused, those that are there go on") {
  Pair pair({.connections_max = 1});
  pair.client.Call(Call(1, pair.server.address()));
  REQUIRE(pair.RunUntilAnswered(1));
  RawPeer excess(pair.server.address());
  CHECK(RunUntil(&pair.loop, [&] { return pair.server.metrics().refused_total.value() == 1; }));
  pair.client.Call(Call(2, pair.server.address()));
  REQUIRE(pair.RunUntilAnswered(2));
  CHECK_EQ(pair.answers.err(2), Err::kOk);
}
