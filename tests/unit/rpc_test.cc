// RPC over real loopback sockets: many calls in flight, deadlines, breaks, hostile frames, keys.
#include <doctest/doctest.h>
#include <sys/socket.h>

#include <map>

#include "common/io/rpc_client.h"
#include "common/io/rpc_server.h"
#include "common/io/socket_address.h"
#include "common/io/system_clock.h"

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

}  // namespace

TEST_CASE("rpc: message and payload of every size come back, over Unix socket and TCP") {
  for (const bool unix_sockets : {true, false}) {
    Pair pair({.cluster_key = kKey}, {.cluster_key = kKey, .unix_sockets = unix_sockets});
    const std::vector<size_t> sizes = {0, 1, 100, 65'535, 300'000, 5 << 20};
    for (size_t i = 0; i < sizes.size(); ++i) {
      RpcCall call = Call(i, pair.server.address(), MessageType::kAppend);
      call.message = std::string(i * 1000, 'm');
      call.payload = Buffer(sizes[i]);
      for (size_t at = 0; at < sizes[i]; ++at) call.payload.data()[at] = uint8_t(at * 31 + i);
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
