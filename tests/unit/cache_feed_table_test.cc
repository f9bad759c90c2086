// Whether the answer of a dsp still counts: each rule alone, then a dsp that is unreachable, in
// doubt, restarted and forgetful, against what was truly deleted.
#include "cache/feed_table.h"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <map>
#include <random>
#include <thread>

#include "common/file_change.h"
#include "common/limits.h"
#include "common/proto/hayloft.pb.h"

using namespace hayloft;

namespace {

constexpr std::string_view kDsp = "10.0.0.1:9000";

struct Reply {
  uint64_t incarnation = 7;
  uint64_t position = 100;
  bool gap = false;
  bool doubtful = false;
  bool more = false;
  std::vector<FileChange> changes{};
  uint32_t dsp_id = 3;
};

std::string Encode(const Reply& reply) {
  pb::DeleteFeedReply encoded;
  encoded.set_incarnation(reply.incarnation);
  encoded.set_dsp_id(reply.dsp_id);
  encoded.set_position(reply.position);
  encoded.set_gap(reply.gap);
  encoded.set_doubtful(reply.doubtful);
  encoded.set_more(reply.more);
  for (const FileChange& change : reply.changes) {
    pb::FileChange* each = encoded.add_changes();
    each->set_block_id(change.block_id);
    each->set_sequence(change.sequence);
  }
  return encoded.SerializeAsString();
}

// A table with one feed, whose calls the test answers.
struct OneFeed {
  explicit OneFeed(uint32_t feeds_max = 4) : table(feeds_max, /*first_call_id=*/1'000) {}

  // The one call that is due at `now_ms`; call_id 0: none.
  RpcCall PollAt(uint64_t now_ms) {
    std::vector<RpcCall> calls;
    table.Poll({.mono_ms = now_ms}, &calls);
    CHECK_LE(calls.size(), 1);
    return calls.empty() ? RpcCall{} : std::move(calls[0]);
  }
  std::vector<FileChange> Answer(const RpcCall& call, uint64_t now_ms, const Reply& reply) {
    std::vector<FileChange> changes;
    table.OnDone({.call_id = call.call_id, .message = Encode(reply)}, {.mono_ms = now_ms},
                 &changes);
    return changes;
  }
  std::vector<FileChange> Fail(const RpcCall& call, uint64_t now_ms, Err err) {
    std::vector<FileChange> changes;
    table.OnDone({.call_id = call.call_id, .err = err}, {.mono_ms = now_ms}, &changes);
    return changes;
  }
  // The feed's epoch begins at 10,010, and what it gave to a read of 10,020 is trusted
  // for kFeedTrustMs from 10,200 on.
  FeedAnchor Begin() {
    CHECK_EQ(table.AnchorFor(kDsp, 9'990), FeedAnchor{});
    Answer(PollAt(10'000), 10'010, {.gap = true});
    const FeedAnchor anchor = table.AnchorFor(kDsp, 10'020);
    CHECK_NE(anchor, FeedAnchor{});
    Answer(PollAt(10'200), 10'210, {});
    CHECK(table.Trusted(anchor, 10'200 + kFeedTrustMs - 1));
    CHECK_FALSE(table.Trusted(anchor, 10'200 + kFeedTrustMs));
    return anchor;
  }

  FeedTable table;
};

pb::DeleteFeedRequest RequestOf(const RpcCall& call) {
  pb::DeleteFeedRequest request;
  REQUIRE(request.ParseFromString(call.message));
  return request;
}

}  // namespace

TEST_CASE("feed_table: the default anchor is never trusted, nor one from nowhere") {
  OneFeed feed;
  feed.Begin();
  CHECK_FALSE(feed.table.Trusted({}, 10'300));
  CHECK_FALSE(feed.table.Trusted({.feed = 1, .epoch = 1}, 10'300));
  CHECK_FALSE(feed.table.Trusted({.feed = 4, .epoch = 2}, 10'300));
  CHECK_FALSE(feed.table.Trusted({.feed = UINT32_MAX, .epoch = 2}, 10'300));
}

TEST_CASE("feed_table: a new dsp is asked from nothing, then each 200 ms from where it was") {
  OneFeed feed;
  CHECK_EQ(feed.PollAt(9'000).call_id, 0);
  feed.table.AnchorFor(kDsp, 9'990);
  const RpcCall first = feed.PollAt(10'000);
  CHECK_EQ(first.call_id, 1'000);
  CHECK_EQ(first.address, kDsp);
  CHECK_EQ(first.type, MessageType::kDeleteFeed);
  CHECK_EQ(first.timeout_ms, kFeedTrustMs);
  CHECK_EQ(RequestOf(first).incarnation(), 0);
  CHECK_EQ(feed.PollAt(10'500).call_id, 0);  // one at a time
  feed.Answer(first, 10'510, {.position = 42, .gap = true});
  const RpcCall second = feed.PollAt(10'510);
  CHECK_EQ(RequestOf(second).incarnation(), 7);
  CHECK_EQ(RequestOf(second).position(), 42);
  feed.Answer(second, 10'520, {.position = 43});
  CHECK_EQ(feed.PollAt(10'709).call_id, 0);
  const RpcCall third = feed.PollAt(10'710);
  CHECK_EQ(RequestOf(third).position(), 43);
  feed.Fail(third, 10'711, Err::kUnavailable);
  CHECK_EQ(feed.PollAt(10'909).call_id, 0);
  CHECK_EQ(RequestOf(feed.PollAt(10'910)).position(), 43);
}

TEST_CASE("feed_table: a read that did not begin after the epoch is not anchored") {
  OneFeed feed;
  feed.Begin();
  CHECK_EQ(feed.table.AnchorFor(kDsp, 10'009), FeedAnchor{});
  CHECK_EQ(feed.table.AnchorFor(kDsp, 10'010), FeedAnchor{});  // perhaps before, perhaps after
  CHECK_NE(feed.table.AnchorFor(kDsp, 10'011), FeedAnchor{});
}

TEST_CASE("feed_table: a block of which the feed tells no more is a change, and no gap") {
  OneFeed feed;
  const FeedAnchor anchor = feed.Begin();
  const std::vector<FileChange> told = {{5, kWholeBlock}, {5, 1}};
  CHECK_EQ(feed.Answer(feed.PollAt(10'400), 10'410, {.changes = told}), told);
  (void)feed.PollAt(10'600);  // they have been applied
  CHECK(feed.table.Trusted(anchor, 10'600));
  CHECK_EQ(feed.table.gaps(), 0);
}

TEST_CASE("feed_table: what ends an epoch") {
  OneFeed feed;
  const FeedAnchor anchor = feed.Begin();
  const RpcCall call = feed.PollAt(10'400);
  SUBCASE("a gap") { feed.Answer(call, 10'410, {.gap = true}); }
  SUBCASE("another incarnation") { feed.Answer(call, 10'410, {.incarnation = 8}); }
  SUBCASE("another dsp at the address") { feed.Answer(call, 10'410, {.dsp_id = 4}); }
  SUBCASE("a position that steps back") { feed.Answer(call, 10'410, {.position = 99}); }
  SUBCASE("no incarnation") { feed.Answer(call, 10'410, {.incarnation = 0}); }
  SUBCASE("a change of what can't be") {
    CHECK(feed.Answer(call, 10'410, {.changes = {{kBlockIdMax + 1, 0}}}).empty());
  }
  SUBCASE("a sequence that can't be") {
    CHECK(feed.Answer(call, 10'410, {.changes = {{1, 1}, {1, kSequenceMax + 1}}}).empty());
  }
  SUBCASE("more changes than one message has") {
    const std::vector<FileChange> changes(kFeedChangesMax + 1, {1, 1});
    CHECK(feed.Answer(call, 10'410, {.changes = changes}).empty());
  }
  SUBCASE("bytes that are no answer") {
    std::vector<FileChange> changes;
    feed.table.OnDone({.call_id = call.call_id, .message = "\xff\xff"}, {.mono_ms = 10'410},
                      &changes);
  }
  CHECK_FALSE(feed.table.Trusted(anchor, 10'411));
  CHECK_EQ(feed.table.gaps(), 1);
  // However good the answers are from now on.
  for (uint64_t ms = 10'600; ms < 12'000; ms += 200) {
    feed.Answer(feed.PollAt(ms), ms + 10, {.position = 200});
    feed.PollAt(ms + 10);
    CHECK_FALSE(feed.table.Trusted(anchor, ms + 20));
  }
  const FeedAnchor renewed = feed.table.AnchorFor(kDsp, 12'000);
  CHECK(feed.table.Trusted(renewed, 12'000));
}

TEST_CASE("feed_table: silence and doubt end no epoch; what comes after them counts again") {
  OneFeed feed;
  const FeedAnchor anchor = feed.Begin();
  const auto one_bad = [&](uint64_t ms) {
    const RpcCall call = feed.PollAt(ms);
    REQUIRE_NE(call.call_id, 0);
    SUBCASE("a timeout") { feed.Fail(call, ms + 100, Err::kTimeout); }
    SUBCASE("a doubt") { feed.Answer(call, ms + 100, {.doubtful = true}); }
    SUBCASE("more to come") { feed.Answer(call, ms + 100, {.more = true}); }
    SUBCASE("an error") { feed.Fail(call, ms + 100, Err::kUnsupported); }
  };
  one_bad(10'600);
  CHECK(feed.table.Trusted(anchor, 10'200 + kFeedTrustMs - 1));
  CHECK_FALSE(feed.table.Trusted(anchor, 10'200 + kFeedTrustMs));
  CHECK_FALSE(feed.table.Trusted(anchor, 15'000));
  feed.Answer(feed.PollAt(16'000), 16'100, {.position = 120});
  CHECK(feed.table.Trusted(anchor, 16'000 + kFeedTrustMs - 1));  // not from 16,100 on
  CHECK_FALSE(feed.table.Trusted(anchor, 16'000 + kFeedTrustMs));
  CHECK_EQ(feed.table.gaps(), 0);
}

TEST_CASE("feed_table: changes come out in order, and before their answer counts") {
  OneFeed feed;
  const FeedAnchor anchor = feed.Begin();
  const std::vector<FileChange> told = {{5, 1}, {5, 2}, {1, 9}, {5, 1}};
  CHECK_EQ(feed.Answer(feed.PollAt(12'000), 12'010, {.position = 104, .changes = told}), told);
  CHECK_FALSE(feed.table.Trusted(anchor, 12'011));
  feed.PollAt(12'012);  // they are applied
  CHECK(feed.table.Trusted(anchor, 12'013));
  // Doubtful ones are told, too.
  CHECK_EQ(feed.Answer(feed.PollAt(12'200), 12'210,
                       {.position = 105, .doubtful = true, .changes = {{6, 6}}}),
           std::vector<FileChange>{{6, 6}});
}

TEST_CASE("feed_table: a gap right behind changes ends the epoch all the same") {
  OneFeed feed;
  const FeedAnchor anchor = feed.Begin();
  feed.Answer(feed.PollAt(12'000), 12'010, {.position = 101, .changes = {{5, 1}}});
  const RpcCall call = feed.PollAt(12'200);
  feed.Answer(call, 12'210, {.position = 102, .changes = {{5, 2}}});
  feed.Answer(feed.PollAt(12'400), 12'410, {.position = 110, .gap = true, .changes = {{5, 3}}});
  CHECK_FALSE(feed.table.Trusted(anchor, 12'420));
  feed.PollAt(12'430);
  CHECK_FALSE(feed.table.Trusted(anchor, 12'440));
}

TEST_CASE("feed_table: `more` is asked for at once") {
  OneFeed feed;
  feed.Begin();
  feed.Answer(feed.PollAt(12'000), 12'010, {.position = 101, .more = true});
  const RpcCall next = feed.PollAt(12'010);
  CHECK_EQ(RequestOf(next).position(), 101);
}

TEST_CASE("feed_table: an answer given twice, and one to somebody else's call, are nothing") {
  OneFeed feed;
  const FeedAnchor anchor = feed.Begin();
  const RpcCall call = feed.PollAt(10'400);
  feed.Answer(call, 10'410, {.position = 120});
  CHECK(feed.Answer(call, 10'420, {.incarnation = 9, .changes = {{1, 1}}}).empty());
  CHECK(feed.Answer({.call_id = 5}, 10'430, {.gap = true}).empty());
  CHECK(feed.table.Trusted(anchor, 10'440));
  CHECK_EQ(RequestOf(feed.PollAt(10'600)).position(), 120);
}

TEST_CASE(
    "feed_table: more dsps than it has room for are not anchored; each has a feed of its own") {
  OneFeed feed(/*feeds_max=*/2);
  const FeedAnchor anchor = feed.Begin();
  CHECK_EQ(feed.table.AnchorFor("10.0.0.2:9000", 10'300), FeedAnchor{});
  CHECK_EQ(feed.table.AnchorFor("10.0.0.3:9000", 10'300), FeedAnchor{});
  std::vector<RpcCall> calls;
  feed.table.Poll({.mono_ms = 10'400}, &calls);
  REQUIRE_EQ(calls.size(), 2);
  CHECK_EQ(calls[1].address, "10.0.0.2:9000");
  feed.Answer(calls[1], 10'410, {.incarnation = 1, .gap = true, .dsp_id = 9});
  const FeedAnchor other = feed.table.AnchorFor("10.0.0.2:9000", 10'411);
  CHECK_NE(other.feed, anchor.feed);
  CHECK(feed.table.Trusted(anchor, 10'420));
  CHECK(feed.table.Trusted(other, 10'420));
  CHECK_EQ(feed.table.AnchorFor("10.0.0.3:9000", 10'420), FeedAnchor{});
  CHECK_EQ(feed.table.AnchorFor(std::string(65, '1'), 10'420), FeedAnchor{});
  CHECK_EQ(feed.table.AnchorFor("", 10'420), FeedAnchor{});
  const FeedTable::Stats stats = feed.table.StatsAt(10'420);
  CHECK_EQ(stats.feeds, 2);
  CHECK_EQ(stats.trusted, 2);
  FeedTable none(0);
  CHECK_EQ(none.AnchorFor(kDsp, 1), FeedAnchor{});
  CHECK_FALSE(none.Trusted({.feed = 0, .epoch = 1}, 1));
}

TEST_CASE("feed_table: a feed that nobody uses is forgotten, and its place means another epoch") {
  OneFeed feed(/*feeds_max=*/1);
  const FeedAnchor anchor = feed.Begin();
  uint64_t ms = 10'400;
  const auto poll_until = [&](uint64_t end_ms) {
    for (; ms < end_ms; ms += 200) {
      const RpcCall call = feed.PollAt(ms);
      if (call.call_id != 0) feed.Answer(call, ms + 1, {});
    }
  };
  poll_until(400'000);
  CHECK(feed.table.Trusted(anchor, ms));  // this uses it
  poll_until(990'000);
  CHECK_EQ(feed.table.StatsAt(ms).feeds, 1);
  poll_until(1'010'000);
  CHECK_EQ(feed.table.StatsAt(ms).feeds, 0);
  CHECK_FALSE(feed.table.Trusted(anchor, ms));
  CHECK_EQ(feed.table.AnchorFor("10.0.0.9:1", ms), FeedAnchor{});
  const RpcCall call = feed.PollAt(ms);
  CHECK_EQ(call.address, "10.0.0.9:1");
  CHECK_EQ(RequestOf(call).incarnation(), 0);
  feed.Answer(call, ms + 1, {.gap = true});
  CHECK_FALSE(feed.table.Trusted(anchor, ms + 2));
  CHECK_NE(feed.table.AnchorFor("10.0.0.9:1", ms + 2), anchor);
}

namespace {

// One dsp, all of whose messages are late or lost, and a gateway that keeps what it read from it.
// Files are deleted here, or at another replica: then this dsp hears of it later, and is in doubt
// until it has.
class FeedWorld {
 public:
  explicit FeedWorld(uint64_t seed) : random_(seed) {}

  void Run(uint64_t steps) {
    for (uint64_t i = 0; i < steps; ++i) Step();
  }
  uint64_t trusted() const { return trusted_; }
  uint64_t untrusted() const { return untrusted_; }
  uint64_t gaps() const { return table_.gaps(); }

 private:
  static constexpr uint32_t kFiles = 24;
  static constexpr uint64_t kRing = 12;  // changes that the dsp keeps
  struct Change {
    uint32_t file;
    uint64_t version;
  };
  struct Flight {  // of a poll or a read
    bool poll = false;
    RpcCall call{};
    std::string message{};  // the dsp's answer
    Err err = Err::kOk;
    uint32_t file = 0;
    uint64_t began_ms = 0;
    uint64_t version = 0;
    bool doubtful = false;
    bool carried_out = false;
  };
  struct Entry {
    uint64_t version = 0;
    FeedAnchor anchor{};
  };

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  bool doubtful() const { return !missed_.empty() || cut_off_; }

  void Step() {
    now_ += Below(30);
    if (Below(600) == 0) now_ += Below(5'000);  // the gateway was stopped
    if (Below(400) == 0) cut_off_ = !cut_off_;
    if (Below(40) == 0) Delete();
    if (!cut_off_ && !missed_.empty() && Below(10) == 0) Merge();
    if (Below(900) == 0) Restart();
    if (Below(3) == 0) BeginRead();
    std::vector<RpcCall> calls;
    table_.Poll({.mono_ms = now_}, &calls);
    for (RpcCall& call : calls) {
      Send({.poll = true, .call = std::move(call), .began_ms = now_});
    }
    while (!flights_.empty() && flights_.begin()->first <= now_) {
      Flight flight = std::move(flights_.begin()->second);
      flights_.erase(flights_.begin());
      Arrive(std::move(flight));
    }
    Look();
  }
  // On its way to the dsp; from there on by Arrive.
  void Send(Flight flight) { flights_.emplace(now_ + Delay(), std::move(flight)); }
  uint64_t Delay() { return Below(8) == 0 ? Below(1'500) : Below(20); }

  void Delete() {
    const auto file = static_cast<uint32_t>(Below(kFiles));
    ++truth_[file];
    acknowledged_.emplace(now_, Change{file, truth_[file]});
    if (cut_off_) {
      missed_.push_back({file, truth_[file]});
    } else {
      Apply({file, truth_[file]});
    }
  }
  void Apply(Change change) {
    at_dsp_[change.file] = std::max(at_dsp_[change.file], change.version);
    log_.push_back(change.file);
  }
  void Merge() {
    for (const Change& change : missed_) Apply(change);
    missed_.clear();
  }
  void Restart() {
    ++incarnation_;
    log_.clear();
  }
  void BeginRead() { Send({.file = static_cast<uint32_t>(Below(kFiles)), .began_ms = now_}); }

  void Arrive(Flight flight) {
    if (flight.carried_out) return flight.poll ? EndPoll(flight) : EndRead(flight);
    flight.carried_out = true;
    if (flight.poll) {
      flight.message = Poll(RequestOf(flight.call));
      const bool lost = Below(15) == 0 || flight.began_ms + kFeedTrustMs <= now_;
      if (lost) flight.err = Err::kTimeout;
    } else {
      flight.version = at_dsp_[flight.file];
      flight.doubtful = doubtful();
    }
    flights_.emplace(now_ + Delay(), std::move(flight));
  }
  std::string Poll(const pb::DeleteFeedRequest& request) {
    const uint64_t end = log_.size();
    const uint64_t kept_from = end > kRing ? end - kRing : 0;
    Reply reply = {.incarnation = incarnation_, .position = end, .doubtful = doubtful()};
    if (request.incarnation() != incarnation_ || request.position() > end ||
        request.position() < kept_from) {
      reply.gap = true;
      return Encode(reply);
    }
    for (uint64_t at = request.position(); at < end; ++at) {
      if (reply.changes.size() == 3) {
        reply.position = at;
        reply.more = true;
        break;
      }
      reply.changes.push_back({1, log_[at]});
    }
    return Encode(reply);
  }
  void EndPoll(const Flight& flight) {
    std::vector<FileChange> changes;
    table_.OnDone({.call_id = flight.call.call_id, .err = flight.err, .message = flight.message},
                  {.mono_ms = now_}, &changes);
    for (const FileChange& change : changes) {
      entries_.erase(change.sequence);
      marks_[change.sequence] = now_;
    }
  }
  void EndRead(const Flight& flight) {
    if (flight.doubtful || marks_[flight.file] >= flight.began_ms) return;
    entries_[flight.file] = {flight.version, table_.AnchorFor(kDsp, flight.began_ms)};
  }

  // No entry is trusted that lacks a change which was acknowledged a second ago.
  void Look() {
    for (; !acknowledged_.empty() && acknowledged_.begin()->first + kFeedTrustMs <= now_;
         acknowledged_.erase(acknowledged_.begin())) {
      const Change& change = acknowledged_.begin()->second;
      due_[change.file] = std::max(due_[change.file], change.version);
    }
    for (const auto& [file, entry] : entries_) {
      if (!table_.Trusted(entry.anchor, now_)) {
        ++untrusted_;
        continue;
      }
      ++trusted_;
      CAPTURE(now_);
      CAPTURE(file);
      REQUIRE_GE(entry.version, due_[file]);
    }
  }

  std::mt19937_64 random_;
  uint64_t now_ = 1'000;
  std::multimap<uint64_t, Flight> flights_;
  // The truth, and the dsp.
  std::map<uint32_t, uint64_t> truth_;
  std::multimap<uint64_t, Change> acknowledged_;
  std::map<uint32_t, uint64_t> due_;
  std::map<uint32_t, uint64_t> at_dsp_;
  std::vector<Change> missed_;
  std::vector<uint32_t> log_;
  uint64_t incarnation_ = 1;
  bool cut_off_ = false;
  // The gateway.
  FeedTable table_{8};
  std::map<uint32_t, Entry> entries_;
  std::map<uint32_t, uint64_t> marks_;
  uint64_t trusted_ = 0;
  uint64_t untrusted_ = 0;
};

}  // namespace

TEST_CASE(
    "feed_table: nothing that was deleted a second ago is trusted, whatever befalls the dsp") {
  uint64_t trusted = 0;
  uint64_t untrusted = 0;
  uint64_t gaps = 0;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    FeedWorld world(seed);
    world.Run(10'000);
    trusted += world.trusted();
    untrusted += world.untrusted();
    gaps += world.gaps();
  }
  // It meets both, often.
  CHECK_GT(trusted, 1'000'000);
  CHECK_GT(untrusted, 100'000);
  CHECK_GT(gaps, 300);
}

namespace {

// Dsps that restart now and then, all told by gaps, and more of them than the table has room for;
// the clock jumps so far that feeds are forgotten and their places given to others.
struct ThreadedDsps {
  static constexpr size_t kDsps = 6;
  static constexpr size_t kVersionsMax = 100'000;
  struct Dsp {
    std::string name;
    std::atomic<uint64_t> version{0};
    uint64_t told = 0;                  // the poller's
    std::vector<uint64_t> changed_ms =  // when each version came; written before it is
        std::vector<uint64_t>(kVersionsMax);
  };

  ThreadedDsps() {
    for (size_t i = 0; i < kDsps; ++i) dsps[i].name = "10.0.0." + std::to_string(i) + ":9000";
  }
  void Poll() {
    std::mt19937_64 random(1);
    std::vector<RpcCall> calls;
    std::vector<FileChange> changes;
    while (!stop) {
      uint64_t now = clock.load() + random() % 300;
      if (random() % 500 == 0) now += kFeedForgetMs + 1'000;
      clock = now;
      Dsp& restarted = dsps[random() % kDsps];
      const uint64_t next = restarted.version.load() + 1;
      if (random() % 4 == 0 && next < kVersionsMax) {
        restarted.changed_ms[next] = now;
        restarted.version.store(next);
      }
      calls.clear();
      table.Poll({.mono_ms = now}, &calls);
      for (const RpcCall& call : calls) {
        Dsp& dsp = dsps[static_cast<size_t>(call.address[7] - '0')];
        const uint64_t version = dsp.version.load();
        const bool first = RequestOf(call).incarnation() == 0;
        const Reply reply = {.gap = first || dsp.told != version};
        dsp.told = version;
        table.OnDone({.call_id = call.call_id, .message = Encode(reply)}, {.mono_ms = now},
                     &changes);
      }
      std::this_thread::yield();
    }
  }
  // What was read of each dsp, held for a while.
  void Read(uint64_t seed) {
    struct Held {
      size_t dsp = 0;
      uint64_t version = 0;
      FeedAnchor anchor{};
    };
    std::mt19937_64 random(seed);
    std::array<Held, 32> held{};
    for (int i = 0; i < 300'000; ++i) {
      Held& one = held[random() % held.size()];
      const uint64_t now = clock.load();
      if (table.Trusted(one.anchor, now)) {
        ++trusted;
        const Dsp& dsp = dsps[one.dsp];
        const bool newer = dsp.version.load() > one.version;
        if (newer && dsp.changed_ms[one.version + 1] + kFeedTrustMs <= now) ++wrong;
        if (random() % 16 != 0) continue;
      }
      one.dsp = random() % kDsps;
      const uint64_t began_ms = clock.load();
      one.version = dsps[one.dsp].version.load();
      one.anchor = table.AnchorFor(dsps[one.dsp].name, began_ms);
    }
  }

  FeedTable table{4};
  std::array<Dsp, kDsps> dsps;
  std::atomic<uint64_t> clock{1'000'000};
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> trusted{0};
  std::atomic<uint64_t> wrong{0};
};

}  // namespace

TEST_CASE("feed_table: threads anchor and ask while feeds begin, break and change places") {
  const auto world = std::make_unique<ThreadedDsps>();
  std::thread poller([&] { world->Poll(); });
  std::vector<std::thread> readers;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    readers.emplace_back([&world, seed] { world->Read(seed); });
  }
  for (std::thread& each : readers) each.join();
  world->stop = true;
  poller.join();
  CHECK_EQ(world->wrong.load(), 0);
  CHECK_GT(world->trusted.load(), 1'000);
}
