#include <doctest/doctest.h>

#include "common/version.h"
#include "dataserver/dsp/block_format.h"
#include "tests/sim/dsp_harness.h"

using namespace hayloft;

namespace {

std::string Photo(size_t size, uint8_t salt = 1) {
  std::string bytes(size, '\0');
  uint64_t state = salt;
  for (char& byte : bytes) byte = static_cast<char>(SplitMix64(&state));
  return bytes;
}

DspHarness Started(uint64_t seed = 1) {
  DspHarness dsp(seed);
  REQUIRE(dsp.format_err() == Err::kOk);
  REQUIRE(dsp.Start() == Err::kOk);
  REQUIRE(dsp.Create(5) == Err::kOk);
  return dsp;
}

}  // namespace

TEST_CASE("dsp_core: what was appended reads back, whole, by range and by suffix") {
  DspHarness dsp(1, 4 << 20);
  REQUIRE(dsp.Start() == Err::kOk);
  REQUIRE(dsp.Create(5) == Err::kOk);
  for (size_t size : {size_t{1}, size_t{100}, size_t{65536}, size_t{65537}, size_t{300'000}}) {
    CAPTURE(size);
    const std::string photo = Photo(size);
    const Result<FileAddress> address = dsp.Append(5, photo);
    REQUIRE(address.ok());
    CHECK(*dsp.Read(*address) == photo);
    const uint64_t middle = size / 2;
    CHECK(*dsp.Read(*address, {.offset = middle, .length = 0}) == photo.substr(middle));
    CHECK(*dsp.Read(*address, {.offset = middle, .length = 1}) == photo.substr(middle, 1));
    CHECK(*dsp.Read(*address, {.suffix = size * 2}) == photo);
    CHECK(*dsp.Read(*address, {.suffix = 1}) == photo.substr(size - 1));
    CHECK(dsp.Read(*address, {.offset = size, .length = 1}).err() == Err::kRange);
  }
}

TEST_CASE("dsp_core: what comes in one turn shares a commit; what was closed meanwhile has none") {
  DspHarness dsp(1);
  dsp.commits_wait = true;
  REQUIRE(dsp.Start() == Err::kOk);
  REQUIRE(dsp.Create(5) == Err::kOk);
  REQUIRE(dsp.Create(6) == Err::kOk);
  const uint64_t first = dsp.SendAppend(5, Photo(100));
  const uint64_t second = dsp.SendAppend(5, Photo(200));
  CHECK(dsp.core().commits_wait());
  CHECK(dsp.jobs() == 0);
  dsp.StartCommits();
  CHECK_FALSE(dsp.core().commits_wait());
  CHECK(dsp.jobs() == 1);
  CHECK(dsp.Reply(first).err == Err::kOk);
  CHECK(dsp.Reply(second).err == Err::kOk);
  CHECK(dsp.core().Stats().commits == 1);
  const uint64_t closed = dsp.SendAppend(6, Photo(100));
  REQUIRE(dsp.Close(6) == Err::kOk);
  CHECK(dsp.Reply(closed).err == Err::kClosed);
  dsp.StartCommits();
  CHECK(dsp.core().Stats().commits == 1);
}

TEST_CASE("dsp_core: the nameserver is told from where on the disk counts as full") {
  SimDevice device(1);
  MemKv kv(2);
  SimRandom random(3);
  Superblock superblock;
  superblock.block_bytes = kBlockBytesMin;
  REQUIRE(FormatDisk(&device, superblock) == Err::kOk);
  DspOptions options;
  options.nameservers = {"10.0.0.1:1"};
  options.full_percent = 70;
  DspCore core(options, &random);
  Now now{.mono_ms = 1000, .wall_ms = 1'700'000'000'000};
  REQUIRE(core.Start(&device, &kv, now) == Err::kOk);
  DspOutbox out;
  core.OnTick({.space = *device.Space()}, now, &out);
  REQUIRE(out.calls.size() == 1);
  pb::RegisterRequest request;
  REQUIRE(request.ParseFromString(out.calls[0].message));
  CHECK(request.space().full_percent() == 70);
}

TEST_CASE("dsp_core: an append is answered after its sync and not before") {
  DspHarness dsp = Started();
  const uint64_t request = dsp.SendAppend(5, Photo(1000));
  CHECK(dsp.FindReply(request) == nullptr);
  const uint64_t syncs = dsp.device().syncs();
  CHECK(dsp.RunOneJob());
  CHECK(dsp.device().syncs() == syncs + 1);
  REQUIRE(dsp.FindReply(request) != nullptr);
  CHECK(dsp.FindReply(request)->err == Err::kOk);
}

TEST_CASE("dsp_core: appends that arrive during a commit share the next one") {
  DspHarness dsp = Started();
  std::vector<uint64_t> requests;
  for (int i = 0; i < 9; ++i) requests.push_back(dsp.SendAppend(5, Photo(1000)));
  const uint64_t syncs = dsp.device().syncs();
  dsp.RunJobs();
  CHECK(dsp.device().syncs() == syncs + 2);
  for (uint64_t request : requests) CHECK(dsp.Reply(request).err == Err::kOk);
}

TEST_CASE("dsp_core: a wrong cookie and a sequence never given are the same not found") {
  DspHarness dsp = Started();
  const FileAddress address = *dsp.Append(5, Photo(10));
  FileAddress wrong = address;
  wrong.file_id.value ^= 1;
  CHECK(dsp.Read(wrong).err() == Err::kNotFound);
  wrong.file_id = FileId::Of(77, 0);
  CHECK(dsp.Read(wrong).err() == Err::kNotFound);
  CHECK(dsp.SetDelete(wrong, 1) == Err::kNotFound);
}

// The asker's location may be old, or somebody deleted the file: 503, never 404.
TEST_CASE("dsp_core: F30 F68: who does not hold a block says nothing about what is in it") {
  DspHarness dsp = Started();
  FileAddress elsewhere = *dsp.Append(5, Photo(10));
  elsewhere.block_id = 6;
  CHECK(dsp.Read(elsewhere).err() == Err::kNotServing);
  CHECK(dsp.SetDelete(elsewhere, 1) == Err::kNotServing);
}

TEST_CASE("dsp_core: F47: a full block closes, refuses, seals, and serves what it holds") {
  DspHarness dsp = Started();
  std::vector<std::pair<FileAddress, std::string>> stored;
  Err err = Err::kOk;
  for (uint8_t i = 0; err == Err::kOk; ++i) {
    const std::string photo = Photo(20'000, i);
    const Result<FileAddress> address = dsp.Append(5, photo);
    err = address.err();
    if (address.ok()) stored.emplace_back(*address, photo);
  }
  CHECK(err == Err::kClosed);
  CHECK(stored.size() >= 10);
  CHECK(dsp.core().blocks().at(5).state == pb::BLOCK_CLOSED);
  CHECK(dsp.Seal(5) == Err::kOk);
  CHECK(dsp.core().blocks().at(5).state == pb::BLOCK_SEALED);
  CHECK(dsp.core().blocks().at(5).lost == 0);
  for (const auto& [address, photo] : stored) CHECK(*dsp.Read(address) == photo);
  REQUIRE(dsp.Start() == Err::kOk);
  for (const auto& [address, photo] : stored) CHECK(*dsp.Read(address) == photo);
}

TEST_CASE("dsp_core: a block of another epoch, or of another incarnation, takes no append") {
  DspHarness dsp = Started();
  pb::AppendRequest message;
  message.set_block_id(5);
  message.set_block_epoch(dsp.epoch);
  message.set_raw_size(3);
  message.add_piece_crcs(Crc32c(AsBytes("abc")));
  message.add_replicas()->set_incarnation(dsp.core().superblock().incarnation + 1);
  const auto send = [&] {
    const Buffer data = Buffer::CopyOf(AsBytes("abc"));
    return dsp
        .Reply(dsp.Send(MessageType::kAppend, message.SerializeAsString(),
                        Buffer::CopyOf(data.bytes())))
        .err;
  };
  CHECK(send() == Err::kStaleEpoch);
  message.mutable_replicas(0)->set_incarnation(dsp.core().superblock().incarnation);
  CHECK(send() == Err::kOk);
  message.set_block_epoch(dsp.epoch - 1);
  CHECK(send() == Err::kStaleEpoch);
  message.set_block_epoch(dsp.epoch);
  message.set_piece_crcs(0, 1);
  CHECK(send() == Err::kCorrupt);
}

TEST_CASE("dsp_core: deletes and undeletes take effect by value, and survive a crash") {
  DspHarness dsp = Started();
  const std::string photo = Photo(500);
  const FileAddress address = *dsp.Append(5, photo);
  CHECK(dsp.SetDelete(address, 1) == Err::kOk);
  CHECK(dsp.Read(address).err() == Err::kGone);
  CHECK(dsp.SetDelete(address, 1) == Err::kOk);  // F44: repeated
  dsp.Crash(CrashMode::kClean);
  REQUIRE(dsp.Start() == Err::kOk);
  CHECK(dsp.Read(address).err() == Err::kGone);
  CHECK(dsp.SetDelete(address, 2) == Err::kOk);
  CHECK(*dsp.Read(address) == photo);
  CHECK(dsp.SetDelete(address, 1) == Err::kOk);  // F44: a late repeat
  CHECK(*dsp.Read(address) == photo);
  CHECK(dsp.SetDelete(address, 3) == Err::kOk);
  dsp.now.wall_ms += DspOptions{}.trash_ms;
  CHECK(dsp.Read(address).err() == Err::kNotFound);
  CHECK(dsp.SetDelete(address, 4) == Err::kGone);
}

TEST_CASE("dsp_core: the delete log is rewritten when most of it is stale, and loses nothing") {
  DspHarness dsp = Started();
  dsp.delete_log_rewrite_bytes = 8 << 10;
  REQUIRE(dsp.Start() == Err::kOk);
  REQUIRE(dsp.Create(6) == Err::kOk);
  const FileAddress address = *dsp.Append(6, Photo(500));
  for (uint32_t counter = 1; counter <= 41; ++counter) {
    REQUIRE(dsp.SetDelete(address, counter) == Err::kOk);
  }
  CHECK(dsp.core().Stats().delete_log_bytes < 20 << 10);
  dsp.Crash(CrashMode::kReordered);
  REQUIRE(dsp.Start() == Err::kOk);
  CHECK(dsp.Read(address).err() == Err::kGone);
}

TEST_CASE("dsp_core: F20: a failed write fails the disk, answers the error and keeps serving") {
  DspHarness dsp = Started();
  const std::string photo = Photo(500);
  const FileAddress address = *dsp.Append(5, photo);
  dsp.device().FailNextWrite();
  CHECK(dsp.Append(5, Photo(10)).err() == Err::kIo);
  CHECK(dsp.disk_failed());
  CHECK(dsp.Append(5, Photo(10)).err() == Err::kReadOnly);
  CHECK(*dsp.Read(address) == photo);
  dsp.Crash(CrashMode::kKill);
  CHECK(dsp.Start() == Err::kReadOnly);  // not by itself
  REQUIRE(dsp.Start(/*read_only=*/true) == Err::kOk);
  CHECK(*dsp.Read(address) == photo);
}

TEST_CASE("dsp_core: F21: a failed sync is never retried; its appends are not visible") {
  DspHarness dsp = Started();
  dsp.device().FailNextSync();
  const uint64_t syncs = dsp.device().syncs();
  const uint64_t request = dsp.SendAppend(5, Photo(10));
  CHECK(dsp.Reply(request).err == Err::kIo);
  CHECK(dsp.core().blocks().at(5).needles() == 0);
  CHECK(dsp.device().syncs() <= syncs + 2);  // the block's once, and the superblock's
  CHECK(dsp.disk_failed());
}

TEST_CASE("dsp_core: F22: a full disk refuses new blocks; deletes and reads go on") {
  DspHarness dsp = Started();
  const std::string photo = Photo(500);
  const FileAddress address = *dsp.Append(5, photo);
  dsp.device().SetTotalBytes(600 << 10);
  dsp.Tick();
  CHECK(dsp.Create(6) == Err::kFull);
  CHECK_FALSE(dsp.disk_failed());
  CHECK(*dsp.Read(address) == photo);
  CHECK(dsp.SetDelete(address, 1) == Err::kOk);
  CHECK(dsp.Append(5, photo).ok());  // a block has its space from the first day
}

TEST_CASE("dsp_core: F24: a read-only file system stops writes and nothing else") {
  DspHarness dsp = Started();
  const std::string photo = Photo(500);
  const FileAddress address = *dsp.Append(5, photo);
  dsp.device().SetReadOnly(true);
  CHECK(dsp.Append(5, photo).err() == Err::kReadOnly);
  CHECK_FALSE(dsp.disk_failed());
  CHECK(*dsp.Read(address) == photo);
  CHECK(dsp.core().disk_state() == DiskState::kReadOnly);
}

TEST_CASE("dsp_core: F51: a folder without superblock, and another cluster's disk, are refused") {
  DspHarness empty(1);
  REQUIRE(empty.device().Remove("superblock.a") == Err::kOk);
  REQUIRE(empty.Start() == Err::kOk);  // one copy is enough
  REQUIRE(empty.device().Remove("superblock.a") == Err::kOk);
  REQUIRE(empty.device().Remove("superblock.b") == Err::kOk);
  CHECK(empty.Start() == Err::kNotFound);
  DspOptions options;
  options.cluster_id = {9};
  DspHarness other(2);
  SimRandom random(1);
  DspCore core(options, &random);
  CHECK(core.Start(&other.device(), &other.kv(), other.now) == Err::kConfig);
}

// Be it one copy: this release would write back what it does not understand.
TEST_CASE("dsp_core: F52: a disk that a later version wrote is refused and left as it is") {
  DspHarness dsp = Started();
  dsp.Crash(CrashMode::kKill);
  SimDevice& disk = dsp.device();
  SuperblockPage page;
  std::memcpy(&page, disk.FileImage("superblock.a").data(), sizeof(page));
  page.format_version = kDiskFormatVersion + 1;
  page.crc = Crc32c(StructBytes(page).subspan(sizeof(le64)));
  disk.SetBytes("superblock.a", 0, StructBytes(page));
  const std::string image = disk.FileImage("superblock.a");
  REQUIRE(DecodeSuperblock(AsBytes(image)).err() == Err::kUnsupported);
  const uint64_t operations = disk.operations();
  CHECK(dsp.Start() == Err::kUnsupported);
  CHECK(disk.operations() == operations);
  CHECK(disk.FileImage("superblock.a") == image);
}

TEST_CASE("dsp_core: F32 F33: an order of an older epoch, or of its other node, is refused") {
  DspHarness dsp = Started();
  CHECK(dsp.core().Stats().commands_stale == 0);
  dsp.epoch = 6;
  CHECK(dsp.Create(6) == Err::kStaleEpoch);
  CHECK(dsp.Close(5) == Err::kStaleEpoch);
  CHECK(dsp.Seal(5) == Err::kStaleEpoch);
  CHECK(dsp.core().blocks().at(5).state == pb::BLOCK_OPEN);
  CHECK(dsp.core().Stats().commands_stale == 3);
  dsp.epoch = 7;
  dsp.node = 'm';
  CHECK(dsp.Create(6) == Err::kStaleEpoch);
  CHECK(dsp.core().Stats().commands_stale == 4);
  dsp.epoch = 8;
  CHECK(dsp.Create(6) == Err::kOk);
  CHECK(dsp.core().Stats().commands_stale == 4);
  dsp.Crash(CrashMode::kClean);
  REQUIRE(dsp.Start() == Err::kOk);
  dsp.epoch = 7;
  CHECK(dsp.Create(7) == Err::kStaleEpoch);  // the promise is on the disk
}

TEST_CASE("dsp_core: F42: an order that a later one of its nameserver has overtaken is refused") {
  DspHarness dsp = Started();
  dsp.log_index = 9;
  CHECK(dsp.Close(5) == Err::kOk);
  dsp.log_index = 8;
  CHECK(dsp.Seal(5) == Err::kStaleEpoch);
  CHECK(dsp.core().blocks().at(5).state == pb::BLOCK_CLOSED);
  CHECK(dsp.core().Stats().commands_stale == 1);
  dsp.epoch = 8;  // another one's log may be shorter
  CHECK(dsp.Seal(5) == Err::kOk);
  CHECK(dsp.core().Stats().commands_stale == 1);
}

TEST_CASE("dsp_core: F25: a damaged needle is never served, the others are") {
  DspHarness dsp = Started();
  const std::string photo = Photo(3000);
  const FileAddress first = *dsp.Append(5, photo);
  const FileAddress second = *dsp.Append(5, photo);
  dsp.device().FlipBit(BlockFileName(5), kFirstNeedleOffset + 1000);
  CHECK(dsp.Read(first).err() == Err::kCorrupt);
  CHECK(*dsp.Read(second) == photo);
  CHECK(dsp.Close(5) == Err::kOk);
  CHECK(dsp.Seal(5) == Err::kOk);
  CHECK(dsp.core().blocks().at(5).lost == 1);
  CHECK(dsp.Read(first).err() == Err::kLost);
  CHECK(*dsp.Read(second) == photo);
}

TEST_CASE(
    "dsp_core: F28: with LevelDB gone, sealed blocks come from footers and deletes from the log") {
  DspHarness dsp = Started();
  const std::string photo = Photo(3000);
  const FileAddress kept = *dsp.Append(5, photo);
  const FileAddress deleted = *dsp.Append(5, photo);
  REQUIRE(dsp.SetDelete(deleted, 1) == Err::kOk);
  REQUIRE(dsp.Close(5) == Err::kOk);
  REQUIRE(dsp.Seal(5) == Err::kOk);
  dsp.kv().Wipe();
  REQUIRE(dsp.Start() == Err::kOk);
  CHECK(dsp.core().blocks().at(5).state == pb::BLOCK_SEALED);
  CHECK(*dsp.Read(kept) == photo);
  CHECK(dsp.Read(deleted).err() == Err::kGone);
  // And LevelDB is whole again: now the log may be damaged.
  dsp.device().FlipBit("deletes", kPageBytes + 20);
  REQUIRE(dsp.Start() == Err::kOk);
  CHECK(dsp.core().Stats().delete_log_damaged == 1);  // though it looked like a torn tail
  CHECK(dsp.Read(kept).ok());
  CHECK(dsp.Read(deleted).err() == Err::kGone);
}

TEST_CASE("dsp_core: a delete log damaged in its middle is healed from LevelDB") {
  DspHarness dsp = Started();
  std::vector<FileAddress> deleted;
  for (int i = 0; i < 3; ++i) {
    deleted.push_back(*dsp.Append(5, Photo(100)));
    REQUIRE(dsp.SetDelete(deleted.back(), 1) == Err::kOk);
  }
  dsp.device().FlipBit("deletes", kPageBytes + 20);
  dsp.device().FlipBit("deletes", 2 * kPageBytes + 20);
  REQUIRE(dsp.Start() == Err::kOk);
  CHECK(dsp.core().Stats().delete_log_damaged >= 1);
  for (const FileAddress& address : deleted) CHECK(dsp.Read(address).err() == Err::kGone);
  REQUIRE(dsp.Start() == Err::kOk);  // the log was written anew
  CHECK(dsp.core().Stats().delete_log_damaged == 0);
  for (const FileAddress& address : deleted) CHECK(dsp.Read(address).err() == Err::kGone);
}

TEST_CASE("dsp_core: F60: a restart closes what was open and never gives a sequence twice") {
  DspHarness dsp = Started();
  const FileAddress first = *dsp.Append(5, Photo(100));
  REQUIRE(dsp.Start() == Err::kOk);
  CHECK(dsp.core().blocks().at(5).state == pb::BLOCK_CLOSED);
  CHECK(dsp.Append(5, Photo(100)).err() == Err::kClosed);
  CHECK(dsp.Read(first).ok());
}

TEST_CASE("dsp_core: a pool file becomes a block without being written again") {
  DspHarness dsp(3);
  dsp.pool_files = 2;
  REQUIRE(dsp.Start() == Err::kOk);
  dsp.RunJobs();
  dsp.Tick();
  dsp.RunJobs();
  CHECK(dsp.core().Stats().pool_files == 2);
  REQUIRE(dsp.Create(5) == Err::kOk);
  CHECK(dsp.core().Stats().pool_files == 1);
  const std::string photo = Photo(500);
  const FileAddress address = *dsp.Append(5, photo);
  dsp.Crash(CrashMode::kClean);
  REQUIRE(dsp.Start() == Err::kOk);
  CHECK(dsp.core().Stats().pool_files == 1);  // found again; not counted among the blocks
  CHECK(*dsp.Read(address) == photo);
}

TEST_CASE("dsp_core: the pool is filled while nothing is uploaded") {
  DspHarness dsp(3);
  dsp.pool_files = 2;
  REQUIRE(dsp.Start() == Err::kOk);
  const auto tick_for = [&](uint64_t ms) {
    for (const uint64_t end = dsp.now.mono_ms + ms; dsp.now.mono_ms < end; dsp.now.mono_ms += 100) {
      dsp.Tick();
      dsp.RunJobs();
    }
  };
  tick_for(300);
  REQUIRE(dsp.core().Stats().pool_files == 2);
  REQUIRE(dsp.Create(5) == Err::kOk);
  REQUIRE(dsp.core().Stats().pool_files == 1);
  REQUIRE(dsp.Append(5, Photo(500)).ok());
  tick_for(1'800);
  CHECK(dsp.core().Stats().pool_files == 1);
  tick_for(500);
  CHECK(dsp.core().Stats().pool_files == 2);
}

TEST_CASE("dsp_core: F19: heartbeats tell how many reads found damage") {
  DspHarness dsp(3);
  dsp.nameservers = {"nameserver"};
  REQUIRE(dsp.Start() == Err::kOk);
  REQUIRE(dsp.Create(5) == Err::kOk);
  const FileAddress address = *dsp.Append(5, Photo(500));
  const uint64_t offset = dsp.core().blocks().at(5).Find(0).offset + 300;  // in its data
  const std::string name = BlockFileName(5);
  std::string byte = dsp.device().FileImage(name).substr(offset, 1);
  byte[0] = static_cast<char>(byte[0] ^ 1);
  dsp.device().SetBytes(name, offset, AsBytes(byte));
  REQUIRE(dsp.Read(address).err() == Err::kCorrupt);
  pb::RegisterReply registered;
  registered.set_dsp_id(3);
  registered.set_epoch(dsp.epoch);
  registered.set_node(std::string(16, 'n'));
  std::optional<uint64_t> told;
  for (int i = 0; i < 50 && !told; ++i) {
    for (const RpcCall& call : dsp.TakeCalls()) {
      pb::HeartbeatRequest heartbeat;
      if (call.type == MessageType::kRegister) {
        dsp.AnswerCall(call.call_id, Err::kOk, registered.SerializeAsString());
      } else if (call.type == MessageType::kHeartbeat && heartbeat.ParseFromString(call.message)) {
        told = heartbeat.needles_corrupt();
      }
    }
    dsp.now.mono_ms += 100;
    dsp.Tick();
  }
  CHECK(told == 1);
}

// Sealing with that page read as zeros would have entered its needles as lost for ever.
TEST_CASE("dsp_core: F19: a block with a page that cannot be read now is not sealed") {
  DspHarness dsp = Started();
  const std::string photo = Photo(3000);
  const FileAddress first = *dsp.Append(5, photo);
  const FileAddress second = *dsp.Append(5, photo);
  REQUIRE(dsp.Close(5) == Err::kOk);
  dsp.device().FailReads(BlockFileName(5),
                         {.begin = kFirstNeedleOffset, .end = kFirstNeedleOffset + 1});
  CHECK(dsp.Seal(5) == Err::kIo);
  CHECK_FALSE(dsp.disk_failed());
  CHECK(dsp.Read(first).err() == Err::kIo);
  CHECK(*dsp.Read(second) == photo);
  dsp.device().HealReads();
  CHECK(dsp.Seal(5) == Err::kOk);
  CHECK(*dsp.Read(first) == photo);
}

// With the head of the largest file, or with much metadata, the reply broke its own bound, and each
// GET killed the dsp.
TEST_CASE("dsp_core: the head of any needle fits into the reply that carries it") {
  const uint64_t head_bytes = NeedleHeadBytes(kFileBytesMax, kMetadataBytesMax);
  CHECK(head_bytes + 64 <=
        FindMessage(static_cast<uint16_t>(MessageType::kRead))->message_bytes_max);
  CHECK(head_bytes + 64 <=
        FindMessage(static_cast<uint16_t>(MessageType::kStat))->message_bytes_max);
}

// The scan took the end of a file that sealing had cut for pages that cannot be read.
TEST_CASE("dsp_core: F30: a sealed block whose footer is damaged is sealed again") {
  DspHarness dsp = Started();
  const std::string photo = Photo(3000);
  const FileAddress address = *dsp.Append(5, photo);
  REQUIRE(dsp.Close(5) == Err::kOk);
  REQUIRE(dsp.Seal(5) == Err::kOk);
  const std::string file = dsp.device().FileImage(BlockFileName(5));
  dsp.device().FlipBit(BlockFileName(5), file.size() - 1);
  dsp.kv().Wipe();
  REQUIRE(dsp.Start() == Err::kOk);
  CHECK(dsp.core().blocks().at(5).state == pb::BLOCK_CLOSED);
  CHECK(dsp.Seal(5) == Err::kOk);
  CHECK(dsp.core().blocks().at(5).lost == 0);
  CHECK(*dsp.Read(address) == photo);
}

TEST_CASE("dsp_core: F21: after a failed sync nothing more is written or acknowledged") {
  DspHarness dsp = Started();
  REQUIRE(dsp.Create(6) == Err::kOk);
  const FileAddress address = *dsp.Append(6, Photo(100));
  const uint64_t first = dsp.SendSetDelete(address, 1);
  const uint64_t second = dsp.SendSetDelete(address, 3);
  const uint64_t append = dsp.SendAppend(6, Photo(100));
  const uint64_t waiting = dsp.SendAppend(6, Photo(100));
  dsp.device().FailNextSync();
  dsp.RunJobs();
  CHECK(dsp.disk_failed());
  CHECK(dsp.Reply(first).err == Err::kIo);
  CHECK(dsp.Reply(second).err == Err::kReadOnly);
  CHECK(dsp.Reply(waiting).err == Err::kClosed);
  (void)dsp.Reply(append);  // was under way; either answer is honest
  CHECK(dsp.jobs() == 0);
}

TEST_CASE("dsp_core: F23: a lack of descriptors costs a block's creation, not the disk") {
  DspHarness dsp = Started();
  dsp.device().FailNextWrite(Err::kBusy);
  CHECK(dsp.Create(6) == Err::kBusy);
  CHECK_FALSE(dsp.disk_failed());
  CHECK_FALSE(dsp.device().Exists(BlockFileName(6) + ".tmp"));  // its space is given back
  CHECK(dsp.Create(7) == Err::kOk);
}
