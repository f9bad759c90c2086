// The dsp dies at every single operation of its disk, and once more while it recovers; afterwards
// all that was acknowledged is there. Each way of dying: see CrashMode.
//
// A sweep is a scenario that runs once to count its operations, and then once for each operation
// and each mode with a crash there. HAYLOFT_SWEEP_SEEDS=100 (soak) tries more ways of tearing.
#include <doctest/doctest.h>

#include <cstdlib>
#include <functional>
#include <map>
#include <set>

#include "tests/sim/dsp_driver.h"
#include "tests/sim/old_needles.h"

namespace hayloft {
namespace {

// A kill loses nothing by itself: the power cut that follows each recovery then does.
constexpr CrashMode kAllCrashes[] = {CrashMode::kKill, CrashMode::kClean, CrashMode::kTorn,
                                     CrashMode::kReordered};

uint64_t SweepSeeds() {
  const char* wanted = std::getenv("HAYLOFT_SWEEP_SEEDS");
  return wanted == nullptr ? 2 : std::strtoull(wanted, nullptr, 10);
}

std::string MakeBytes(uint64_t seed, size_t size) {
  std::string bytes(size, '\0');
  SimRandom(seed).Fill({reinterpret_cast<uint8_t*>(bytes.data()), size});
  return bytes;
}

// What a run was told, and what it asked for without hearing the end.
struct Journal {
  struct Counter {
    uint32_t acknowledged = 0;
    uint32_t asked = 0;
  };
  std::map<FileAddress, std::string> files;
  std::map<FileAddress, Counter> counters;
  std::set<uint64_t> blocks;
  std::set<uint64_t> sealed;
  std::map<uint64_t, uint32_t> appends;  // a block: sent to it, answered or not
};

// The operations of scenarios: what succeeds goes into the journal.
struct Actor {
  DspDriver* dsp;
  Journal* journal;
  uint64_t next_bytes = 1;

