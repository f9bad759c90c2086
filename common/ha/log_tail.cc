#include "common/ha/log_tail.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace hayloft {

namespace {
// What a record takes in memory, roughly.
size_t BytesOf(const pb::HaRecord& record) { return sizeof(record) + 16 + record.body().size(); }
}  // namespace

void LogTail::Reset(pb::HaPoint base) {
  last_ = base.index();
  runs_.assign(1, std::move(base));
  records_.clear();
  bytes_ = 0;
}

size_t LogTail::RunOf(uint64_t index) const {
  ASSERT(index >= base());
  ASSERT(index <= last_);
  const auto after =
      std::upper_bound(runs_.begin(), runs_.end(), index,
                       [](uint64_t at, const pb::HaPoint& run) { return at < run.index(); });
  return static_cast<size_t>(after - runs_.begin()) - 1;
}

pb::HaPoint LogTail::PointAt(uint64_t index) const {
  pb::HaPoint point = runs_[RunOf(index)];
  point.set_index(index);
  return point;
}

bool LogTail::Has(const pb::HaPoint& point) const {
  if (point.index() < base() || point.index() > last_) return false;
  const pb::HaPoint& run = runs_[RunOf(point.index())];
  return run.epoch() == point.epoch() && run.node() == point.node();
}

uint64_t LogTail::FirstOfEpoch(uint64_t index) const { return runs_[RunOf(index)].index(); }

void LogTail::Append(pb::HaRecord record, bool in_memory) {
  ASSERT(record.index() == last_ + 1);
  const pb::HaPoint& run = runs_.back();
  ASSERT(record.epoch() >= run.epoch());
  if (record.epoch() != run.epoch() || record.node() != run.node()) {
    pb::HaPoint point;
    point.set_index(record.index());
    point.set_epoch(record.epoch());
    point.set_node(record.node());
    runs_.push_back(std::move(point));
  }
  last_ = record.index();
  ASSERT(in_memory || records_.empty());
  if (!in_memory) return;
  bytes_ += BytesOf(record);
  records_.push_back(std::move(record));
}

void LogTail::CutFrom(uint64_t from) {
  ASSERT(from > base());
  while (runs_.size() > 1 && runs_.back().index() >= from) runs_.pop_back();
  while (!records_.empty() && records_.back().index() >= from) {
    bytes_ -= BytesOf(records_.back());
    records_.pop_back();
  }
  last_ = std::min(last_, from - 1);
}

std::vector<pb::HaRecord> LogTail::Read(uint64_t from, size_t bytes_max) const {
  ASSERT(from > base());
  std::vector<pb::HaRecord> records;
  if (records_.empty() || from < records_.front().index()) return records;
  size_t bytes = 0;
  for (uint64_t index = from; index <= last_; ++index) {
    const pb::HaRecord& record = At(index);
    bytes += BytesOf(record);
    if (!records.empty() && bytes > bytes_max) break;
    records.push_back(record);
  }
  return records;
}

const pb::HaRecord& LogTail::At(uint64_t index) const {
  ASSERT(!records_.empty());
  ASSERT(index >= records_.front().index());
  ASSERT(index <= last_);
  return records_[index - records_.front().index()];
}

void LogTail::Trim(uint64_t applied) {
  while (bytes_ > kBytesKept && records_.front().index() <= applied) {
    bytes_ -= BytesOf(records_.front());
    records_.pop_front();
  }
}

}  // namespace hayloft
