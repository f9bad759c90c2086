#include "common/ha/ha_store.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/codec.h"

namespace hayloft {

namespace {

constexpr std::string_view kHeadKey = "ha/head";
constexpr std::string_view kLogPrefix = "log/";
constexpr size_t kRemovedPerBatch = 10'000;
constexpr uint64_t kLogIndexMax = uint64_t{1} << 56;

std::string LogKey(uint64_t index) {
  uint8_t digits[8];
  PutBigEndian64(index, digits);
  return std::string(kLogPrefix) + std::string(AsText(digits));
}

std::string RowOf(const pb::HaRecord& record) {
  const std::string body = record.SerializeAsString();
  const le32 crc = Crc32c(AsBytes(body));
  return std::string(AsText(StructBytes(crc))) + body;
}

Result<pb::HaRecord> RecordOf(std::string_view row) {
  ByteReader reader(AsBytes(row));
  const le32 crc = reader.TakeStruct<le32>();
  if (!reader.ok()) return Err::kCorrupt;
  const Bytes body = reader.Take(reader.size());
  pb::HaRecord record;
  if (Crc32c(body) != crc || !record.ParseFromString(std::string(AsText(body)))) {
    return Err::kCorrupt;
  }
  return record;
}

// Whether a record that anybody wrote has this name, or 0 and nothing, before the first one.
template <typename Named>
bool Possible(const Named& point) {
  const bool of_none = point.index() == 0 && point.epoch() == 0 && point.node().empty();
  return of_none || (point.index() <= kLogIndexMax && point.epoch() <= kEpochMax &&
                     point.node().size() == kNodeIdBytes);
}

}  // namespace

bool HaStore::OfService(std::string_view key) {
  return !key.starts_with(kLogPrefix) && !key.starts_with("ha/");
}

Kv::Change HaStore::FirstRow(const pb::HaHead& head) {
  ASSERT(head.node().size() == kNodeIdBytes);
  return {.key = std::string(kHeadKey), .value = head.SerializeAsString()};
}

Result<pb::HaHead> HaStore::ReadHead(Kv* kv) {
  TRY_ASSIGN(const std::string row, kv->Get(kHeadKey));
  pb::HaHead head;
  if (!head.ParseFromString(row) || head.node().size() != kNodeIdBytes) return Err::kCorrupt;
  if (head.promised_epoch() > kEpochMax || !Possible(head.base())) return Err::kCorrupt;
  return head;
}

Result<RoleDisk> HaStore::Load(uint64_t applied) {
  TRY_ASSIGN(head_, ReadHead(kv_));
  row_bytes_.clear();
  log_bytes_ = 0;
  RoleDisk disk{.head = head_, .log = LogTail(head_.base()), .applied = applied};
  if (head_.installing()) {  // what is there is a part of something
    disk.log.Reset(pb::HaPoint());
    disk.applied = 0;
    return disk;
  }
  Err err = Err::kOk;
  TRY(kv_->Scan(kLogPrefix, [&](std::string_view, std::string_view value) {
    CountRow(value.size());
    Result<pb::HaRecord> record = RecordOf(value);
    const bool follows = record.ok() && Possible(*record) &&
                         record->index() == disk.log.last() + 1 &&
                         record->epoch() >= disk.log.PointAt(disk.log.last()).epoch();
    if (!follows) err = Err::kCorrupt;
    if (err == Err::kOk) {
      const bool in_memory = record->index() > applied;
      disk.log.Append(std::move(record).value(), in_memory);
    }
    return err == Err::kOk;
  }));
  TRY(err);
  if (applied < disk.log.base() || applied > disk.log.last()) return Err::kCorrupt;
  return disk;
}

// A snapshot begins: everything goes, in steps; the head says meanwhile that nothing here counts.
Err HaStore::Wipe() {
  for (;;) {
    std::vector<Kv::Change> changes;
    TRY(kv_->ScanFrom("", [&](std::string_view key, std::string_view) {
      if (key != kHeadKey)
        changes.push_back({.key = std::string(key), .value = "", .remove = true});
      return changes.size() < kRemovedPerBatch;
    }));
    if (changes.empty()) return Err::kOk;
    TRY(kv_->Write(changes, /*sync=*/false));
  }
}

Err HaStore::Write(const RoleWrite& write) {
  std::vector<Kv::Change> changes;
  if (write.head.has_value()) {
    const pb::HaPoint base = head_.base();
    head_ = *write.head;
    if (!write.wipe) *head_.mutable_base() = base;
  }
  if (write.wipe) {
    pb::HaHead begun = head_;
    begun.set_installing(true);
    const Kv::Change change{.key = std::string(kHeadKey), .value = begun.SerializeAsString()};
    TRY(kv_->Write({&change, 1}, /*sync=*/true));
    TRY(Wipe());
    row_bytes_.clear();
    log_bytes_ = 0;
  }
  if (write.head.has_value()) {
    changes.push_back({.key = std::string(kHeadKey), .value = head_.SerializeAsString()});
  }
  if (write.cut_from != 0) {
    TRY(kv_->ScanFrom(LogKey(write.cut_from), [&](std::string_view key, std::string_view) {
      if (!key.starts_with(kLogPrefix)) return false;
      changes.push_back({.key = std::string(key), .value = "", .remove = true});
      log_bytes_ -= row_bytes_.back();
      row_bytes_.pop_back();
      return true;
    }));
  }
  for (const pb::HaRecord& record : write.records) {
    changes.push_back({.key = LogKey(record.index()), .value = RowOf(record)});
    CountRow(changes.back().value.size());
  }
  for (const pb::SnapshotRow& row : write.rows) {
    if (!OfService(row.key())) return Err::kCorrupt;
    changes.push_back({.key = row.key(), .value = row.value()});
  }
  return kv_->Write(changes, /*sync=*/true);
}

void HaStore::CountRow(size_t bytes) {
  row_bytes_.push_back(static_cast<uint32_t>(bytes));
  log_bytes_ += bytes;
}

// Some at a time: a batch for each record would cost as much as the record did.
Err HaStore::Truncate(uint64_t applied) {
  if (log_bytes_ <= bytes_kept_ + bytes_kept_ / 64) return Err::kOk;
  std::vector<Kv::Change> changes;
  uint64_t last = head_.base().index();
  size_t freed = 0;
  while (last < applied && log_bytes_ - freed > bytes_kept_) {
    freed += row_bytes_[changes.size()];
    changes.push_back({.key = LogKey(++last), .value = "", .remove = true});
  }
  if (changes.empty()) return Err::kOk;
  TRY_ASSIGN(const std::string row, kv_->Get(changes.back().key));
  TRY_ASSIGN(const pb::HaRecord record, RecordOf(row));
  row_bytes_.erase(row_bytes_.begin(), row_bytes_.begin() + static_cast<ptrdiff_t>(changes.size()));
  log_bytes_ -= freed;
  pb::HaPoint& base = *head_.mutable_base();
  base.set_index(record.index());
  base.set_epoch(record.epoch());
  base.set_node(record.node());
  changes.push_back({.key = std::string(kHeadKey), .value = head_.SerializeAsString()});
  return kv_->Write(changes, /*sync=*/false);
}

Result<std::vector<pb::HaRecord>> HaStore::Read(uint64_t from) {
  std::vector<pb::HaRecord> records;
  size_t bytes = 0;
  for (uint64_t index = from; bytes < RoleCore::kShipBytes; ++index) {
    Result<std::string> row = kv_->Get(LogKey(index));
    if (row.err() == Err::kNotFound) break;
    if (!row.ok()) return row.err();
    TRY_ASSIGN(pb::HaRecord record, RecordOf(*row));
    if (record.index() != index) return Err::kCorrupt;
    bytes += row->size();
    records.push_back(std::move(record));
  }
  return records;
}

// What was applied between two parts is in the log behind `base`, which the reader applies again:
// rows hold whole values, so that this changes nothing else. But the service's head counts what was
// applied: it is that of the beginning.
Result<RoleCore::SnapshotPart> HaStore::ReadSnapshot(std::string_view after, uint64_t applied) {
  RoleCore::SnapshotPart part;
  part.base = applied;
  const auto add = [&](std::string_view key, std::string_view value) {
    pb::SnapshotRow& row = part.rows.emplace_back();
    row.set_key(std::string(key));
    row.set_value(std::string(value));
  };
  if (after.empty()) {
    TRY_ASSIGN(const std::string head, kv_->Get(kServiceHeadKey));
    add(kServiceHeadKey, head);
    part.after = std::string(1, '\0');
    return part;
  }
  size_t bytes = 0;
  part.last = true;
  part.after = std::string(after);
  TRY(kv_->ScanFrom(after, [&](std::string_view key, std::string_view value) {
    if (key == after || key == kServiceHeadKey || !OfService(key)) return true;
    if (bytes >= kSnapshotPartBytes) {
      part.last = false;
      return false;
    }
    bytes += key.size() + value.size();
    add(key, value);
    part.after = std::string(key);
    return true;
  }));
  return part;
}

}  // namespace hayloft
