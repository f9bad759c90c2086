#include <algorithm>
#include <map>

#include "tests/unit/client_bench.h"

namespace hayloft {
namespace {

using Bench = ClientBench;

TEST_CASE("client: a put asks for a grant, appends, and answers the address") {
  Bench bench;
  const uint64_t op_id = bench.Put();
  bench.Answer(bench.Take(MessageType::kGrant), Grants({7}));
  const RpcCall append = bench.Take(MessageType::kAppend);
  CHECK_EQ(append.address, "dsp-7");
  CHECK_EQ(AsText(append.payload.bytes()), "the bytes of an image");
  CHECK_EQ(append.payload_crc, Crc32c(append.payload.bytes()));
  CHECK_EQ(AppendOf(append).replicas(0).incarnation(), 3);
  bench.Answer(append, StoredAs(0));
  REQUIRE_EQ(bench.outbox.puts.size(), 1);
  const PutDone& done = bench.outbox.puts[0];
  CHECK_EQ(done.op_id, op_id);
  CHECK_EQ(done.err, Err::kOk);
  CHECK_EQ(done.address, kFile);
  CHECK_EQ(done.dsp, "dsp-7");
  CHECK_EQ(bench.core.ops_in_flight(), 0);
}

TEST_CASE("client: a put leaves a closed block at once and never returns to it") {
  Bench bench;
  bench.Put();
  bench.Answer(bench.Take(MessageType::kGrant), Grants({7, 8}));
  const RpcCall first = bench.Take(MessageType::kAppend);
  bench.Answer(first, Err::kClosed);
  const RpcCall second = bench.Take(MessageType::kAppend);
  CHECK_NE(second.address, first.address);
  bench.Answer(second, Err::kStaleEpoch);
  const RpcCall ask = bench.Take(MessageType::kGrant);
  pb::GrantRequest request;
  REQUIRE(request.ParseFromString(ask.message));
  CHECK_EQ(request.bad_block_ids_size(), 2);
  bench.Answer(ask, Grants({7, 8, 9}));  // the nameserver does not know yet that they are closed
  const RpcCall third = bench.Take(MessageType::kAppend);
  CHECK_EQ(third.address, "dsp-9");
  bench.Answer(third, StoredAs(0));
  REQUIRE_EQ(bench.outbox.puts.size(), 1);
  CHECK_EQ(bench.outbox.puts[0].err, Err::kOk);
}

// As when dsps restart one after the other, and no nameserver knows yet what they have closed.
TEST_CASE("client: a put outlives any number of closed blocks, until its deadline") {
  Bench bench;
  bench.Put(/*timeout_ms=*/5'000);
  uint32_t block_id = 0;
  const auto all_closed = [&] {
    if (bench.outbox.calls.empty()) bench.Tick(500);
    if (bench.outbox.calls.empty()) return;
    if (bench.outbox.calls[0].type == MessageType::kGrant) {
      ++block_id;
      return bench.Answer(bench.Take(MessageType::kGrant), Grants({block_id}));
    }
    bench.Answer(bench.Take(MessageType::kAppend), Err::kClosed);
  };
  while (block_id < 20 && bench.outbox.puts.empty()) all_closed();
  CHECK(bench.outbox.puts.empty());
  SUBCASE("one takes it") {
    bench.Answer(bench.Take(MessageType::kAppend), StoredAs(0));
    REQUIRE_EQ(bench.outbox.puts.size(), 1);
    CHECK_EQ(bench.outbox.puts[0].err, Err::kOk);
  }
  SUBCASE("none does, and it does not ask without a pause") {
    while (bench.outbox.puts.empty()) all_closed();
    CHECK_EQ(bench.outbox.puts[0].err, Err::kClosed);
    CHECK_LT(block_id, 200);
  }
}

TEST_CASE("client: a late dsp loses all its grants, and others are preferred") {
  Bench bench;
  bench.Put();
  pb::GrantReply grants = Grants({7, 8, 9});
  grants.mutable_grants(1)->mutable_replicas(0)->set_dsp_id(7);  // block 8 lies on dsp 7, too
  bench.Answer(bench.Take(MessageType::kGrant), grants);
  const RpcCall first = bench.Take(MessageType::kAppend);
  REQUIRE_EQ(AppendOf(first).block_id(), 7);
  bench.Answer(first, Err::kTimeout);
  const RpcCall second = bench.Take(MessageType::kAppend);
  CHECK_EQ(AppendOf(second).block_id(), 9);
}

TEST_CASE("client: puts are spread over the grants by what is in flight") {
  Bench bench;
  bench.Put();
  bench.Answer(bench.Take(MessageType::kGrant), Grants({7, 8, 9, 10}));
  for (int i = 0; i < 7; ++i) bench.Put();
  std::map<std::string, int> in_flight;
  for (int i = 0; i < 8; ++i) ++in_flight[bench.Take(MessageType::kAppend).address];
  CHECK_EQ(in_flight.size(), 4);
  for (const auto& [address, count] : in_flight) CHECK_EQ(count, 2);
}

TEST_CASE("client: no block is a final answer after some patience, a full cluster at once") {
  Bench bench;
  bench.Put();
  bench.Answer(bench.Take(MessageType::kGrant), Err::kFull);
  REQUIRE_EQ(bench.outbox.puts.size(), 1);
  CHECK_EQ(bench.outbox.puts[0].err, Err::kFull);
  bench.Put();
  uint64_t waited_ms = 0;
  while (bench.outbox.puts.size() == 1 && waited_ms < 10'000) {
    if (!bench.outbox.calls.empty()) bench.Answer(bench.Take(MessageType::kGrant), Err::kNoBlock);
    bench.Tick(10);
    waited_ms += 10;
  }
  REQUIRE_EQ(bench.outbox.puts.size(), 2);
  CHECK_EQ(bench.outbox.puts[1].err, Err::kNoBlock);
  CHECK(waited_ms >= 2'000);
  CHECK(waited_ms < 4'000);
}

TEST_CASE("client: a put ends at its deadline, and what comes late is dropped") {
  Bench bench;
  bench.Put(/*timeout_ms=*/500);
  bench.Answer(bench.Take(MessageType::kGrant), Grants({7}));
  const RpcCall append = bench.Take(MessageType::kAppend);
  CHECK_EQ(append.timeout_ms, 500);
  bench.Tick(600);
  REQUIRE_EQ(bench.outbox.puts.size(), 1);
  CHECK_EQ(bench.outbox.puts[0].err, Err::kTimeout);
  bench.Answer(append, StoredAs(0));
  bench.Answer(append, StoredAs(0));
  CHECK_EQ(bench.outbox.puts.size(), 1);
  CHECK_EQ(bench.core.ops_in_flight(), 0);
}

TEST_CASE("client: bad puts and one too many are refused without a call") {
  Bench bench(1, /*ops_max=*/1);
  PutRequest empty;
  bench.core.Put(std::move(empty), bench.now, &bench.outbox);
  CHECK_EQ(bench.outbox.puts.back().err, Err::kInvalid);
  PutRequest fat;
  fat.stored = Buffer(1);
  fat.raw_size = 1;
  fat.metadata = std::string(kMetadataBytesMax + 1, 'x');
  bench.core.Put(std::move(fat), bench.now, &bench.outbox);
  CHECK_EQ(bench.outbox.puts.back().err, Err::kTooLarge);
  CHECK(bench.outbox.calls.empty());
  bench.Put();
  bench.Put();
  CHECK_EQ(bench.outbox.puts.back().err, Err::kBusy);
  bench.Get(kFile);
  REQUIRE_EQ(bench.outbox.gets.size(), 1);
  CHECK_EQ(bench.outbox.gets[0].err, Err::kBusy);
}

TEST_CASE("client: the other nameserver is asked when one is not active") {
  Bench bench(/*nameservers=*/2);
  bench.Put();
  const RpcCall first = bench.Take(MessageType::kGrant);
  bench.Answer(first, Err::kNotActive);
  bench.Tick(200);
  const RpcCall second = bench.Take(MessageType::kGrant);
  CHECK_NE(first.address, second.address);
  bench.Answer(second, Grants({7}));
  (void)bench.Take(MessageType::kAppend);
}

TEST_CASE("client: a get locates once, and the location is remembered") {
  Bench bench;
  for (int i = 0; i < 2; ++i) {
    bench.Get(kFile);
    if (i == 0) bench.Answer(bench.Take(MessageType::kLocate), LocatedAt({"dsp-7"}));
    const RpcCall read = bench.Take(MessageType::kRead);
    CHECK_EQ(read.address, "dsp-7");
    bench.Answer(read, Err::kOk, ReadReplyOf(kFile, "image"), "image");
    REQUIRE_EQ(bench.outbox.gets.size(), i + 1);
    CHECK_EQ(bench.outbox.gets[i].err, Err::kOk);
    CHECK_EQ(AsText(bench.outbox.gets[i].payload.bytes()), "image");
  }
}

TEST_CASE("client: gets of one block share one question about its location") {
  Bench bench;
  for (int i = 0; i < 3; ++i) bench.Get(kFile);
  CHECK_EQ(bench.outbox.calls.size(), 1);
  bench.Answer(bench.Take(MessageType::kLocate), LocatedAt({"dsp-7"}));
  CHECK_EQ(bench.outbox.calls.size(), 3);
}

TEST_CASE("client: a damaged replica costs a question to another, F19") {
  Bench bench;
  bench.Get(kFile);
  bench.Answer(bench.Take(MessageType::kLocate), LocatedAt({"dsp-7", "dsp-8"}));
  const RpcCall first = bench.Take(MessageType::kRead);
  bench.Answer(first, Err::kCorrupt);
  const RpcCall second = bench.Take(MessageType::kRead);
  CHECK_NE(first.address, second.address);
  bench.Answer(second, Err::kOk, ReadReplyOf(kFile, "image"), "image");
  REQUIRE_EQ(bench.outbox.gets.size(), 1);
  CHECK_EQ(bench.outbox.gets[0].err, Err::kOk);
}

TEST_CASE("client: an answer about another file, or short of bytes, is never passed on") {
  Bench bench;
  bench.Get(kFile);
  bench.Answer(bench.Take(MessageType::kLocate), LocatedAt({"dsp-7", "dsp-8", "dsp-9"}));
  const FileAddress other{kFirstBlock, FileId::Of(1, 5)};
  bench.Answer(bench.Take(MessageType::kRead), Err::kOk, ReadReplyOf(other, "image"), "image");
  bench.Answer(bench.Take(MessageType::kRead), Err::kOk, ReadReplyOf(kFile, "image"), "imag");
  CHECK(bench.outbox.gets.empty());
  bench.Answer(bench.Take(MessageType::kRead), Err::kOk, ReadReplyOf(kFile, "image"), "image");
  REQUIRE_EQ(bench.outbox.gets.size(), 1);
  CHECK_EQ(bench.outbox.gets[0].err, Err::kOk);
}

TEST_CASE("client: facts are answered at once") {
  for (const Err fact : {Err::kNotFound, Err::kGone, Err::kRange}) {
    Bench bench;
    bench.Get(kFile);
    bench.Answer(bench.Take(MessageType::kLocate), LocatedAt({"dsp-7"}));
    bench.Answer(bench.Take(MessageType::kRead), fact);
    REQUIRE_EQ(bench.outbox.gets.size(), 1);
    CHECK_EQ(bench.outbox.gets[0].err, fact);
  }
}

TEST_CASE("client: an unknown block is not found only when all dsps have spoken, F68") {
  for (const bool complete : {false, true}) {
    Bench bench;
    bench.Get(kFile);
    pb::LocateReply reply;
    reply.add_locations()->set_block_id(kFirstBlock);
    reply.set_complete(complete);
    bench.Answer(bench.Take(MessageType::kLocate), reply);
    if (complete) {
      REQUIRE_EQ(bench.outbox.gets.size(), 1);
      CHECK_EQ(bench.outbox.gets[0].err, Err::kNotFound);
      continue;
    }
    CHECK(bench.outbox.gets.empty());
    bench.Tick(11'000);
    REQUIRE_EQ(bench.outbox.gets.size(), 1);
    CHECK_EQ(bench.outbox.gets[0].err, Err::kUnavailable);
  }
}

TEST_CASE("client: with no nameserver the old location is asked again, F10") {
  Bench bench;
  bench.Get(kFile);
  bench.Answer(bench.Take(MessageType::kLocate), LocatedAt({"dsp-7"}));
  bench.Answer(bench.Take(MessageType::kRead), Err::kOk, ReadReplyOf(kFile, "image"), "image");
  bench.Get(kFile);
  bench.Answer(bench.Take(MessageType::kRead), Err::kUnavailable);  // it restarts
  bench.Answer(bench.Take(MessageType::kLocate), Err::kUnavailable);
  bench.Tick(100);
  bench.Answer(bench.Take(MessageType::kRead), Err::kOk, ReadReplyOf(kFile, "image"), "image");
  REQUIRE_EQ(bench.outbox.gets.size(), 2);
  CHECK_EQ(bench.outbox.gets[1].err, Err::kOk);
}

TEST_CASE("client: a get of one dsp asks nobody else") {
  Bench bench;
  bench.Get(kFile, "dsp-9");
  const RpcCall read = bench.Take(MessageType::kRead);
  CHECK_EQ(read.address, "dsp-9");
  bench.Answer(read, Err::kOk, ReadReplyOf(kFile, "image"), "image");
  CHECK_EQ(bench.outbox.gets.size(), 1);
}

TEST_CASE("client: a stat takes the greatest counter of all replicas") {
  Bench bench;
  bench.core.Stat({.address = kFile}, bench.now, &bench.outbox);
  bench.Answer(bench.Take(MessageType::kLocate), LocatedAt({"dsp-7", "dsp-8"}));
  pb::StatReply reply;
  reply.set_head(HeadOf(kFile, "image"));
  reply.set_delete_counter(2);
  bench.Answer(bench.Take(MessageType::kStat), reply);
  CHECK(bench.outbox.stats.empty());
  reply.set_delete_counter(3);
  bench.Answer(bench.Take(MessageType::kStat), reply);
  REQUIRE_EQ(bench.outbox.stats.size(), 1);
  CHECK_EQ(bench.outbox.stats[0].delete_counter, 3);
  CHECK_EQ(bench.outbox.stats[0].replicas.size(), 2);
}

TEST_CASE("client: a delete reads the counter once and repeats its value, F44") {
  Bench bench;
  bench.SetDelete(/*undelete=*/false);
  bench.Answer(bench.Take(MessageType::kLocate), LocatedAt({"dsp-7"}));
  pb::StatReply stat;
  stat.set_head(HeadOf(kFile, "image"));
  stat.set_delete_counter(4);
  bench.Answer(bench.Take(MessageType::kStat), stat);
  const RpcCall first = bench.Take(MessageType::kSetDelete);
  bench.Answer(first, Err::kTimeout);
  bench.Tick(200);
  const RpcCall second = bench.Take(MessageType::kSetDelete);
  CHECK_EQ(first.message, second.message);
  pb::SetDeleteReply reply;
  reply.set_counter(5);
  bench.Answer(second, reply);
  REQUIRE_EQ(bench.outbox.set_deletes.size(), 1);
  CHECK_EQ(bench.outbox.set_deletes[0].err, Err::kOk);
  CHECK_EQ(bench.outbox.set_deletes[0].counter, 5);
}

TEST_CASE("client: delete and undelete send the value also when it is so already, F44") {
  struct Row {
    bool undelete;
    uint32_t counter, sent;
  };
  for (const Row& row : {Row{false, 3, 3}, Row{false, 2, 3}, Row{true, 3, 4}, Row{true, 4, 4}}) {
    Bench bench;
    bench.SetDelete(row.undelete);
    bench.Answer(bench.Take(MessageType::kLocate), LocatedAt({"dsp-7"}));
    pb::StatReply stat;
    stat.set_head(HeadOf(kFile, "image"));
    stat.set_delete_counter(row.counter);
    bench.Answer(bench.Take(MessageType::kStat), stat);
    pb::SetDeleteRequest request;
    REQUIRE(request.ParseFromString(bench.Take(MessageType::kSetDelete).message));
    CHECK_EQ(request.counter(), row.sent);
  }
  Bench bench;  // nothing to undelete
  bench.SetDelete(/*undelete=*/true);
  bench.Answer(bench.Take(MessageType::kLocate), LocatedAt({"dsp-7"}));
  pb::StatReply stat;
  stat.set_head(HeadOf(kFile, "image"));
  bench.Answer(bench.Take(MessageType::kStat), stat);
  REQUIRE_EQ(bench.outbox.set_deletes.size(), 1);
  CHECK_EQ(bench.outbox.set_deletes[0].err, Err::kOk);
}

TEST_CASE("client: status comes from all nameservers, and names those that are silent") {
  Bench bench(/*nameservers=*/2);
  bench.core.Status(1'000, bench.now, &bench.outbox);
  const RpcCall first = bench.Take(MessageType::kClusterStatus);
  (void)bench.Take(MessageType::kClusterStatus);
  pb::ClusterStatusReply reply;
  reply.set_epoch(9);
  bench.Answer(first, reply);
  CHECK(bench.outbox.statuses.empty());
  bench.Tick(1'100);
  REQUIRE_EQ(bench.outbox.statuses.size(), 1);
  const StatusDone& done = bench.outbox.statuses[0];
  CHECK_EQ(done.nameservers[0].status.epoch(), 9);
  CHECK_EQ(done.nameservers[1].err, Err::kTimeout);
}

TEST_CASE("client: a dsp whose connection broke is named with the next request for grants") {
  Bench bench;
  const auto named = [&](const RpcCall& call) {
    pb::GrantRequest request;
    REQUIRE(request.ParseFromString(call.message));
    CHECK_NE(request.unreachable().reporter(), 0);  // also of a client that reaches all
    return std::vector<std::string>(request.unreachable().addresses().begin(),
                                    request.unreachable().addresses().end());
  };
  bench.Put();
  const RpcCall ask = bench.Take(MessageType::kGrant);
  CHECK(named(ask).empty());
  bench.Answer(ask, Grants({7}));
  bench.Answer(bench.Take(MessageType::kAppend), Err::kUnavailable);
  const RpcCall again = bench.Take(MessageType::kGrant);
  CHECK_EQ(named(again), std::vector<std::string>{"dsp-7"});
  pb::GrantReply grants = Grants({8});  // another block of the same dsp
  grants.mutable_grants(0)->mutable_replicas(0)->set_address("dsp-7");
  bench.Answer(again, grants);
  bench.Answer(bench.Take(MessageType::kAppend), Err::kClosed);  // it answers: reachable
  CHECK(named(bench.Take(MessageType::kGrant)).empty());
}

TEST_CASE("client: a dsp that a read waited for in vain is named with the next location") {
  Bench bench;
  bench.Get(kFile);
  bench.Answer(bench.Take(MessageType::kLocate), LocatedAt({"dsp-7"}));
  const RpcCall read = bench.Take(MessageType::kRead);
  bench.Tick(2'000);
  bench.Answer(read, Err::kTimeout);
  bench.Tick(100);
  const RpcCall second = bench.Take(MessageType::kRead);  // from the cache, as it was fresh
  bench.Answer(second, Err::kUnavailable);
  pb::LocateRequest request;
  REQUIRE(request.ParseFromString(bench.Take(MessageType::kLocate).message));
  REQUIRE_EQ(request.unreachable().addresses_size(), 1);
  CHECK_EQ(request.unreachable().addresses(0), "dsp-7");
  CHECK_NE(request.unreachable().reporter(), 0);
}

TEST_CASE("unreachable_peers: a time-out counts only if nothing at all was heard for long enough") {
  UnreachablePeers peers;
  peers.OnCallDone("a", {.sent_ms = 1'000, .now_ms = 1'500, .err = Err::kTimeout});
  CHECK(peers.empty());  // the caller was in a hurry
  peers.OnCallDone("a", {.sent_ms = 1'000, .now_ms = 2'500, .err = Err::kBusy});
  peers.OnCallDone("a", {.sent_ms = 1'000, .now_ms = 3'000, .err = Err::kTimeout});
  CHECK(peers.empty());  // it is slow, but it is there
  peers.OnCallDone("a", {.sent_ms = 2'501, .now_ms = 4'501, .err = Err::kTimeout});
  CHECK_FALSE(peers.empty());
  peers.OnCallDone("b", {.sent_ms = 5'000, .now_ms = 5'000, .err = Err::kUnavailable});
  pb::Unreachable named;
  peers.Describe(5'000, &named);
  CHECK_EQ(named.addresses_size(), 2);
  named.Clear();
  peers.Describe(14'600, &named);  // ten seconds after the first
  REQUIRE_EQ(named.addresses_size(), 1);
  CHECK_EQ(named.addresses(0), "b");
  peers.OnCallDone("b", {.sent_ms = 14'600, .now_ms = 14'601, .err = Err::kNotFound});
  CHECK(peers.empty());
  for (int i = 0; i < 1'000; ++i) {
    peers.OnCallDone(std::to_string(i), {.sent_ms = 0, .now_ms = 20'000, .err = Err::kUnavailable});
  }
  named.Clear();
  peers.Describe(20'000, &named);
  CHECK_EQ(named.addresses_size(), static_cast<int>(UnreachablePeers::kNamedMax));
}

TEST_CASE("location_cache: bounded, and the least recently used goes first") {
  LocationCache cache(2);
  cache.Put(1, {"a"});
  cache.Put(2, {"b", "c"});
  CHECK_EQ(cache.Find(1).size(), 1);
  cache.Put(3, {"d"});
  CHECK(cache.Find(2).empty());
  CHECK_EQ(cache.Find(1).at(0), "a");
  CHECK_EQ(cache.size(), 2);
}

}  // namespace
}  // namespace hayloft
