// libFuzzer target: the delete log and LevelDB's copy of it, as a disk may give them.
// covers: dataserver/dsp/delete_log.cc
// covers: dataserver/dsp/block_format.cc DecodeDeleteLogHeader CheckDeleteRecord
//
// The input is a program that writes both: see Build. Promises: no counter that a sound record or
// LevelDB holds is lost or lowered, a second start finds what the first left and no damage, appends
// and a rewriting of the log keep all.
#include <algorithm>
#include <map>

#include "common/log.h"
#include "dataserver/dsp/block_format.h"
#include "dataserver/dsp/delete_log.h"
#include "tests/sim/mem_kv.h"
#include "tests/sim/sim_device.h"

namespace hayloft {
namespace {

constexpr const char* kName = "deletes";
using Counters = std::map<std::pair<uint64_t, uint32_t>, uint32_t>;

void Raise(uint64_t block_id, uint32_t sequence, uint32_t counter, Counters* counters) {
  uint32_t& value = (*counters)[{block_id, sequence}];
  value = std::max(value, counter);
}

Counters CountersOf(const DeleteState& state) {
  Counters counters;
  for (const auto& [block_id, entries] : state.blocks()) {
    for (const DeleteEntry& entry : entries) {
      counters[{block_id, entry.sequence}] = entry.counter;
      ASSERT(state.Find(block_id, entry.sequence).counter == entry.counter);
    }
    ASSERT(state.DeletedIn(block_id) <= entries.size());
  }
  ASSERT(counters.size() == state.entries());
  return counters;
}

class World {
 public:
  explicit World(Bytes program) : reader_(program) {}

  // Each step is a byte and what it takes: a sound record, one of another place or log, bytes of
  // the input, the end of a page, a flip, or an entry of LevelDB.
  void Build() {
    log_ = EncodeDeleteLogHeader(kLogId);
    while (reader_.ok() && reader_.size() > 0) {
      const uint8_t op = reader_.Take(1)[0];
      if (op % 8 <= 1) Record(op);
      if (op % 8 == 2) NextPage();
      if (op % 8 == 3) log_ += AsText(reader_.Take(std::min<size_t>(op / 8, reader_.size())));
      if (op % 8 == 4) Flip();
      if (op % 8 == 5) KvEntry();
      if (op % 8 == 6) RawKvEntry();
      if (op % 8 == 7) log_.resize(log_.size() - std::min<size_t>(op / 8, log_.size()));
    }
    if (log_.empty()) return;
    const Result<FileHandle> file = device.Create(kName);
    ASSERT(file.ok());
    device.Close(*file);
    device.SetBytes(kName, 0, AsBytes(log_));
  }

  // What must be known after a start: sound records of whole pages, and LevelDB.
  Counters Expected(bool* unsupported) const {
    Counters counters;
    const Result<uint64_t> id =
        DecodeDeleteLogHeader(AsBytes(log_).first(std::min<size_t>(log_.size(), kPageBytes)));
    *unsupported = id.err() == Err::kUnsupported;
    for (size_t page = kPageBytes; id.ok() && page + kPageBytes <= log_.size();
         page += kPageBytes) {
      for (size_t i = 0; i < kDeleteRecordsPerPage; ++i) {
        const size_t at = page + i * sizeof(DeleteRecord);
        DeleteRecord record;
        std::memcpy(&record, log_.data() + at, sizeof(record));
        const Err sound = CheckDeleteRecord(record, *id, at);
        if (sound == Err::kUnsupported) *unsupported = true;
        if (sound != Err::kOk) continue;
        Raise(record.block_id, record.sequence, record.counter, &counters);
      }
    }
    for (const auto& [key, counter] : kv_counters_) {
      Raise(key.first, key.second, counter, &counters);
    }
    return counters;
  }

  SimDevice device{/*seed=*/1};
  MemKv kv{/*seed=*/2};

 private:
  static constexpr uint64_t kLogId = 9;

  void Record(unsigned op) {
    DeleteRecord record{};
    record.block_id = reader_.TakeStruct<uint8_t>() % 4;
    record.sequence = reader_.TakeStruct<uint8_t>() % 8;
    record.counter = reader_.TakeStruct<le16>();
    record.kind = (op & 0xf8) == 0xf8 ? kDeleteKindCounter + 1 : kDeleteKindCounter;
    const uint64_t misplaced = (op & 0xf8) == 0xf0 ? 8 : 0;
    SealDeleteRecord(&record, kLogId, log_.size() + misplaced);
    log_ += AsText(StructBytes(record));
    if (log_.size() % kPageBytes > kDeleteRecordsPerPage * sizeof(record)) NextPage();
  }

