// LevelDbKv: a Kv that survives its process, and answers damage of each of its files (F28).
#include "common/io/leveldb_kv.h"

#include <doctest/doctest.h>

#include <map>

#include "common/io/files.h"
#include "tests/unit/temp_folder.h"

using namespace hayloft;

namespace {

using Contents = std::map<std::string, std::string>;

Contents Sample() {
  Contents contents;
  for (int i = 0; i < 300; ++i) {
    contents["key" + std::to_string(1000 + i)] =
        std::string(size_t(50 + i % 60), char('a' + i % 26));
  }
  return contents;
}

void Fill(LevelDbKv* kv, const Contents& contents) {
  std::vector<Kv::Change> changes;
  for (const auto& [key, value] : contents) changes.push_back({key, value});
  REQUIRE_EQ(kv->Write(changes, /*sync=*/true), Err::kOk);
}

// All of it; nothing when any read is answered with an error.
Result<Contents> ReadAll(Kv* kv) {
  Contents contents;
  TRY(kv->Scan("", [&](std::string_view key, std::string_view value) {
    contents.emplace(key, value);
    return true;
  }));
  return contents;
}

std::vector<std::string> FilesOf(const std::string& folder, std::string_view kind) {
  std::vector<std::string> files;
  const Result<std::vector<std::string>> names = ListFolder(folder);
  REQUIRE(names.ok());
  for (const std::string& name : *names) {
    if (name.find(kind) != std::string::npos) files.push_back(folder + "/" + name);
  }
  return files;
}

void MakeStore(const std::string& path) {
  auto kv = LevelDbKv::Open(path);
  REQUIRE(kv.ok());
  Fill(kv->get(), Sample());
}

// Calls `check` with a copy of the store in which one bit of one byte of a file is flipped, for a
// byte out of each `stride`.
void FlipEach(const std::string& sound, std::string_view kind, size_t stride,
              const std::function<void(const LevelDbKv::Opened&)>& check) {
  const std::vector<std::string> files = FilesOf(sound, kind);
  REQUIRE_FALSE(files.empty());
  for (const std::string& file : files) {
    const std::string bytes = *ReadWholeFile(file, 1 << 24);
    const std::string name = file.substr(file.rfind('/'));
    for (size_t at = 0; at < bytes.size(); at += stride) {
      CAPTURE(name);
      CAPTURE(at);
      const TempFolder folder(TempFolder::Where::kMemory);
      std::filesystem::copy(sound, folder / "hurt");
      std::string hurt = bytes;
      hurt[at] = char(hurt[at] ^ 0x10);
      std::filesystem::remove((folder / "hurt") + name);
      REQUIRE_EQ(ReplaceFile((folder / "hurt") + name, hurt), Err::kOk);
      const Result<LevelDbKv::Opened> opened = LevelDbKv::OpenOrQuarantine(folder / "hurt");
      REQUIRE(opened.ok());
      check(*opened);
    }
  }
}

// All that was written, or the damage is known and nothing is believed.
void FlipEachOfClosed(std::string_view kind, size_t stride) {
  const TempFolder folder(TempFolder::Where::kMemory);
  MakeStore(folder / "store");
  size_t noticed = 0;
  size_t tried = 0;
  FlipEach(folder / "store", kind, stride, [&](const LevelDbKv::Opened& opened) {
    const Result<Contents> contents = ReadAll(opened.kv.get());
    REQUIRE(contents.ok());
    tried += 1;
    if (opened.set_aside.empty()) {
      CHECK(*contents == Sample());  // a byte that carries nothing
    } else {
      noticed += 1;
      CHECK(contents->empty());
      CHECK(FileExists(opened.set_aside));
    }
  });
  CHECK_GT(noticed * 2, tried);
}

}  // namespace

