#include "nameserver/ns_store.h"

#include <algorithm>

#include "common/check.h"

namespace hayloft {

namespace {

constexpr std::string_view kHeadKey = "head";
constexpr std::string_view kBlockPrefix = "block/";
constexpr std::string_view kDspPrefix = "dsp/";
constexpr std::string_view kLogPrefix = "log/";
constexpr size_t kNodeBytes = 16;

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

Err NsStore::Init(std::string_view node, const pb::LogSettings& settings) {
  ASSERT(node.size() == kNodeBytes);
  bool empty = true;
  TRY(kv_->Scan("", [&](std::string_view, std::string_view) { return empty = false; }));
  if (!empty) return Err::kExists;
  head_.Clear();
  head_.set_format(kNsStoreFormat);
  head_.set_node(std::string(node));
  head_.set_id_range_end(1);
  *head_.mutable_settings() = settings;
  const Kv::Change change = Row(std::string(kHeadKey), head_);
  return kv_->Write({&change, 1}, /*sync=*/true);
}

Result<NsState> NsStore::Load() {
  TRY_ASSIGN(const std::string row, kv_->Get(kHeadKey));
  if (!head_.ParseFromString(row) || head_.format() == 0) return Err::kCorrupt;
  if (head_.format() > kNsStoreFormat) return Err::kUnsupported;
  if (head_.node().size() != kNodeBytes) return Err::kCorrupt;
  NsState state;
  state.node = head_.node();
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

Err NsStore::Append(std::span<const pb::LogRecord> records) {
  ASSERT(!records.empty());
  ASSERT(head_.node().size() == kNodeBytes);
  std::vector<Kv::Change> changes;
  changes.reserve(records.size() * 3 + 1);
  for (const pb::LogRecord& record : records) {
    AdvanceHead(record, &head_);
    changes.push_back(Row(RowKey(kLogPrefix, record.index()), record));
    AddRow(record, &changes);
    if (record.index() > kLogKept) {
      changes.push_back({RowKey(kLogPrefix, record.index() - kLogKept), "", true});
    }
  }
  changes.push_back(Row(std::string(kHeadKey), head_));
  return kv_->Write(changes, /*sync=*/true);
}

}  // namespace hayloft
