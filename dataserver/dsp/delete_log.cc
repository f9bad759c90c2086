#include "dataserver/dsp/delete_log.h"

#include <algorithm>

#include "common/check.h"
#include "common/log.h"
#include "dataserver/dsp/block_format.h"

namespace hayloft {

namespace {

constexpr std::string_view kLogName = "deletes";
constexpr std::string_view kNewLogName = "deletes.tmp";
constexpr std::string_view kKvPrefix = "d";  // and two numbers of 8 bytes

std::string KvKey(uint64_t block_id, uint32_t sequence) {
  uint8_t numbers[16];
  PutBigEndian64(block_id, numbers);
  PutBigEndian64(sequence, numbers + 8);
  return std::string(kKvPrefix).append(AsText(numbers));
}

struct KvValue {
  le32 counter;
  le64 changed_ms;
};

Kv::Change KvChange(uint64_t block_id, const DeleteEntry& entry) {
  const KvValue value{.counter = entry.counter, .changed_ms = entry.changed_ms};
  return {.key = KvKey(block_id, entry.sequence), .value = std::string(AsText(StructBytes(value)))};
}

// Records as whole pages for the file's `offset`, sealed with the log's id.
Buffer EncodePages(const std::vector<DeleteChange>& changes, uint64_t log_id, uint64_t offset) {
  const size_t pages = (changes.size() + kDeleteRecordsPerPage - 1) / kDeleteRecordsPerPage;
  Buffer out(pages * kPageBytes);
  std::memset(out.mutable_bytes().data(), 0, out.size());
  for (size_t i = 0; i < changes.size(); ++i) {
    const size_t at =
        i / kDeleteRecordsPerPage * kPageBytes + i % kDeleteRecordsPerPage * sizeof(DeleteRecord);
    DeleteRecord record{};
    record.block_id = changes[i].block_id;
    record.sequence = changes[i].entry.sequence;
    record.counter = changes[i].entry.counter;
    record.changed_ms = changes[i].entry.changed_ms;
    record.kind = kDeleteKindCounter;
    SealDeleteRecord(&record, log_id, offset + at);
    std::memcpy(out.mutable_bytes().data() + at, &record, sizeof(record));
  }
  return out;
}

bool IsZero(Bytes bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

}  // namespace

DeleteEntry DeleteState::Find(uint64_t block_id, uint32_t sequence) const {
  const auto block = blocks_.find(block_id);
  if (block == blocks_.end()) return {.sequence = sequence};
  const auto entry = std::lower_bound(
      block->second.begin(), block->second.end(), sequence,
      [](const DeleteEntry& have, uint32_t wanted) { return have.sequence < wanted; });
  const bool found = entry != block->second.end() && entry->sequence == sequence;
  return found ? *entry : DeleteEntry{.sequence = sequence};
}

bool DeleteState::Raise(const DeleteChange& change) {
  std::vector<DeleteEntry>& entries = blocks_[change.block_id];
  const auto entry = std::lower_bound(
      entries.begin(), entries.end(), change.entry.sequence,
      [](const DeleteEntry& have, uint32_t wanted) { return have.sequence < wanted; });
  if (entry == entries.end() || entry->sequence != change.entry.sequence) {
    entries.insert(entry, change.entry);
    ++entries_;
    return true;
  }
  if (entry->counter >= change.entry.counter) return false;
  *entry = change.entry;
  return true;
}

uint32_t DeleteState::DeletedIn(uint64_t block_id) const {
  const auto block = blocks_.find(block_id);
  if (block == blocks_.end()) return 0;
  return static_cast<uint32_t>(
      std::count_if(block->second.begin(), block->second.end(),
                    [](const DeleteEntry& entry) { return entry.deleted(); }));
}

Err DeleteLog::Settle(Device* device, Kv* kv, uint64_t new_log_id, const DeleteState& state) {
  if (file_.valid() && damaged_ == 0 && !torn_page_) {
    TRY_ASSIGN(const uint64_t size, device->Size(file_));
    if (end_ < size) {
      PROBE("delete_log_tail_cut");
      LOG_INFO("delete_log_tail_cut", "bytes=%llu", static_cast<unsigned long long>(size - end_));
      TRY(device->Truncate(file_, end_));
    }
    TRY(SyncErr(device->Sync(file_)));  // nothing is believed that a second crash could take back
    FillFastStart(kv, state);
    return Err::kOk;
  }
  if (torn_page_) {
    // Behind a later commit its torn records would look like damage.
    PROBE("delete_log_torn_page");
    LOG_INFO("delete_log_torn_page", "end=%llu action=rewrite",
             static_cast<unsigned long long>(end_));
  }
  IoJob job;
  job.steps = RewriteSteps(state, new_log_id);
  const JobDone done = RunJob(job, device, kv);
  TRY(JobErr(done));
  const FileHandle old = Replaced(done.file);
  if (old.valid()) device->Close(old);
  FillFastStart(kv, state);
  return Err::kOk;
}

// LevelDB's copy is written after the log's sync: whatever it holds was acknowledged. What the log
// lacks of it was damaged, be it in the middle, in a tail that looks torn, or cut by hand.
Err DeleteLog::Load(Device* device, Kv* kv, DeleteState* state) {
  const Result<FileHandle> file = device->Open(kLogName);
  if (!file.ok() && file.err() != Err::kNotFound) return file.err();
  if (file.ok()) {
    file_ = *file;
    TRY(ReadAll(device, state));
  }
  TRY(MergeFastStart(kv, state));
  if (damaged_ > 0) {
    PROBE("delete_log_damaged");
    LOG_WARN("delete_log_damaged", "records=%llu action=merge_and_rewrite",
             static_cast<unsigned long long>(damaged_));
  }
  return Err::kOk;
}

// Only what lies behind the last sound record can be a commit that a crash interrupted; anything
// unsound before it is damage.
Err DeleteLog::ReadAll(Device* device, DeleteState* state) {
  TRY_ASSIGN(const uint64_t size, device->Size(file_));
  std::vector<uint8_t> bytes(size);  // 40 bytes a delete; rewritten when half is stale
  if (size > 0) TRY(device->Read(file_, 0, bytes));
  const Result<uint64_t> log_id =
      DecodeDeleteLogHeader(Bytes(bytes).first(std::min(size, kPageBytes)));
  end_ = kPageBytes;
  if (log_id.err() == Err::kUnsupported) return Err::kUnsupported;
  if (!log_id.ok()) {
    damaged_ = 1;
    return Err::kOk;
  }
  log_id_ = *log_id;
  uint64_t unsound = 0;  // met since the last sound record
  for (uint64_t page = kPageBytes; page + kPageBytes <= size; page += kPageBytes) {
    for (size_t i = 0; i < kDeleteRecordsPerPage; ++i) {
      const uint64_t at = page + i * sizeof(DeleteRecord);
      DeleteRecord record;
      std::memcpy(&record, bytes.data() + at, sizeof(record));
      const Err sound = CheckDeleteRecord(record, log_id_, at);
      if (sound == Err::kUnsupported) return sound;
      if (sound == Err::kOk) {
        damaged_ += std::exchange(unsound, 0);
        end_ = page + kPageBytes;
        (void)state->Raise({.block_id = record.block_id,  // an older record repeats what is known
                            .entry = {.sequence = record.sequence,
                                      .counter = record.counter,
                                      .changed_ms = record.changed_ms}});
        continue;
      }
      if (IsZero(StructBytes(record)) && i > 0) continue;  // padding; each page begins with one
      ++unsound;
    }
    if (end_ == page + kPageBytes) torn_page_ = unsound > 0;
  }
  return Err::kOk;
}

// A power cut takes the latest of LevelDB's copy, or somebody removed its folder: what it lacks is
// written, so that it can stand in when the log is damaged next. After the log's own sync: LevelDB
// never knows more.
void DeleteLog::FillFastStart(Kv* kv, const DeleteState& state) {
  std::vector<Kv::Change> changes;
  for (const auto& [block_id, entries] : state.blocks()) {
    for (const DeleteEntry& entry : entries) {
      const bool known = fast_start_.Find(block_id, entry.sequence).counter >= entry.counter;
      if (!known) changes.push_back(KvChange(block_id, entry));
    }
  }
  fast_start_ = {};
  if (changes.empty()) return;
  PROBE("delete_log_fast_start_filled");
  if (const Err err = kv->Write(changes, /*sync=*/false); err != Err::kOk) {
    LOG_WARN("fast_start_write_failed", "err=%s", ErrName(err).data());
  }
}

Err DeleteLog::MergeFastStart(Kv* kv, DeleteState* state) {
  return kv->Scan(kKvPrefix, [this, state](std::string_view key, std::string_view value) {
    KvValue stored;
    if (key.size() != kKvPrefix.size() + 16 || value.size() != sizeof(stored)) return true;
    std::memcpy(&stored, value.data(), sizeof(stored));
    const uint8_t* numbers = AsBytes(key).data() + kKvPrefix.size();
    const DeleteChange change{
        .block_id = GetBigEndian64(numbers),
        .entry = {.sequence = static_cast<uint32_t>(GetBigEndian64(numbers + 8)),
                  .counter = stored.counter,
                  .changed_ms = stored.changed_ms}};
    (void)fast_start_.Raise(change);  // each key comes once
    if (state->Raise(change)) ++damaged_;
    return true;
  });
}

std::vector<IoStep> DeleteLog::AppendSteps(const std::vector<DeleteChange>& changes) {
  ASSERT(!changes.empty());
  std::vector<IoStep> steps(3);
  steps[0] = {.op = IoStep::Op::kWrite, .file = file_, .offset = end_};
  steps[0].owned.push_back(EncodePages(changes, log_id_, end_));
  steps[1] = {.op = IoStep::Op::kSync, .file = file_};
  steps[2] = {.op = IoStep::Op::kKvWrite};
  for (const DeleteChange& change : changes) {
    steps[2].changes.push_back(KvChange(change.block_id, change.entry));
  }
  append_bytes_ = steps[0].owned[0].size();
  end_ += append_bytes_;
  return steps;
}

std::vector<IoStep> DeleteLog::TakeBackSteps() {
  end_ -= std::exchange(append_bytes_, 0);
  std::vector<IoStep> steps(2);
  steps[0] = {.op = IoStep::Op::kTruncate, .file = file_, .size = end_};
  steps[1] = {.op = IoStep::Op::kSync, .file = file_};
  return steps;
}

bool DeleteLog::NeedsRewrite(const DeleteState& state, uint64_t bytes_min) const {
  const uint64_t live = PageCeil(state.entries() * sizeof(DeleteRecord)) + kPageBytes;
  return end_ > bytes_min && end_ > 2 * live;
}

std::vector<IoStep> DeleteLog::RewriteSteps(const DeleteState& state, uint64_t new_log_id) {
  rewrite_log_id_ = new_log_id;
  std::vector<DeleteChange> all;
  all.reserve(state.entries());
  for (const auto& [block_id, entries] : state.blocks()) {
    for (const DeleteEntry& entry : entries) all.push_back({.block_id = block_id, .entry = entry});
  }
  std::vector<IoStep> steps(6);
  steps[0] = {.op = IoStep::Op::kRemove, .name = std::string(kNewLogName)};  // a failed attempt's
  steps[1] = {.op = IoStep::Op::kCreate, .name = std::string(kNewLogName)};
  steps[2] = {.op = IoStep::Op::kWrite};
  steps[2].owned.push_back(Buffer::CopyOf(AsBytes(EncodeDeleteLogHeader(new_log_id))));
  if (!all.empty()) steps[2].owned.push_back(EncodePages(all, new_log_id, kPageBytes));
  rewrite_end_ = 0;
  for (const Buffer& part : steps[2].owned) rewrite_end_ += part.size();
  steps[3] = {.op = IoStep::Op::kSync};
  steps[4] = {
      .op = IoStep::Op::kRename, .name = std::string(kNewLogName), .target = std::string(kLogName)};
  steps[5] = {.op = IoStep::Op::kSyncDir};
  return steps;
}

FileHandle DeleteLog::Replaced(FileHandle file) {
  ASSERT(file.valid());
  log_id_ = rewrite_log_id_;
  end_ = rewrite_end_;
  return std::exchange(file_, file);
}

}  // namespace hayloft