TEST_CASE("leveldb_kv: what was written is there after closing, removed keys are not") {
  const TempFolder folder(TempFolder::Where::kMemory);
  {
    auto kv = LevelDbKv::Open(folder / "store");
    REQUIRE(kv.ok());
    Fill(kv->get(), Sample());
    const std::vector<Kv::Change> changes = {{.key = "key1000", .value = "", .remove = true},
                                             {.key = "extra", .value = "x"}};
    REQUIRE_EQ((*kv)->Write(changes, true), Err::kOk);
    CHECK_EQ(LevelDbKv::Open(folder / "store").err(), Err::kBusy);  // it has one owner
  }
  auto kv = LevelDbKv::Open(folder / "store");
  REQUIRE(kv.ok());
  CHECK_EQ((*kv)->Get("key1000").err(), Err::kNotFound);
  CHECK_EQ(*(*kv)->Get("key1001"), Sample()["key1001"]);
  size_t seen = 0;
  CHECK_EQ((*kv)->Scan("key10",
                       [&](std::string_view key, std::string_view) {
                         CHECK(key.starts_with("key10"));
                         return ++seen < 5;
                       }),
           Err::kOk);
  CHECK_EQ(seen, 5);
}

TEST_CASE("leveldb_kv: any flipped byte of a table is noticed or harmless (F28)") {
  FlipEachOfClosed(".ldb", 3);
}
TEST_CASE("leveldb_kv: any flipped byte of the manifest is noticed or harmless (F28)") {
  FlipEachOfClosed("MANIFEST", 1);
}
TEST_CASE("leveldb_kv: any flipped byte of CURRENT is noticed (F28)") {
  FlipEachOfClosed("CURRENT", 1);
}

TEST_CASE("leveldb_kv: damage of the mark of an orderly close costs nothing (F28)") {
  const TempFolder folder(TempFolder::Where::kMemory);
  MakeStore(folder / "store");
  FlipEach(folder / "store", "CLOSED", 1, [&](const LevelDbKv::Opened& opened) {
    CHECK(opened.set_aside.empty());
    CHECK(*ReadAll(opened.kv.get()) == Sample());
  });
}

TEST_CASE("leveldb_kv: an orderly close leaves nothing in the log (F28)") {
  const TempFolder folder(TempFolder::Where::kMemory);
  MakeStore(folder / "store");
  for (const std::string& file : FilesOf(folder / "store", ".log")) {
    CHECK_EQ(std::filesystem::file_size(file), 0);
  }
}

// After a kill the log is all there is. What opens is a beginning of what was written, in order,
// and never a value that was not.
TEST_CASE("leveldb_kv: a flipped byte of the log of a killed process invents nothing (F28)") {
  const TempFolder folder(TempFolder::Where::kMemory);
  auto kv = LevelDbKv::Open(folder / "store");
  REQUIRE(kv.ok());
  for (const auto& [key, value] : Sample()) Fill(kv->get(), {{key, value}});
  std::filesystem::copy(folder / "store", folder / "killed");
  const Contents all = Sample();
  size_t noticed = 0;
  FlipEach(folder / "killed", ".log", 17, [&](const LevelDbKv::Opened& opened) {
    const Result<Contents> contents = ReadAll(opened.kv.get());
    REQUIRE(contents.ok());
    noticed += !opened.set_aside.empty();
    CHECK(std::equal(contents->begin(), contents->end(), all.begin()));
  });
  CHECK_GT(noticed, 0);
}

TEST_CASE(
    "leveldb_kv: a table that vanishes while it serves is damage, not rows that never were (F28)") {
  const TempFolder folder(TempFolder::Where::kMemory);
  MakeStore(folder / "store");
  auto kv = LevelDbKv::Open(folder / "store", {.read_all = false});  // tables are opened when asked
  REQUIRE(kv.ok());
  for (const std::string& file : FilesOf(folder / "store", ".ldb")) std::filesystem::remove(file);
  CHECK_EQ((*kv)->Get("key1001").err(), Err::kCorrupt);
  CHECK((*kv)->damaged());
}

TEST_CASE("leveldb_kv: a missing CURRENT, table or manifest is damage, not a new store (F28)") {
  for (const std::string_view kind : {"CURRENT", ".ldb", "MANIFEST"}) {
    CAPTURE(kind);
    const TempFolder folder(TempFolder::Where::kMemory);
    MakeStore(folder / "store");
    for (const std::string& file : FilesOf(folder / "store", kind)) {
      std::filesystem::remove(file);
    }
    CHECK_EQ(LevelDbKv::Open(folder / "store").err(), Err::kCorrupt);
    auto opened = LevelDbKv::OpenOrQuarantine(folder / "store");
    REQUIRE(opened.ok());
    CHECK_EQ(opened->set_aside, folder / "store.damaged-1");
    CHECK(ReadAll(opened->kv.get())->empty());
  }
}
