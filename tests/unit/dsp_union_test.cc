// Replicas that differ become equal when their block is sealed: by union, never by truncation.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/unit/dsp_trio.h"

namespace hayloft {
namespace {

void Damage(Trio* trio, uint64_t number, uint32_t sequence) {
  const std::string name = BlockFileName(kBlock);
  const uint64_t offset = trio->block(number).Find(sequence).offset + 300;  // in its data
  std::string byte = trio->dsp(number).device().FileImage(name).substr(offset, 1);
  byte[0] = static_cast<char>(byte[0] ^ 0x40);
  trio->dsp(number).device().SetBytes(name, offset, AsBytes(byte));
}

struct Stored {
  FileAddress address;
  std::string data;
};
std::vector<Stored> Fill(Trio* trio, size_t count) {
  std::vector<Stored> stored;
  for (size_t i = 0; i < count; ++i) {
    const std::string photo = Photo(500 + i * 1'700, i);
    const Result<FileAddress> address = trio->Append(photo);
    REQUIRE(address.ok());
    stored.push_back({.address = *address, .data = photo});
  }
  return stored;
}

void CheckAllRead(Trio* trio, const std::vector<Stored>& stored) {
  for (uint64_t number = 1; number <= 3; ++number) {
    for (const Stored& file : stored) CHECK(*trio->dsp(number).Read(file.address) == file.data);
  }
}

TEST_CASE("dsp_union: equal replicas are sealed where they lie") {
  Trio trio;
  const std::vector<Stored> stored = Fill(&trio, 10);
  trio.CloseAll();
  trio.SealAll();
  trio.CheckEqual();
  for (uint64_t number = 1; number <= 3; ++number) CHECK(trio.block(number).life == kLife);
  CheckAllRead(&trio, stored);
}

TEST_CASE("dsp_union: F04: a commit that one replica lacks is fetched, in any order of seals") {
  Trio trio;
  std::vector<Stored> stored = Fill(&trio, 5);
  (void)trio.SendAppend(Photo(600, 50));
  trio.Deliver(2);
  trio.TimeOutHeld();  // dsp 3 never hears of it
  trio.Answer();
  trio.dsp(1).RunJobs();
  trio.CloseAll();
  REQUIRE(trio.block(3).needles() == 5);
  REQUIRE(trio.block(1).needles() == 6);
  // Who was cut off cannot say that a file does not exist (F68).
  pb::ReadRequest read;
  read.set_block_id(kBlock);
  read.set_file_id(FileId::Of(5, 1).value);
  const uint64_t asked = trio.dsp(3).Send(MessageType::kRead, read.SerializeAsString());
  CHECK(trio.dsp(3).Reply(asked).err == Err::kNotServing);
  SUBCASE("the one that lacks it last") { trio.SealAll(); }
  SUBCASE("the one that lacks it first") {
    for (int i = 0; i < 4 && trio.block(3).state != pb::BLOCK_SEALED; ++i) (void)trio.Seal(3);
    REQUIRE(trio.block(3).state == pb::BLOCK_SEALED);
    trio.SealAll();
  }
  trio.CheckEqual();
  CHECK(trio.block(3).needles() == 6);
  CHECK(trio.block(3).life != kLife);
  CHECK(trio.block(1).life == kLife);
  CheckAllRead(&trio, stored);
  // A start finds the new life as it was left.
  trio.Restart(3);
  trio.CheckEqual();
  CheckAllRead(&trio, stored);
}

TEST_CASE("dsp_union: F25: a damaged needle is taken from another replica") {
  Trio trio;
  const std::vector<Stored> stored = Fill(&trio, 8);
  trio.CloseAll();
  Damage(&trio, 1, 3);
  Damage(&trio, 2, 0);
  Damage(&trio, 3, 7);
  CHECK_FALSE(trio.dsp(1).Read(stored[3].address).ok());
  trio.SealAll();
  trio.CheckEqual();
  CHECK(trio.block(1).lost == 0);
  CheckAllRead(&trio, stored);
}

TEST_CASE("dsp_union: what no replica has intact is lost, and only that (F17)") {
  Trio trio;
  std::vector<Stored> stored = Fill(&trio, 8);
  trio.CloseAll();
  for (uint64_t number = 1; number <= 3; ++number) Damage(&trio, number, 4);
  Damage(&trio, 2, 6);  // so that one of them writes a new life
  trio.SealAll();
  trio.CheckEqual();
  for (uint64_t number = 1; number <= 3; ++number) {
    CHECK(trio.block(number).lost == 1);
    CHECK(trio.dsp(number).Read(stored[4].address).err() == Err::kLost);
  }
  stored.erase(stored.begin() + 4);
  CheckAllRead(&trio, stored);
}

TEST_CASE("dsp_union: two intact needles under one sequence: each keeps its own, and says so") {
  Trio trio;
  const std::string other = Photo(900, 77);
  const Result<FileAddress> alone = trio.dsp(3).Append(kBlock, other);  // a primary that is none
  REQUIRE(alone.ok());
  const uint64_t request = trio.SendAppend(Photo(800, 1));
  trio.Deliver();
  trio.Answer();
  REQUIRE(trio.dsp(1).Reply(request).err == Err::kClosed);
  trio.CloseAll();
  trio.SealAll();
  CHECK(trio.block(1).divergent == 1);
  CHECK(trio.block(2).divergent == 1);
  CHECK(trio.block(3).divergent == 2);  // with either of the others
  CHECK(trio.block(1).digest == trio.block(2).digest);
  CHECK(trio.block(1).digest != trio.block(3).digest);
  CHECK(*trio.dsp(3).Read(*alone) == other);
}

TEST_CASE("dsp_union: a seal waits for a replica that cannot tell what it has") {
  Trio trio;
  const std::vector<Stored> stored = Fill(&trio, 4);
  trio.CloseAll();
  trio.dsp(2).device().FailReads(BlockFileName(kBlock),
                                 {kFirstNeedleOffset, kFirstNeedleOffset + kPageBytes});
  for (int i = 0; i < 3; ++i) CHECK(trio.Seal(1) != Err::kOk);
  CHECK(trio.block(1).state == pb::BLOCK_CLOSED);
  CHECK(*trio.dsp(1).Read(stored[0].address) == stored[0].data);
}

TEST_CASE("dsp_union: F18: appends that a lying sync forgot are united, and none is denied") {
  Trio trio;
  std::vector<Stored> stored = Fill(&trio, 2);
  trio.dsp(3).device().SetLyingSync(true, "blk-");
  for (size_t i = 2; i < 6; ++i) {
    const std::string photo = Photo(700 + i, i);
    stored.push_back({.address = *trio.Append(photo), .data = photo});
  }
  trio.dsp(3).Crash(CrashMode::kClean);
  trio.dsp(3).device().SetLyingSync(false);
  trio.Restart(3);
  REQUIRE(trio.block(3).needles() == 2);
  CHECK(trio.dsp(3).Read(stored[5].address).err() == Err::kNotServing);
  for (uint64_t number = 1; number <= 2; ++number)
    REQUIRE(trio.dsp(number).Close(kBlock) == Err::kOk);
  trio.SealAll();
  trio.CheckEqual();
  CHECK(trio.block(3).lost == 0);
  CheckAllRead(&trio, stored);
}

TEST_CASE("dsp_union: a read that opens the file of the next life is planned again") {
  Trio trio;
  const std::vector<Stored> stored = Fill(&trio, 6);
  trio.CloseAll();
  for (uint64_t number = 1; number <= 2; ++number) Damage(&trio, number, 0);
  for (uint64_t number = 1; number <= 2; ++number) {
    while (trio.block(number).state != pb::BLOCK_SEALED) (void)trio.Seal(number, {1, 2});
  }
  trio.Restart(1);  // the file of a sealed block is opened by the first read
  trio.dsp(1).hold_reads = true;
  pb::ReadRequest message;
  message.set_block_id(kBlock);
  message.set_file_id(stored[5].address.file_id.value);
  const uint64_t request = trio.dsp(1).Send(MessageType::kRead, message.SerializeAsString());
  trio.SealAll(/*again=*/true);
  REQUIRE(trio.block(1).lost == 0);  // with a needle more, in front of it
  trio.dsp(1).RunHeldReads();
  const RpcReply& reply = trio.dsp(1).Reply(request);
  CHECK(reply.err == Err::kOk);
  CHECK(AsText(reply.payload.bytes()) == stored[5].data);
}

TEST_CASE("dsp_union: a needle that went bad since it was listed is fetched from another") {
  Trio trio;
  const std::vector<Stored> stored = Fill(&trio, 6);
  trio.CloseAll();
  Damage(&trio, 3, 2);
  for (uint64_t number = 1; number <= 2; ++number) (void)trio.Seal(number);  // their lists are kept
  Damage(&trio, 1, 2);
  for (int i = 0; i < 4 && trio.block(3).state != pb::BLOCK_SEALED; ++i) (void)trio.Seal(3);
  REQUIRE(trio.block(3).state == pb::BLOCK_SEALED);
  CHECK(*trio.dsp(3).Read(stored[2].address) == stored[2].data);
}

TEST_CASE("dsp_union: F59: a sealed block grows by what a late replica has, and by nothing else") {
  Trio trio;
  std::vector<Stored> stored = Fill(&trio, 6);
  trio.CloseAll();
  for (uint64_t number = 1; number <= 2; ++number) Damage(&trio, number, 3);
  for (uint64_t number = 1; number <= 2; ++number) {  // the third is away, and given up
    while (trio.block(number).state != pb::BLOCK_SEALED) (void)trio.Seal(number, {1, 2});
  }
  CHECK(trio.block(1).lost == 1);
  CHECK(trio.block(1).without_all);
  CHECK(trio.dsp(1).Read(stored[3].address).err() == Err::kLost);
  const FileAddress behind{kBlock, FileId::Of(6, 1)};
  CHECK(trio.dsp(1).Read(behind).err() == Err::kNotServing);  // the third may have it
  // It is back, and all seal once more.
  trio.SealAll(/*again=*/true);
  trio.CheckEqual();
  CHECK(trio.block(1).lost == 0);
  CHECK_FALSE(trio.block(1).without_all);
  CHECK(trio.dsp(1).Read(behind).err() == Err::kNotFound);
  CheckAllRead(&trio, stored);
  const uint64_t life = trio.block(1).life;
  trio.SealAll(/*again=*/true);
  CHECK(trio.block(1).life == life);  // nothing was new
  trio.Restart(1);
  CheckAllRead(&trio, stored);
}

TEST_CASE("dsp_union: the list of an open block is not given") {
  Trio trio;
  (void)Fill(&trio, 1);
  pb::NeedleListRequest message;
  message.set_block_id(kBlock);
  message.set_opening_epoch(trio.block(2).opening_epoch);
  const uint64_t request = trio.dsp(2).Send(MessageType::kNeedleList, message.SerializeAsString());
  CHECK(trio.dsp(2).Reply(request).err == Err::kInvalid);
}

// The new life replaces the old file at one instant: at every operation either one is whole.
TEST_CASE("dsp_union: power cut at each operation of a new life loses nothing") {
  for (const CrashMode mode : {CrashMode::kClean, CrashMode::kTorn, CrashMode::kReordered}) {
    bool finished = false;
    for (uint64_t cut = 1; !finished; ++cut) {
      CAPTURE(cut);
      REQUIRE(cut < 100);
      Trio trio;
      const std::vector<Stored> stored = Fill(&trio, 4);
      trio.CloseAll();
      Damage(&trio, 3, 1);
      for (uint64_t number = 1; number <= 2; ++number) (void)trio.Seal(number);  // lists are ready
      trio.dsp(3).power().CutAtOperation(cut);
      const Err err = trio.Seal(3);
      finished = !trio.dsp(3).power().off();
      if (finished) CHECK(err == Err::kOk);
      trio.Restart(3, mode);
      trio.dsp(3).RunJobs();
      for (const size_t i : {0, 2, 3}) {
        CHECK(*trio.dsp(3).Read(stored[i].address) == stored[i].data);
      }
      for (int i = 0; i < 4 && trio.block(3).state != pb::BLOCK_SEALED; ++i) (void)trio.Seal(3);
      trio.SealAll();
      trio.CheckEqual();
      CheckAllRead(&trio, stored);
    }
  }
}

}  // namespace
}  // namespace hayloft
