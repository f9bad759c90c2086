// The simulated network does to messages what its weather says, and keeps its two promises: one
// CallDone for each call, and a complaint about a request that is answered twice.
#include "tests/sim/sim_net.h"

#include <doctest/doctest.h>

#include "common/limits.h"

namespace hayloft {
namespace {

// A caller at "c" and a server at "s" that echoes, unless told to keep requests.
struct Pair {
  explicit Pair(uint64_t seed) : random(seed), trace(false), net(&events, &random, &trace) {
    net.Start("c", {.now = [] { return Now{}; },
                    .on_request = [](RpcRequest&&) {},
                    .on_done = [this](CallDone&& done) { dones.push_back(std::move(done)); }});
    StartServer();
  }
  void StartServer() {
    net.Start("s", {.now = [] { return Now{}; },
                    .on_request =
                        [this](RpcRequest&& request) {
                          ++requests;
                          order.push_back(request.message);
                          if (keep) return;
                          RpcReply reply;
                          reply.token = request.token;
                          reply.type = request.type;
                          reply.message = request.message;
                          net.Reply("s", std::move(reply));
                        },
                    .on_done = [](CallDone&&) {}});
  }
  void Call(uint64_t id, const std::string& address = "s") {
    RpcCall call;
    call.call_id = id;
    call.address = address;
    call.timeout_ms = 1000;
    call.message = std::to_string(id);
    net.Call("c", std::move(call));
  }
  void Run(uint64_t ms = 10'000) {
    const uint64_t end = events.now_us() + ms * 1000;
    while (events.RunNext(end)) {
    }
  }
  size_t Count(Err err) const {
    size_t count = 0;
    for (const CallDone& done : dones) count += done.err == err;
    return count;
  }

  SimEvents events;
  SimRandom random;
  SimTrace trace;
  SimNet net;
  bool keep = false;
  size_t requests = 0;
  std::vector<std::string> order;
  std::vector<CallDone> dones;
};

TEST_CASE("sim_net: in good weather each call is answered once, with its own answer") {
  Pair pair(1);
  for (uint64_t id = 1; id <= 100; ++id) pair.Call(id);
  pair.Run();
  REQUIRE_EQ(pair.dones.size(), 100);
  for (const CallDone& done : pair.dones) {
    CHECK_EQ(done.err, Err::kOk);
    CHECK_EQ(done.message, std::to_string(done.call_id));
  }
  CHECK_NE(pair.order[0] + pair.order[1] + pair.order[2], "123");  // overtaken
  CHECK_EQ(pair.net.Unanswered(), 0);
}

TEST_CASE("sim_net: F42 lost, doubled and late messages still end in one CallDone for each call") {
  Pair pair(2);
  pair.net.SetWeather({.lost_percent = 20, .doubled_percent = 20, .late_percent = 20});
  for (uint64_t id = 1; id <= 1000; ++id) pair.Call(id);
  pair.Run();
  CHECK_EQ(pair.dones.size(), 1000);
  CHECK_GT(pair.Count(Err::kOk), 300);
  CHECK_GT(pair.Count(Err::kTimeout), 300);
  CHECK_GT(pair.requests, 900);  // some arrived twice, some after their caller had given up
  CHECK_FALSE(pair.trace.failed());
}

TEST_CASE("sim_net: a dead or silent peer is kUnavailable, a cut one kTimeout") {
  Pair pair(3);
  pair.keep = true;
  pair.Call(1);
  pair.Run(10);
  CHECK_EQ(pair.net.Unanswered(), 1);
  pair.net.Stop("s");
  pair.Call(2);
  pair.Run(100);
  CHECK_EQ(pair.Count(Err::kUnavailable), 2);
  CHECK_EQ(pair.net.Unanswered(), 0);
  pair.keep = false;
  pair.StartServer();
  pair.net.Cut("s", "c");  // requests arrive, answers do not
  pair.Call(3);
  pair.Run();
  CHECK_EQ(pair.requests, 2);
  CHECK_EQ(pair.Count(Err::kTimeout), 1);
  pair.net.HealCuts();
  pair.keep = true;
  pair.Call(4);
  pair.Run(10);
  pair.net.BreakConnections("c", "s");
  pair.Run(10);
  CHECK_EQ(pair.Count(Err::kUnavailable), 3);
}

TEST_CASE("sim_net: a request of a former life of its target does not reach the next one") {
  Pair pair(4);
  pair.net.SetWeather({.late_percent = 100, .late_us_max = 500'000});
  for (uint64_t id = 1; id <= 20; ++id) pair.Call(id);
  pair.net.Stop("s");
  pair.StartServer();
  pair.Run();
  CHECK_EQ(pair.requests, 0);
  CHECK_EQ(pair.dones.size(), 20);
}

TEST_CASE("sim_net: an answer given twice and a message over its bounds are found") {
  Pair pair(5);
  pair.Call(1);
  pair.Run();
  RpcReply again;
  again.token.request_id = 1;
  pair.net.Reply("s", std::move(again));
  CHECK_EQ(pair.trace.failures().size(), 1);
  RpcCall large;
  large.address = "s";
  large.timeout_ms = 1;
  large.message.resize(kMessageBytesMax + 1);
  pair.net.Call("c", std::move(large));
  CHECK_EQ(pair.trace.failures().size(), 2);
}

}  // namespace
}  // namespace hayloft