  void Create(uint64_t block) {
    if (!dsp->running() || dsp->disk().dead()) return;
    if (dsp->CreateBlock(block) == Err::kOk) journal->blocks.insert(block);
  }
  // Several at once, so that one group commit takes them.
  void Append(uint64_t block, std::initializer_list<size_t> sizes) {
    if (!dsp->running() || dsp->disk().dead()) return;
    std::map<uint64_t, std::string> sent;
    for (const size_t size : sizes) {
      std::string bytes = MakeBytes(next_bytes++, size);
      ++journal->appends[block];
      const uint64_t number = dsp->SendAppend(block, bytes);
      sent[number] = std::move(bytes);
    }
    dsp->RunJobs();
    for (auto& [number, bytes] : sent) {
      const auto reply = dsp->replies().extract(number);
      if (reply.empty() || reply.mapped().err != Err::kOk) continue;
      pb::AppendReply message;
      REQUIRE(message.ParseFromString(reply.mapped().message));
      const FileAddress address{block, FileId{message.file_id()}};
      const bool fresh = journal->files.emplace(address, std::move(bytes)).second;
      CHECK(fresh);
    }
  }
  void Seal(uint64_t block) {
    if (!dsp->running() || dsp->disk().dead()) return;
    if (dsp->CloseBlock(block) != Err::kOk || dsp->disk().dead()) return;
    if (dsp->SealBlock(block) == Err::kOk) journal->sealed.insert(block);
  }
  void SetDelete(size_t index, uint32_t counter) {
    if (!dsp->running() || dsp->disk().dead() || index >= journal->files.size()) return;
    const FileAddress address = std::next(journal->files.begin(), static_cast<int>(index))->first;
    Journal::Counter& known = journal->counters[address];
    known.asked = std::max(known.asked, counter);
    const Result<uint32_t> result = dsp->SetDelete(address, counter);
    if (result.ok()) known.acknowledged = std::max(known.acknowledged, *result);
  }
};

struct Scenario {
  std::string name;
  std::function<void(Actor&)> prepare;  // no crash comes here
  std::function<void(Actor&)> run;
  uint32_t pool_files = 0;
};

void CheckFile(DspDriver& dsp, const Journal& journal, const FileAddress& address,
               const std::string& bytes) {
  const auto counter = journal.counters.find(address);
  const Journal::Counter known =
      counter == journal.counters.end() ? Journal::Counter{} : counter->second;
  const Result<uint32_t> now = dsp.DeleteCounter(address);
  REQUIRE_EQ(now.err(), Err::kOk);
  CHECK_GE(*now, known.acknowledged);
  CHECK_LE(*now, known.asked);
  const Result<std::string> read = dsp.Read(address);
  if (*now % 2 == 1) {
    CHECK_EQ(read.err(), Err::kGone);
  } else {
    REQUIRE_EQ(read.err(), Err::kOk);
    CHECK(*read == bytes);  // not CHECK_EQ: nobody wants to see the bytes
  }
}

// What must hold after any recovery. The dsp runs.
void CheckRecovered(DspDriver& dsp, const Journal& journal) {
  CHECK_EQ(dsp.core().Stats().blocks_unreadable, 0);
  CHECK_EQ(dsp.core().Stats().delete_log_damaged, 0);
  CHECK_EQ(dsp.core().disk_state(), DiskState::kHealthy);
  for (const uint64_t block : journal.blocks) CHECK(dsp.core().blocks().contains(block));
  for (const auto& [id, block] : dsp.core().blocks()) {
    CHECK_NE(block.state, pb::BLOCK_OPEN);  // nothing is appended to an old tail
    if (journal.sealed.contains(id)) CHECK_EQ(block.state, pb::BLOCK_SEALED);
    const auto sent = journal.appends.find(id);
    CHECK_LE(block.needles(), sent == journal.appends.end() ? 0 : sent->second);
  }
  for (const auto& [address, bytes] : journal.files) CheckFile(dsp, journal, address, bytes);
}

// What recovery believed is on the medium: another power cut at once takes nothing of it.
void CheckKept(DspDriver& dsp, const Journal& journal) {
  std::map<uint64_t, uint32_t> needles;
  std::map<uint64_t, pb::BlockState> states;
  for (const auto& [id, block] : dsp.core().blocks()) {
    needles[id] = block.needles();
    states[id] = block.state;
  }
  dsp.Crash(CrashMode::kClean);
  REQUIRE_EQ(dsp.Start(), Err::kOk);
  for (const auto& [id, count] : needles) {
    REQUIRE(dsp.core().blocks().contains(id));
    CHECK_EQ(dsp.core().blocks().at(id).needles(), count);
    CHECK_EQ(dsp.core().blocks().at(id).state, states.at(id));
  }
  CheckRecovered(dsp, journal);
}

// The disk is as usable as before.
void CheckUsable(DspDriver& dsp, Journal journal) {
  Actor actor{&dsp, &journal, 1'000'000};
  const size_t files_before = journal.files.size();
  constexpr uint64_t kNewBlock = 900;
  actor.Create(kNewBlock);
  actor.Append(kNewBlock, {100, 5000});
  actor.SetDelete(journal.files.size() - 1, 1);
  for (const auto& [id, block] : dsp.core().blocks()) {
    if (block.state != pb::BLOCK_SEALED) actor.Seal(id);  // what recovery closed, too
  }
  CHECK_EQ(journal.files.size(), files_before + 2);
  for (const auto& [id, block] : dsp.core().blocks()) CHECK_EQ(block.state, pb::BLOCK_SEALED);
  CheckRecovered(dsp, journal);
  REQUIRE_EQ(dsp.Start(), Err::kOk);
  CheckRecovered(dsp, journal);
}

// Runs the scenario with its n-th operation as the last; 0: to its end. Answers how many there
// were.
uint64_t RunToCrash(const Scenario& scenario, DspDriver* dsp, Journal* journal, uint64_t n) {
  dsp->options().pool_files = scenario.pool_files;
  dsp->options().delete_log_rewrite_bytes = 8 << 10;
  REQUIRE_EQ(dsp->Format(), Err::kOk);
  REQUIRE_EQ(dsp->Start(), Err::kOk);
  Actor actor{dsp, journal};
  scenario.prepare(actor);
  REQUIRE_FALSE(dsp->disk().dead());
  const uint64_t before = dsp->disk().operations();
  dsp->disk().CrashAtOperation(n);
  scenario.run(actor);
  CHECK_EQ(dsp->disk().dead(), n != 0);
  return dsp->disk().operations() - before;
}

// Crashes again in the `m`-th operation of the recovery. False when it has fewer.
bool CrashInRecovery(DspDriver* dsp, uint64_t m, CrashMode mode) {
  dsp->disk().CrashAtOperation(m);
  const Err err = dsp->Start();
  if (err == Err::kOk) return false;
  dsp->Crash(mode);
  return true;
}

void CheckAll(DspDriver& dsp, const Journal& journal) {
  REQUIRE_EQ(dsp.Start(), Err::kOk);
  CheckRecovered(dsp, journal);
  CheckKept(dsp, journal);
  CheckUsable(dsp, journal);
}

// One crash, then for the chosen operations of the recovery a second one, and a third start.
uint64_t SweepOne(const Scenario& scenario, uint64_t seed, uint64_t n, CrashMode mode) {
  uint64_t crashes = 1;
  {
    DspDriver dsp(seed);
    Journal journal;
    (void)RunToCrash(scenario, &dsp, &journal, n);
    dsp.Crash(mode);
    CheckAll(dsp, journal);
  }
  for (uint64_t m = 1;; ++m) {
    DspDriver dsp(seed);
    Journal journal;
    (void)RunToCrash(scenario, &dsp, &journal, n);
    dsp.Crash(mode);
    if (!CrashInRecovery(&dsp, m, kAllCrashes[(n + m) % std::size(kAllCrashes)])) break;
    CheckAll(dsp, journal);
    ++crashes;
  }
  return crashes;
}

void Sweep(const Scenario& scenario) {
  uint64_t crashes = 0;
  for (uint64_t seed = 1; seed <= SweepSeeds(); ++seed) {
    DspDriver whole(seed);
    Journal journal;
    const uint64_t operations = RunToCrash(scenario, &whole, &journal, 0);
    REQUIRE_GT(operations, 0);
    for (uint64_t n = 1; n <= operations; ++n) {
      for (const CrashMode mode : kAllCrashes) {
        CAPTURE(seed);
        CAPTURE(n);
        CAPTURE(static_cast<int>(mode));
        crashes += SweepOne(scenario, seed, n, mode);
      }
    }
  }
  MESSAGE(scenario.name, ": ", crashes, " crashes");
}

void PrepareFiles(Actor& actor) {
  actor.Create(1);
  actor.Append(1, {10, 3000, 70'000});
  actor.Append(1, {500});
}

TEST_CASE("crash_sweep: F02 F03 F15 F16 F17 appends, power cut at each operation") {
  Sweep({.name = "append",
         .prepare = [](Actor& actor) { actor.Create(1); },
         .run =
             [](Actor& actor) {
               actor.Append(1, {1});
               actor.Append(1, {4000, 100, 9000, 511});
               actor.Append(1, {70'000, 3});
               actor.Append(1, {200, 200});
             }});
}

TEST_CASE("crash_sweep: F02 F15 creation of blocks, power cut at each operation") {
  Sweep({.name = "create",
         .prepare = [](Actor&) {},
         .run =
             [](Actor& actor) {
               for (uint64_t block = 1; block <= 3; ++block) {
                 actor.Create(block);
                 actor.Append(block, {100});
               }
             }});
}

TEST_CASE("crash_sweep: sealing, power cut at each operation") {
  Sweep({.name = "seal", .prepare = PrepareFiles, .run = [](Actor& actor) { actor.Seal(1); }});
}

TEST_CASE("crash_sweep: F44 deletes and undeletes, power cut at each operation") {
  Sweep({.name = "delete", .prepare = PrepareFiles, .run = [](Actor& actor) {
           actor.SetDelete(0, 1);
           actor.SetDelete(1, 1);
           actor.SetDelete(0, 2);
           actor.SetDelete(0, 1);  // late: changes nothing
           actor.SetDelete(2, 3);
         }});
}

TEST_CASE("crash_sweep: rewriting of the delete log, power cut at each operation") {
  Sweep({.name = "delete log",
         .prepare =
             [](Actor& actor) {
               PrepareFiles(actor);
               // A commit a page; more than half of it stale: the next one makes it worth a
               // rewrite.
               for (uint32_t counter = 1; counter <= 2; ++counter) actor.SetDelete(0, counter);
             },
         .run =
             [](Actor& actor) {
               for (uint32_t counter = 3; counter <= 6; ++counter) actor.SetDelete(0, counter);
               actor.SetDelete(1, 1);
             }});
}

// The pool's files held a former life of the very block that is made of them.
void Recycle(DspDriver* dsp, uint64_t block) {
  const Result<std::vector<FileInfo>> files = dsp->disk().List();
  if (!files.ok()) return;
  SimRandom random(block);
  for (const FileInfo& file : *files) {
    if (!ParsePoolFileName(file.name)) continue;
    FillWithOldNeedles(&dsp->disk(), file.name, block, &random);
  }
}

TEST_CASE("crash_sweep: F29 recycled files of the pool, power cut at each operation") {
  Sweep({.name = "pool",
         .prepare = [](Actor&) {},
         .run =
             [](Actor& actor) {
               for (uint64_t block = 1; block <= 2; ++block) {
                 if (!actor.dsp->disk().dead()) actor.dsp->Tick();
                 Recycle(actor.dsp, block);
                 actor.Create(block);
                 actor.Append(block, {300, 5000});
               }
             },
         .pool_files = 1});
}

TEST_CASE("crash_sweep: recovery after a torn commit, power cut at each operation") {
  Sweep({.name = "recovery",
         .prepare =
             [](Actor& actor) {
               PrepareFiles(actor);
               actor.Create(2);
               actor.Append(2, {100});
               actor.Seal(2);
               actor.SetDelete(0, 1);
               // Unsynced bytes at the end of block 1: its commit's sync never happens.
               actor.dsp->disk().CrashAtOperation(2);
               actor.Append(1, {4000, 600, 9000});
               actor.dsp->Crash(CrashMode::kTorn);
             },
         .run = [](Actor& actor) { (void)actor.dsp->Start(); }});
}

}  // namespace
}  // namespace hayloft
