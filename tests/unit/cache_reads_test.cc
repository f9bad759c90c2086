// Reads through the cache, of several gateways: whom they ask, what they believe, what they keep.
#include "cache/cached_reads.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "cache/rendezvous.h"

namespace hayloft {
namespace {

const std::string kDsp = "10.0.0.9:1";

std::string HeadOf(const FileAddress& address, const std::string& bytes) {
  NeedleHeader header{};
  header.block_id = address.block_id;
  header.file_id = address.file_id.value;
  header.created_ms = 1'700'000'000'000;
  header.stored_size = static_cast<uint32_t>(bytes.size());
  header.raw_size = header.stored_size;
  return EncodeNeedleHead(header, PieceCrcs(AsBytes(bytes)), {}, {});
}

// One gateway of three.
struct Bench {
  explicit Bench(CacheAdmit admit = CacheAdmit::kUsers) : feeds(16), cache(Cache()) {
    CachedReadsOptions options;
    options.admit = admit;
    options.peer_failures = &peer_failures;
    options.lines = [](const FileAddress&, const NeedleHead&) { return std::string("lines\r\n"); };
    reads.emplace(options, cache.get(), &feeds);
    auto three = std::make_shared<CacheTier>();
    for (const char* address : {"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"}) {
      three->addresses.emplace_back(address);
      three->hashes.push_back(MemberHash(address));
    }
    three->self = 0;
    tier = three;
    reads->UseTier(tier);
  }
  static std::unique_ptr<SharedCache> Cache() {
    Result<std::unique_ptr<SharedCache>> made = SharedCache::Create(16 << 20);
    REQUIRE(made.ok());
    return std::move(*made);
  }
  // A file that this gateway keeps, or another one does.
  FileAddress File(bool own) {
    do {
      ++sequence;
    } while (tier->Owns({7, FileId::Of(sequence, 99)}) != own);
    return {7, FileId::Of(sequence, 99)};
  }
  void Begin(const FileAddress& address, uint64_t reader, const ReadTerms& terms = {}) {
    out = {};
    reads->Begin(address, terms, reader, now, &out);
  }
  GetDone Answer(const FileAddress& address) const {
    GetDone done;
    done.head = HeadOf(address, bytes);
    done.payload = Buffer::CopyOf(AsBytes(bytes));
    done.dsp = kDsp;
    done.block_open = true;
    return done;
  }
  // What the one read of a dsp that is under way brings.
  void Got(GetDone done) {
    REQUIRE_EQ(out.gets.size(), 1);
    const uint64_t fetch = out.gets[0].fetch_id;
    out = {};
    reads->OnGot(fetch, std::move(done), now, &out);
  }
  CallDone Peer(const FileAddress& address) const {
    CallDone done;
    pb::ReadReply reply;
    reply.set_head(HeadOf(address, bytes));
    done.message = reply.SerializeAsString();
    done.payload = Buffer::CopyOf(AsBytes(bytes));
    return done;
  }
  void PeerSaid(CallDone done) {
    REQUIRE_EQ(out.peer_calls.size(), 1);
    done.call_id = out.peer_calls[0].call_id;
    out = {};
    reads->OnPeerDone(std::move(done), now, &out);
  }
  // The dsp's feed is heard from now on.
  void HearFeed() {
    (void)feeds.AnchorFor(kDsp, now.mono_ms);
    std::vector<RpcCall> calls;
    feeds.Poll(now, &calls);
    REQUIRE_EQ(calls.size(), 1);
    pb::DeleteFeedReply reply;
    reply.set_incarnation(1);
    reply.set_dsp_id(1);
    reply.set_gap(true);
    CallDone done{.call_id = calls[0].call_id};
    done.message = reply.SerializeAsString();
    std::vector<FileChange> changes;
    feeds.OnDone(done, now, &changes);
    now.mono_ms += 1;
  }
  bool Kept(const FileAddress& address) {
    const Found found = reads->Look(address, now.mono_ms).found;
    return found == Found::kHit || found == Found::kAsk;
  }

