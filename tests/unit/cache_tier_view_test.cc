#include "cache/tier_view.h"

#include "doctest/doctest.h"

namespace hayloft {
namespace {

pb::GatewayHelloReply Reply(const std::vector<std::string>& addresses, bool settled) {
  pb::GatewayHelloReply reply;
  for (const std::string& address : addresses) reply.add_addresses(address);
  reply.set_settled(settled);
  return reply;
}

TEST_CASE("tier view: knows itself at once, and others as nameservers tell of them") {
  TierView view("10.0.0.2:1");
  auto tier = view.Changed(0);
  REQUIRE(tier != nullptr);
  CHECK_EQ(tier->addresses.size(), 1);
  CHECK_EQ(tier->self, 0);
  CHECK(view.Changed(0) == nullptr);
  view.Note("ns1", Reply({"10.0.0.1:1", "10.0.0.2:1"}, true), 10);
  view.Note("ns2", Reply({"10.0.0.3:1"}, true), 10);  // it heard of another one
  tier = view.Changed(10);
  REQUIRE(tier != nullptr);
  CHECK_EQ(tier->addresses.size(), 3);
  CHECK_EQ(tier->addresses[tier->self], "10.0.0.2:1");
}

TEST_CASE("tier view: one that left is taken out by a settled answer, by no other") {
  TierView view("10.0.0.2:1");
  view.Note("ns1", Reply({"10.0.0.1:1", "10.0.0.2:1"}, true), 0);
  REQUIRE(view.Changed(0) != nullptr);
  view.Note("ns1", Reply({"10.0.0.2:1"}, false), 1'000);  // it has just started
  CHECK(view.Changed(1'000) == nullptr);
  view.Note("ns1", Reply({"10.0.0.2:1"}, true), 2'000);
  const auto tier = view.Changed(2'000);
  REQUIRE(tier != nullptr);
  CHECK_EQ(tier->addresses.size(), 1);
}

TEST_CASE("tier view: while no nameserver answers, the gateways stay as they were") {
  TierView view("10.0.0.2:1");
  view.Note("ns1", Reply({"10.0.0.1:1", "10.0.0.2:1"}, true), 0);
  REQUIRE(view.Changed(0) != nullptr);
  CHECK(view.Changed(60'000) == nullptr);
  // An answer of long ago names nobody any more, once another one speaks.
  view.Note("ns2", Reply({"10.0.0.2:1"}, true), 60'000);
  const auto tier = view.Changed(60'000);
  REQUIRE(tier != nullptr);
  CHECK_EQ(tier->addresses.size(), 1);
}

}  // namespace
}  // namespace hayloft
