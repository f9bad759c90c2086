// What a dsp does with a disk that fails, is read-only, full or too new while it starts, and what
// it leaves for the next start.
#include <doctest/doctest.h>

#include <map>

#include "dataserver/dsp/block_format.h"
#include "tests/sim/dsp_driver.h"

namespace hayloft {
namespace {

constexpr uint64_t kBlock = 1;
constexpr uint64_t kSealed = 2;

std::string Photo(uint64_t seed, size_t size) {
  std::string bytes(size, '\0');
  SimRandom(seed).Fill({reinterpret_cast<uint8_t*>(bytes.data()), size});
  return bytes;
}

// A disk with an open block, a sealed one and a delete.
struct Disk {
  explicit Disk(uint64_t seed) : dsp(seed) {
    REQUIRE_EQ(dsp.Format(), Err::kOk);
    REQUIRE_EQ(dsp.Start(), Err::kOk);
    for (const uint64_t block : {kBlock, kSealed}) {
      REQUIRE_EQ(dsp.CreateBlock(block), Err::kOk);
      for (size_t i = 0; i < 3; ++i) Append(block, 700 + 5000 * i);
    }
    REQUIRE_EQ(dsp.CloseBlock(kSealed), Err::kOk);
    REQUIRE_EQ(dsp.SealBlock(kSealed), Err::kOk);
    deleted = files.begin()->first;
    REQUIRE_EQ(*dsp.SetDelete(deleted, 1), 1);
    files.erase(deleted);
  }
  FileAddress Append(uint64_t block, size_t size) {
    const std::string bytes = Photo(size + block, size);
    const Result<FileAddress> address = dsp.Append(block, bytes);
    REQUIRE(address.ok());
    files[*address] = bytes;
    return *address;
  }
  void AppendTogether(uint64_t block, size_t count) {
    std::map<uint64_t, std::string> sent;
    for (size_t i = 0; i < count; ++i) {
      const std::string bytes = Photo(i, 10 + i % 50);
      sent[dsp.SendAppend(block, bytes)] = bytes;
    }
    dsp.RunJobs();
    for (const auto& [number, bytes] : sent) {
      pb::AppendReply reply;
      REQUIRE_EQ(dsp.replies().at(number).err, Err::kOk);
      REQUIRE(reply.ParseFromString(dsp.replies().at(number).message));
      files[{block, FileId{reply.file_id()}}] = bytes;
    }
  }
  void CheckReads() {
    for (const auto& [address, bytes] : files) CHECK(*dsp.Read(address) == bytes);
    CHECK_EQ(dsp.Read(deleted).err(), Err::kGone);
  }
  std::map<std::string, std::string> Images() {
    std::map<std::string, std::string> images;
    const auto found = *dsp.disk().List();
    for (const FileInfo& file : found) images[file.name] = dsp.disk().FileImage(file.name);
    return images;
  }

  DspDriver dsp;
  std::map<FileAddress, std::string> files;
  FileAddress deleted;
};

// The second fsync of the same file answers success, with the data gone: whatever its errno says,
// a failed one is the disk's end (F21).
TEST_CASE(
    "disk_start: F21 any sync of a start that fails, even for lack of space, fails the disk") {
  uint64_t failed = 0;
  for (uint64_t sync = 0; sync < 100; ++sync) {
    CAPTURE(sync);
    Disk disk(sync + 1);
    disk.dsp.Crash(CrashMode::kKill);
    disk.dsp.kv().Wipe();  // so that footers are read, and synced
    disk.dsp.disk().FailNextSync(Err::kFull, sync);
    const Err err = disk.dsp.Start();
    if (err == Err::kOk) break;
    ++failed;
    CHECK_EQ(err, Err::kIo);
    CHECK_EQ(disk.dsp.Start(), Err::kReadOnly);  // not with success
    disk.dsp.options().read_only = true;
    REQUIRE_EQ(disk.dsp.Start(), Err::kOk);
    CHECK_EQ(disk.dsp.core().disk_state(), DiskState::kFailed);
    disk.CheckReads();
  }
  CHECK_EQ(failed, 7);  // superblocks, delete log, footer, block twice, folder
}

TEST_CASE("disk_start: F24 a file system that is read-only at the start is served") {
  Disk disk(1);
  disk.dsp.Crash(CrashMode::kKill);
  disk.dsp.disk().SetReadOnly(true);
  REQUIRE_EQ(disk.dsp.Start(), Err::kOk);
  CHECK_EQ(disk.dsp.core().disk_state(), DiskState::kReadOnly);
  disk.CheckReads();
  CHECK_EQ(disk.dsp.Append(kBlock, "x").err(), Err::kReadOnly);
  CHECK_EQ(disk.dsp.SetDelete(disk.files.begin()->first, 1).err(), Err::kReadOnly);
  disk.dsp.disk().SetReadOnly(false);  // mended: no mark is left
  REQUIRE_EQ(disk.dsp.Start(), Err::kOk);
  CHECK_EQ(disk.dsp.core().disk_state(), DiskState::kHealthy);
  disk.CheckReads();
}

TEST_CASE("disk_start: F24 a file system that becomes read-only during the start is served") {
  Disk disk(1);
  disk.dsp.Crash(CrashMode::kKill);
  disk.dsp.disk().FailNextWrite(Err::kReadOnly);
  REQUIRE_EQ(disk.dsp.Start(), Err::kOk);
  CHECK_EQ(disk.dsp.core().disk_state(), DiskState::kReadOnly);
  disk.CheckReads();
}

// Some pages of a commit that met a full disk were written, with sound CRCs.
TEST_CASE("disk_start: F22 a delete that was answered full has not happened after a restart") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Disk disk(seed);
    disk.AppendTogether(kBlock, 250);
    const auto remove = [&](const FileAddress& address) {
      pb::SetDeleteRequest message;
      message.set_block_id(address.block_id);
      message.set_file_id(address.file_id.value);
      message.set_counter(1);
      return disk.dsp.Send(MessageType::kSetDelete, message.SerializeAsString());
    };
    std::vector<uint64_t> requests;
    for (const auto& [address, bytes] : disk.files) requests.push_back(remove(address));
    // The first one is a commit of its own; of the others' three pages some sectors are written.
    disk.dsp.disk().FailNextWrite(Err::kFull);
    disk.dsp.RunJobs();
    size_t refused = 0;
    for (const uint64_t request : requests)
      refused += disk.dsp.replies().at(request).err == Err::kFull;
    CHECK_GT(refused, 0);
    CHECK_FALSE(disk.dsp.disk_failed());
    auto request = requests.begin();
    std::erase_if(disk.files,
                  [&](const auto&) { return disk.dsp.replies().at(*request++).err == Err::kOk; });
    REQUIRE_EQ(disk.dsp.Start(), Err::kOk);
    CHECK_EQ(disk.dsp.core().Stats().delete_log_damaged, 0);
    disk.CheckReads();
    const FileAddress last = disk.files.begin()->first;
    REQUIRE_EQ(*disk.dsp.SetDelete(last, 1), 1);
    REQUIRE_EQ(disk.dsp.Start(), Err::kOk);
    CHECK_EQ(disk.dsp.Read(last).err(), Err::kGone);
  }
}

