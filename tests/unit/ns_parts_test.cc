// The nameserver's parts: block table, store, membership, placement.
#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <set>

#include "nameserver/block_table.h"
#include "nameserver/membership.h"
#include "nameserver/ns_shell.h"
#include "nameserver/ns_store.h"
#include "nameserver/placement.h"
#include "tests/sim/mem_kv.h"
#include "tests/sim/sim_device.h"
#include "tests/sim/sim_random.h"
#include "tests/unit/golden.h"
#include "tests/unit/temp_folder.h"

namespace hayloft {
namespace {

const std::string kNode(16, 'n');

BlockRecord RecordOf(uint64_t block_id, uint32_t set, pb::BlockState state = pb::BLOCK_OPEN) {
  BlockRecord record;
  record.block_id = block_id;
  record.set = set;
  record.state = static_cast<uint8_t>(state);
  return record;
}

pb::LogRecord BlockLog(uint64_t index, uint64_t block_id, pb::BlockState state) {
  pb::LogRecord record;
  record.set_index(index);
  record.mutable_block()->set_block_id(block_id);
  record.mutable_block()->set_state(state);
  record.mutable_block()->add_set_dsp_ids(3);
  return record;
}

TEST_CASE("block_table: finds what a map would find, in order, with right counts") {
  SimRandom random(5);
  BlockTable table;
  std::map<uint64_t, BlockRecord> model;
  const uint32_t sets[] = {table.Intern({1}), table.Intern({2}), table.Intern({1, 2, 3})};
  for (int i = 0; i < 20'000; ++i) {
    const uint64_t block_id = random.Below(5'000);
    if (random.Chance(20)) {
      table.Remove(block_id);
      model.erase(block_id);
      continue;
    }
    const auto state = static_cast<pb::BlockState>(random.Between(1, 3));
    BlockRecord record = RecordOf(block_id, sets[random.Below(3)], state);
    record.absent = static_cast<uint8_t>(random.Below(2));
    table.Put(record);
    model[block_id] = record;
  }
  CHECK_EQ(table.size(), model.size());
  auto expected = model.begin();
  std::map<uint32_t, uint64_t> open, absent;
  table.ForEach([&](const BlockRecord& record) {
    CHECK_EQ(record.block_id, expected->first);
    CHECK_EQ(record.state, expected->second.state);
    open[record.set] += record.state == pb::BLOCK_OPEN ? 1 : 0;
    absent[record.set] += record.absent;
    ++expected;
  });
  for (const uint32_t set : sets) {
    CHECK_EQ(table.Counts(set).by_state[pb::BLOCK_OPEN], open[set]);
    CHECK_EQ(table.Counts(set).with_absent, absent[set]);
  }
  CHECK_EQ(table.Find(5'001), nullptr);
  for (const uint64_t first : {0, 1, 1'023, 1'024, 3'333, 4'999, 5'000}) {
    auto next = model.lower_bound(first);
    int visited = 0;
    table.ForEachFrom(first, [&](const BlockRecord& record) {
      CHECK_EQ(record.block_id, (next++)->first);
      return ++visited < 1'500;
    });
    CHECK((visited == 1'500 || next == model.end()));
  }
}

TEST_CASE("block_table: the same set has the same number") {
  BlockTable table;
  CHECK_EQ(table.Intern({1, 2}), table.Intern({1, 2}));
  CHECK_NE(table.Intern({1, 2}), table.Intern({2, 1}));  // the first is the primary
  CHECK_EQ(table.set_count(), 2);
}

TEST_CASE("block_table: 1,000,000 blocks take at most 64 bytes each") {
  for (const bool dense : {true, false}) {
    BlockTable table;
    SimRandom random(3);
    for (uint64_t i = 0; i < 1'000'000; ++i) {
      // After failed creations and restarts some ids are missing.
      const uint64_t block_id = dense ? i : i * 5 / 4 + random.Below(2);
      const auto dsp = static_cast<uint32_t>(random.Below(100));
      table.Put(RecordOf(block_id, table.Intern({dsp, dsp + 100, dsp + 200}), pb::BLOCK_SEALED));
    }
    const double each =
        static_cast<double>(table.MemoryBytes()) / static_cast<double>(table.size());
    MESSAGE("bytes a block: ", each,
            std::string(dense ? ", all ids in use" : ", a fifth of the ids missing"));
    CHECK(each <= 64);
  }
}

TEST_CASE("ns_store: what was appended is found again after a power cut") {
  MemKv kv(1);
  pb::LogSettings settings;
  settings.set_cluster_id("cluster");
  {
    NsStore store(&kv);
    REQUIRE_EQ(store.Init(kNode, settings), Err::kOk);
    CHECK_EQ(store.Init(kNode, settings), Err::kExists);
    std::vector<pb::LogRecord> records = {BlockLog(1, 7, pb::BLOCK_OPEN),
                                          BlockLog(2, 8, pb::BLOCK_OPEN),
                                          BlockLog(3, 7, pb::BLOCK_SEALED)};
    pb::LogRecord epoch;
    epoch.set_index(4);
    epoch.mutable_new_epoch()->set_epoch(9);
    records.push_back(epoch);
    REQUIRE_EQ(store.Apply(records, /*sync=*/true), Err::kOk);
  }
  kv.Crash(CrashMode::kTorn);
  kv.Restart();
  Result<NsState> state = NsStore(&kv).Load();
  REQUIRE(state.ok());
  CHECK_EQ(state->node, kNode);
  CHECK_EQ(state->settings.cluster_id(), "cluster");
  CHECK_EQ(state->epoch, 9);
  CHECK_EQ(state->last_index, 4);
  CHECK_EQ(state->blocks.size(), 2);
  CHECK_EQ(state->blocks.Find(7)->state, pb::BLOCK_SEALED);
}

TEST_CASE("ns_store: an Init that was cut short can be begun anew, F10") {
  for (const CrashMode mode : {CrashMode::kKill, CrashMode::kClean, CrashMode::kTorn}) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      MemKv kv(seed);
      kv.CrashAtOperation(1);
      const Err err = NsStore(&kv).Init(kNode, {});
      kv.Crash(mode);
      kv.Restart();
      const Err found = NsStore(&kv).Load().err();
      if (err == Err::kOk) CHECK_EQ(found, Err::kOk);
      CHECK((found == Err::kOk || found == Err::kNotFound));
      CHECK_EQ(NsStore(&kv).Init(kNode, {}), found == Err::kOk ? Err::kExists : Err::kOk);
      CHECK(NsStore(&kv).Load().ok());
    }
  }
  MemKv full(1);
  full.FailNextWrite(Err::kFull);
  CHECK_EQ(NsStore(&full).Init(kNode, {}), Err::kFull);
  CHECK_EQ(NsStore(&full).Init(kNode, {}), Err::kOk);
}

TEST_CASE("nameserver: a folder whose store has no row yet may be made one, any other not") {
  const TempFolder folder(TempFolder::Where::kMemory);
  NsConfig config;
  config.data = folder / "data";
  config.cluster_id = std::string(32, 'c');
  std::filesystem::create_directory(config.data);
  REQUIRE(LevelDbKv::Open(config.data + "/leveldb").ok());  // killed before it wrote the head
  std::string why;
  NsShell shell(config);
  CHECK_EQ(HaShell::Init(config, &shell, /*joining=*/false, &why), Err::kOk);
  CHECK_EQ(HaShell::Init(config, &shell, /*joining=*/false, &why), Err::kConfig);
  CHECK(why.find("not empty") != std::string::npos);
  config.data = folder / "other";
  std::filesystem::create_directories(config.data + "/photos");
  CHECK_EQ(HaShell::Init(config, &shell, /*joining=*/false, &why), Err::kConfig);
}

TEST_CASE("nameserver: half a snapshot, or a node that has followed nobody, holds no store, F61") {
  const TempFolder folder(TempFolder::Where::kMemory);
  NsConfig config;
  config.data = folder / "data";
  config.cluster_id = std::string(32, 'c');
  NsShell shell(config);
  const auto holds = [&] { return *HaShell::HoldsStore(config, &shell); };
  CHECK_FALSE(holds());
  std::string why;
  REQUIRE_EQ(HaShell::Init(config, &shell, /*joining=*/true, &why), Err::kOk);
  CHECK_FALSE(holds());
  const auto write = [&](bool installing, uint64_t index) {
    const auto kv = LevelDbKv::Open(config.data + "/leveldb").value();
    HaStore log(kv.get());
    RoleWrite batch;
    batch.head = log.Load(0).value().head;
    batch.head->set_installing(installing);
    if (index != 0) {
      batch.records.emplace_back();
      batch.records.back().set_index(index);
      batch.records.back().set_epoch(1);
      batch.records.back().set_node(kNode);
    }
    return log.Write(batch);
  };
  REQUIRE_EQ(write(false, 1), Err::kOk);
  CHECK(holds());
  REQUIRE_EQ(write(true, 0), Err::kOk);
  CHECK_FALSE(holds());
  const auto in_use = LevelDbKv::Open(config.data + "/leveldb").value();
  CHECK_EQ(HaShell::HoldsStore(config, &shell).err(), Err::kBusy);
}

TEST_CASE("ns_store: a store of a newer version, none, or nonsense is refused, F28 F52") {
  MemKv kv(1);
  CHECK_EQ(NsStore(&kv).Load().err(), Err::kNotFound);
  pb::NsHead head;
  head.set_format(kNsStoreFormat + 1);
  head.set_node(kNode);
  Kv::Change change{.key = "head", .value = head.SerializeAsString()};
  REQUIRE_EQ(kv.Write({&change, 1}, true), Err::kOk);
  CHECK_EQ(NsStore(&kv).Load().err(), Err::kUnsupported);
  change.value = "\xff\xff";
  REQUIRE_EQ(kv.Write({&change, 1}, true), Err::kOk);
  CHECK_EQ(NsStore(&kv).Load().err(), Err::kCorrupt);
  kv.Break(Err::kCorrupt);
  CHECK_EQ(NsStore(&kv).Load().err(), Err::kCorrupt);
}

TEST_CASE("ns_state: a set has no dsp twice, and none that is nobody, F28") {
  NsState state;
  pb::LogRecord record = BlockLog(1, 7, pb::BLOCK_OPEN);
  for (const uint32_t member : {0, 3}) {
    record.mutable_block()->mutable_set_dsp_ids()->Add(member);
    CHECK_EQ(ApplyRecord(record, &state), Err::kCorrupt);
    record.mutable_block()->mutable_set_dsp_ids()->RemoveLast();
  }
  record.mutable_block()->add_set_dsp_ids(4);
  CHECK_EQ(ApplyRecord(record, &state), Err::kOk);
}

TEST_CASE("ns_state: records that don't follow, or contradict the bounds, are refused") {
  NsState state;
  CHECK_EQ(ApplyRecord(BlockLog(2, 7, pb::BLOCK_OPEN), &state), Err::kCorrupt);
  CHECK_EQ(ApplyRecord(BlockLog(1, kBlockIdMax + 1, pb::BLOCK_OPEN), &state), Err::kCorrupt);
  CHECK_EQ(ApplyRecord(BlockLog(1, 7, pb::BLOCK_UNKNOWN), &state), Err::kCorrupt);
  pb::LogRecord unknown;  // of a later version
  unknown.set_index(1);
  CHECK_EQ(ApplyRecord(unknown, &state), Err::kCorrupt);
  CHECK_EQ(state.last_index, 0);
  CHECK_EQ(ApplyRecord(BlockLog(1, 7, pb::BLOCK_OPEN), &state), Err::kOk);
}

TEST_CASE("ns_state: what members said outlives a change of the set") {
  NsState state;
  pb::LogRecord record = BlockLog(1, 7, pb::BLOCK_CLOSED);
  record.mutable_block()->add_set_dsp_ids(5);
  record.mutable_block()->add_set_dsp_ids(9);
  REQUIRE_EQ(ApplyRecord(record, &state), Err::kOk);
  BlockRecord block = *state.blocks.Find(7);
  block.closed = 0b101;  // 3 and 9
  block.sealed = 0b100;
  block.absent = 0b010;
  block.digest = 77;
  state.blocks.Put(block);
  record.set_index(2);
  record.mutable_block()->clear_set_dsp_ids();
  record.mutable_block()->add_set_dsp_ids(9);
  record.mutable_block()->add_set_dsp_ids(5);
  REQUIRE_EQ(ApplyRecord(record, &state), Err::kOk);
  CHECK_EQ(state.blocks.Find(7)->closed, 0b01);
  CHECK_EQ(state.blocks.Find(7)->sealed, 0b01);
  CHECK_EQ(state.blocks.Find(7)->absent, 0b10);
  CHECK_EQ(state.blocks.Find(7)->digest, 77);
  CHECK_EQ(state.blocks.Counts(state.blocks.Find(7)->set).with_absent, 1);
  CHECK_EQ(state.blocks.greatest_member(), 9);
}

TEST_CASE("membership: silence makes suspect, then down, and a word makes up again") {
  Membership membership({.suspect_after_ms = 3'000, .down_after_ms = 10'000});
  Now now{.mono_ms = 1'000, .wall_ms = 0};
  for (uint32_t id = 1; id <= 4; ++id) {
    membership.Heard(membership.Add(id, "machine-" + std::to_string(id), now), now);
  }
  std::vector<uint32_t> acted_on;
  for (int i = 0; i < 120; ++i) {
    now.mono_ms += 100;
    for (uint32_t id = 2; id <= 4; ++id) membership.Heard(membership.Find(id), now);
    for (const uint32_t id : membership.OnTick(now)) acted_on.push_back(id);
    if (i == 40) CHECK_EQ(membership.Find(1)->state, DspState::kSuspect);
  }
  CHECK_EQ(membership.Find(1)->state, DspState::kDown);
  CHECK_EQ(acted_on, std::vector<uint32_t>{1});  // once
  membership.Heard(membership.Find(1), now);
  CHECK_EQ(membership.Find(1)->state, DspState::kUp);
}

SetCandidate SetOn(std::vector<uint32_t> dsp_ids, std::vector<std::string> machines,
                   uint64_t weight) {
  return {.dsp_ids = std::move(dsp_ids), .machines = std::move(machines), .weight = weight};
}

TEST_CASE("membership: who fell silent within one heartbeat fell silent at once, F37") {
  Membership membership({.suspect_after_ms = 3'000, .down_after_ms = 600'000});
  Now now{.mono_ms = 1'000'000, .wall_ms = 0};
  for (uint32_t dsp_id = 1; dsp_id <= 4; ++dsp_id) {
    (void)membership.Add(dsp_id, "machine-" + std::to_string(dsp_id), now);
  }
  // Heartbeats of each second, at different moments of it; two are cut off after 5 s.
  const auto run = [&](uint64_t until_ms) {
    std::vector<uint32_t> acted_on;
    for (; now.mono_ms < 1'000'000 + until_ms; now.mono_ms += 100) {
      for (uint32_t dsp_id = 1; dsp_id <= 4; ++dsp_id) {
        const bool beats = now.mono_ms % 1'000 == dsp_id * 200;
        const bool cut = dsp_id <= 2 && now.mono_ms > 1'005'000;
        if (beats && !cut) membership.Heard(membership.Find(dsp_id), now);
      }
      for (const uint32_t dsp_id : membership.OnTick(now)) acted_on.push_back(dsp_id);
    }
    return acted_on;
  };
  CHECK(run(20'000).empty());
  CHECK(membership.Find(1)->state == DspState::kSuspect);
  CHECK(membership.Find(2)->state == DspState::kSuspect);
  CHECK(membership.Find(3)->state == DspState::kUp);
}

TEST_CASE("placement: machines take turns, and free space decides how often") {
  SimRandom random(9);
  const uint64_t gib = 1ull << 30;
  const std::vector<SetCandidate> candidates = {
      SetOn({1}, {"a"}, 100 * gib), SetOn({2}, {"a"}, 100 * gib), SetOn({3}, {"b"}, 100 * gib),
      SetOn({4}, {"c"}, 300 * gib)};
  std::map<uint32_t, int> first;
  for (int i = 0; i < 6'000; ++i) {
    const std::vector<size_t> chosen = ChooseSets(candidates, 3, &random);
    REQUIRE_EQ(chosen.size(), 3);
    const std::set<size_t> set(chosen.begin(), chosen.end());
    CHECK_FALSE((set.contains(0) && set.contains(1)));
    CHECK(set.contains(2));
    CHECK(set.contains(3));
    ++first[candidates[chosen[0]].dsp_ids[0]];
  }
  CHECK(first[4] > 2'700);  // half of the space
  CHECK(first[4] < 3'300);
  CHECK(first[1] > 700);  // a sixth
  CHECK(first[1] < 1'300);
  CHECK_EQ(ChooseSets(candidates, 9, &random).size(), 4);
  CHECK(ChooseSets({}, 2, &random).empty());
  CHECK_EQ(ChooseSets({SetOn({7}, {"a"}, 0)}, 1, &random).size(), 1);
}

TEST_CASE("placement: several sets share as few dsps and machines as they can") {
  SimRandom random(10);
  std::vector<SetCandidate> candidates;
  // Dsps 1 and 2 are on machine a, 3 and 4 on b, and so on, 12 on 6 machines.
  for (uint32_t a = 1; a <= 12; ++a) {
    for (uint32_t b = a + 1; b <= 12; ++b) {
      const std::string one(1, static_cast<char>('a' + (a - 1) / 2));
      const std::string two(1, static_cast<char>('a' + (b - 1) / 2));
      if (one != two) candidates.push_back(SetOn({a, b}, {one, two}, 1));
    }
  }
  for (int i = 0; i < 100; ++i) {
    std::set<uint32_t> dsp_ids;
    std::set<std::string> machines;
    for (const size_t at : ChooseSets(candidates, 6, &random)) {
      dsp_ids.insert(candidates[at].dsp_ids.begin(), candidates[at].dsp_ids.end());
      if (dsp_ids.size() <= 4) {
        machines.insert(candidates[at].machines.begin(), candidates[at].machines.end());
      }
    }
    CHECK(machines.size() == 4);  // of the first two sets
    CHECK(dsp_ids.size() >= 10);  // greedy: the last one may find no two free ones on two machines
  }
}

TEST_CASE("placement: a named primary leads, and a share never costs a copy") {
  SimRandom random(14);
  std::vector<PlacementCandidate> candidates = {
      {.dsp_id = 1, .machine = "a", .weight = 1, .rank = PlacementRank::kDoubtful},
      {.dsp_id = 2, .machine = "a", .weight = 1},
      {.dsp_id = 3, .machine = "b", .weight = 1},
      {.dsp_id = 4, .machine = "c", .weight = 1, .rank = PlacementRank::kShareExceeded},
      {.dsp_id = 5, .machine = "d", .weight = 1, .rank = PlacementRank::kDoubtful}};
  for (int i = 0; i < 50; ++i) {
    const std::vector<uint32_t> set = ChooseReplicas(candidates, {3, 2}, &random, /*primary=*/1);
    REQUIRE_EQ(set.size(), 3);
    CHECK_EQ(set[0], 1);
    CHECK_EQ(std::set<uint32_t>(set.begin(), set.end()), std::set<uint32_t>{1, 3, 4});
  }
  candidates.resize(2);
  CHECK(ChooseReplicas(candidates, {3, 2}, &random, 2).empty());  // one machine
  CHECK_EQ(ChooseReplicas(candidates, {1, 1}, &random, 2), std::vector<uint32_t>{2});
}

}  // namespace
}  // namespace hayloft
