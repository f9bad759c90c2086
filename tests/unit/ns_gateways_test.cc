// Which gateways a nameserver knows, and when its list may be taken for complete.
#include "nameserver/ns_gateways.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "nameserver/ns_server.h"
#include "tests/sim/sim_random.h"

namespace hayloft {
namespace {

using Addresses = std::vector<std::string>;

std::string Hello(const std::string& address, bool leaves = false) {
  pb::GatewayHelloRequest request;
  request.set_address(address);
  request.set_leaves(leaves);
  return request.SerializeAsString();
}

struct Bench {
  NsGateways gateways;
  pb::GatewayHelloReply reply;

  Addresses At(uint64_t mono_ms, const std::string& address, bool leaves = false) {
    reply.Clear();
    REQUIRE_EQ(gateways.Hear(Hello(address, leaves), {.mono_ms = mono_ms}, &reply), Err::kOk);
    return {reply.addresses().begin(), reply.addresses().end()};
  }
};

const std::string kA = "10.0.0.1:8080";
const std::string kB = "10.0.0.2:8080";
const std::string kC = "[fd00::3]:8080";

TEST_CASE("ns_gateways: who was heard within 3 s is told, in order") {
  Bench bench;
  CHECK_EQ(bench.At(5'000, kB), Addresses{kB});
  CHECK_EQ(bench.At(5'100, kA), Addresses{kA, kB});
  CHECK_EQ(bench.At(6'000, kC), Addresses{kA, kB, kC});
  CHECK_EQ(bench.At(7'999, kA), Addresses{kA, kB, kC});
  CHECK_EQ(bench.At(8'000, kA), Addresses{kA, kC});  // B is silent for 3 s
  CHECK_EQ(bench.At(8'100, kC, /*leaves=*/true), Addresses{kA});
  CHECK_EQ(bench.At(8'200, kC), Addresses{kA, kC});
}

TEST_CASE("ns_gateways: settled after 3 s of hellos, and not after a pause") {
  Bench bench;
  (void)bench.At(5'000, kA);
  CHECK_FALSE(bench.reply.settled());
  (void)bench.At(6'500, kA);
  (void)bench.At(7'999, kA);
  CHECK_FALSE(bench.reply.settled());
  (void)bench.At(8'000, kA);
  CHECK(bench.reply.settled());
  (void)bench.At(9'999, kA);
  CHECK(bench.reply.settled());
  // It was stopped meanwhile, maybe: B, whose hello did not come through yet, is no less there.
  (void)bench.At(11'999, kA);
  CHECK_FALSE(bench.reply.settled());
  (void)bench.At(13'500, kB);
  (void)bench.At(14'999, kA);
  CHECK(bench.reply.settled());
}

TEST_CASE("ns_gateways: what is no address is refused, and changes nothing") {
  Bench bench;
  pb::GatewayHelloReply reply;
  const Now now{.mono_ms = 1'000};
  for (const std::string& text :
       {std::string(), std::string("10.0.0.1"), std::string(":80"), std::string("10.0.0.1:"),
        std::string("10.0.0.1:0"), std::string("10.0.0.1:65536"), std::string("10.0.0.1:80x"),
        std::string("gateway:80"), std::string("[]:80"), std::string("fd00::3:80"),
        std::string("[fd00::3]80"), std::string("10.0.0.1 :80"), std::string(70, '1') + ".1:80"}) {
    CAPTURE(text);
    CHECK_EQ(bench.gateways.Hear(Hello(text), now, &reply), Err::kInvalid);
  }
  CHECK_EQ(bench.gateways.Hear("\xff", now, &reply), Err::kInvalid);
  CHECK_EQ(reply.addresses_size(), 0);
  CHECK_EQ(bench.At(1'000, kA), Addresses{kA});
}

TEST_CASE("ns_gateways: there is a bound; the longest silent makes room") {
  Bench bench;
  for (size_t i = 0; i < NsGateways::kGatewaysMax; ++i) {
    (void)bench.At(1'000 + i, "10.0.0.1:" + std::to_string(1'000 + i));
  }
  CHECK_EQ(bench.reply.addresses_size(), NsGateways::kGatewaysMax);
  const Addresses after = bench.At(2'500, kB);
  CHECK_EQ(after.size(), NsGateways::kGatewaysMax);
  CHECK_EQ(std::count(after.begin(), after.end(), kB), 1);
  CHECK_EQ(std::count(after.begin(), after.end(), "10.0.0.1:1000"), 0);
  CHECK_EQ(std::count(after.begin(), after.end(), "10.0.0.1:1001"), 1);
  // The largest list fits into a message, whatever the addresses are.
  Bench wide;
  for (size_t i = 0; i < NsGateways::kGatewaysMax; ++i) {
    (void)wide.At(1'000,
                  "[2001:0db8:0000:0000:0000:0000:255.255.255.254]:" + std::to_string(10'000 + i));
  }
  const MessageRow* row = FindMessage(static_cast<uint16_t>(MessageType::kGatewayHello));
  REQUIRE_NE(row, nullptr);
  CHECK_LE(wide.reply.SerializeAsString().size(), row->message_bytes_max);
}

// A gateway asks all nameservers at once, and must get the list also while none is active.
TEST_CASE("ns_gateways: a nameserver that is not active answers too, and nothing is logged") {
  SimRandom random{1};
  NsState state;
  state.node = std::string(kNodeIdBytes, 'n');
  state.settings.set_cluster_id(std::string(16, 'c'));
  RoleDisk disk{.head = {}, .log = LogTail(pb::HaPoint())};
  disk.head.set_node(state.node);
  disk.head.set_identity("one");
  RoleOptions role;
  role.node = state.node;
  NsServer server(NsOptions{}, role, state, std::move(disk), &random);
  const Now now{.mono_ms = 1'000'000};
  const auto ask = [&](MessageType type, const std::string& message) {
    RpcRequest request;
    request.type = type;
    request.message = message;
    HaOutbox out;
    server.OnRequest(std::move(request), now, &out);
    CHECK_FALSE(out.write.has_value());
    REQUIRE_EQ(out.replies.size(), 1);
    return std::move(out.replies[0]);
  };
  const RpcReply heard = ask(MessageType::kGatewayHello, Hello(kA));
  CHECK_EQ(heard.err, Err::kOk);
  pb::GatewayHelloReply reply;
  REQUIRE(reply.ParseFromString(heard.message));
  REQUIRE_EQ(reply.addresses_size(), 1);
  CHECK_EQ(reply.addresses(0), kA);
  CHECK_EQ(ask(MessageType::kGatewayHello, Hello("nowhere")).err, Err::kInvalid);
  CHECK_EQ(ask(MessageType::kLocate, "").err, Err::kNotActive);
}

}  // namespace
}  // namespace hayloft