// A later version covers its magic by its CRC, so that a flipped bit is no later version.
TEST_CASE("disk_start: F52 what a later version wrote is refused, and nothing is touched") {
  struct Place {
    std::string file;
    uint64_t offset;
  };
  const std::string sealed = BlockFileName(kSealed);
  const uint64_t sealed_bytes = Disk(1).Images().at(sealed).size();
  const std::vector<Place> places = {{BlockFileName(kBlock), 0},
                                     {sealed, 0},
                                     {sealed, sealed_bytes - sizeof(FooterTrailer)},
                                     {"deletes", 0},
                                     {"deletes", kPageBytes},
                                     {"superblock.a", 0}};
  for (const Place& place : places) {
    CAPTURE(place.file);
    CAPTURE(place.offset);
    Disk disk(1);
    disk.dsp.Crash(CrashMode::kKill);
    disk.dsp.kv().Wipe();
    const char later = '2';
    disk.dsp.disk().SetBytes(place.file, place.offset + 3, AsBytes(std::string_view(&later, 1)));
    disk.dsp.disk().FlipBit(place.file, place.offset + 4);  // another CRC
    const auto before = disk.Images();
    CHECK_EQ(disk.dsp.Start(), Err::kUnsupported);
    CHECK(disk.Images() == before);
    CHECK_EQ(disk.dsp.Start(), Err::kUnsupported);
  }
}

TEST_CASE("disk_start: an append without a grant's replicas is refused") {
  Disk disk(1);
  pb::AppendRequest message;
  message.set_block_id(kBlock);
  message.set_block_epoch(disk.dsp.core().blocks().at(kBlock).block_epoch);
  message.set_raw_size(1);
  message.add_piece_crcs(Crc32c(AsBytes("x")));
  const uint64_t request = disk.dsp.Send(MessageType::kAppend, message.SerializeAsString(),
                                         Buffer::CopyOf(AsBytes("x")));
  disk.dsp.RunJobs();
  CHECK_EQ(disk.dsp.replies().at(request).err, Err::kInvalid);
}

// Where nothing was ever acknowledged nothing is read: 64 MiB of each open block at every start.
TEST_CASE("disk_start: after an orderly stop a block is scanned up to its recorded end") {
  for (const bool orderly : {true, false}) {
    CAPTURE(orderly);
    Disk disk(1);
    const uint64_t end = disk.dsp.core().blocks().at(kBlock).end;
    if (orderly) {
      disk.dsp.CloseAll();
      CHECK_EQ(disk.dsp.core().blocks().at(kBlock).state, pb::BLOCK_CLOSED);
    }
    disk.dsp.Crash(CrashMode::kClean);
    disk.dsp.disk().FailReads(BlockFileName(kBlock),
                              {.begin = end + kPageBytes, .end = UINT64_MAX});
    REQUIRE_EQ(disk.dsp.Start(), Err::kOk);
    CHECK_EQ(disk.dsp.core().blocks().at(kBlock).unread_pages, !orderly);
    disk.dsp.disk().HealReads();
    disk.CheckReads();
    CHECK_EQ(disk.dsp.SealBlock(kBlock), Err::kOk);
    disk.CheckReads();
  }
}

