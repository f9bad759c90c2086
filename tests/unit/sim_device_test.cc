// The fakes that other tests trust: what they promise to lose, tear and reorder is really lost,
// torn and reordered, and what was synced never is.
#include "tests/sim/sim_device.h"

#include <doctest/doctest.h>

#include <set>

#include "tests/sim/mem_kv.h"
#include "tests/sim/sim_clock.h"

namespace hayloft {
namespace {

const std::string kFile = "f";

FileHandle Make(SimDevice* disk, std::string_view name) {
  const Result<FileHandle> file = disk->Create(name);
  REQUIRE(file.ok());
  return *file;
}

void Put(SimDevice* disk, FileHandle file, uint64_t offset, std::string_view text) {
  const Bytes parts[] = {AsBytes(text)};
  REQUIRE_EQ(disk->Write(file, offset, parts), Err::kOk);
}

// A synced file of `size` bytes, all 'a'.
FileHandle MakeSynced(SimDevice* disk, std::string_view name, size_t size) {
  const FileHandle file = Make(disk, name);
  Put(disk, file, 0, std::string(size, 'a'));
  REQUIRE_EQ(disk->Sync(file), Err::kOk);
  REQUIRE_EQ(disk->SyncDir(), Err::kOk);
  return file;
}

void PowerCut(SimDevice* disk, CrashMode mode) {
  disk->Crash(mode);
  disk->Restart();
}

TEST_CASE("sim_device: reads give back what was written, zeros in holes, kCorrupt past the end") {
  SimDevice disk(1);
  const FileHandle file = Make(&disk, kFile);
  Put(&disk, file, 10'000, "hay");
  std::string out(10'003, 'x');
  const MutableBytes bytes{reinterpret_cast<uint8_t*>(out.data()), out.size()};
  CHECK_EQ(disk.Read(file, 0, bytes), Err::kOk);
  CHECK_EQ(out, std::string(10'000, '\0') + "hay");
  CHECK_EQ(disk.Read(file, 1, bytes), Err::kCorrupt);
  CHECK_EQ(disk.Create(kFile).err(), Err::kExists);
  CHECK_EQ(disk.Open("none").err(), Err::kNotFound);
}

TEST_CASE("sim_device: a clean power cut takes all that was not synced and nothing else") {
  SimDevice disk(2);
  const FileHandle file = MakeSynced(&disk, kFile, 5000);
  Put(&disk, file, 100, "bbb");
  Put(&disk, file, 9000, "ccc");
  const FileHandle other = Make(&disk, "other");
  Put(&disk, other, 0, "synced, but the directory does not know it");
  REQUIRE_EQ(disk.Sync(other), Err::kOk);
  CHECK_EQ(disk.UnsyncedBytes(), 6);
  CHECK_EQ(disk.UnsyncedDirectoryChanges(), 1);
  PowerCut(&disk, CrashMode::kClean);
  CHECK_EQ(disk.FileImage(kFile), std::string(5000, 'a'));
  CHECK_FALSE(disk.Exists("other"));
}

TEST_CASE("sim_device: kill -9 keeps the page cache, a power cut after it does not") {
  SimDevice disk(3);
  Put(&disk, MakeSynced(&disk, kFile, 10), 0, "b");
  disk.Crash(CrashMode::kKill);
  std::vector<uint8_t> out(1);
  CHECK_EQ(disk.Open(kFile).err(), Err::kIo);  // dead until restarted
  disk.Restart();
  CHECK_EQ(disk.FileImage(kFile), "b" + std::string(9, 'a'));
  PowerCut(&disk, CrashMode::kClean);
  CHECK_EQ(disk.FileImage(kFile), std::string(10, 'a'));
}

TEST_CASE("sim_device: a torn write leaves some sectors, in some seeds all, in some none") {
  std::set<size_t> survivors;
  bool gap = false;  // a later sector survived and an earlier one did not
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SimDevice disk(seed);
    Put(&disk, MakeSynced(&disk, kFile, 4096), 0, std::string(4096, 'b'));
    PowerCut(&disk, CrashMode::kTorn);
    const std::string image = disk.FileImage(kFile);
    REQUIRE_EQ(image.size(), 4096);
    size_t count = 0;
    for (size_t i = 0; i < image.size(); i += SimDevice::kSectorBytes) {
      const std::string sector = image.substr(i, SimDevice::kSectorBytes);
      const bool survived = sector == std::string(SimDevice::kSectorBytes, 'b');
      if (!survived) REQUIRE_EQ(sector, std::string(SimDevice::kSectorBytes, 'a'));
      gap = gap || (survived && count < i / SimDevice::kSectorBytes);
      count += survived;
    }
    survivors.insert(count);
  }
  CHECK_EQ(survivors.size(), 9);  // 0 to 8 of 8 sectors
  CHECK(gap);
}

TEST_CASE("sim_device: reordered writes survive in any combination") {
  std::set<std::string> images;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SimDevice disk(seed);
    const FileHandle file = MakeSynced(&disk, kFile, 3);
    Put(&disk, file, 0, "1");
    Put(&disk, file, 1, "2");
    Put(&disk, file, 2, "3");
    PowerCut(&disk, CrashMode::kReordered);
    images.insert(disk.FileImage(kFile));
  }
  CHECK_EQ(images.size(), 8);
  CHECK(images.contains("aa3"));  // the last one alone
}

TEST_CASE(
    "sim_device: unsynced directory changes survive as a prefix, or reordered as any subset") {
  const auto outcomes = [](CrashMode mode) {
    std::set<std::string> seen;
    for (uint64_t seed = 0; seed < 100; ++seed) {
      SimDevice disk(seed);
      for (std::string_view name : {"a", "b"}) MakeSynced(&disk, name, 1);
      REQUIRE_EQ(disk.Rename("a", "c"), Err::kOk);
      REQUIRE_EQ(disk.Remove("b"), Err::kOk);
      PowerCut(&disk, mode);
      std::string names;
      const auto files = disk.List();
      REQUIRE(files.ok());
      for (const FileInfo& file : *files) names += file.name;
      seen.insert(names);
    }
    return seen;
  };
  CHECK_EQ(outcomes(CrashMode::kClean), std::set<std::string>{"ab"});
  CHECK_EQ(outcomes(CrashMode::kTorn), std::set<std::string>{"ab", "bc", "c"});
  CHECK_EQ(outcomes(CrashMode::kReordered), std::set<std::string>{"ab", "bc", "a", "c"});
}

TEST_CASE("sim_device: synced bytes survive every kind of crash") {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SimDevice disk(seed);
    const FileHandle file = MakeSynced(&disk, kFile, 20'000);
    Put(&disk, file, 12'288, std::string(8000, 'b'));
    PowerCut(&disk, kPowerCuts[seed % 3]);
    CHECK_EQ(disk.FileImage(kFile).substr(0, 12'288), std::string(12'288, 'a'));
  }
}

TEST_CASE("sim_device: a replaced file is the old or the new one after a crash") {
  std::set<std::string> images;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SimDevice disk(seed);
    MakeSynced(&disk, kFile, 1);
    const FileHandle next = Make(&disk, "next");
    Put(&disk, next, 0, "new");
    REQUIRE_EQ(disk.Sync(next), Err::kOk);
    REQUIRE_EQ(disk.Rename("next", kFile), Err::kOk);
    PowerCut(&disk, CrashMode::kReordered);
    images.insert(disk.FileImage(kFile));
  }
  CHECK_EQ(images, std::set<std::string>{"a", "new"});
}

TEST_CASE("sim_device: the chosen operation is the last, and may have happened or not") {
  std::set<std::string> images;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SimDevice disk(seed);
    const FileHandle file = MakeSynced(&disk, kFile, 2);
    disk.CrashAtOperation(2);
    Put(&disk, file, 0, "b");
    const Bytes parts[] = {AsBytes("c")};
    CHECK_EQ(disk.Write(file, 1, parts), Err::kIo);
    CHECK(disk.dead());
    CHECK_EQ(disk.Sync(file), Err::kIo);
    PowerCut(&disk, CrashMode::kReordered);
    images.insert(disk.FileImage(kFile));
  }
  CHECK_EQ(images, std::set<std::string>{"aa", "ba", "ac", "bc"});
}

TEST_CASE("sim_device: after a failed sync the next one answers kOk with data gone") {
  bool lost = false;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SimDevice disk(seed);
    const FileHandle file = MakeSynced(&disk, kFile, 4096);
    Put(&disk, file, 0, std::string(4096, 'b'));
    disk.FailNextSync();
    CHECK_EQ(disk.Sync(file), Err::kIo);
    CHECK_EQ(disk.Sync(file), Err::kOk);
    CHECK_EQ(disk.FileImage(kFile)[0], 'b');  // the page cache still shows it
    PowerCut(&disk, CrashMode::kClean);
    lost = lost || disk.FileImage(kFile)[0] == 'a';
  }
  CHECK(lost);
}

TEST_CASE("sim_device: a lying sync loses what it promised") {
  SimDevice disk(4);
  const FileHandle file = MakeSynced(&disk, kFile, 1);
  disk.SetLyingSync(true);
  Put(&disk, file, 0, "b");
  CHECK_EQ(disk.Sync(file), Err::kOk);
  PowerCut(&disk, CrashMode::kClean);
  CHECK_EQ(disk.FileImage(kFile), "a");
}

TEST_CASE("sim_device: injected faults answer as the port says") {
  SimDevice disk(5);
  const FileHandle file = MakeSynced(&disk, kFile, 8192);
  const Bytes parts[] = {AsBytes("x")};
  std::vector<uint8_t> out(1);
  disk.FailReads(kFile, {4096, 4097});
  CHECK_EQ(disk.Read(file, 4096, out), Err::kIo);
  CHECK_EQ(disk.Read(file, 4097, out), Err::kOk);
  disk.HealReads();
  CHECK_EQ(disk.Read(file, 4096, out), Err::kOk);
  disk.SetUncachedPercent(100);
  CHECK_EQ(disk.ReadCached(file, 0, out), Err::kBusy);
  disk.FailNextWrite();
  CHECK_EQ(disk.Write(file, 0, parts), Err::kIo);
  CHECK_EQ(disk.Write(file, 0, parts), Err::kOk);
  disk.SetReadOnly(true);
  CHECK_EQ(disk.Write(file, 0, parts), Err::kReadOnly);
  CHECK_EQ(disk.Remove(kFile), Err::kReadOnly);
  disk.SetReadOnly(false);
  disk.FlipBit(kFile, 5000, 1);
  CHECK_EQ(disk.FileImage(kFile)[5000], 'a' ^ 2);
  CHECK_EQ(disk.Lock(), Err::kOk);
  CHECK_EQ(disk.Lock(), Err::kExists);
}

TEST_CASE("sim_device: allocated space is charged at once, and writes into it never meet kFull") {
  SimDevice disk(6, /*total_bytes=*/1 << 20);
  const FileHandle file = Make(&disk, kFile);
  CHECK_EQ(disk.Allocate(file, 2 << 20), Err::kFull);
  CHECK_EQ(disk.Allocate(file, 1 << 20), Err::kOk);
  CHECK_EQ(disk.Space()->free_bytes, 0);
  Put(&disk, file, 0, std::string(1 << 20, 'a'));
  const FileHandle other = Make(&disk, "other");
  const Bytes parts[] = {AsBytes("x")};
  CHECK_EQ(disk.Write(other, 0, parts), Err::kFull);
  CHECK_EQ(disk.Truncate(file, 4096), Err::kOk);
  CHECK_EQ(disk.Write(other, 0, parts), Err::kOk);
  CHECK_EQ(disk.Space()->free_bytes, (1 << 20) - 2 * kPageBytes);
  REQUIRE_EQ(disk.Remove(kFile), Err::kOk);
  disk.Close(file);
  REQUIRE_EQ(disk.SyncDir(), Err::kOk);
  CHECK_EQ(disk.Space()->free_bytes, (1 << 20) - kPageBytes);
}

TEST_CASE("mem_kv: unsynced batches are lost as a suffix, each whole") {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    MemKv kv(seed);
    const Kv::Change first[] = {{"a", "1"}, {"b", "1"}};
    const Kv::Change second[] = {{"a", "2"}, {"b", "", true}};
    const Kv::Change third[] = {{"c", "3"}};
    REQUIRE_EQ(kv.Write(first, /*sync=*/true), Err::kOk);
    REQUIRE_EQ(kv.Write(second, false), Err::kOk);
    REQUIRE_EQ(kv.Write(third, false), Err::kOk);
    kv.Crash(seed % 2 == 0 ? CrashMode::kClean : CrashMode::kTorn);
    CHECK_EQ(kv.Get("a").err(), Err::kIo);
    kv.Restart();
    std::string state;
    REQUIRE_EQ(kv.Scan("",
                       [&](auto key, auto value) {
                         state += std::string(key) + std::string(value);
                         return true;
                       }),
               Err::kOk);
    seen.insert(state);
  }
  CHECK_EQ(seen, std::set<std::string>{"a1b1", "a2", "a2c3"});
}

TEST_CASE("mem_kv: a sync covers every earlier write, and faults answer as the port says") {
  MemKv kv(7);
  const Kv::Change first[] = {{"a", "1"}};
  const Kv::Change second[] = {{"b", "2"}};
  REQUIRE_EQ(kv.Write(first, false), Err::kOk);
  REQUIRE_EQ(kv.Write(second, true), Err::kOk);
  kv.FailNextWrite(Err::kIo);
  CHECK_EQ(kv.Write(first, true), Err::kIo);
  kv.Crash(CrashMode::kClean);
  kv.Restart();
  CHECK_EQ(*kv.Get("a"), "1");
  CHECK_EQ(kv.Get("c").err(), Err::kNotFound);
  kv.Break(Err::kCorrupt);
  CHECK_EQ(kv.Get("a").err(), Err::kCorrupt);
}

TEST_CASE("sim_random: the same seed gives the same numbers, another one others") {
  SimRandom a(1), b(1), c(2);
  CHECK_EQ(a.Next(), b.Next());
  CHECK_NE(a.Next(), c.Next());
  SimClock clock;
  clock.Advance(5);
  clock.JumpWall(-1000);
  CHECK_EQ(clock.WallMs(), SimClock::kStartWallMs - 995);
}

}  // namespace
}  // namespace hayloft
