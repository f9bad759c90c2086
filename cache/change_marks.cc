#include "cache/change_marks.h"

#include <algorithm>
#include <bit>

#include "common/check.h"

namespace hayloft {

ChangeMarks::ChangeMarks(size_t marks_max) : marks_(marks_max), lists_(marks_max) {
  ASSERT(marks_max == 0 || std::has_single_bit(marks_max));
}

uint64_t ChangeMarks::TableBytes(size_t marks_max) {
  return marks_max * (sizeof(Mark) + sizeof(uint64_t));
}

void ChangeMarks::Add(const File& file, uint64_t now_ms) {
  now_ms = latest_ms_ = std::max(latest_ms_, now_ms);
  if (marks_.empty()) {
    forgotten_ms_ = now_ms;
    return;
  }
  ++last_;
  Mark& mark = marks_[last_ & (marks_.size() - 1)];
  if (last_ > marks_.size()) forgotten_ms_ = mark.at_ms;
  uint64_t& list = lists_[file.hash & (lists_.size() - 1)];
  mark = {file.block_id, now_ms, list, file.sequence};
  list = last_;
}

bool ChangeMarks::Since(const File& file, uint64_t began_ms) const {
  if (forgotten_ms_ != 0 && began_ms <= forgotten_ms_) return true;
  if (marks_.empty()) return false;
  // Numbers of marks that are no longer there are at most last_ - marks_max.
  uint64_t number = lists_[file.hash & (lists_.size() - 1)];
  while (number != 0 && number + marks_.size() > last_) {
    const Mark& mark = marks_[number & (marks_.size() - 1)];
    if (mark.at_ms < began_ms) return false;  // as are all before it
    if (mark.block_id == file.block_id && mark.sequence == file.sequence) return true;
    ASSERT(mark.previous < number);
    number = mark.previous;
  }
  return false;
}

}  // namespace hayloft
