// A ClientCore among several replicas: reads spread and hedged, sets left out by puts, deletes that
// reach all whom anybody counts as up.
#include <algorithm>
#include <map>
#include <set>

#include "client/grant_cache.h"
#include "tests/unit/client_bench.h"

namespace hayloft {
namespace {

using Bench = ClientBench;

// A block on several dsps: dsp n at "dsp-n", primary first.
void AddSet(pb::GrantReply* reply, uint64_t block_id, std::initializer_list<uint32_t> dsps) {
  pb::Grant& grant = *reply->add_grants();
  grant.set_block_id(block_id);
  grant.set_block_epoch(1);
  for (const uint32_t dsp : dsps) {
    pb::Replica& replica = *grant.add_replicas();
    replica.set_dsp_id(dsp);
    replica.set_address("dsp-" + std::to_string(dsp));
  }
}

std::string LateDsp(uint32_t dsp_id) {
  pb::AppendReply reply;
  reply.set_late_dsp_id(dsp_id);
  return reply.SerializeAsString();
}

// --- Reads ---

struct ReadBench : Bench {
  ReadBench() {
    Get(kFile);
    Answer(Take(MessageType::kLocate), LocatedAt({"dsp-1", "dsp-2", "dsp-3"}));
    Answer(Take(MessageType::kRead), Err::kOk, ReadReplyOf(kFile, "image"), "image");
    outbox.gets.clear();
  }
  void Good(const RpcCall& call) { Answer(call, Err::kOk, ReadReplyOf(kFile, "image"), "image"); }
  void Doubtful(const RpcCall& call, std::string_view bytes) {
    pb::ReadReply reply;
    reply.set_head(HeadOf(kFile, bytes));
    reply.set_doubtful(true);
    Answer(call, Err::kOk, reply.SerializeAsString(), bytes);
  }
  // Quick ones, by which hedges are earned and their time is known.
  void ReadQuickly(int reads) {
    for (int i = 0; i < reads; ++i) {
      Get(kFile);
      Good(Take(MessageType::kRead));
    }
    outbox.gets.clear();
  }
};

TEST_CASE("client: reads are spread over the replicas") {
  ReadBench bench;
  std::map<std::string, int> asked;
  for (int i = 0; i < 300; ++i) {
    bench.Get(kFile);
    const RpcCall read = bench.Take(MessageType::kRead);
    ++asked[read.address];
    bench.Good(read);
  }
  REQUIRE_EQ(asked.size(), 3);
  for (const auto& [dsp, count] : asked) CHECK_MESSAGE(count > 60, dsp);
}

TEST_CASE("client: a slow read asks a second replica, and the first answer wins") {
  ReadBench bench;
  bench.ReadQuickly(100);
  bench.Get(kFile);
  const RpcCall slow = bench.Take(MessageType::kRead);
  CHECK_EQ(bench.core.NextWakeMs(), bench.now.mono_ms + ReplicaChooser::kHedgeMsMin);
  bench.Tick(10);
  const RpcCall second = bench.Take(MessageType::kRead);
  CHECK_NE(second.address, slow.address);
  bench.Tick(100);
  CHECK(bench.outbox.calls.empty());  // one hedge a read
  bench.Good(second);
  REQUIRE_EQ(bench.outbox.gets.size(), 1);
  CHECK_EQ(bench.outbox.gets[0].dsp, second.address);
  bench.Good(slow);
  CHECK_EQ(bench.outbox.gets.size(), 1);
  CHECK_EQ(bench.core.NextWakeMs(), UINT64_MAX);
}

TEST_CASE("client: hedges stay within a twentieth of the reads when all of them are slow") {
  ReadBench bench;
  size_t reads = 0;
  for (int i = 0; i < 1'000; ++i) {
    bench.Get(kFile);
    bench.Tick(60);
    reads += bench.outbox.calls.size();
    while (!bench.outbox.calls.empty()) bench.Good(bench.Take(MessageType::kRead));
  }
  CHECK_EQ(bench.outbox.gets.size(), 1'000);
  CHECK(reads > 1'000);
  CHECK(reads <= 1'050);
}

TEST_CASE("client: what one replica can't say costs a question to another, F19") {
  for (const Err err :
       {Err::kCorrupt, Err::kIo, Err::kLost, Err::kTimeout, Err::kNotServing, Err::kUnavailable}) {
    ReadBench bench;
    bench.Get(kFile);
    std::set<std::string> asked;
    for (int i = 0; i < 2; ++i) {
      const RpcCall read = bench.Take(MessageType::kRead);
      asked.insert(read.address);
      bench.Answer(read, err);
    }
    const RpcCall third = bench.Take(MessageType::kRead);
    asked.insert(third.address);
    CHECK_EQ(asked.size(), 3);
    bench.Good(third);
    REQUIRE_EQ(bench.outbox.gets.size(), 1);
    CHECK_EQ(bench.outbox.gets[0].err, Err::kOk);
  }
}

TEST_CASE("client: a hedge that falls due while the file is located anew begins no second round") {
  ReadBench bench;
  bench.Get(kFile);
  for (int i = 0; i < 3; ++i) bench.Answer(bench.Take(MessageType::kRead), Err::kUnavailable);
  const RpcCall locate = bench.Take(MessageType::kLocate);
  bench.Tick(200);  // the nameserver takes its time
  CHECK(bench.outbox.calls.empty());
  bench.Answer(locate, LocatedAt({"dsp-1", "dsp-2", "dsp-3"}));
  bench.Good(bench.Take(MessageType::kRead));
  CHECK(bench.outbox.calls.empty());
  REQUIRE_EQ(bench.outbox.gets.size(), 1);
  CHECK_EQ(bench.outbox.gets[0].err, Err::kOk);
}

TEST_CASE("client: when no replica can say, the answer is none that sounds like not found") {
  ReadBench bench;
  bench.Get(kFile);
  while (bench.outbox.gets.empty()) {
    while (!bench.outbox.calls.empty()) {
      const RpcCall call = std::move(bench.outbox.calls.back());
      bench.outbox.calls.pop_back();
      const bool read = call.type == MessageType::kRead;
      if (read) bench.Answer(call, Err::kNotServing);
      if (!read) bench.Answer(call, LocatedAt({"dsp-1", "dsp-2", "dsp-3"}));
    }
    bench.Tick(50);
  }
  CHECK_EQ(ErrHttpStatus(bench.outbox.gets[0].err), 503);
}

TEST_CASE("client: a hedge that is due while the nameserver is asked again begins nothing") {
  ReadBench bench;
  bench.Get(kFile);
  for (int i = 0; i < 3; ++i) bench.Answer(bench.Take(MessageType::kRead), Err::kUnavailable);
  const RpcCall locate = bench.Take(MessageType::kLocate);
  bench.Tick(500);
  CHECK(bench.outbox.calls.empty());
  bench.Answer(locate, LocatedAt({"dsp-1", "dsp-2", "dsp-3"}));
  bench.Good(bench.Take(MessageType::kRead));
  CHECK_EQ(bench.outbox.gets.size(), 1);
}

TEST_CASE("client: a doubtful replica's bytes are used only if nobody else answers") {
  {
    ReadBench bench;
    bench.Get(kFile);
    bench.Doubtful(bench.Take(MessageType::kRead), "image");
    CHECK(bench.outbox.gets.empty());
    // The next one need not send them again: it only says that the file is there.
    const RpcCall call = bench.Take(MessageType::kRead);
    pb::ReadRequest request;
    REQUIRE(request.ParseFromString(call.message));
    CHECK(request.head_only());
    bench.Good(call);
    REQUIRE_EQ(bench.outbox.gets.size(), 1);
    CHECK_EQ(AsText(bench.outbox.gets[0].payload.bytes()), "image");
    CHECK_FALSE(bench.outbox.gets[0].doubtful);
  }
  {
    ReadBench bench;  // deleted meanwhile
    bench.Get(kFile);
    bench.Doubtful(bench.Take(MessageType::kRead), "image");
    bench.Answer(bench.Take(MessageType::kRead), Err::kGone);
    REQUIRE_EQ(bench.outbox.gets.size(), 1);
    CHECK_EQ(bench.outbox.gets[0].err, Err::kGone);
  }
  {
    ReadBench bench;
    bench.Get(kFile);
    bench.Doubtful(bench.Take(MessageType::kRead), "image");
    bench.Answer(bench.Take(MessageType::kRead), Err::kUnavailable);
    CHECK(bench.outbox.gets.empty());
    bench.Doubtful(bench.Take(MessageType::kRead), "image");
    REQUIRE_EQ(bench.outbox.gets.size(), 1);
    CHECK_EQ(bench.outbox.gets[0].err, Err::kOk);
    CHECK(bench.outbox.gets[0].doubtful);
  }
  {
    ReadBench bench;  // the others never answer: better doubtful bytes than none
    bench.Get(kFile);
    bench.Doubtful(bench.Take(MessageType::kRead), "image");
    bench.Tick(11'000);
    REQUIRE_EQ(bench.outbox.gets.size(), 1);
    CHECK_EQ(bench.outbox.gets[0].err, Err::kOk);
  }
}

// --- Puts ---

TEST_CASE("client: a primary that names a late replica is not late itself") {
  for (const Err err : {Err::kClosed, Err::kTimeout}) {
    Bench bench;
    bench.Put();
    pb::GrantReply grants;
    AddSet(&grants, 7, {1, 2});
    AddSet(&grants, 8, {1, 3});
    bench.Answer(bench.Take(MessageType::kGrant), grants);
    bench.Answer(bench.Take(MessageType::kAppend), err, LateDsp(2));
    CHECK_EQ(AppendOf(bench.Take(MessageType::kAppend)).block_id(), 8);
  }
}

TEST_CASE("client: sets with the dsp that a closed block names as late are skipped for 2 s") {
  Bench bench;
  bench.Put();
  pb::GrantReply grants;
  AddSet(&grants, 7, {1, 2, 3});
  AddSet(&grants, 8, {4, 2, 5});
  AddSet(&grants, 9, {6, 7, 8});
  bench.Answer(bench.Take(MessageType::kGrant), grants);
  const RpcCall first = bench.Take(MessageType::kAppend);
  REQUIRE_EQ(AppendOf(first).block_id(), 7);
  bench.Answer(first, Err::kClosed, LateDsp(2));
  const RpcCall second = bench.Take(MessageType::kAppend);
  CHECK_EQ(AppendOf(second).block_id(), 9);  // 8 holds dsp 2
  bench.Answer(second, StoredAs(0));
  bench.Put();
  CHECK_EQ(AppendOf(bench.Take(MessageType::kAppend)).block_id(), 9);  // still
  bench.Tick(2'100);
  std::set<uint64_t> blocks;
  for (int i = 0; i < 4; ++i) {
    bench.Put();
    for (const RpcCall& call : std::exchange(bench.outbox.calls, {})) {
      if (call.type == MessageType::kAppend) blocks.insert(AppendOf(call).block_id());
    }
  }
  CHECK(blocks.contains(8));
}

TEST_CASE("client: a set with a late dsp is taken only when the nameserver has no better one") {
  for (const bool has_better : {false, true}) {
    Bench bench;
    bench.Put();
    pb::GrantReply grants;
    AddSet(&grants, 7, {1, 2, 3});
    AddSet(&grants, 8, {2, 3, 1});
    bench.Answer(bench.Take(MessageType::kGrant), grants);
    bench.Answer(bench.Take(MessageType::kAppend), Err::kClosed, LateDsp(3));
    const RpcCall ask = bench.Take(MessageType::kGrant);
    pb::GrantRequest request;
    REQUIRE(request.ParseFromString(ask.message));
    REQUIRE_EQ(request.avoid_dsp_ids_size(), 1);
    CHECK_EQ(request.avoid_dsp_ids(0), 3);
    pb::GrantReply more;
    if (has_better) AddSet(&more, 9, {1, 2});
    has_better ? bench.Answer(ask, more) : bench.Answer(ask, Err::kUnavailable);
    CHECK_EQ(AppendOf(bench.Take(MessageType::kAppend)).block_id(), has_better ? 9 : 8);
  }
}

TEST_CASE("client: sets with a dsp whose connection broke are skipped, whoever used it") {
  Bench bench;
  bench.Put();
  pb::GrantReply grants;
  AddSet(&grants, 7, {1, 2, 3});
  AddSet(&grants, 8, {4, 5, 6});
  AddSet(&grants, 9, {7, 8, 9});
  AddSet(&grants, 10, {10, 11, 12});
  bench.Answer(bench.Take(MessageType::kGrant), grants);
  bench.Answer(bench.Take(MessageType::kAppend), StoredAs(0));
  bench.Get(kFile, "dsp-5");
  bench.Answer(bench.Take(MessageType::kRead), Err::kUnavailable);
  for (int i = 0; i < 20; ++i) {
    bench.Put();
    for (const RpcCall& call : std::exchange(bench.outbox.calls, {})) {
      if (call.type == MessageType::kAppend) CHECK_NE(AppendOf(call).block_id(), 8);
    }
  }
}

TEST_CASE("client: an upload goes on with sets as disjoint as there are from those that failed") {
  Bench bench;
  bench.Put();
  pb::GrantReply grants;
  AddSet(&grants, 7, {1, 2, 3});
  AddSet(&grants, 8, {3, 2, 4});
  AddSet(&grants, 9, {3, 5, 6});
  AddSet(&grants, 10, {7, 8, 9});
  bench.Answer(bench.Take(MessageType::kGrant), grants);
  for (const uint64_t block_id : {7, 10, 9, 8}) {
    const RpcCall append = bench.Take(MessageType::kAppend);
    CHECK_EQ(AppendOf(append).block_id(), block_id);
    bench.Answer(append, Err::kClosed);
    if (!bench.outbox.calls.empty() && bench.outbox.calls.back().type == MessageType::kGrant) {
      bench.outbox.calls.pop_back();
    }
  }
}

TEST_CASE("client: the puts of a batch share a block, and leave it when it fails") {
  Bench bench;
  bench.Put();
  bench.Answer(bench.Take(MessageType::kGrant), Grants({7, 8, 9, 10}));
  bench.Answer(bench.Take(MessageType::kAppend), StoredAs(0));
  std::map<uint64_t, std::set<uint64_t>> blocks;  // by batch
  std::vector<RpcCall> appends;
  for (const uint64_t batch : {1, 2}) {
    for (int i = 0; i < 8; ++i) {
      PutRequest request;
      request.stored = Buffer::CopyOf(AsBytes("image"));
      request.raw_size = 5;
      request.batch = batch;
      bench.core.Put(std::move(request), bench.now, &bench.outbox);
      appends.push_back(bench.Take(MessageType::kAppend));
      blocks[batch].insert(AppendOf(appends.back()).block_id());
    }
  }
  CHECK_EQ(blocks[1].size(), 1);
  CHECK_EQ(blocks[2].size(), 1);
  bench.Answer(appends[0], Err::kClosed);
  CHECK_NE(AppendOf(bench.Take(MessageType::kAppend)).block_id(), *blocks[1].begin());
}

TEST_CASE("grant_cache: puts keep company in one block, up to a megabyte, while it answers") {
  GrantCache grants(/*preference=*/1);
  REQUIRE_EQ(grants.Add(Grants({7, 8, 9, 10}), 1'000), 4);
  const GrantCache::Wish wish{.tried = {}, .failed_dsps = {}, .bytes = 64 << 10};
  const auto take = [&](uint64_t now_ms) { return grants.Take(wish, now_ms)->block_id(); };
  const uint64_t block = take(1'000);
  grants.Answered(block, wish.bytes, 1'001);
  for (int i = 0; i < 16; ++i) CHECK_EQ(take(1'002), block);
  CHECK_NE(take(1'002), block);
  for (int i = 0; i < 8; ++i) grants.Answered(block, wish.bytes, 1'003);
  CHECK_EQ(take(1'004), block);  // not the one with the least
  std::map<uint64_t, int> taken;
  for (int i = 0; i < 24; ++i) ++taken[take(1'104)];  // silent for too long: by what is in flight
  CHECK_EQ(taken.size(), 3);
  CHECK_FALSE(taken.contains(block));
}

// Else who lost its connection to the only dsp with all of its open blocks in flight would never
// get one again: the nameserver opens no further ones while those have room.
TEST_CASE("grant_cache: a block that was dropped may be taken again after a while") {
  GrantCache grants(/*preference=*/1);
  REQUIRE_EQ(grants.Add(Grants({7}), 1'000), 1);
  grants.DropBlock(7, 1'000);
  const auto named = [&grants](uint64_t now_ms) {
    pb::GrantRequest request;
    grants.Describe(now_ms, &request);
    return request.bad_block_ids_size();
  };
  const uint64_t end_ms = 1'000 + GrantCache::kBadBlockMs;
  CHECK_EQ(named(end_ms - 1), 1);
  CHECK_EQ(grants.Add(Grants({7}), end_ms - 1), 0);
  CHECK_EQ(named(end_ms), 0);
  CHECK_EQ(grants.Add(Grants({7}), end_ms), 1);
}

TEST_CASE("grant_cache: clients of one number begin in the same block") {
  const GrantCache::Wish wish{.tried = {}, .failed_dsps = {}, .bytes = 1};
  std::set<uint64_t> chosen;
  for (uint64_t preference = 1; preference <= 50; ++preference) {
    GrantCache one(preference), other(preference);
    REQUIRE_EQ(one.Add(Grants({7, 8, 9, 10}), 1'000), 4);
    REQUIRE_EQ(other.Add(Grants({10, 7, 8}), 1'000), 3);
    const uint64_t block = one.Take(wish, 1'000)->block_id();
    if (block != 9) CHECK_EQ(other.Take(wish, 1'000)->block_id(), block);
    chosen.insert(block);
  }
  CHECK_EQ(chosen.size(), 4);
}

// --- Deletes ---

struct DeleteBench : Bench {
  explicit DeleteBench(std::initializer_list<const char*> located) {
    SetDelete(/*undelete=*/false);
    Answer(Take(MessageType::kLocate), LocatedAt(located));
  }
  template <typename Reply>
  static void SetUp(Reply* reply, std::initializer_list<const char*> up, bool serving) {
    for (const char* address : up) reply->add_up()->set_address(address);
    reply->set_serving(serving);
    reply->set_set_size(3);
  }
  // The call to this dsp, which must be there.
  RpcCall TakeOf(const std::string& dsp, MessageType type) {
    const auto found = std::find_if(outbox.calls.begin(), outbox.calls.end(),
                                    [&](const RpcCall& call) { return call.address == dsp; });
    REQUIRE(found != outbox.calls.end());
    RpcCall call = std::move(*found);
    outbox.calls.erase(found);
    REQUIRE(call.type == type);
    return call;
  }
  void Told(const std::string& dsp, uint32_t counter, std::initializer_list<const char*> up,
            bool serving = true) {
    pb::StatReply reply;
    reply.set_head(HeadOf(kFile, "image"));
    reply.set_delete_counter(counter);
    SetUp(&reply, up, serving);
    Answer(TakeOf(dsp, MessageType::kStat), reply);
  }
  void Synced(const std::string& dsp, std::initializer_list<const char*> up, bool serving = true) {
    const RpcCall call = TakeOf(dsp, MessageType::kSetDelete);
    pb::SetDeleteRequest request;
    REQUIRE(request.ParseFromString(call.message));
    pb::SetDeleteReply reply;
    reply.set_counter(request.counter());
    SetUp(&reply, up, serving);
    Answer(call, reply);
  }
  bool acknowledged() const {
    return outbox.set_deletes.size() == 1 && outbox.set_deletes[0].err == Err::kOk;
  }
};

TEST_CASE("client: a delete waits for all whom anybody counts as up, and for nobody else") {
  DeleteBench bench({"dsp-1", "dsp-2", "dsp-3"});
  bench.Told("dsp-1", 0, {"dsp-1", "dsp-2"});
  bench.Told("dsp-2", 2, {"dsp-1", "dsp-2"});  // dsp 3 is silent, and nobody counts it as up
  bench.Synced("dsp-2", {"dsp-1", "dsp-2"});
  CHECK_FALSE(bench.acknowledged());
  bench.Synced("dsp-1", {"dsp-1", "dsp-2"});
  CHECK(bench.acknowledged());
  CHECK_EQ(bench.outbox.set_deletes[0].counter, 3);
}

TEST_CASE("client: a delete goes past no directory, whatever was known of the block (S09)") {
  Bench bench;
  bench.SetDelete(/*undelete=*/false);
  pb::LocateReply located = LocatedAt({"dsp-1"});
  located.set_directory_shards(3);
  bench.Answer(bench.Take(MessageType::kLocate), located);
  CHECK(bench.outbox.calls.empty());
  REQUIRE_EQ(bench.outbox.set_deletes.size(), 1);
  CHECK_EQ(bench.outbox.set_deletes[0].err, Err::kConfig);
  // Where the block is is in the cache now; it is asked again all the same.
  bench.SetDelete(/*undelete=*/true);
  bench.Answer(bench.Take(MessageType::kLocate), located);
  REQUIRE_EQ(bench.outbox.set_deletes.size(), 2);
  CHECK_EQ(bench.outbox.set_deletes[1].err, Err::kConfig);
  bench.Get(kFile);
  (void)bench.Take(MessageType::kRead);
  // A shard's own client, and nobody else, passes.
  ClientOptions options = Bench::Options(1, 100);
  options.of_directory = true;
  Bench shard(options);
  shard.SetDelete(/*undelete=*/false);
  shard.Answer(shard.Take(MessageType::kLocate), located);
  (void)shard.Take(MessageType::kStat);
}

TEST_CASE("client: a replica that only another replica names gets the delete, too") {
  DeleteBench bench({"dsp-1", "dsp-2"});
  bench.Told("dsp-1", 0, {"dsp-1", "dsp-2"});
  bench.Told("dsp-2", 0, {"dsp-1", "dsp-2", "dsp-3"});
  bench.Told("dsp-3", 4, {"dsp-3"}, /*serving=*/false);
  bench.Synced("dsp-1", {"dsp-1", "dsp-2"});
  bench.Synced("dsp-2", {"dsp-1", "dsp-2", "dsp-3"});
  CHECK_FALSE(bench.acknowledged());
  bench.Synced("dsp-3", {"dsp-3"}, /*serving=*/false);
  CHECK(bench.acknowledged());
  CHECK_EQ(bench.outbox.set_deletes[0].counter, 5);
}

// The directory decides the value, writes it down, and sends no other one.
TEST_CASE("client: a look tells the counter that a delete would go by; a value is sent as it is") {
  DeleteBench bench({"dsp-1", "dsp-2"});
  bench.outbox.calls.clear();
  SetDeleteRequest look;
  look.address = kFile;
  look.look_only = true;
  (void)bench.core.SetDelete(std::move(look), bench.now, &bench.outbox);
  bench.Told("dsp-1", 2, {"dsp-1", "dsp-2"});
  CHECK(bench.outbox.set_deletes.empty());
  bench.Told("dsp-2", 4, {"dsp-1", "dsp-2"});
  REQUIRE_EQ(bench.outbox.set_deletes.size(), 1);
  CHECK_EQ(bench.outbox.set_deletes[0].counter, 4);
  CHECK_EQ(bench.outbox.set_deletes[0].head, HeadOf(kFile, "image"));
  CHECK(bench.outbox.calls.empty());
  bench.outbox.set_deletes.clear();
  SetDeleteRequest decided;
  decided.address = kFile;
  decided.counter = 7;
  (void)bench.core.SetDelete(std::move(decided), bench.now, &bench.outbox);
  bench.Answer(bench.Take(MessageType::kLocate), LocatedAt({"dsp-1", "dsp-2"}));
  bench.Told("dsp-1", 2, {"dsp-1", "dsp-2"});
  bench.Told("dsp-2", 4, {"dsp-1", "dsp-2"});
  bench.Synced("dsp-1", {"dsp-1", "dsp-2"});
  bench.Synced("dsp-2", {"dsp-1", "dsp-2"});
  REQUIRE(bench.acknowledged());
  CHECK_EQ(bench.outbox.set_deletes[0].counter, 7);
}

TEST_CASE("client: one that came back between the two steps gets the delete, too") {
  DeleteBench bench({"dsp-1", "dsp-2"});
  bench.Told("dsp-1", 0, {"dsp-1", "dsp-2"});
  bench.Told("dsp-2", 0, {"dsp-1", "dsp-2"});
  bench.Synced("dsp-1", {"dsp-1", "dsp-2"});
  bench.Synced("dsp-2", {"dsp-1", "dsp-2", "dsp-3"});  // it gave its state to dsp 3 meanwhile
  CHECK_FALSE(bench.acknowledged());
  bench.Synced("dsp-3", {"dsp-1", "dsp-2", "dsp-3"});
  CHECK(bench.acknowledged());
}

TEST_CASE("client: a delete that too few can take goes on until its deadline, then 503") {
  struct Row {
    bool serving, second;
  };
  for (const Row& row : {Row{false, true}, Row{true, false}}) {
    DeleteBench bench({"dsp-1", "dsp-2"});
    size_t sent = 0;
    while (bench.outbox.set_deletes.empty()) {
      for (const RpcCall& call : std::exchange(bench.outbox.calls, {})) {
        if (call.type == MessageType::kLocate) {
          bench.Answer(call, LocatedAt({"dsp-1", "dsp-2"}));
        } else if (call.address == "dsp-2" && !row.second) {
          bench.Answer(call, Err::kUnavailable);  // the other counts only itself as up
        } else if (call.type == MessageType::kStat) {
          pb::StatReply reply;
          reply.set_head(HeadOf(kFile, "image"));
          DeleteBench::SetUp(&reply, {call.address.c_str()}, row.serving);
          bench.Answer(call, reply);
        } else {
          ++sent;
          pb::SetDeleteReply reply;
          reply.set_counter(1);
          DeleteBench::SetUp(&reply, {call.address.c_str()}, row.serving);
          bench.Answer(call, reply);
        }
      }
      bench.Tick(50);
    }
    CHECK_EQ(ErrHttpStatus(bench.outbox.set_deletes[0].err), 503);
    CHECK_EQ(sent > 2, row.serving);  // repeated, but never begun on the word of who may be behind
  }
}

TEST_CASE("client: dsps that don't tell who is up must all have the delete") {
  DeleteBench bench({"dsp-1", "dsp-2"});
  pb::StatReply stat;
  stat.set_head(HeadOf(kFile, "image"));
  pb::SetDeleteReply reply;
  reply.set_counter(1);
  bench.Answer(bench.TakeOf("dsp-1", MessageType::kStat), stat);
  bench.Answer(bench.TakeOf("dsp-2", MessageType::kStat), stat);
  bench.Answer(bench.TakeOf("dsp-1", MessageType::kSetDelete), reply);
  CHECK_FALSE(bench.acknowledged());
  bench.Answer(bench.TakeOf("dsp-2", MessageType::kSetDelete), reply);
  CHECK(bench.acknowledged());
}

}  // namespace
}  // namespace hayloft
