#include "gateway/admission.h"

#include <algorithm>

#include "common/check.h"

namespace hayloft {

Admission::Verdict Admission::Arrive(uint64_t id, uint64_t now_ms) {
  if (queue_ms_ == 0 || (waiting_.empty() && in_work_ < work_max_)) {
    ++in_work_;
    return Verdict::kBegin;
  }
  if (WouldRefuse()) return Verdict::kRefuse;
  waiting_.push_back({.id = id, .since_ms = now_ms});
  return Verdict::kWait;
}

uint64_t Admission::waiting_max() const { return std::max(work_max_, rate_ * queue_ms_ / 1'000); }

void Admission::Ended(uint64_t took_ms, uint64_t now_ms) {
  ASSERT(in_work_ > 0);
  --in_work_;
  ++ended_;
  least_ms_ = std::min(least_ms_, took_ms);
  if (now_ms - began_ms_ >= kIntervalMs) Learn(now_ms);
}

uint64_t Admission::TakeNext() {
  const uint64_t id = waiting_.front().id;
  waiting_.pop_front();
  if (waiting_.empty()) always_waited_ = false;
  ++in_work_;
  return id;
}

void Admission::Dropped() {
  ASSERT(in_work_ > 0);
  --in_work_;
}

std::optional<uint64_t> Admission::Expired(uint64_t now_ms) {
  if (waiting_.empty() || now_ms - waiting_.front().since_ms < queue_ms_) {
    return std::nullopt;
  }
  const uint64_t id = waiting_.front().id;
  waiting_.pop_front();
  if (waiting_.empty()) always_waited_ = false;
  return id;
}

// Called when one has ended, so that a halt of the store teaches nothing until it is over.
void Admission::Learn(uint64_t now_ms) {
  if (!always_waited_) {
    work_max_ = std::max(work_max_, std::min(2 * work_max_, kWorkStart));
    rate_ = std::max(rate_, std::min(2 * rate_, kRateStart));
    return BeginInterval(now_ms);
  }
  if (least_ms_ == kUnknownMs) return BeginInterval(now_ms);  // of none that ended it is known
  rate_ = (rate_ + ended_ * 1'000 / (now_ms - began_ms_)) / 2;
  if (least_ms_ > kStoreMs) {
    work_max_ = std::max({work_max_ / 2, work_max_ * kStoreMs / least_ms_, kWorkMin});
  } else {
    work_max_ = std::min(work_max_ + work_max_ / 8, kWorkMax);
  }
  BeginInterval(now_ms);
}

void Admission::BeginInterval(uint64_t now_ms) {
  began_ms_ = now_ms;
  always_waited_ = !waiting_.empty();
  ended_ = 0;
  least_ms_ = UINT64_MAX;
}

}  // namespace hayloft
