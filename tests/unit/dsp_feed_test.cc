// What a dsp tells caches of deletes: nothing that was acknowledged may be missing from what an
// asker takes for complete.
#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "common/file_change.h"
#include "dataserver/dsp/delete_feed.h"
#include "tests/unit/dsp_trio.h"

namespace hayloft {
namespace {

using Changes = std::vector<std::pair<uint64_t, uint32_t>>;

Changes ChangesOf(const pb::DeleteFeedReply& reply) {
  Changes changes;
  for (const pb::FileChange& change : reply.changes()) {
    changes.emplace_back(change.block_id(), change.sequence());
  }
  return changes;
}

// One who asks again and again, as caches do.
class Asker {
 public:
  explicit Asker(DspHarness* dsp) : dsp_(dsp) {}
  pb::DeleteFeedReply Ask() {
    pb::DeleteFeedRequest message;
    message.set_incarnation(last_.incarnation());
    message.set_position(last_.position());
    const uint64_t request = dsp_->Send(MessageType::kDeleteFeed, message.SerializeAsString());
    const RpcReply* reply = dsp_->FindReply(request);  // at once, whatever its disk does
    REQUIRE(reply != nullptr);
    REQUIRE(reply->err == Err::kOk);
    REQUIRE(last_.ParseFromString(reply->message));
    return last_;
  }

