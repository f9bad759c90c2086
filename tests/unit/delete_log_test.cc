// The delete log by itself, on a disk that tears its last page. Its place in a dsp: dsp_core_test,
// crash_sweep_test, bit_flip_test.
#include "dataserver/dsp/delete_log.h"

#include <doctest/doctest.h>

#include "dataserver/dsp/block_format.h"
#include "tests/sim/mem_kv.h"
#include "tests/sim/sim_device.h"

namespace hayloft {
namespace {

constexpr uint64_t kBlock = 5;
constexpr const char* kName = "deletes";

struct World {
  Err Load() {
    log = DeleteLog();
    state = DeleteState();
    TRY(log.Load(&disk, &kv, &state));
    return log.Settle(&disk, &kv, /*new_log_id=*/++last_log_id, state);
  }
  // One group commit of these sequences.
  void Delete(const std::vector<uint32_t>& sequences) {
    std::vector<DeleteChange> changes;
    for (const uint32_t sequence : sequences) {
      changes.push_back({.block_id = kBlock, .entry = {.sequence = sequence, .counter = 1}});
      REQUIRE(state.Raise(changes.back()));
    }
    REQUIRE_EQ(RunJob({.steps = log.AppendSteps(changes)}, &disk, &kv).err, Err::kOk);
  }
  SimDevice disk{/*seed=*/1};
  MemKv kv{/*seed=*/2};
  DeleteLog log;
  DeleteState state;
  uint64_t last_log_id = 0;
};

}  // namespace

// Found by the fuzzer: sectors are 512 bytes and records 40, so a torn commit ends in half a
// record.
TEST_CASE("delete_log: F15 a page torn in its middle is no damage, nor after the next commit") {
  World world;
  REQUIRE_EQ(world.Load(), Err::kOk);
  world.Delete({1, 2, 3});
  world.kv.Wipe();  // it is written after the log's sync, which the crash forestalled
  const uint64_t third = kPageBytes + 2 * sizeof(DeleteRecord);
  const std::string zeros(sizeof(DeleteRecord) / 2, '\0');
  world.disk.SetBytes(kName, third + zeros.size(), AsBytes(zeros));
  const Err torn = CheckDeleteRecord(
      [&] {
        DeleteRecord record;
        std::memcpy(&record, world.disk.FileImage(kName).data() + third, sizeof(record));
        return record;
      }(),
      /*log_id=*/1, third);
  REQUIRE_EQ(torn, Err::kCorrupt);
  REQUIRE_EQ(world.Load(), Err::kOk);
  CHECK_EQ(world.log.damaged_records(), 0);
  CHECK_EQ(world.state.entries(), 2);
  world.Delete({4});
  REQUIRE_EQ(world.Load(), Err::kOk);
  CHECK_EQ(world.log.damaged_records(), 0);
  for (const uint32_t sequence : {1, 2, 4}) CHECK(world.state.Find(kBlock, sequence).deleted());
  CHECK_FALSE(world.state.Find(kBlock, 3).deleted());
}

TEST_CASE("delete_log: F15 a torn page that holds nothing sound is cut off") {
  World world;
  REQUIRE_EQ(world.Load(), Err::kOk);
  world.Delete({1});
  const uint64_t sound = world.log.size_bytes();
  world.Delete({2});
  world.kv.Wipe();
  world.disk.FlipBit(kName, sound + 20);
  REQUIRE_EQ(world.Load(), Err::kOk);
  CHECK_EQ(world.log.damaged_records(), 0);
  CHECK_EQ(world.disk.FileImage(kName).size(), sound);
  CHECK(world.state.Find(kBlock, 1).deleted());
}

}  // namespace hayloft
