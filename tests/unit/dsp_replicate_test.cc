// A block on three dsps: who takes a commit, what an acknowledgement means, what closes the block.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/unit/dsp_trio.h"

namespace hayloft {
namespace {

TEST_CASE("dsp_replicate: an append is acknowledged when all three have synced it") {
  Trio trio;
  const std::string photo = Photo(3'000, 1);
  const uint64_t request = trio.SendAppend(photo);
  trio.dsp(1).RunJobs();
  CHECK(trio.dsp(1).FindReply(request) == nullptr);  // synced here alone
  trio.Deliver(2);
  trio.Answer();
  CHECK(trio.dsp(1).FindReply(request) == nullptr);  // by two of three
  for (RpcCall& call : std::exchange(trio.held(), {})) {
    const uint64_t asked = trio.dsp(3).Send(call.type, call.message, call.payload.Share());
    CHECK(trio.dsp(3).FindReply(asked) == nullptr);  // written, not synced
    REQUIRE(trio.dsp(3).Reply(asked).err == Err::kOk);
    trio.dsp(1).AnswerCall(call.call_id, Err::kOk);
  }
  const FileAddress address = DspHarness::AddressOf(kBlock, trio.dsp(1).Reply(request));
  for (uint64_t number = 1; number <= 3; ++number) {
    trio.Restart(number);
    CHECK(*trio.dsp(number).Read(address) == photo);
  }
}

TEST_CASE("dsp_replicate: replicas hold the same bytes at the same places") {
  Trio trio;
  for (uint64_t i = 0; i < 20; ++i) REQUIRE(trio.Append(Photo(100 + i * 997, i)).ok());
  const std::string name = BlockFileName(kBlock);
  const uint64_t end = trio.block(1).end;
  REQUIRE(end > kFirstNeedleOffset);
  const auto bytes_of = [&](uint64_t number) {
    const std::string image = trio.dsp(number).device().FileImage(name);
    return image.substr(kFirstNeedleOffset, end - kFirstNeedleOffset);
  };
  for (uint64_t number = 2; number <= 3; ++number) {
    CHECK(trio.block(number).end == end);
    CHECK(trio.block(number).needles() == 20);
    CHECK(bytes_of(number) == bytes_of(1));
  }
}

// The block's epoch grows when it closes: what is sent afterwards, a secondary would refuse.
TEST_CASE("dsp_replicate: the commit that fills a block is taken by all three") {
  Trio trio;
  const uint64_t first = trio.SendAppend(Photo(500, 1));
  const uint64_t last = trio.SendAppend(Photo(kBlockBytesMin / 2, 2));
  const uint64_t other = trio.SendAppend(Photo(kBlockBytesMin / 2, 3));  // finds no room
  trio.Pump();
  CHECK(trio.dsp(1).Reply(first).err == Err::kOk);
  CHECK(trio.dsp(1).Reply(last).err == Err::kOk);
  CHECK(trio.dsp(1).Reply(other).err == Err::kClosed);
  CHECK(trio.block(1).state == pb::BLOCK_CLOSED);
  for (uint64_t number = 1; number <= 3; ++number) CHECK(trio.block(number).needles() == 2);
}

TEST_CASE(
    "dsp_replicate: a secondary that is late or refuses closes the block, and is named (F04)") {
  Trio trio;
  REQUIRE(trio.Append(Photo(500, 1)).ok());
  const uint64_t request = trio.SendAppend(Photo(600, 2));
  const uint64_t waiting = trio.SendAppend(Photo(700, 3));  // for the next commit
  trio.Deliver(2);
  trio.Answer();
  SUBCASE("late") { trio.TimeOutHeld(); }
  SUBCASE("refusing") {
    for (const RpcCall& call : std::exchange(trio.held(), {})) {
      trio.dsp(1).AnswerCall(call.call_id, Err::kReadOnly);
    }
  }
  for (const uint64_t upload : {request, waiting}) {
    const RpcReply* reply = trio.dsp(1).FindReply(upload);  // at once, whatever the disk does
    REQUIRE(reply != nullptr);
    CHECK(reply->err == Err::kClosed);
    pb::AppendReply message;
    REQUIRE(message.ParseFromString(reply->message));
    CHECK(message.late_dsp_id() == 3);
  }
  trio.dsp(1).RunJobs();
  CHECK(trio.block(1).state == pb::BLOCK_CLOSED);
  CHECK(trio.block(1).needles() == 2);  // what it wrote stays
  const RpcReply& refused = trio.dsp(1).Reply(trio.SendAppend(Photo(10, 4)));
  CHECK(refused.err == Err::kClosed);
}

TEST_CASE("dsp_replicate: a primary that ends names itself to uploads that wait") {
  Trio trio;
  REQUIRE(trio.Append(Photo(500, 1)).ok());
  (void)trio.SendAppend(Photo(600, 2));
  const uint64_t waiting = trio.SendAppend(Photo(700, 3));  // for the next commit
  trio.dsp(1).CloseAll();
  const RpcReply* reply = trio.dsp(1).FindReply(waiting);
  REQUIRE(reply != nullptr);
  CHECK(reply->err == Err::kClosed);
  pb::AppendReply message;
  REQUIRE(message.ParseFromString(reply->message));
  CHECK(message.late_dsp_id() == 1);
}

TEST_CASE("dsp_replicate: a secondary takes a commit only at its own end") {
  Trio trio;
  REQUIRE(trio.Append(Photo(500, 1)).ok());
  (void)trio.SendAppend(Photo(600, 2));
  std::vector<RpcCall> calls = trio.dsp(1).TakeCalls();
  REQUIRE(calls.size() == 2);
  REQUIRE(calls[0].address == "2");
  const RpcCall& call = calls[0];
  pb::ReplicaAppendRequest message;
  REQUIRE(message.ParseFromString(call.message));
  Buffer pages = call.payload.Share();
  Err wanted = Err::kClosed;
  bool closes = true;
  SUBCASE("behind it") { message.set_offset(message.offset() - kPageBytes); }
  SUBCASE("beyond it") { message.set_offset(message.offset() + kPageBytes); }
  SUBCASE("another sequence") { message.set_first_sequence(message.first_sequence() + 1); }
  SUBCASE("no needle where one is named") { message.set_needle_offsets(0, 8); }
  SUBCASE("the same one twice") { message.add_needle_offsets(0); }
  SUBCASE("outside of the pages") { message.add_needle_offsets(1 << 20); }
  SUBCASE("half a page") { pages.Narrow(0, pages.size() - 1); }
  SUBCASE("damaged") {
    pages = Buffer::CopyOf(pages.bytes());
    pages.mutable_bytes()[20] ^= 1;
  }
  SUBCASE("F42: an earlier incarnation's, late") {
    message.set_incarnation(message.incarnation() - 1);
    wanted = Err::kStaleEpoch;
    closes = false;
  }
  SUBCASE("of another epoch of the block") {
    message.set_block_epoch(message.block_epoch() + 1);
    wanted = Err::kStaleEpoch;
    closes = false;
  }
  SUBCASE("another opening of the block") {
    message.set_opening_epoch(message.opening_epoch() + 1);
    wanted = Err::kNotServing;
    closes = false;
  }
  const uint64_t end = trio.block(2).end;
  const uint64_t request = trio.dsp(2).Send(call.type, message.SerializeAsString(), pages.Share());
  CHECK(trio.dsp(2).Reply(request).err == wanted);
  CHECK(trio.block(2).end == end);
  CHECK(trio.block(2).needles() == 1);
  CHECK(trio.block(2).state == (closes ? pb::BLOCK_CLOSED : pb::BLOCK_OPEN));
}

TEST_CASE("dsp_replicate: F60: a secondary that restarted takes nothing, and the block closes") {
  Trio trio;
  REQUIRE(trio.Append(Photo(500, 1)).ok());
  const std::vector<pb::Replica> grant = trio.Grant();
  trio.dsp(3).Crash(CrashMode::kClean);
  REQUIRE(trio.dsp(3).Start() == Err::kOk);
  const uint64_t request = trio.dsp(1).SendAppend(kBlock, Photo(600, 2), grant);
  trio.Deliver();
  trio.Answer();
  CHECK(trio.dsp(1).Reply(request).err == Err::kClosed);
  CHECK(trio.block(1).state == pb::BLOCK_CLOSED);
  CHECK(trio.block(3).needles() == 1);
}

TEST_CASE("dsp_replicate: a grant names the block's replicas, the same ones each time") {
  Trio trio;
  std::vector<pb::Replica> grant = trio.Grant();
  SUBCASE("fewer at the first append: a member that failed at the creation") {
    grant.pop_back();
    const uint64_t request = trio.dsp(1).SendAppend(kBlock, Photo(9, 1), grant);
    CHECK(trio.dsp(1).TakeCalls().size() == 1);
    CHECK(trio.dsp(1).FindReply(request) == nullptr);
  }
  SUBCASE("one that is no member") {
    grant[2].set_dsp_id(9);
    CHECK(trio.dsp(1).Reply(trio.dsp(1).SendAppend(kBlock, "x", grant)).err == Err::kInvalid);
  }
  SUBCASE("one twice") {
    grant[2] = grant[1];
    CHECK(trio.dsp(1).Reply(trio.dsp(1).SendAppend(kBlock, "x", grant)).err == Err::kInvalid);
  }
  SUBCASE("to one that is not the primary") {
    CHECK(trio.dsp(2).Reply(trio.dsp(2).SendAppend(kBlock, "x", grant)).err == Err::kNotServing);
  }
  SUBCASE("another incarnation of a secondary later on") {
    REQUIRE(trio.Append("x").ok());
    grant[1].set_incarnation(grant[1].incarnation() + 1);
    CHECK(trio.dsp(1).Reply(trio.dsp(1).SendAppend(kBlock, "x", grant)).err == Err::kStaleEpoch);
  }
}

TEST_CASE("dsp_replicate: an answer to a commit that was given up changes nothing") {
  Trio trio;
  const uint64_t request = trio.SendAppend(Photo(600, 2));
  trio.Deliver(2);
  trio.TimeOutHeld();  // dsp 3
  trio.Answer();       // dsp 2 has it, too late
  CHECK(trio.dsp(1).Reply(request).err == Err::kClosed);
  CHECK(trio.block(1).state == pb::BLOCK_CLOSED);
  CHECK(trio.block(2).needles() == 1);
  CHECK(trio.block(3).needles() == 0);
}

TEST_CASE("dsp_replicate: F20: a primary whose disk fails answers its uploads once") {
  Trio trio;
  const uint64_t request = trio.SendAppend(Photo(600, 2));
  SUBCASE("before a secondary fails") {
    trio.dsp(1).device().FailNextSync(Err::kIo);
    trio.dsp(1).RunJobs();
    trio.Deliver(2);
    trio.TimeOutHeld();
    trio.Answer();
    CHECK(trio.dsp(1).Reply(request).err == Err::kIo);
  }
  SUBCASE("after it") {
    trio.Deliver(2);
    trio.TimeOutHeld();
    trio.dsp(1).device().FailNextSync(Err::kIo);
    trio.Answer();
    CHECK(trio.dsp(1).Reply(request).err == Err::kClosed);
  }
  CHECK(trio.dsp(1).disk_failed());
}

}  // namespace
}  // namespace hayloft
