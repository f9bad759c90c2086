// What holds for every read among several replicas: what it may cost, and that it doesn't fail
// because of who was asked first.
#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "client/shared_locations_shell.h"
#include "common/unreachable_peers.h"
#include "tests/unit/client_bench.h"

namespace hayloft {
namespace {

struct Bench : ClientBench {
  Bench() {
    Get(kFile);
    Answer(Take(MessageType::kLocate), LocatedAt({"dsp-1", "dsp-2", "dsp-3"}));
    Good(Take(MessageType::kRead));
    outbox.gets.clear();
  }
  void Good(const RpcCall& call) { Answer(call, Err::kOk, ReadReplyOf(kFile, "image"), "image"); }
  void GetWithin(uint32_t timeout_ms) {
    GetRequest request;
    request.address = kFile;
    request.timeout_ms = timeout_ms;
    core.Get(std::move(request), now, &outbox);
  }
  // Reads until all are answered or too late: each replica's behaviour as the test says.
  Err ReadWithin(uint32_t timeout_ms, const std::map<std::string, Err>& replicas) {
    GetWithin(timeout_ms);
    std::vector<std::pair<uint64_t, uint64_t>> hanging;  // until when; the call
    while (outbox.gets.empty()) {
      while (!outbox.calls.empty()) {
        const RpcCall call = std::move(outbox.calls.front());
        outbox.calls.erase(outbox.calls.begin());
        if (call.type == MessageType::kLocate) {
          Answer(call, LocatedAt({"dsp-1", "dsp-2", "dsp-3"}));
          continue;
        }
        const Err err = replicas.at(call.address);
        if (err == Err::kTimeout) {
          hanging.emplace_back(now.mono_ms + call.timeout_ms, call.call_id);
        } else if (err == Err::kOk) {
          Good(call);
        } else {
          Answer(call, err);
        }
      }
      Tick(10);
      for (auto& [until_ms, call_id] : hanging) {
        if (until_ms > now.mono_ms) continue;
        until_ms = UINT64_MAX;
        Answer(RpcCall{.call_id = call_id}, Err::kTimeout);
      }
    }
    const Err err = outbox.gets[0].err;
    outbox.gets.clear();
    Tick(3'000);
    for (const auto& [until_ms, call_id] : hanging) {
      if (until_ms != UINT64_MAX) Answer(RpcCall{.call_id = call_id}, Err::kTimeout);
    }
    return err;
  }
};

TEST_CASE("client: a read succeeds whatever is wrong with two of three replicas, at any deadline") {
  for (const Err first : {Err::kTimeout, Err::kUnavailable, Err::kCorrupt, Err::kIo, Err::kLost,
                          Err::kBusy, Err::kNotServing, Err::kDenied, Err::kUnsupported,
                          Err::kInternal, Err::kUnauthorized, Err::kReadOnly}) {
    for (const Err second : {Err::kTimeout, Err::kUnavailable, Err::kDenied}) {
      for (const uint32_t timeout_ms : {100u, 1'000u, 10'000u}) {
        Bench bench;  // of which nobody has earned a hedge
        for (int i = 0; i < 20; ++i) {
          const Err err = bench.ReadWithin(
              timeout_ms, {{"dsp-1", first}, {"dsp-2", second}, {"dsp-3", Err::kOk}});
          CHECK_MESSAGE(err == Err::kOk, ErrName(first), " ", ErrName(second), " ", timeout_ms);
        }
      }
    }
  }
}

TEST_CASE("client: what every replica refuses for good is answered at once") {
  for (const Err err : {Err::kDenied, Err::kUnsupported}) {
    Bench bench;
    const uint64_t start_ms = bench.now.mono_ms;
    CHECK_EQ(bench.ReadWithin(10'000, {{"dsp-1", err}, {"dsp-2", err}, {"dsp-3", err}}), err);
    CHECK(bench.now.mono_ms - start_ms < 3'100);  // of which 3 s are the bench's own
  }
}

TEST_CASE("client: a nameserver that denies is a fact for reads too") {
  ClientBench bench;
  bench.Get(kFile);
  bench.Answer(bench.Take(MessageType::kLocate), Err::kDenied);
  REQUIRE_EQ(bench.outbox.gets.size(), 1);
  CHECK_EQ(bench.outbox.gets[0].err, Err::kDenied);
}

TEST_CASE("client: a stat that one replica holds up is answered with what the others said") {
  Bench bench;
  StatRequest request{.address = kFile, .timeout_ms = 500};
  bench.core.Stat(std::move(request), bench.now, &bench.outbox);
  pb::StatReply reply;
  reply.set_head(HeadOf(kFile, "image"));
  reply.set_delete_counter(1);
  bench.Answer(bench.Take(MessageType::kStat), reply);
  (void)bench.Take(MessageType::kStat);
  bench.Answer(bench.Take(MessageType::kStat), Err::kNotFound);
  bench.Tick(490);
  CHECK(bench.outbox.stats.empty());
  bench.Tick(20);
  REQUIRE_EQ(bench.outbox.stats.size(), 1);
  CHECK_EQ(bench.outbox.stats[0].err, Err::kOk);
  CHECK_EQ(bench.outbox.stats[0].delete_counter, 1);
}

// The bytes come from who may have missed a delete, and whether there was one from who has not.
TEST_CASE("client: a doubtful replica's bytes are answered with what another knows of deletes") {
  Bench bench;
  GetRequest request;
  request.address = kFile;
  request.include_deleted = true;
  bench.core.Get(std::move(request), bench.now, &bench.outbox);
  pb::ReadReply reply;
  reply.set_head(HeadOf(kFile, "image"));
  reply.set_doubtful(true);
  bench.Answer(bench.Take(MessageType::kRead), Err::kOk, reply.SerializeAsString(), "image");
  reply.set_doubtful(false);
  reply.set_delete_counter(3);
  const RpcCall second = bench.Take(MessageType::kRead);
  bench.Answer(second, reply);  // without bytes: it was not asked for any
  REQUIRE_EQ(bench.outbox.gets.size(), 1);
  CHECK_EQ(bench.outbox.gets[0].dsp, second.address);  // whose feed of deletes a cache must hear
  CHECK_EQ(AsText(bench.outbox.gets[0].payload.bytes()), "image");
  CHECK_EQ(bench.outbox.gets[0].delete_counter, 3);
  CHECK_FALSE(bench.outbox.gets[0].doubtful);
}

TEST_CASE("client: whether a file lives is asked without its head, and believed of who knows") {
  const auto ask = [](Bench* bench) {
    GetRequest request;
    request.address = kFile;
    request.live_only = true;
    bench->core.Get(std::move(request), bench->now, &bench->outbox);
    RpcCall call = bench->Take(MessageType::kRead);
    pb::ReadRequest message;
    REQUIRE(message.ParseFromString(call.message));
    CHECK(message.live_only());
    return call;
  };
  Bench bench;
  pb::ReadReply reply;
  bench.Answer(ask(&bench), reply);
  REQUIRE_EQ(bench.outbox.gets.size(), 1);
  CHECK_EQ(bench.outbox.gets[0].err, Err::kOk);
  CHECK_FALSE(bench.outbox.gets[0].doubtful);
  bench.outbox.gets.clear();
  // The first one doubts, the second one knows.
  reply.set_doubtful(true);
  bench.Answer(ask(&bench), reply);
  CHECK(bench.outbox.gets.empty());
  reply.set_doubtful(false);
  const RpcCall second = bench.Take(MessageType::kRead);
  SUBCASE("that it lives") {
    bench.Answer(second, reply);
    REQUIRE_EQ(bench.outbox.gets.size(), 1);
    CHECK_EQ(bench.outbox.gets[0].err, Err::kOk);
    CHECK_EQ(bench.outbox.gets[0].dsp, second.address);
  }
  SUBCASE("that it is deleted") {
    bench.Answer(second, Err::kGone);
    REQUIRE_EQ(bench.outbox.gets.size(), 1);
    CHECK_EQ(bench.outbox.gets[0].err, Err::kGone);
  }
  // Elsewhere an answer without a head is none.
  SUBCASE("an empty head with bytes") {
    bench.Answer(second, Err::kOk, reply.SerializeAsString(), "image");
    CHECK(bench.outbox.gets.empty());
  }
  SUBCASE("an empty head of a whole read") {
    bench.Answer(second, reply);
    bench.outbox.gets.clear();
    bench.GetWithin(1'000);
    bench.Answer(bench.Take(MessageType::kRead), reply);
    CHECK(bench.outbox.gets.empty());
  }
}

// --- The cost of hedges ---

// Since the start never more than one read in 20, and in no window more than that and what was
// saved before it: reads come in bursts, singly and after pauses, and all of them are slow.
TEST_CASE("replica_chooser: hedges stay within their budget in every window") {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    SimRandom random(seed);
    ReplicaChooser chooser;
    std::vector<uint32_t> reads{0}, hedges{0};  // up to each point
    uint32_t in_flight = 0, all_reads = 0, all_hedges = 0;
    for (int i = 0; i < 3'000; ++i) {
      if (random.Below(100) < 3) in_flight += static_cast<uint32_t>(random.Below(200));
      for (; in_flight > 0 && random.Below(3) > 0; --in_flight) {
        chooser.CountRead();
        ++all_reads;
      }
      const uint64_t want = random.Below(30);
      for (uint64_t k = 0; k < want; ++k) all_hedges += chooser.TakeHedge() ? 1 : 0;
      reads.push_back(all_reads);
      hedges.push_back(all_hedges);
      CHECK(all_hedges * 20 <= all_reads);
    }
    // The worst window: the greatest hedges - reads / 20 between any two points.
    int64_t least = 0, worst = 0;
    for (size_t i = 0; i < reads.size(); ++i) {
      const int64_t level = int64_t{20} * hedges[i] - reads[i];
      worst = std::max(worst, level - least);
      least = std::min(least, level);
    }
    CHECK(worst <= int64_t{20} * ReplicaChooser::kHedgesSavedMax);
  }
}

TEST_CASE("replica_chooser: the time before a hedge follows the p95 up within 32 reads, and down") {
  SimRandom random(3);
  ReplicaChooser chooser;
  const std::vector<std::string> one = {"dsp-1"};
  const auto read = [&](int count, uint64_t ms) {
    for (int i = 0; i < count; ++i) {
      (void)chooser.Choose(one, 0, 1'000'000, &random);
      chooser.Sent("dsp-1");
      chooser.OnEnded("dsp-1", {1'000'000, 1'000'000 + ms, Err::kOk, 100});
    }
  };
  read(31, 3);
  CHECK_EQ(chooser.hedge_after_ms(), ReplicaChooser::kHedgeMsUnknown);
  read(1, 3);
  CHECK_EQ(chooser.hedge_after_ms(), 4);
  read(1'000, 3);
  read(32, 40);
  CHECK_EQ(chooser.hedge_after_ms(), 41);
  read(272, 3);
  CHECK_EQ(chooser.hedge_after_ms(), 4);
  read(256, 60'000);
  CHECK_EQ(chooser.hedge_after_ms(), ReplicaChooser::kHedgeMsMax);
  read(272, 0);
  CHECK_EQ(chooser.hedge_after_ms(), ReplicaChooser::kHedgeMsMin);
}

// --- The balance of the load ---

// Dsps that serve one read at a time, and readers that are never idle: each read goes to one of
// three replicas, on which the chooser decides. Returns the mean time of a read, in ms.
struct Cluster {
  static constexpr size_t kDsps = 9;
  struct Read {
    std::string dsp;
    uint64_t sent_ms;
  };
  ReplicaChooser chooser;
  SimRandom random{11};
  std::array<uint64_t, kDsps> takes_ms{};
  std::array<uint64_t, kDsps> free_at_ms{};
  std::array<int, kDsps> served{};
  std::multimap<uint64_t, Read> ends;
  uint64_t now_ms = 1'000'000;

  double Run(int reads, size_t in_flight, bool by_chance) {
    uint64_t waited_ms = 0;
    served = {};
    for (int begun = 0; begun < reads || !ends.empty();) {
      while (begun < reads && ends.size() < in_flight) {
        std::vector<std::string> replicas;
        std::set<size_t> drawn;
        while (drawn.size() < 3) drawn.insert(random.Below(kDsps));
        for (const size_t dsp : drawn) replicas.push_back(std::to_string(dsp));
        const size_t index =
            by_chance ? random.Below(3) : chooser.Choose(replicas, 0, now_ms, &random);
        const std::string& name = replicas[index];
        const size_t dsp = std::stoul(name);
        chooser.Sent(name);
        ++served[dsp];
        free_at_ms[dsp] = std::max(free_at_ms[dsp], now_ms) + takes_ms[dsp];
        ends.emplace(free_at_ms[dsp], Read{name, now_ms});
        ++begun;
      }
      const auto [end_ms, read] = *ends.begin();
      ends.erase(ends.begin());
      now_ms = std::max(now_ms, end_ms);
      waited_ms += now_ms - read.sent_ms;
      chooser.OnEnded(read.dsp, {read.sent_ms, now_ms, Err::kOk, 100});
    }
    return static_cast<double>(waited_ms) / reads;
  }
};

TEST_CASE("replica_chooser: equal dsps get equal shares, and shorter queues than by chance") {
  Cluster chosen, by_chance;
  chosen.takes_ms.fill(3);
  by_chance.takes_ms.fill(3);
  const double mean_ms = chosen.Run(20'000, 27, false);
  const double chance_ms = by_chance.Run(20'000, 27, true);
  CHECK_MESSAGE(mean_ms < 9 * 1.02, mean_ms);  // three of 3 ms at each dsp: the best there is
  CHECK_MESSAGE(chance_ms > 9 * 1.1, chance_ms);
  for (const int count : chosen.served) {
    CHECK(count > 20'000 / 9 * 0.9);
    CHECK(count < 20'000 / 9 * 1.1);
  }
}

TEST_CASE("replica_chooser: a dsp that is three times as slow gets a share that it can bear") {
  Cluster chosen, by_chance;
  chosen.takes_ms.fill(3);
  by_chance.takes_ms.fill(3);
  chosen.takes_ms[4] = by_chance.takes_ms[4] = 9;
  const double mean_ms = chosen.Run(20'000, 27, false);
  const double chance_ms = by_chance.Run(20'000, 27, true);
  CHECK_MESSAGE(mean_ms < chance_ms / 2, mean_ms, " of ", chance_ms);
  CHECK(chosen.served[4] > 20'000 / 9 / 10);
  CHECK(chosen.served[4] < 20'000 / 9 / 2);
}

TEST_CASE("replica_chooser: a dsp that becomes 20 times as slow is left out, and comes back") {
  Cluster cluster;
  cluster.takes_ms.fill(3);
  cluster.Run(5'000, 27, false);
  cluster.takes_ms[4] = 60;
  cluster.Run(5'000, 27, false);
  CHECK(cluster.served[4] < 5'000 / 9 / 4);
  cluster.takes_ms[4] = 3;
  cluster.now_ms += ReplicaChooser::kEjectedMs;
  cluster.Run(5'000, 27, false);
  CHECK(cluster.served[4] > 5'000 / 9 * 0.8);
}

// --- Locations ---

TEST_CASE("client: where one client of a process found a block, others find it unasked") {
  LockedLocations shared(10);
  ClientOptions options = ClientBench::Options(1, 100);
  options.shared_locations = &shared;
  ClientBench first(options);
  ClientBench second(options);
  (void)first.Get(kFile);
  first.Answer(first.Take(MessageType::kLocate), LocatedAt({"dsp-1"}));
  (void)first.Take(MessageType::kRead);
  // The nameserver has gone: the second client does not need it.
  (void)second.Get(kFile);
  RpcCall read = second.Take(MessageType::kRead);
  CHECK_EQ(read.address, "dsp-1");
  second.Answer(read, Err::kOk, ReadReplyOf(kFile, "abc"), "abc");
  REQUIRE_EQ(second.outbox.gets.size(), 1);
  CHECK_EQ(second.outbox.gets[0].err, Err::kOk);
  // A block that was granted to one is known to all, too.
  (void)first.Put();
  first.Answer(first.Take(MessageType::kGrant), Grants({9}));
  (void)first.Take(MessageType::kAppend);
  (void)second.Get({9, FileId::Of(0, 5)});
  CHECK_EQ(second.Take(MessageType::kRead).address, "dsp-9");
  // What does not exist is forgotten for all.
  (void)first.Get(kFile);
  first.Answer(first.Take(MessageType::kRead), Err::kUnavailable);
  while (first.outbox.calls.empty() && first.outbox.gets.empty()) first.Tick(10);
  pb::LocateReply unknown = LocatedAt({});
  unknown.mutable_locations(0)->set_state(pb::BLOCK_UNKNOWN);
  first.Answer(first.Take(MessageType::kLocate), unknown);
  ClientBench third(options);
  (void)third.Get(kFile);
  (void)third.Take(MessageType::kLocate);
}

// --- Memory ---

TEST_CASE("client: what is remembered of dsps and blocks has a bound") {
  SimRandom random(1);
  ReplicaChooser chooser;
  UnreachablePeers peers;
  for (int i = 0; i < 20'000; ++i) {
    const std::string dsp = "dsp-" + std::to_string(i);
    (void)chooser.Choose({dsp, dsp + "b"}, 0, 1'000, &random);
    chooser.Sent(dsp);
    chooser.OnEnded(dsp, {1'000, 1'001, Err::kOk, 1});
    peers.OnCallDone(dsp, {1'000, 3'000, i % 2 == 0 ? Err::kTimeout : Err::kOk});
    peers.OnCallDone(dsp + "c", {1'000, 3'000, Err::kUnavailable});
  }
  CHECK(chooser.dsps_known() <= ReplicaChooser::kDspsMax + 32);
  pb::Unreachable named;
  peers.Describe(3'000, &named);
  CHECK_EQ(named.addresses_size(), UnreachablePeers::kNamedMax);
}

}  // namespace
}  // namespace hayloft
