// A directory node's options, and what becomes of its store when that is damaged (F28).
#include "directory/dir_shell.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <map>

#include "common/io/files.h"
#include "tests/unit/temp_folder.h"

using namespace hayloft;

namespace {

DirConfig ConfigIn(const std::string& folder, std::vector<std::string> directory) {
  DirConfig config;
  config.data = folder;
  config.cluster_id = std::string(32, 'c');
  config.nameservers = "127.0.0.1:7000";
  config.coordinator_dir = folder + ".coordinator";
  config.directory = std::move(directory);
  if (!config.directory.empty()) config.listen = "127.0.0.1:7001";
  return config;
}

void Init(const DirConfig& config) {
  DirShell process(config);
  std::string why;
  REQUIRE_EQ(HaShell::Init(config, &process, /*joining=*/false, &why), Err::kOk);
}

// The settings of the node that such a start makes, or why there was none.
struct Started {
  Err err = Err::kOk;
  std::string why;
  std::string node;
  uint32_t losses = 0;
};
Started Start(const DirConfig& config) {
  Loop loop;
  DirShell process(config);
  Started started;
  {
    HaShell shell(&loop, config, {.role = "directory", .replace_damaged = true}, &process);
    started.err = shell.Start(&started.why);
  }
  if (started.err != Err::kOk) return started;
  auto kv = LevelDbKv::Open(config.data + "/leveldb");
  REQUIRE(kv.ok());
  const Result<DirState> state = DirStore(kv->get()).Load();
  REQUIRE(state.ok());
  started.node = state->node;
  started.losses = state->head.settings().losses();
  return started;
}

std::string FileOf(const std::string& folder, std::string_view kind) {
  const Result<std::vector<std::string>> names = ListFolder(folder);
  REQUIRE(names.ok());
  for (const std::string& name : *names) {
    if (name.find(kind) != std::string::npos) return folder + "/" + name;
  }
  return "";
}

void Flip(const std::string& file, size_t at) {
  std::string bytes = *ReadWholeFile(file, 1 << 24);
  bytes[at] = char(bytes[at] ^ 0x10);
  std::filesystem::remove(file);
  REQUIRE_EQ(ReplaceFile(file, bytes), Err::kOk);
}

constexpr int kRows = 300;
std::string Key(int i) { return "c" + std::to_string(1000 + i); }
std::string Value(int i) { return std::string(size_t(40 + i % 60), char('a' + i % 26)); }

// Each row as it was written, or the damage is known: nothing else is ever answered.
void CheckFlips(std::string_view kind, size_t stride) {
  const TempFolder folder(TempFolder::Where::kMemory);
  const LevelDbOptions options = DirLevelDbOptions(1 << 20);
  {
    auto kv = LevelDbKv::Open(folder / "sound", options);
    REQUIRE(kv.ok());
    std::vector<Kv::Change> rows;
    for (int i = 0; i < kRows; ++i) rows.push_back({Key(i), Value(i)});
    REQUIRE_EQ((*kv)->Write(rows, /*sync=*/true), Err::kOk);
  }
  const std::string name = FileOf(folder / "sound", kind).substr((folder / "sound").size());
  const size_t size = ReadWholeFile((folder / "sound") + name, 1 << 24)->size();
  int noticed = 0;
  for (size_t at = 0; at < size; at += stride) {
    CAPTURE(name);
    CAPTURE(at);
    const std::string hurt = folder / ("hurt-" + std::to_string(at));
    std::filesystem::copy(folder / "sound", hurt);
    Flip(hurt + name, at);
    auto kv = LevelDbKv::Open(hurt, options);
    if (!kv.ok()) REQUIRE_EQ(kv.err(), Err::kCorrupt);
    bool met = !kv.ok();
    for (int i = 0; i < kRows && kv.ok(); ++i) {
      const Result<std::string> row = (*kv)->Get(Key(i));
      if (row.ok()) REQUIRE_EQ(*row, Value(i));
      if (!row.ok()) REQUIRE_EQ(row.err(), Err::kCorrupt);
      met |= !row.ok();
    }
    if (kv.ok()) CHECK_EQ((*kv)->damaged(), met);
    noticed += met ? 1 : 0;
    if (kv.ok()) kv->reset();
    std::filesystem::remove_all(hurt);
  }
  CHECK_GT(noticed, 0);
}

}  // namespace

TEST_CASE("directory: a row of a damaged table is as it was, or corrupt (F28)") {
  CheckFlips(".ldb", 7);
}
TEST_CASE("directory: of a damaged manifest or CURRENT no row is lost unnoticed (F28)") {
  CheckFlips("MANIFEST", 1);
  CheckFlips("CURRENT", 1);
}

// After a kill the log is all there is: a beginning of what was written, or the damage is known.
TEST_CASE("directory: a flipped byte of a killed node's log invents and skips nothing (F28)") {
  const TempFolder folder(TempFolder::Where::kMemory);
  const LevelDbOptions options = DirLevelDbOptions(1 << 20);
  auto live = LevelDbKv::Open(folder / "live", options);
  REQUIRE(live.ok());
  for (int i = 0; i < kRows; ++i) {
    const Kv::Change row{Key(i), Value(i)};
    REQUIRE_EQ((*live)->Write({&row, 1}, /*sync=*/true), Err::kOk);
  }
  std::filesystem::copy(folder / "live", folder / "killed");
  const std::string name = FileOf(folder / "killed", ".log").substr((folder / "killed").size());
  const size_t size = ReadWholeFile((folder / "killed") + name, 1 << 24)->size();
  int noticed = 0;
  for (size_t at = 0; at < size; at += 61) {
    CAPTURE(at);
    const std::string hurt = folder / ("hurt-" + std::to_string(at));
    std::filesystem::copy(folder / "killed", hurt);
    Flip(hurt + name, at);
    auto kv = LevelDbKv::Open(hurt, options);
    if (!kv.ok()) REQUIRE_EQ(kv.err(), Err::kCorrupt);
    noticed += kv.ok() ? 0 : 1;
    bool ended = false;
    for (int i = 0; i < kRows && kv.ok(); ++i) {
      const Result<std::string> row = (*kv)->Get(Key(i));
      if (row.ok()) REQUIRE_EQ(*row, Value(i));
      if (row.ok()) REQUIRE_FALSE(ended);
      ended |= !row.ok();
    }
    if (kv.ok()) kv->reset();
    std::filesystem::remove_all(hurt);
  }
  CHECK_GT(noticed, 0);
}

