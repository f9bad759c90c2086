// A replica that was away knows all deletes that were acknowledged without it, before it serves.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/unit/dsp_trio.h"

namespace hayloft {
namespace {

std::vector<uint64_t> Up(const pb::StatReply& stat) {
  std::vector<uint64_t> up;
  for (const pb::Replica& replica : stat.up()) up.push_back(std::stoull(replica.address()));
  std::sort(up.begin(), up.end());
  return up;
}
using Dsps = std::vector<uint64_t>;

// Dsp 3 is away, and 1 and 2 have heard so.
void Lose3(Trio* trio) {
  trio->dsp(3).Crash(CrashMode::kClean);
  trio->Tell(3, pb::PEER_SUSPECT);
  trio->Heartbeat(1);
  trio->Heartbeat(2);
}

TEST_CASE("dsp_merge: a new block is served by all, and each counts all as up") {
  Trio trio;
  const FileAddress address = *trio.Append(Photo(900, 1));
  for (uint64_t number = 1; number <= 3; ++number) {
    const Result<pb::StatReply> stat = trio.Stat(number, address);
    REQUIRE(stat.ok());
    CHECK(stat->serving());
    CHECK(stat->set_size() == 3);
    CHECK(Up(*stat) == Dsps{1, 2, 3});
  }
}

// In the set that it was ordered with, but not in the one that is granted: a rebuilt nameserver may
// take it for a member all the same.
TEST_CASE("dsp_merge: F68: a replica that gets no appends neither denies a file nor gives facts") {
  Trio trio;
  const FileAddress address{kBlock, FileId::Of(0, 1)};
  for (uint64_t number = 1; number <= 3; ++number) {
    CHECK(trio.dsp(number).Read(address).err() == Err::kNotServing);
    CHECK(trio.dsp(number).core().Stats().blocks_not_serving == 0);  // there is nothing to serve
  }
  std::vector<pb::Replica> grant = trio.Grant();
  grant.pop_back();
  const uint64_t request = trio.dsp(1).SendAppend(kBlock, Photo(900, 1), grant);
  trio.Deliver();
  trio.Answer();
  const FileAddress stored = DspHarness::AddressOf(kBlock, trio.dsp(1).Reply(request));
  REQUIRE(trio.dsp(2).SetDelete(stored, 1) == Err::kOk);
  REQUIRE(trio.dsp(1).SetDelete(stored, 1) == Err::kOk);
  CHECK(trio.dsp(3).Read(stored).err() == Err::kNotServing);
  // Who merges must not believe that it knows of all deletes.
  trio.cut = {1};
  trio.Restart(2);
  CHECK_FALSE(trio.Stat(2, stored)->serving());
  CHECK(trio.dsp(2).core().Stats().blocks_not_serving == 1);
  trio.cut.clear();
  trio.Heartbeat(2);
  trio.Pump();
  CHECK(trio.Stat(2, stored)->serving());
  CHECK(trio.dsp(2).core().Stats().blocks_not_serving == 0);
  // The primary knows what it gave out.
  CHECK(trio.dsp(1).Read({kBlock, FileId::Of(9, 1)}).err() == Err::kNotFound);
  CHECK(trio.dsp(2).Read({kBlock, FileId::Of(9, 1)}).err() == Err::kNotServing);
}

TEST_CASE("dsp_merge: F31: a delete that a replica missed is there before it serves") {
  Trio trio;
  const std::string photo = Photo(900, 1);
  const FileAddress deleted = *trio.Append(photo);
  const FileAddress kept = *trio.Append(photo);
  Lose3(&trio);
  CHECK(Up(*trio.Stat(1, kept)) == Dsps{1, 2});
  REQUIRE(trio.dsp(1).SetDelete(deleted, 1) == Err::kOk);
  REQUIRE(trio.dsp(2).SetDelete(deleted, 1) == Err::kOk);
  REQUIRE(trio.dsp(3).Start() == Err::kOk);
  CHECK(trio.dsp(3).Read(kept).err() == Err::kNotServing);  // F69: before a heartbeat is answered
  trio.cut = {3};
  trio.Tell(3, pb::PEER_UP);
  trio.Heartbeat(3);
  trio.Pump();
  // Its bytes may be used if there is nothing else; what it says of deletes may not.
  CHECK_FALSE(trio.Stat(3, kept)->serving());
  CHECK(*trio.dsp(3).Read(deleted) == photo);
  trio.cut.clear();
  trio.Heartbeat(3);
  trio.Pump();
  CHECK(trio.Stat(3, kept)->serving());
  CHECK(trio.dsp(3).Read(deleted).err() == Err::kGone);
  CHECK(*trio.dsp(3).Read(kept) == photo);
  // It is kept there, should the others go.
  trio.dsp(3).Crash(CrashMode::kClean);
  REQUIRE(trio.dsp(3).Start() == Err::kOk);
  CHECK(trio.dsp(3).core().Stats().files_deleted == 1);
}

TEST_CASE("dsp_merge: who gave its state counts the asker as up, whatever it heard before") {
  Trio trio;
  const FileAddress address = *trio.Append(Photo(900, 1));
  Lose3(&trio);
  REQUIRE(trio.dsp(3).Start() == Err::kOk);
  trio.Tell(3, pb::PEER_UP);
  trio.cut = {2};
  trio.Heartbeat(3);
  trio.Pump();
  CHECK(trio.Stat(3, address)->serving());
  CHECK(Up(*trio.Stat(1, address)) == Dsps{1, 2, 3});
  CHECK(Up(*trio.Stat(2, address)) == Dsps{1, 2});  // was not asked
  // A delete that 1 was doing meanwhile names it too.
  const RpcReply& reply = trio.dsp(1).Reply(trio.dsp(1).SendSetDelete(address, 1));
  pb::SetDeleteReply done;
  REQUIRE(done.ParseFromString(reply.message));
  CHECK(done.up_size() == 3);
  // A later word of the nameserver takes it back.
  trio.Tell(3, pb::PEER_SUSPECT);
  trio.Heartbeat(1);
  CHECK(Up(*trio.Stat(1, address)) == Dsps{1, 2});
}

TEST_CASE("dsp_merge: where nobody serves, all that aren't down must tell") {
  Trio trio;
  const FileAddress address = *trio.Append(Photo(900, 1));
  REQUIRE(trio.dsp(2).SetDelete(address, 1) == Err::kOk);
  for (uint64_t number = 1; number <= 3; ++number) {
    trio.dsp(number).Crash(CrashMode::kClean);
    REQUIRE(trio.dsp(number).Start() == Err::kOk);
  }
  trio.cut = {2};
  trio.Tell(2, pb::PEER_SUSPECT);
  for (const uint64_t number : {1, 3}) trio.Heartbeat(number);
  trio.Pump();
  CHECK_FALSE(trio.Stat(1, address)->serving());
  CHECK_FALSE(trio.Stat(3, address)->serving());
  SUBCASE("it comes back") {
    trio.cut.clear();
    for (const uint64_t number : {2, 1, 3}) trio.Heartbeat(number);
    trio.Pump();
    CHECK(trio.dsp(1).Read(address).err() == Err::kGone);
    CHECK(trio.dsp(3).Read(address).err() == Err::kGone);
  }
  SUBCASE("it is down, and what it alone knew is not waited for") {
    trio.Tell(2, pb::PEER_DOWN);
    for (const uint64_t number : {1, 3}) trio.Heartbeat(number);
    trio.Pump();
    for (const uint64_t number : {1, 3}) trio.Heartbeat(number);
    CHECK(trio.Stat(1, address)->serving());
    CHECK(trio.dsp(3).Read(address).ok());
  }
}

TEST_CASE("dsp_merge: heartbeats without an answer make it doubt what it knows") {
  Trio trio;
  const std::string photo = Photo(900, 1);
  const FileAddress live = *trio.Append(photo);
  const FileAddress deleted = *trio.Append(photo);
  for (uint64_t number = 1; number <= 3; ++number) {
    REQUIRE(trio.dsp(number).SetDelete(deleted, 1) == Err::kOk);
  }
  CHECK(trio.dsp(1).Read(deleted).err() == Err::kGone);
  trio.dsp(1).now.mono_ms += 3'001;
  const auto read = [&](const FileAddress& address) {
    pb::ReadRequest message;
    message.set_block_id(address.block_id);
    message.set_file_id(address.file_id.value);
    const uint64_t asked = trio.dsp(1).Send(MessageType::kRead, message.SerializeAsString());
    return std::pair<Err, bool>(trio.dsp(1).Reply(asked).err, [&] {
      pb::ReadReply reply;
      return reply.ParseFromString(trio.dsp(1).Reply(asked).message) && reply.doubtful();
    }());
  };
  CHECK(read(live) == std::pair(Err::kOk, true));
  CHECK(read(deleted) == std::pair(Err::kNotServing, false));
  FileAddress unknown = live;
  unknown.file_id = FileId::Of(500, 1);
  CHECK(read(unknown).first == Err::kNotServing);  // F68
  CHECK_FALSE(trio.Stat(1, live)->serving());
  // An answer ends the doubt, and it merges like after a start.
  trio.Heartbeat(1);
  CHECK_FALSE(trio.Stat(1, live)->serving());
  trio.Pump();
  CHECK(read(live) == std::pair(Err::kOk, false));
  CHECK(read(deleted).first == Err::kGone);
}

TEST_CASE("dsp_merge: a delete is kept by a replica whose needle is damaged or missing") {
  Trio trio;
  const FileAddress address = *trio.Append(Photo(900, 1));
  pb::SetDeleteRequest message;
  message.set_block_id(77);  // whose file it lost
  message.set_file_id(address.file_id.value);
  message.set_counter(1);
  const auto ask = [&] {
    return trio.dsp(2)
        .Reply(trio.dsp(2).Send(MessageType::kSetDelete, message.SerializeAsString()))
        .err;
  };
  CHECK(ask() == Err::kNotServing);  // the client's location may be old
  message.set_member(2);
  CHECK(ask() == Err::kOk);
  message.set_block_id(kBlockIdMax + 1);  // that no block can have
  CHECK(ask() == Err::kNotFound);
  message.set_block_id(kBlock);
  message.set_file_id(FileId::Of(9, 1).value);  // that it lacks at its end
  CHECK(ask() == Err::kOk);
}

TEST_CASE("dsp_merge: F69: who is outside of the set serves nothing of the block") {
  Trio trio;
  const FileAddress address = *trio.Append(Photo(900, 1));
  trio.without_3 = true;
  trio.Restart(3);
  trio.Heartbeat(3);
  CHECK(trio.block(3).outside);
  CHECK(trio.dsp(3).Read(address).err() == Err::kNotServing);
  CHECK(trio.Stat(3, address).err() == Err::kNotServing);
  CHECK(trio.dsp(3).SetDelete(address, 1) == Err::kNotServing);
  trio.Heartbeat(1);
  trio.Pump();
  CHECK(Up(*trio.Stat(1, address)) == Dsps{1, 2});
  CHECK(trio.Stat(1, address)->set_size() == 2);
}

TEST_CASE("dsp_merge: F70: a set that is older than the one that is known changes nothing") {
  Trio trio;
  (void)trio.Append(Photo(900, 1));
  trio.set_version = 5;
  trio.Heartbeat(3);
  REQUIRE(trio.block(3).set_version == 5);
  trio.without_3 = true;
  trio.set_version = 4;  // an order from before it was taken in again
  trio.Heartbeat(3);
  CHECK_FALSE(trio.block(3).outside);
  CHECK(trio.block(3).set_version == 5);
}

TEST_CASE("dsp_merge: a set that changes while its deletes are being synced is merged anew") {
  Trio trio;
  const FileAddress address = *trio.Append(Photo(900, 1));
  Lose3(&trio);
  REQUIRE(trio.dsp(1).SetDelete(address, 1) == Err::kOk);
  REQUIRE(trio.dsp(2).SetDelete(address, 1) == Err::kOk);
  REQUIRE(trio.dsp(3).Start() == Err::kOk);
  trio.Heartbeat(3);
  trio.CarryCalls(3);
  REQUIRE(trio.dsp(3).jobs() == 1);  // what the others told is being written
  trio.set_version = 2;
  trio.Heartbeat(3);
  REQUIRE(trio.block(3).set_version == 2);
  trio.cut = {3};
  trio.Pump();
  CHECK(trio.dsp(3).core().Stats().files_deleted == 1);
  CHECK_FALSE(trio.Stat(3, address)->serving());
  trio.cut.clear();
  trio.Heartbeat(3);
  trio.Pump();
  CHECK(trio.Stat(3, address)->serving());
}

TEST_CASE("dsp_merge: after each doubt the sets are told before anything is served") {
  Trio trio;
  const FileAddress address = *trio.Append(Photo(900, 1));
  trio.dsp(3).now.mono_ms += 3'001;
  trio.more_sets = true;  // that it was given up meanwhile is among those that come later
  trio.Heartbeat(3);
  trio.Pump();
  CHECK_FALSE(trio.Stat(3, address)->serving());
  trio.more_sets = false;
  trio.without_3 = true;
  trio.Heartbeat(3);
  trio.Pump();
  CHECK(trio.Stat(3, address).err() == Err::kNotServing);
}

TEST_CASE("dsp_merge: a disk that takes no writes is not counted, and asks for nothing") {
  Trio trio;
  const FileAddress address = *trio.Append(Photo(900, 1));
  trio.Tell(3, pb::PEER_SUSPECT);
  trio.dsp(3).Crash(CrashMode::kKill);
  REQUIRE(trio.dsp(3).Start(/*read_only=*/true) == Err::kOk);
  trio.Heartbeat(1);
  trio.Heartbeat(3);
  trio.Pump();
  CHECK(Up(*trio.Stat(1, address)) == Dsps{1, 2});
  CHECK(trio.dsp(3).Read(address).ok());  // as the last resort
  CHECK_FALSE(trio.Stat(3, address)->serving());
}

TEST_CASE("dsp_merge: F50: who has another's address gives no state, and keeps no delete for it") {
  Trio trio;
  const FileAddress address = *trio.Append(Photo(900, 1));
  pb::DeleteStateRequest asked;
  asked.mutable_asker()->set_dsp_id(1);
  asked.add_block_ids(kBlock);
  asked.set_asked_dsp_id(7);
  const uint64_t request = trio.dsp(2).Send(MessageType::kDeleteState, asked.SerializeAsString());
  CHECK(trio.dsp(2).Reply(request).err == Err::kNotServing);
  pb::SetDeleteRequest change;
  change.set_block_id(kBlock);
  change.set_file_id(address.file_id.value);
  change.set_counter(1);
  change.set_member(7);
  const uint64_t changed = trio.dsp(2).Send(MessageType::kSetDelete, change.SerializeAsString());
  CHECK(trio.dsp(2).Reply(changed).err == Err::kNotServing);
}

TEST_CASE("dsp_merge: more deletes than one answer holds come in pages") {
  Trio trio;
  const FileAddress address = *trio.Append(Photo(100, 1));
  // Values of sequences that a short replica need not have are kept, too: many at no cost.
  constexpr uint32_t kDeletes = 70'000;
  for (uint32_t sequence = 0; sequence < kDeletes; ++sequence) {
    (void)trio.dsp(1).SendSetDelete({kBlock, FileId::Of(sequence, 1)}, 1);
    if (sequence % 1'000 == 999) trio.dsp(1).RunJobs();
  }
  trio.dsp(1).RunJobs();
  trio.cut = {2};
  trio.Restart(3);
  CHECK(trio.Stat(3, address)->serving());
  CHECK(trio.dsp(3).core().Stats().files_deleted == kDeletes);
}

}  // namespace
}  // namespace hayloft