  void NextPage() { log_.resize(PageCeil(log_.size()), '\0'); }

  void Flip() {
    const le16 at = reader_.TakeStruct<le16>();
    if (log_.empty()) return;
    log_[at % log_.size()] = static_cast<char>(log_[at % log_.size()] ^ 1);
  }

  // As the log writes it: "d", block id and sequence big-endian; counter and time.
  void KvEntry() {
    const uint64_t block_id = reader_.TakeStruct<uint8_t>() % 4;
    const uint32_t sequence = reader_.TakeStruct<uint8_t>() % 8;
    const le32 counter = uint32_t{reader_.TakeStruct<le16>()};
    uint8_t numbers[16];
    PutBigEndian64(block_id, numbers);
    PutBigEndian64(sequence, numbers + 8);
    Kv::Change change;
    change.key = "d" + std::string(AsText(numbers));
    change.value = std::string(AsText(StructBytes(counter))) + std::string(8, '\0');
    ASSERT(kv.Write({&change, 1}, true) == Err::kOk);
    kv_counters_[{block_id, sequence}] = counter;
  }

  // What the log never writes must not be taken for an entry; neither length fits.
  void RawKvEntry() {
    const size_t size = reader_.TakeStruct<uint8_t>() % 24;
    Kv::Change change;
    change.key = "d" + std::string(AsText(reader_.Take(std::min(size, reader_.size()))));
    if (change.key.size() == 17) change.key.push_back('x');
    change.value = std::string(size, 'v');
    ASSERT(kv.Write({&change, 1}, true) == Err::kOk);
  }

  ByteReader reader_;
  std::string log_;
  Counters kv_counters_;
};

void AppendOne(DeleteLog* log, World* world, DeleteState* state, uint32_t counter) {
  const DeleteChange change{.block_id = 3, .entry = {.sequence = 7, .counter = counter}};
  (void)state->Raise(change);  // the log takes it whether it is news or not
  ASSERT(RunJob({.steps = log->AppendSteps({change})}, &world->device, &world->kv).err == Err::kOk);
}

// A start with nothing but the log.
Counters Reload(World* world, uint64_t* damaged) {
  DeleteLog log;
  DeleteState state;
  MemKv empty(/*seed=*/3);
  ASSERT(log.Load(&world->device, &empty, &state) == Err::kOk);
  ASSERT(log.Settle(&world->device, &empty, /*new_log_id=*/11, state) == Err::kOk);
  *damaged = log.damaged_records();
  return CountersOf(state);
}

void Run(World* world) {
  bool unsupported = false;
  const Counters expected = world->Expected(&unsupported);
  DeleteState read_only_state;
  const Err read_only = DeleteLog().Load(&world->device, &world->kv, &read_only_state);
  DeleteLog log;
  DeleteState state;
  Err err = log.Load(&world->device, &world->kv, &state);
  if (err == Err::kOk) err = log.Settle(&world->device, &world->kv, /*new_log_id=*/10, state);
  ASSERT((err == Err::kUnsupported) == unsupported);
  ASSERT((read_only == Err::kUnsupported) == unsupported);
  if (unsupported) return;
  ASSERT(err == Err::kOk);
  ASSERT(read_only == Err::kOk);
  ASSERT(CountersOf(state) == expected);
  ASSERT(CountersOf(read_only_state) == expected);
  uint64_t damaged = 0;
  ASSERT(Reload(world, &damaged) == expected);
  ASSERT(damaged == 0);
  AppendOne(&log, world, &state, /*counter=*/5);
  ASSERT(Reload(world, &damaged) == CountersOf(state));
  ASSERT(damaged == 0);
  if (!log.NeedsRewrite(state, kPageBytes)) return;
  IoJob job{.steps = log.RewriteSteps(state, /*new_log_id=*/12)};
  const JobDone done = RunJob(job, &world->device, &world->kv);
  ASSERT(done.err == Err::kOk);
  world->device.Close(log.Replaced(done.file));
  ASSERT(Reload(world, &damaged) == CountersOf(state));
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  SetLogSink([](LogLevel, std::string_view) {}, LogLevel::kError);
  World world({data, size});
  world.Build();
  Run(&world);
  return 0;
}