TEST_CASE("directory: of two, the node of a damaged store begins anew beside it (F28)") {
  for (const std::string kind : {"CURRENT", "MANIFEST", ".ldb", "no CURRENT"}) {
    CAPTURE(kind);
    const TempFolder folder(TempFolder::Where::kMemory);
    const DirConfig config = ConfigIn(folder / "data", {"127.0.0.1:7001,127.0.0.1:7002"});
    Init(config);
    const Started sound = Start(config);
    REQUIRE_EQ(sound.err, Err::kOk);
    CHECK_FALSE(FileExists(config.data + "/leveldb.damaged-1"));
    if (kind == "no CURRENT") {
      std::filesystem::remove(config.data + "/leveldb/CURRENT");
    } else {
      Flip(FileOf(config.data + "/leveldb", kind), kind == ".ldb" ? 10 : 0);
    }
    const Started replaced = Start(config);
    CHECK_EQ(replaced.why, "");
    CHECK_NE(replaced.node, sound.node);  // it knows nothing, and counts as nobody
    CHECK_EQ(replaced.losses, 0);         // the other one knows all
    CHECK(FileExists(config.data + "/leveldb.damaged-1"));
    CHECK_EQ(Start(config).node, replaced.node);
  }
}

TEST_CASE("directory: a lone node whose store is damaged waits for an operator (F28)") {
  const TempFolder folder(TempFolder::Where::kMemory);
  DirConfig config = ConfigIn(folder / "data", {});
  Init(config);
  Flip(FileOf(config.data + "/leveldb", "CURRENT"), 0);
  for (int i = 0; i < 2; ++i) {
    const Started refused = Start(config);
    CHECK_EQ(refused.err, Err::kConfig);
    CHECK(refused.why.find("leveldb.damaged-1") != std::string::npos);
    CHECK(refused.why.find("--rebuild") != std::string::npos);
    CHECK_FALSE(FileExists(config.data + "/leveldb"));
  }
  config.rebuild = true;
  CHECK_EQ(Start(config).losses, 1);  // what it adopts is pinned
  config.rebuild = false;
  CHECK_EQ(Start(config).losses, 1);
}

TEST_CASE("directory: which shard a node is follows from the lists") {
  DirConfig config = ConfigIn("/tmp/d", {});
  CHECK_EQ(config.Fault(), "");
  CHECK_EQ(config.Shard(), 0);
  CHECK_EQ(config.Shards(), 1);
  config.directory = {"10.0.0.1:1,10.0.0.2:1", "10.0.0.3:1,10.0.0.4:1", "10.0.0.5:1"};
  CHECK_NE(config.Fault(), "");  // it stands in none
  config.advertise = "10.0.0.4:1";
  CHECK_EQ(config.Fault(), "");
  CHECK_EQ(config.Shard(), 1);
  CHECK_EQ(config.Shards(), 3);
  CHECK_EQ(DirShell(config).Pair(), std::vector<std::string>{"10.0.0.3:1", "10.0.0.4:1"});
  config.directory[0] += ",10.0.0.9:1";
  CHECK_NE(config.Fault(), "");  // three nodes
  config.directory[0] = "10.0.0.1:1,10.0.0.3:1";
  CHECK_NE(config.Fault(), "");  // one stands there twice
  config.directory[0] = ",";
  CHECK_NE(config.Fault(), "");  // none
  config.directory[0] = "10.0.0.1:1";
  CHECK_EQ(config.Fault(), "");
  config.nameservers.clear();
  CHECK_NE(config.Fault(), "");
}

TEST_CASE("directory: whether a folder holds a store is told by that folder alone") {
  const TempFolder folder(TempFolder::Where::kMemory);
  const auto holds = [&](const std::string& data) {
    DirConfig config;
    config.data = data;
    config.check_store = true;
    CHECK_EQ(config.Fault(), "");
    DirShell process(config);
    const Result<bool> held = HaShell::HoldsStore(config, &process);
    REQUIRE(held.ok());
    return *held;
  };
  CHECK_FALSE(holds(folder / "none"));
  const DirConfig joining = ConfigIn(folder / "joining", {});
  DirShell process(joining);
  std::string why;
  REQUIRE_EQ(HaShell::Init(joining, &process, /*joining=*/true, &why), Err::kOk);
  CHECK_FALSE(holds(joining.data));  // it has followed nobody yet
}

TEST_CASE("directory: a store of another shard is refused") {
  const TempFolder folder(TempFolder::Where::kMemory);
  DirConfig config = ConfigIn(folder / "data", {"127.0.0.1:7001,127.0.0.1:7002"});
  Init(config);
  config.directory.insert(config.directory.begin(), "127.0.0.1:7003,127.0.0.1:7004");
  const Started refused = Start(config);
  CHECK_EQ(refused.err, Err::kConfig);
  CHECK(refused.why.find("holds shard 0 of 1") != std::string::npos);
}
