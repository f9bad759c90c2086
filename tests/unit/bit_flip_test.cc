// A bit flips somewhere on a dsp's disk, in each byte of a sample in turn: the dsp answers the
// right bytes or refuses, and never takes the damage for absence. Single layouts:
// block_format_test.cc.
#include <doctest/doctest.h>

#include <map>
#include <vector>

#include "tests/sim/dsp_driver.h"

namespace hayloft {
namespace {

constexpr uint64_t kBlock = 1;

// One block of files of one and of several pieces, sealed or just closed, and its file's bytes.
struct Sample {
  explicit Sample(bool sealed) : dsp(/*seed=*/11) {
    REQUIRE_EQ(dsp.Format(), Err::kOk);
    REQUIRE_EQ(dsp.Start(), Err::kOk);
    REQUIRE_EQ(dsp.CreateBlock(kBlock), Err::kOk);
    for (const size_t size : {size_t{40}, 2 * kPieceBytes + 300, size_t{700}, size_t{3}}) {
      std::string bytes(size, '\0');
      SimRandom(size).Fill({reinterpret_cast<uint8_t*>(bytes.data()), size});
      const Result<FileAddress> address = dsp.Append(kBlock, bytes);
      REQUIRE(address.ok());
      files[*address] = bytes;
    }
    REQUIRE_EQ(dsp.CloseBlock(kBlock), Err::kOk);
    if (sealed) REQUIRE_EQ(dsp.SealBlock(kBlock), Err::kOk);
    const Block& block = dsp.core().blocks().at(kBlock);
    for (const auto& [address, bytes] : files) {
      const uint64_t begin = block.Find(address.file_id.sequence()).offset;
      needles[address] = {begin, begin + NeedleHeadBytes(bytes.size(), 0) + bytes.size()};
    }
    end = sealed ? dsp.disk().FileImage(name).size() : block.end;
    image = dsp.disk().FileImage(name).substr(0, end);
  }
  // Whether every read is right. A wrong one, or one that calls a file unknown, fails the test.
  std::map<FileAddress, bool> ReadAll() {
    std::map<FileAddress, bool> readable;
    for (const auto& [address, bytes] : files) {
      const Result<std::string> read = dsp.Read(address);
      readable[address] = read.ok();
      if (read.ok()) {
        CHECK(*read == bytes);
      } else {
        CHECK_NE(read.err(), Err::kNotFound);
        CHECK_NE(read.err(), Err::kGone);
      }
    }
    return readable;
  }
  // Of the data of a file of several pieces a part is enough: the edges of pieces, and some
  // between.
  bool InSample(uint64_t offset) const {
    for (const auto& [address, span] : needles) {
      const uint64_t size = files.at(address).size();
      const uint64_t data = span.end - size;
      if (size <= kPieceBytes || offset < data || offset >= span.end) continue;
      const uint64_t in_piece = (offset - data) % kPieceBytes;
      return in_piece < 4 || in_piece >= kPieceBytes - 4 || offset % 499 == 0;
    }
    return true;
  }
  void Restore() { dsp.disk().SetBytes(name, 0, AsBytes(image)); }

  struct Span {
    uint64_t begin = 0;
    uint64_t end = 0;
  };
  const std::string name = BlockFileName(kBlock);
  DspDriver dsp;
  std::map<FileAddress, std::string> files;
  std::map<FileAddress, Span> needles;
  uint64_t end = 0;  // of what was ever written
  std::string image;
};

// Flips each byte, restarts, and compares what can be read with what should be.
void FlipEachByte(bool sealed, bool keep_fast_start) {
  Sample sample(sealed);
  size_t refused = 0;
  for (uint64_t offset = 0; offset < sample.end; ++offset) {
    if (!sample.InSample(offset)) continue;
    CAPTURE(offset);
    sample.dsp.disk().FlipBit(sample.name, offset, static_cast<uint32_t>(offset % 8));
    if (!keep_fast_start) sample.dsp.kv().Wipe();
    REQUIRE_EQ(sample.dsp.Start(), Err::kOk);
    const std::map<FileAddress, bool> readable = sample.ReadAll();
    for (const auto& [address, span] : sample.needles) {
      const bool hit = offset >= span.begin && offset < span.end;
      if (hit) CHECK_FALSE(readable.at(address));
      // Behind the header page, damage hides nothing but the needle that it hit.
      if (!hit && offset >= kPageBytes) CHECK(readable.at(address));
      refused += !readable.at(address);
    }
    sample.Restore();
  }
  CHECK_GT(refused, 0);
  REQUIRE_EQ(sample.dsp.Start(), Err::kOk);
  for (const auto& [address, ok] : sample.ReadAll()) CHECK(ok);
}

TEST_CASE("bit_flip: F25 F26 each byte of a sealed block's file, footer read") {
  FlipEachByte(/*sealed=*/true, /*keep_fast_start=*/false);
}

TEST_CASE("bit_flip: F25 each byte of a sealed block's file, started from LevelDB") {
  FlipEachByte(/*sealed=*/true, /*keep_fast_start=*/true);
}

TEST_CASE("bit_flip: F25 each byte of a closed block's file") {
  FlipEachByte(/*sealed=*/false, /*keep_fast_start=*/true);
}

TEST_CASE("bit_flip: F27 each byte of a superblock; with both copies bad nothing is touched") {
  Sample sample(/*sealed=*/true);
  SimDevice& disk = sample.dsp.disk();
  const uint64_t incarnation = sample.dsp.core().superblock().incarnation;
  uint64_t starts = 0;
  for (const char* copy : kSuperblockNames) {
    for (uint64_t offset = 0; offset < sizeof(SuperblockPage); ++offset) {
      CAPTURE(offset);
      disk.FlipBit(copy, offset, static_cast<uint32_t>(offset % 8));
      REQUIRE_EQ(sample.dsp.Start(), Err::kOk);
      // The start has mended the copy, so that a later flip is again the only one.
      CHECK_EQ(sample.dsp.core().superblock().incarnation, incarnation + ++starts);
    }
  }
  for (const char* copy : kSuperblockNames) disk.FlipBit(copy, 50);
  sample.dsp.Crash(CrashMode::kKill);
  const uint64_t operations = disk.operations();
  CHECK_EQ(sample.dsp.Start(), Err::kCorrupt);
  CHECK_EQ(disk.operations(), operations);
}

TEST_CASE(
    "bit_flip: each byte of a delete log: no delete is forgotten while LevelDB has its copy") {
  Sample sample(/*sealed=*/true);
  for (const auto& [address, bytes] : sample.files) {
    REQUIRE_EQ(*sample.dsp.SetDelete(address, 1), 1);
  }
  const std::string log = sample.dsp.disk().FileImage("deletes");
  for (uint64_t page = 0; page < log.size(); page += kPageBytes) {
    for (uint64_t offset = page; offset < page + sizeof(DeleteRecord); ++offset) {
      CAPTURE(offset);
      const bool unused = page == 0 && offset >= sizeof(DeleteLogPage);
      // Each start rewrites a damaged log: its length may differ from the sample's.
      if (offset >= sample.dsp.disk().FileImage("deletes").size()) break;
      sample.dsp.disk().FlipBit("deletes", offset, static_cast<uint32_t>(offset % 8));
      REQUIRE_EQ(sample.dsp.Start(), Err::kOk);
      if (!unused) CHECK_GT(sample.dsp.core().Stats().delete_log_damaged, 0);
      for (const auto& [address, bytes] : sample.files) {
        CHECK_EQ(sample.dsp.Read(address).err(), Err::kGone);
      }
    }
  }
}

}  // namespace
}  // namespace hayloft