  Now now{.mono_ms = 1'000'000, .wall_ms = 1'700'000'000'000};
  const std::string bytes = "the bytes of an image";
  FeedTable feeds;
  Counter peer_failures;
  std::unique_ptr<SharedCache> cache;
  std::optional<CachedReads> reads;
  std::shared_ptr<const CacheTier> tier;
  uint32_t sequence = 0;
  ReadsOutbox out;
};

}  // namespace

TEST_CASE("cached_reads: one's own file is read from a dsp and kept") {
  Bench bench;
  bench.HearFeed();
  const FileAddress file = bench.File(true);
  bench.Begin(file, 1);
  bench.Got(bench.Answer(file));
  REQUIRE_EQ(bench.out.deliveries.size(), 1);
  CHECK_EQ(bench.out.deliveries[0].to.id, 1);
  CHECK_EQ(AsText(bench.out.deliveries[0].read->stored.bytes()), bench.bytes);
  CHECK(bench.reads->Look(file, bench.now.mono_ms).found == Found::kHit);
  CHECK_EQ(bench.reads->fetches(), 0);
}

TEST_CASE("cached_reads: another's file is asked of it, and not kept") {
  Bench bench;
  const FileAddress file = bench.File(false);
  bench.Begin(file, 1);
  REQUIRE_EQ(bench.out.peer_calls.size(), 1);
  CHECK_EQ(bench.out.peer_calls[0].address, bench.tier->addresses[bench.tier->OwnerOf(file)]);
  bench.PeerSaid(bench.Peer(file));
  REQUIRE_EQ(bench.out.deliveries.size(), 1);
  CHECK(bench.out.deliveries[0].read->from == ReadFrom::kPeer);
  CHECK_EQ(AsText(bench.out.deliveries[0].read->stored.bytes()), bench.bytes);
  CHECK_FALSE(bench.Kept(file));
}

TEST_CASE(
    "cached_reads: asked by another gateway, it asks no third one, whoever it thinks keeps it") {
  Bench bench;
  const FileAddress file = bench.File(false);
  bench.Begin(file, 1, {.from_peer = true});
  CHECK(bench.out.peer_calls.empty());
  bench.Got(bench.Answer(file));
  CHECK(bench.out.deliveries[0].read->err == Err::kOk);
  CHECK_FALSE(bench.Kept(file));
}

TEST_CASE("cached_reads: an owner that is down or slow costs one direct read, then a rest") {
  Bench bench;
  const FileAddress file = bench.File(false);
  uint64_t failures = 0;
  for (const Err err : {Err::kTimeout, Err::kUnavailable}) {
    bench.Begin(file, 1);
    CallDone failed;
    failed.err = err;
    bench.PeerSaid(std::move(failed));
    CHECK(bench.out.deliveries.empty());
    bench.Got(bench.Answer(file));
    CHECK(bench.out.deliveries[0].read->err == Err::kOk);
    CHECK_EQ(bench.peer_failures.value(), ++failures);
    CHECK_FALSE(bench.Kept(file));
    // For a second it is not asked.
    bench.Begin(file, 2);
    CHECK(bench.out.peer_calls.empty());
    bench.Got(bench.Answer(file));
    bench.now.mono_ms += kPeerRestMs;
  }
  bench.Begin(file, 3);
  CHECK_EQ(bench.out.peer_calls.size(), 1);
}

TEST_CASE("cached_reads: what is wrong with one file is no fault of its owner") {
  Bench bench;
  const FileAddress file = bench.File(false);
  std::vector<CallDone> answers(5);
  answers[0].message = "no message";
  answers[1] = bench.Peer({8, file.file_id});  // another file's
  answers[2] = bench.Peer(file);
  answers[2].payload.Narrow(0, 3);  // short
  answers[3].err = Err::kNotServing;
  pb::ReadReply doubtful;
  doubtful.set_head(HeadOf(file, bench.bytes));
  doubtful.set_doubtful(true);
  answers[4].message = doubtful.SerializeAsString();
  answers[4].payload = Buffer::CopyOf(AsBytes(bench.bytes));
  for (CallDone& answer : answers) {
    bench.Begin(file, 1);
    REQUIRE_EQ(bench.out.peer_calls.size(), 1);
    bench.PeerSaid(std::move(answer));
    CHECK(bench.out.deliveries.empty());
    bench.Got(bench.Answer(file));
    CHECK(bench.out.deliveries[0].read->err == Err::kOk);
    CHECK_FALSE(bench.out.deliveries[0].read->doubtful);
  }
}

TEST_CASE("cached_reads: an owner that is slow with one file goes on being asked for others") {
  Bench bench;
  const FileAddress slow = bench.File(false);
  FileAddress fast = bench.File(false);
  while (bench.tier->OwnerOf(fast) != bench.tier->OwnerOf(slow)) fast = bench.File(false);
  bench.Begin(slow, 1);
  const uint64_t slow_call = bench.out.peer_calls[0].call_id;
  bench.now.mono_ms += 100;
  bench.Begin(fast, 2);
  bench.PeerSaid(bench.Peer(fast));
  bench.now.mono_ms += 150;
  CallDone late{.call_id = slow_call};
  late.err = Err::kTimeout;
  bench.out = {};
  bench.reads->OnPeerDone(std::move(late), bench.now, &bench.out);
  bench.Got(bench.Answer(slow));
  bench.Begin(fast, 3);
  CHECK_EQ(bench.out.peer_calls.size(), 1);
}

TEST_CASE("cached_reads: who has changed a file here reads it past its owner for a while") {
  Bench bench;
  const FileAddress file = bench.File(false);
  bench.cache->Change({.block_id = file.block_id, .sequence = file.file_id.sequence()},
                      bench.now.mono_ms);
  bench.Begin(file, 1);
  CHECK(bench.out.peer_calls.empty());
  CHECK_EQ(bench.out.gets.size(), 1);
  bench.Got(bench.Answer(file));
  bench.now.mono_ms += 2'000;
  bench.Begin(file, 2);
  CHECK_EQ(bench.out.peer_calls.size(), 1);
}

TEST_CASE("cached_reads: what the owner says is not there is not, and is its to remember") {
  Bench bench;
  const FileAddress file = bench.File(false);
  for (int i = 0; i < 2; ++i) {
    bench.Begin(file, 1);
    CallDone gone;
    gone.err = Err::kGone;
    bench.PeerSaid(std::move(gone));
    CHECK(bench.out.deliveries[0].read->err == Err::kGone);
  }
}

TEST_CASE("cached_reads: of what is only wanted from memory, nothing else is asked") {
  Bench bench;
  bench.HearFeed();
  const FileAddress file = bench.File(true);
  bench.Begin(file, 1, {.from_peer = true, .cached_only = true});
  CHECK(bench.out.gets.empty());
  CHECK(bench.out.deliveries[0].read->err == Err::kNotServing);
  bench.Begin(file, 2);
  bench.Got(bench.Answer(file));
  bench.Begin(file, 3, {.from_peer = true, .cached_only = true});
  CHECK(bench.out.deliveries[0].read->err == Err::kOk);
  CHECK_EQ(AsText(bench.out.deliveries[0].read->stored.bytes()), bench.bytes);
}

TEST_CASE("cached_reads: a part of another's file is asked of its memory, and of nothing else") {
  Bench bench;
  const FileAddress file = bench.File(false);
  const ReadTerms terms{.cached_only = true};
  bench.Begin(file, 1, terms);
  REQUIRE_EQ(bench.out.peer_calls.size(), 1);
  pb::ReadRequest asked;
  REQUIRE(asked.ParseFromString(bench.out.peer_calls[0].message));
  CHECK(asked.cached_only());
  bench.PeerSaid(bench.Peer(file));
  REQUIRE_EQ(bench.out.deliveries.size(), 1);
  CHECK(bench.out.deliveries[0].read->err == Err::kOk);
  for (const Err err : {Err::kNotServing, Err::kTimeout}) {
    bench.now.mono_ms += 10;
    bench.Begin(file, 2, terms);
    CallDone none;
    none.err = err;
    bench.PeerSaid(std::move(none));
    CHECK(bench.out.gets.empty());
    REQUIRE_EQ(bench.out.deliveries.size(), 1);
    CHECK_EQ(bench.out.deliveries[0].to.id, 2);
    CHECK(bench.out.deliveries[0].read->err == Err::kNotServing);
  }
  bench.Begin(file, 3, terms);  // it rests
  CHECK(bench.out.peer_calls.empty());
  CHECK(bench.out.deliveries[0].read->err == Err::kNotServing);
  // Nobody waits for such a read: he may want all of the file.
  bench.now.mono_ms += kPeerRestMs;
  bench.Begin(file, 4, terms);
  const uint64_t part_call = bench.out.peer_calls[0].call_id;
  bench.Begin(file, 5);
  REQUIRE_EQ(bench.out.peer_calls.size(), 1);
  bench.PeerSaid(bench.Peer(file));
  REQUIRE_EQ(bench.out.deliveries.size(), 1);
  CHECK_EQ(bench.out.deliveries[0].to.id, 5);
  CallDone late = bench.Peer(file);
  late.call_id = part_call;
  bench.out = {};
  bench.reads->OnPeerDone(std::move(late), bench.now, &bench.out);
  REQUIRE_EQ(bench.out.deliveries.size(), 1);
  CHECK_EQ(bench.out.deliveries[0].to.id, 4);
}

TEST_CASE("cached_reads: while a feed is silent a file is asked about; gone, it goes") {
  Bench bench;
  const FileAddress file = bench.File(true);
  bench.Begin(file, 1);
  bench.Got(bench.Answer(file));
  REQUIRE(bench.reads->Look(file, bench.now.mono_ms).found == Found::kAsk);
  bench.Begin(file, 2);
  REQUIRE_EQ(bench.out.gets.size(), 1);
  CHECK(bench.out.gets[0].request.live_only);
  GetDone lives;
  lives.dsp = kDsp;
  bench.Got(std::move(lives));
  CHECK_EQ(AsText(bench.out.deliveries[0].read->stored.bytes()), bench.bytes);
  CHECK(bench.out.deliveries[0].read->from == ReadFrom::kMemory);
  CHECK_FALSE(bench.out.deliveries[0].read->doubtful);
  bench.Begin(file, 3);
  GetDone gone;
  gone.err = Err::kGone;
  bench.Got(std::move(gone));
  CHECK(bench.out.deliveries[0].read->err == Err::kGone);
  CHECK_FALSE(bench.Kept(file));
}

TEST_CASE("cached_reads: if nobody can be asked it is sent in doubt, and not asked about at once") {
  Bench bench;
  const FileAddress file = bench.File(true);
  bench.Begin(file, 1);
  bench.Got(bench.Answer(file));
  bench.Begin(file, 2);
  GetDone nobody;
  nobody.err = Err::kUnavailable;
  bench.Got(std::move(nobody));
  CHECK(bench.out.deliveries[0].read->err == Err::kOk);
  CHECK(bench.out.deliveries[0].read->doubtful);
  bench.Begin(file, 3);
  CHECK(bench.out.gets.empty());
  REQUIRE_EQ(bench.out.deliveries.size(), 1);
  CHECK(bench.out.deliveries[0].read->doubtful);
  // However many want it meanwhile, it is asked about again in time.
  bench.now.mono_ms += kAskAgainMs / 2;
  bench.Begin(file, 5);
  CHECK(bench.out.gets.empty());
  bench.now.mono_ms += kAskAgainMs / 2;
  bench.Begin(file, 4);
  CHECK_EQ(bench.out.gets.size(), 1);
}

TEST_CASE("cached_reads: a replica that is reached and cannot say may know of a delete") {
  Bench bench;
  const FileAddress file = bench.File(true);
  bench.Begin(file, 1);
  bench.Got(bench.Answer(file));
  bench.Begin(file, 2);
  GetDone unsure;
  unsure.err = Err::kNotServing;
  bench.Got(std::move(unsure));
  CHECK(bench.out.deliveries[0].read->err == Err::kNotServing);
}

TEST_CASE("cached_reads: a change while it was asked about: it is read anew") {
  Bench bench;
  const FileAddress file = bench.File(true);
  bench.Begin(file, 1);
  bench.Got(bench.Answer(file));
  bench.Begin(file, 2);
  bench.cache->Change({.block_id = file.block_id, .sequence = file.file_id.sequence()},
                      bench.now.mono_ms);
  GetDone lives;
  lives.dsp = kDsp;
  bench.Got(std::move(lives));
  CHECK(bench.out.deliveries.empty());
  REQUIRE_EQ(bench.out.gets.size(), 1);
  CHECK_FALSE(bench.out.gets[0].request.live_only);
}

TEST_CASE("cached_reads: neither an error, nor a doubt, nor what the rules leave out is kept") {
  for (const CacheAdmit admit : {CacheAdmit::kAll, CacheAdmit::kUsers, CacheAdmit::kHaystack}) {
    Bench bench(admit);
    const auto kept = [&](const ReadTerms& terms, const auto& change) {
      const FileAddress file = bench.File(true);
      bench.Begin(file, 1, terms);
      GetDone done = bench.Answer(file);
      change(&done);
      bench.Got(std::move(done));
      return bench.Kept(file);
    };
    CHECK(kept({}, [](GetDone*) {}));
    CHECK_FALSE(kept({}, [](GetDone* done) { done->err = Err::kUnavailable; }));
    CHECK_FALSE(kept({}, [](GetDone* done) { done->doubtful = true; }));
    CHECK_EQ(kept({.by_cdn = true}, [](GetDone*) {}), admit == CacheAdmit::kAll);
    CHECK_EQ(kept({}, [](GetDone* done) { done->block_open = false; }),
             admit != CacheAdmit::kHaystack);
  }
}

TEST_CASE("cached_reads: all who wait get what one fetched, those of other loops too") {
  Bench bench;
  const FileAddress file = bench.File(true);
  CachedReadsOptions options;
  options.loop = 1;
  CachedReads other(options, bench.cache.get(), &bench.feeds);
  bench.Begin(file, 1);
  ReadsOutbox none;
  other.Begin(file, {}, 5, bench.now, &none);
  CHECK(none.gets.empty());
  CHECK(none.deliveries.empty());
  bench.Got(bench.Answer(file));
  REQUIRE_EQ(bench.out.deliveries.size(), 2);
  CHECK_EQ(bench.out.deliveries[1].to.loop, 1);
  CHECK_EQ(bench.out.deliveries[1].to.id, 5);
  CHECK_EQ(bench.out.deliveries[0].read, bench.out.deliveries[1].read);
}

TEST_CASE("cached_reads: of a file that is too long only the head is kept, and it is read again") {
  Bench bench;
  bench.HearFeed();
  const FileAddress file = bench.File(true);
  const std::string whole(kCachedFileBytesMax + 1, 'x');
  const auto answer = [&] {
    GetDone done = bench.Answer(file);
    done.head = HeadOf(file, whole);
    done.payload = Buffer::CopyOf(AsBytes(whole).first(kCachedFileBytesMax));
    return done;
  };
  bench.Begin(file, 1);
  bench.Got(answer());
  CHECK_EQ(bench.out.deliveries[0].read->stored.size(), kCachedFileBytesMax);
  const CacheAnswer found = bench.reads->Look(file, bench.now.mono_ms);
  CHECK(found.found == Found::kHit);
  CHECK(found.file.too_large);
  bench.Begin(file, 2);
  bench.Got(answer());
  CHECK_EQ(bench.out.deliveries[0].read->stored.size(), kCachedFileBytesMax);
}

}  // namespace hayloft
