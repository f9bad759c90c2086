#include "nameserver/ns_store.h"

#include <algorithm>

#include "common/check.h"
#include "common/ha/ha_store.h"

namespace hayloft {

namespace {

constexpr std::string_view kHeadKey = kServiceHeadKey;
constexpr std::string_view kBlockPrefix = "block/";
constexpr std::string_view kDspPrefix = "dsp/";

std::string RowKey(std::string_view prefix, uint64_t number) {
  uint8_t digits[8];
  PutBigEndian64(number, digits);
  return std::string(prefix) + std::string(AsText(digits));
}

Kv::Change Row(std::string key, const google::protobuf::MessageLite& message) {
  return {.key = std::move(key), .value = message.SerializeAsString()};
}

// The row that a record changes, if it has one of its own; the rest is in the head.
void AddRow(const pb::LogRecord& record, std::vector<Kv::Change>* changes) {
  if (record.has_dsp()) {
    changes->push_back(Row(RowKey(kDspPrefix, record.dsp().dsp_id()), record.dsp()));
  } else if (record.has_block()) {
    const pb::LogBlock& block = record.block();
    changes->push_back(Row(RowKey(kBlockPrefix, block.block_id()), block));
    if (block.removed()) changes->back() = {changes->back().key, "", true};
  }
}

void AdvanceHead(const pb::LogRecord& record, pb::NsHead* head) {
  ASSERT(record.index() == head->last_index() + 1);
  head->set_last_index(record.index());
  if (record.has_new_epoch()) head->set_epoch(record.new_epoch().epoch());
  if (record.has_settings()) *head->mutable_settings() = record.settings();
  if (record.has_id_range()) {
    head->set_id_range_end(std::max(head->id_range_end(), record.id_range().end()));
  }
}

}  // namespace

Err NsStore::Init(std::string_view node, const pb::LogSettings& settings, bool joining) {
  bool empty = true;
  TRY(kv_->Scan("", [&](std::string_view, std::string_view) { return empty = false; }));
  if (!empty) return Err::kExists;
  head_.Clear();
  head_.set_format(kNsStoreFormat);
  head_.set_id_range_end(1);
  *head_.mutable_settings() = settings;
  pb::HaHead ha;
  ha.set_node(std::string(node));
  ha.set_joining(joining);
  ha.set_service_id(settings.cluster_id());
  const Kv::Change changes[] = {Row(std::string(kHeadKey), head_), HaStore::FirstRow(ha)};
  return kv_->Write(changes, /*sync=*/true);
}

// Format 1 kept the applied records under "log/", for nobody.
Err NsStore::Upgrade() {
  std::vector<Kv::Change> changes;
  TRY(kv_->Scan("log/", [&](std::string_view key, std::string_view) {
    changes.push_back({.key = std::string(key), .value = "", .remove = true});
    return true;
  }));
  if (head_.node().size() != 16) return Err::kCorrupt;
  pb::HaHead ha;
  ha.set_node(head_.node());
  ha.set_service_id(head_.settings().cluster_id());
  ha.set_promised_epoch(head_.epoch());
  ha.set_promised_node(head_.node());
  ha.mutable_base()->set_index(head_.last_index());
  ha.mutable_base()->set_epoch(head_.epoch());
  ha.mutable_base()->set_node(head_.node());
  changes.push_back(HaStore::FirstRow(ha));
  head_.set_format(kNsStoreFormat);
  head_.clear_node();
  changes.push_back(Row(std::string(kHeadKey), head_));
  return kv_->Write(changes, /*sync=*/true);
}

Result<NsState> NsStore::Load() {
  TRY_ASSIGN(const std::string row, kv_->Get(kHeadKey));
  if (!head_.ParseFromString(row) || head_.format() == 0) return Err::kCorrupt;
  if (head_.format() > kNsStoreFormat) return Err::kUnsupported;
  if (head_.epoch() > kEpochMax || head_.id_range_end() > kBlockIdMax + 1) return Err::kCorrupt;
  if (head_.format() < kNsStoreFormat) TRY(Upgrade());
  NsState state;
  TRY_ASSIGN(const pb::HaHead ha, HaStore::ReadHead(kv_));
  state.node = ha.node();
  TRY(LoadRows(&state));
  state.settings = head_.settings();
  state.epoch = head_.epoch();
  state.id_range_end = head_.id_range_end();
  state.last_index = head_.last_index();
  return state;
}

// Rows are applied like the records that made them, so that both pass the same checks.
Err NsStore::LoadRows(NsState* state) {
  Err err = Err::kOk;
  uint64_t index = 0;
  const auto apply = [&](bool parsed, pb::LogRecord* record) {
    record->set_index(++index);
    err = parsed ? ApplyRecord(*record, state) : Err::kCorrupt;
    return err == Err::kOk;
  };
  TRY(kv_->Scan(kDspPrefix, [&](std::string_view, std::string_view value) {
    pb::LogRecord record;
    return apply(record.mutable_dsp()->ParseFromString(std::string(value)), &record);
  }));
  TRY(err);
  TRY(kv_->Scan(kBlockPrefix, [&](std::string_view, std::string_view value) {
    pb::LogRecord record;
    return apply(record.mutable_block()->ParseFromString(std::string(value)), &record);
  }));
  return err;
}

bool NsStore::CanTake(const pb::SnapshotRequest& snapshot) {
  if (snapshot.part() == 0) {
    pb::NsHead head;
    const bool has_head = snapshot.rows_size() > 0 && snapshot.rows(0).key() == kHeadKey &&
                          head.ParseFromString(snapshot.rows(0).value());
    if (!has_head || head.format() != kNsStoreFormat) return false;
    if (head.last_index() != snapshot.base().index()) return false;
  }
  for (int i = snapshot.part() == 0 ? 1 : 0; i < snapshot.rows_size(); ++i) {
    const std::string& key = snapshot.rows(i).key();
    if (key == kHeadKey || !HaStore::OfService(key)) return false;
  }
  return true;
}

Err NsStore::Apply(std::span<const pb::HaRecord> records, bool sync) {
  std::vector<pb::LogRecord> parsed(records.size());
  for (size_t i = 0; i < records.size(); ++i) {
    if (!parsed[i].ParseFromString(records[i].body())) return Err::kCorrupt;
  }
  return Apply(parsed, sync);
}

Err NsStore::Apply(std::span<const pb::LogRecord> records, bool sync) {
  ASSERT(!records.empty());
  ASSERT(head_.format() == kNsStoreFormat);
  std::vector<Kv::Change> changes;
  changes.reserve(records.size() + 1);
  for (const pb::LogRecord& record : records) {
    AdvanceHead(record, &head_);
    AddRow(record, &changes);
  }
  changes.push_back(Row(std::string(kHeadKey), head_));
  return kv_->Write(changes, sync);
}

}  // namespace hayloft