// Seed 6065 of the simulator: the first start recorded an end before what it could not read.
TEST_CASE("disk_start: F19 what one start could not read is found by the next one") {
  Disk disk(1);
  const uint64_t end = disk.dsp.core().blocks().at(kBlock).end;
  disk.dsp.Crash(CrashMode::kClean);
  disk.dsp.disk().FailReads(BlockFileName(kBlock), {.begin = 3 * kPageBytes, .end = end});
  REQUIRE_EQ(disk.dsp.Start(), Err::kOk);
  CHECK(disk.dsp.core().blocks().at(kBlock).unread_pages);
  disk.dsp.disk().HealReads();
  REQUIRE_EQ(disk.dsp.Start(), Err::kOk);
  disk.CheckReads();
}

TEST_CASE("disk_start: F23 files of sealed blocks are open up to a bound, and opened by reads") {
  Disk disk(1);
  for (uint64_t block = 10; block < 30; ++block) {
    REQUIRE_EQ(disk.dsp.CreateBlock(block), Err::kOk);
    disk.Append(block, 100);
    REQUIRE_EQ(disk.dsp.CloseBlock(block), Err::kOk);
    REQUIRE_EQ(disk.dsp.SealBlock(block), Err::kOk);
  }
  disk.dsp.options().sealed_files_max = 4;
  for (const bool wipe : {false, true}) {
    if (wipe) disk.dsp.kv().Wipe();
    REQUIRE_EQ(disk.dsp.Start(), Err::kOk);
    CHECK_EQ(disk.dsp.core().Stats().sealed_files_open, 0);
    const size_t at_start = disk.dsp.disk().open_files();
    CHECK_LT(at_start, 6);
    for (int round = 0; round < 3; ++round) {
      disk.CheckReads();
      CHECK_EQ(disk.dsp.core().Stats().sealed_files_open, 4);
      CHECK_EQ(disk.dsp.disk().open_files(), at_start + 4);
    }
  }
}

TEST_CASE("disk_start: F30 a sealed block whose file is gone answers an error, never not found") {
  Disk disk(1);
  REQUIRE_EQ(disk.dsp.Start(), Err::kOk);
  REQUIRE_EQ(disk.dsp.disk().Remove(BlockFileName(kSealed)), Err::kOk);
  for (const auto& [address, bytes] : disk.files) {
    if (address.block_id == kSealed) CHECK_EQ(disk.dsp.Read(address).err(), Err::kIo);
  }
}

TEST_CASE(
    "disk_start: F21 the mark of a failure is taken off by hand, of this cluster's disk only") {
  Disk disk(1);
  disk.dsp.disk().FailNextSync();
  CHECK_EQ(disk.dsp.Append(kBlock, "x").err(), Err::kIo);
  CHECK_EQ(disk.dsp.Start(), Err::kReadOnly);
  CHECK_EQ(ClearFailed(&disk.dsp.disk(), Id16{9}), Err::kConfig);
  CHECK_EQ(disk.dsp.Start(), Err::kReadOnly);
  CHECK_EQ(ClearFailed(&disk.dsp.disk(), disk.dsp.options().cluster_id), Err::kOk);
  REQUIRE_EQ(disk.dsp.Start(), Err::kOk);
  CHECK_EQ(disk.dsp.core().disk_state(), DiskState::kHealthy);
  disk.CheckReads();
}

TEST_CASE("disk_start: F27 with both superblocks damaged one is rebuilt from ids and the blocks") {
  Disk disk(1);
  const Superblock was = disk.dsp.core().superblock();
  Superblock known;
  known.cluster_id = was.cluster_id;
  known.disk_id = was.disk_id;
  known.block_bytes = was.block_bytes;
  known.incarnation = was.incarnation + 1000;
  CHECK_EQ(RebuildSuperblock(&disk.dsp.disk(), known), Err::kExists);
  for (const char* copy : kSuperblockNames) disk.dsp.disk().FlipBit(copy, 50);
  CHECK_EQ(disk.dsp.Start(), Err::kCorrupt);
  REQUIRE_EQ(RebuildSuperblock(&disk.dsp.disk(), known), Err::kOk);
  REQUIRE_EQ(disk.dsp.Start(), Err::kOk);
  CHECK_GT(disk.dsp.core().superblock().incarnation, was.incarnation);
  CHECK_EQ(disk.dsp.core().superblock().dsp_id, 1);
  CHECK_EQ(disk.dsp.core().superblock().block_range_end, kSealed + 1);
  disk.CheckReads();
  CHECK_EQ(disk.dsp.CreateBlock(77), Err::kOk);
  DspDriver empty(2);
  CHECK_EQ(RebuildSuperblock(&empty.disk(), known), Err::kNotFound);
}

}  // namespace
}  // namespace hayloft
