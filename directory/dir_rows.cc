#include "directory/dir_rows.h"

#include <functional>

#include "common/check.h"

namespace hayloft {

namespace {
constexpr uint64_t kInTheMaking = UINT64_MAX;
}

Result<std::optional<std::string>> DirRows::GetValue(std::string_view key) {
  const auto laid = overlay_.find(key);
  if (laid != overlay_.end()) return laid->second.value;
  Recent& recent = *RecentOf(key);
  if (recent.key == key) return recent.value;
  Result<std::string> value = kv_->Get(key);
  if (!value.ok() && value.err() != Err::kNotFound) return value.err();
  recent.key = key;
  recent.value = value.ok() ? std::optional(std::move(*value)) : std::nullopt;
  return recent.value;
}

DirRows::Recent* DirRows::RecentOf(std::string_view key) {
  return &recent_[std::hash<std::string_view>{}(key) % recent_.size()];
}

// From now on the overlay has it, and then the Kv another value.
void DirRows::Forget(std::string_view key) {
  Recent* recent = RecentOf(key);
  if (recent->key == key) recent->key.clear();
}

void DirRows::Change(std::string key, std::optional<std::string> value) {
  Forget(key);
  // A row that is changed twice in one record keeps both changes: the later one wins.
  pb::DirRow* row = record_.add_rows();
  row->set_key(key);
  row->set_removed(!value.has_value());
  if (value.has_value()) row->set_value(*value);
  overlay_[std::move(key)] = {std::move(value), kInTheMaking};
}

void DirRows::Put(std::string key, const google::protobuf::MessageLite& message) {
  Change(std::move(key), message.SerializeAsString());
}

void DirRows::Remove(std::string key) { Change(std::move(key), std::nullopt); }

pb::DirRecord DirRows::Take(uint64_t index) {
  pb::DirRecord record = std::exchange(record_, {});
  record.set_index(index);
  Lay(record);
  return record;
}

void DirRows::Lay(const pb::DirRecord& record) {
  ASSERT(laid_.empty() || laid_.back().first <= record.index());
  for (const pb::DirRow& row : record.rows()) {
    Forget(row.key());
    Laid& laid = overlay_[row.key()];
    laid.value = row.removed() ? std::nullopt : std::optional(row.value());
    laid.index = record.index();
    laid_.emplace_back(record.index(), row.key());
  }
}

void DirRows::Applied(uint64_t index) {
  while (!laid_.empty() && laid_.front().first <= index) {
    const auto found = overlay_.find(laid_.front().second);
    // A later record may have changed it again.
    if (found != overlay_.end() && found->second.index <= index) overlay_.erase(found);
    laid_.pop_front();
  }
}

uint64_t DirRows::IndexOf(std::string_view key) const {
  const auto laid = overlay_.find(key);
  return laid == overlay_.end() ? 0 : laid->second.index;
}

// Both are in order: the overlay's row hides the Kv's of the same key.
Err DirRows::ScanFrom(std::string_view first, const Kv::Visit& visit) {
  auto laid = overlay_.lower_bound(first);
  bool more = true;
  const auto visit_laid_below = [&](std::string_view key) {
    for (; more && laid != overlay_.end() && laid->first < key; ++laid) {
      if (laid->second.value.has_value()) more = visit(laid->first, *laid->second.value);
    }
  };
  TRY(kv_->ScanFrom(first, [&](std::string_view key, std::string_view value) {
    visit_laid_below(key);
    if (!more) return false;
    if (laid != overlay_.end() && laid->first == key) return true;  // shown below
    more = visit(key, value);
    return more;
  }));
  for (; more && laid != overlay_.end(); ++laid) {
    if (laid->second.value.has_value()) more = visit(laid->first, *laid->second.value);
  }
  return Err::kOk;
}

Err DirRows::Scan(std::string_view prefix, const Kv::Visit& visit) {
  return ScanFrom(prefix, [&](std::string_view key, std::string_view value) {
    return key.starts_with(prefix) && visit(key, value);
  });
}

}  // namespace hayloft