 private:
  DspHarness* dsp_;
  pb::DeleteFeedReply last_;
};

bool Clean(const pb::DeleteFeedReply& reply) { return !reply.gap() && !reply.doubtful(); }

std::pair<Err, pb::ReadReply> AskLive(DspHarness* dsp, const FileAddress& address) {
  pb::ReadRequest message;
  message.set_block_id(address.block_id);
  message.set_file_id(address.file_id.value);
  message.set_live_only(true);
  const RpcReply& reply = dsp->Reply(dsp->Send(MessageType::kRead, message.SerializeAsString()));
  pb::ReadReply read;
  REQUIRE(read.ParseFromString(reply.message));
  CHECK(reply.payload.empty());
  return {reply.err, read};
}

TEST_CASE("delete_feed: who asks is told what came since, once and in order") {
  DeleteFeed feed;
  pb::DeleteFeedReply reply;
  feed.FillGap(&reply);
  CHECK(reply.gap());
  uint64_t position = reply.position();
  feed.Add(7, 1);
  feed.Add(8, 2);
  reply.Clear();
  feed.Fill(position, &reply);
  CHECK_FALSE(reply.gap());
  CHECK(ChangesOf(reply) == Changes{{7, 1}, {8, 2}});
  position = reply.position();
  reply.Clear();
  feed.Fill(position, &reply);
  CHECK_FALSE(reply.gap());
  CHECK(reply.changes().empty());
  CHECK_EQ(reply.position(), position);
  reply.Clear();
  feed.Fill(position + 1, &reply);  // no answer ever named it
  CHECK(reply.gap());
  CHECK_EQ(reply.position(), position);
}

TEST_CASE("delete_feed: what does not fit into one answer follows") {
  DeleteFeed feed;
  for (uint32_t i = 0; i < 2 * kFeedChangesMax + 1; ++i) feed.Add(kBlockIdMax, i);
  pb::DeleteFeedReply reply;
  uint32_t told = 0;
  uint64_t position = 0;
  for (int answers = 1;; ++answers) {
    reply.Clear();
    feed.Fill(position, &reply);
    CHECK_FALSE(reply.gap());
    for (const pb::FileChange& change : reply.changes()) REQUIRE_EQ(change.sequence(), told++);
    const MessageRow* row = FindMessage(static_cast<uint16_t>(MessageType::kDeleteFeed));
    CHECK_LE(reply.ByteSizeLong(), row->message_bytes_max);
    position = reply.position();
    CHECK_EQ(reply.more(), answers < 3);
    if (!reply.more()) break;
  }
  CHECK_EQ(told, 2 * kFeedChangesMax + 1);
}

TEST_CASE("delete_feed: what is not kept any more is a gap, and so is a break") {
  DeleteFeed feed(/*kept_max=*/3);
  for (uint32_t i = 0; i < 4; ++i) feed.Add(7, i);
  pb::DeleteFeedReply reply;
  feed.Fill(1, &reply);
  CHECK_FALSE(reply.gap());
  CHECK_EQ(reply.changes_size(), 3);
  const uint64_t position = reply.position();
  reply.Clear();
  feed.Fill(0, &reply);
  CHECK(reply.gap());
  CHECK(reply.changes().empty());
  feed.Break();
  for (uint64_t before = 0; before <= position; ++before) {
    reply.Clear();
    feed.Fill(before, &reply);
    CHECK(reply.gap());
  }
  feed.Add(7, 9);
  reply.Clear();
  feed.Fill(position + 1, &reply);
  CHECK_FALSE(reply.gap());
  CHECK(ChangesOf(reply) == Changes{{7, 9}});
}

TEST_CASE(
    "dsp_feed: a delete is in the feed when it is acknowledged, and not before it is synced") {
  Trio trio;
  const FileAddress address = *trio.Append(Photo(900, 1));
  Asker asker(&trio.dsp(1));
  CHECK(asker.Ask().gap());
  CHECK(Clean(asker.Ask()));
  const uint64_t request = trio.dsp(1).SendSetDelete(address, 1);
  CHECK(asker.Ask().changes().empty());
  REQUIRE(trio.dsp(1).RunOneJob());
  REQUIRE(trio.dsp(1).FindReply(request) != nullptr);
  const pb::DeleteFeedReply deleted = asker.Ask();
  CHECK(Clean(deleted));
  CHECK(ChangesOf(deleted) == Changes{{kBlock, address.file_id.sequence()}});
  REQUIRE(trio.dsp(1).SetDelete(address, 1) == Err::kOk);  // repeated: no change
  CHECK(asker.Ask().changes().empty());
  REQUIRE(trio.dsp(1).SetDelete(address, 2) == Err::kOk);
  CHECK(asker.Ask().changes_size() == 1);
  CHECK(trio.dsp(1).core().Stats().feed_requests == 6);
  CHECK(trio.dsp(1).core().Stats().feed_gaps == 1);
}

TEST_CASE("dsp_feed: another process, or a position of the future, is a gap") {
  Trio trio;
  const FileAddress address = *trio.Append(Photo(900, 1));
  Asker asker(&trio.dsp(2));
  (void)asker.Ask();
  REQUIRE(trio.dsp(2).SetDelete(address, 1) == Err::kOk);
  (void)asker.Ask();
  pb::DeleteFeedRequest message;
  message.set_incarnation(trio.dsp(2).core().superblock().incarnation);
  message.set_position(1'000);
  const auto send = [&](const std::string& text) -> const RpcReply& {
    return trio.dsp(2).Reply(trio.dsp(2).Send(MessageType::kDeleteFeed, text));
  };
  pb::DeleteFeedReply reply;
  REQUIRE(reply.ParseFromString(send(message.SerializeAsString()).message));
  CHECK(reply.gap());
  CHECK(send("\xff").err == Err::kInvalid);
  trio.Restart(2);
  CHECK(asker.Ask().gap());
  CHECK(Clean(asker.Ask()));
}

TEST_CASE("dsp_feed: it is doubtful until a start's first heartbeat is answered") {
  Trio trio;
  (void)trio.Append(Photo(900, 1));
  trio.dsp(3).Crash(CrashMode::kClean);
  REQUIRE(trio.dsp(3).Start() == Err::kOk);
  Asker asker(&trio.dsp(3));
  CHECK(asker.Ask().doubtful());
  trio.more_sets = true;
  trio.Heartbeat(3);
  CHECK(asker.Ask().doubtful());
  trio.more_sets = false;
  trio.Heartbeat(3);
  CHECK_FALSE(asker.Ask().doubtful());
}

// An asker heard all until the doubt; a delete was acknowledged without this dsp meanwhile; and its
// block is merged late. The feed may be trusted again for other blocks at once, but nobody may rest
// on what he heard before.
TEST_CASE("dsp_feed: a doubt is a gap, though what it missed is not merged yet") {
  Trio trio;
  const FileAddress address = *trio.Append(Photo(900, 1));
  Asker asker(&trio.dsp(3));
  (void)asker.Ask();
  REQUIRE(Clean(asker.Ask()));
  trio.dsp(3).now.mono_ms += 3'001;
  CHECK(asker.Ask().doubtful());
  REQUIRE(trio.dsp(1).SetDelete(address, 1) == Err::kOk);
  REQUIRE(trio.dsp(2).SetDelete(address, 1) == Err::kOk);
  trio.cut = {3};
  trio.Heartbeat(3);
  trio.Pump();
  REQUIRE_FALSE(trio.Stat(3, address)->serving());
  CHECK(asker.Ask().gap());
  CHECK(Clean(asker.Ask()));
  const auto [err, live] = AskLive(&trio.dsp(3), address);
  CHECK(err == Err::kOk);
  CHECK(live.doubtful());  // so that no cache keeps it
  trio.cut.clear();
  trio.Heartbeat(3);
  trio.Pump();
  REQUIRE(trio.Stat(3, address)->serving());
  const pb::DeleteFeedReply merged = asker.Ask();
  CHECK(Clean(merged));
  CHECK(ChangesOf(merged) == Changes{{kBlock, address.file_id.sequence()}});
  CHECK(AskLive(&trio.dsp(3), address).first == Err::kGone);
}

TEST_CASE("dsp_feed: a block that it is taken out of is told, once, and is no gap for others") {
  Trio trio;
  const FileAddress address = *trio.Append(Photo(900, 1));
  Asker asker(&trio.dsp(3));
  (void)asker.Ask();
  REQUIRE(Clean(asker.Ask()));
  trio.without_3 = true;
  trio.Heartbeat(3);
  REQUIRE(trio.block(3).outside);
  const pb::DeleteFeedReply left = asker.Ask();
  CHECK(Clean(left));
  CHECK(ChangesOf(left) == Changes{{kBlock, kWholeBlock}});
  CHECK(AskLive(&trio.dsp(3), address).first == Err::kNotServing);
  trio.set_version = 9;
  trio.Heartbeat(3);
  CHECK(Clean(asker.Ask()));
  CHECK(asker.Ask().changes().empty());
}

TEST_CASE("dsp_feed: a disk that takes no writes is never trusted: it refuses deletes") {
  Trio trio;
  (void)trio.Append(Photo(900, 1));
  trio.dsp(3).Crash(CrashMode::kKill);
  REQUIRE(trio.dsp(3).Start(/*read_only=*/true) == Err::kOk);
  trio.Heartbeat(3);
  trio.Pump();
  Asker asker(&trio.dsp(3));
  CHECK(asker.Ask().doubtful());
  CHECK(asker.Ask().doubtful());
}

TEST_CASE("dsp_feed: where it has the only replicas it need not be in touch with a nameserver") {
  DspHarness dsp(1);
  REQUIRE(dsp.Start() == Err::kOk);
  REQUIRE(dsp.Create(kBlock) == Err::kOk);
  const FileAddress address = *dsp.Append(kBlock, Photo(900, 1));
  Asker asker(&dsp);
  (void)asker.Ask();
  dsp.now.mono_ms += 60'000;
  CHECK(Clean(asker.Ask()));
  REQUIRE(dsp.SetDelete(address, 1) == Err::kOk);
  CHECK(asker.Ask().changes_size() == 1);
}

TEST_CASE("dsp_feed: whether a file lives is answered from memory") {
  Trio trio;
  const FileAddress address = *trio.Append(Photo(900, 1));
  trio.dsp(1).hold_reads = true;  // the disk hangs
  const auto [err, live] = AskLive(&trio.dsp(1), address);
  CHECK(err == Err::kOk);
  CHECK(live.head().empty());
  CHECK(live.block_open() == 1);
  CHECK(live.delete_counter() == 0);
  CHECK_FALSE(live.doubtful());
  REQUIRE(trio.dsp(1).SetDelete(address, 1) == Err::kOk);
  CHECK(AskLive(&trio.dsp(1), address).first == Err::kGone);
  REQUIRE(trio.dsp(1).SetDelete(address, 2) == Err::kOk);
  CHECK(AskLive(&trio.dsp(1), address).second.delete_counter() == 2);
  CHECK(AskLive(&trio.dsp(1), {kBlock, FileId::Of(9, 1)}).first == Err::kNotFound);
  CHECK(AskLive(&trio.dsp(1), {99, FileId::Of(0, 1)}).first == Err::kNotServing);
  REQUIRE(trio.dsp(1).SetDelete(address, 3) == Err::kOk);
  trio.dsp(1).now.wall_ms += 169ull * 3600 * 1000;  // the trash time is over
  CHECK(AskLive(&trio.dsp(1), address).first == Err::kNotFound);
  trio.dsp(1).now.mono_ms += 3'001;  // in doubt: it may have been undeleted
  CHECK(AskLive(&trio.dsp(1), address).first == Err::kNotServing);
  CHECK(trio.dsp(1).core().Stats().live_asks == 5);
}

}  // namespace
}  // namespace hayloft
