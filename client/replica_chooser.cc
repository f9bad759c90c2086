#include "client/replica_chooser.h"

#include <algorithm>
#include <tuple>

#include "common/check.h"

namespace hayloft {

namespace {

constexpr uint64_t kUnit = 256;  // of latencies, a millisecond
constexpr uint64_t kWeight = 8;  // of a new sample: one in so many
constexpr uint64_t kHalvedMs = 1'000;
constexpr uint32_t kSamplesToJudge = 8;  // before a dsp is called slow
constexpr uint64_t kJudgeEveryMs = 100;
constexpr uint64_t kForgottenMs = 60'000;  // a dsp not read from for so long is no measure
constexpr uint64_t kPayloadMeasuredMax = 1 << 20;
constexpr size_t kReadsToHedge = 32;  // seen, before their p95 means something
constexpr size_t kRecomputeReads = 16;

}  // namespace

size_t ReplicaChooser::Choose(const std::vector<std::string>& replicas, uint32_t asked,
                              uint64_t now_ms, Random* random) {
  ASSERT(replicas.size() <= 32);
  std::array<size_t, 32> left{};
  size_t count = 0;
  for (size_t i = 0; i < replicas.size(); ++i) {
    if ((asked >> i & 1) == 0) left[count++] = i;
  }
  ASSERT(count > 0);
  if (count == 1) return left[0];
  if (dsps_.size() >= kDspsMax) dsps_.clear();
  const auto shunned = [&](size_t index) {
    const Dsp& dsp = dsps_[replicas[index]];
    return dsp.avoided_until_ms > now_ms || dsp.ejected_until_ms > now_ms;
  };
  // Who is shunned stands behind those who aren't, and is drawn only when there is no one else.
  size_t* const end = std::partition(left.data(), left.data() + count,
                                     [&](size_t index) { return !shunned(index); });
  const auto fine = static_cast<size_t>(end - left.data());
  if (fine == 1) return left[0];
  const size_t among = fine == 0 ? count : fine;
  const size_t first = random->Below(among);
  const size_t second = (first + 1 + random->Below(among - 1)) % among;
  const auto cost = [&](size_t index) {
    const Dsp& dsp = dsps_[replicas[index]];
    // What was slow and isn't asked any more would stay slow for ever: it is forgotten by halves.
    const uint64_t unused_ms = now_ms - std::min(dsp.last_ms, now_ms);
    const uint64_t latency = dsp.latency >> std::min(unused_ms / kHalvedMs, uint64_t{16});
    return (dsp.outstanding + 1) * (latency + kUnit);
  };
  // A small difference is chance; by it the reads would all go to one.
  return cost(left[second]) * 4 < cost(left[first]) * 3 ? left[second] : left[first];
}

void ReplicaChooser::Sent(const std::string& dsp) { ++dsps_[dsp].outstanding; }

void ReplicaChooser::OnEnded(const std::string& address, const Ended& read) {
  ASSERT(read.sent_ms <= read.now_ms);
  const auto found = dsps_.find(address);
  if (found == dsps_.end()) return;  // forgotten meanwhile
  Dsp& dsp = found->second;
  if (dsp.outstanding > 0) --dsp.outstanding;
  const uint64_t took_ms = read.now_ms - read.sent_ms;
  switch (read.err) {
    case Err::kUnavailable:
    case Err::kNotServing:
    case Err::kDenied:
      // Quick to answer, and of no use: its latency must not draw more reads.
      dsp.avoided_until_ms = read.now_ms + kAvoidedMs;
      return;
    case Err::kBusy:
    case Err::kTimeout:
      Sample(&dsp, std::max(took_ms, kHedgeMsMax), read.now_ms);
      return;
    default:
      if (read.payload_bytes > kPayloadMeasuredMax) return;
      Sample(&dsp, took_ms, read.now_ms);
      Remember(took_ms);
  }
}

void ReplicaChooser::Sample(Dsp* dsp, uint64_t took_ms, uint64_t now_ms) {
  const uint64_t latency = took_ms * kUnit;
  dsp->latency = dsp->samples == 0 ? latency : (dsp->latency * (kWeight - 1) + latency) / kWeight;
  ++dsp->samples;
  dsp->last_ms = now_ms;
  if (now_ms < next_judge_ms_) return;
  next_judge_ms_ = now_ms + kJudgeEveryMs;
  Judge(now_ms);
}

void ReplicaChooser::Remember(uint64_t took_ms) {
  recent_ms_[recent_next_] = static_cast<uint16_t>(std::min<uint64_t>(took_ms, UINT16_MAX));
  recent_next_ = (recent_next_ + 1) % recent_ms_.size();
  recent_count_ = std::min(recent_count_ + 1, recent_ms_.size());
  if (recent_count_ < kReadsToHedge || recent_next_ % kRecomputeReads != 0) return;
  std::array<uint16_t, 256> sorted = recent_ms_;
  uint16_t* const p95 = sorted.data() + recent_count_ * 95 / 100;
  std::nth_element(sorted.data(), p95, sorted.data() + recent_count_);
  hedge_after_ms_ = std::clamp<uint64_t>(*p95 + uint64_t{1}, kHedgeMsMin, kHedgeMsMax);
}

void ReplicaChooser::CountRead() {
  allowance_ = std::min(allowance_ + 1, kHedgesSavedMax * kReadsAHedge);
}

bool ReplicaChooser::TakeHedge() {
  if (allowance_ < kReadsAHedge) return false;
  allowance_ -= kReadsAHedge;
  return true;
}

bool ReplicaChooser::IsEjected(const std::string& address, uint64_t now_ms) const {
  const auto found = dsps_.find(address);
  return found != dsps_.end() && found->second.ejected_until_ms > now_ms;
}

uint64_t ReplicaChooser::MiddleOfOthers(const Dsp* one, uint64_t now_ms) const {
  std::vector<uint64_t> others;
  for (const auto& [address, dsp] : dsps_) {
    const bool measured = dsp.samples >= kSamplesToJudge && dsp.last_ms + kForgottenMs > now_ms;
    if (&dsp != one && measured && dsp.ejected_until_ms <= now_ms) others.push_back(dsp.latency);
  }
  if (others.empty()) return UINT64_MAX / kEjectFactor;  // nothing to be slower than
  const auto middle = others.begin() + static_cast<ptrdiff_t>(others.size() / 2);
  std::nth_element(others.begin(), middle, others.end());
  return *middle;
}

// Leaves out who is slow; lets back in who was left out long enough, as one that is as quick as the
// others until it shows otherwise.
void ReplicaChooser::Judge(uint64_t now_ms) {
  size_t known = 0, out = 0;
  for (auto& [address, dsp] : dsps_) {
    if (dsp.samples == 0 && !dsp.ejected) continue;
    if (dsp.ejected && dsp.ejected_until_ms <= now_ms) {
      dsp.ejected = false;
      dsp.samples = 0;
      const uint64_t middle = MiddleOfOthers(&dsp, now_ms);
      dsp.latency = std::min(dsp.latency, middle);
    }
    ++known;
    out += dsp.ejected ? 1 : 0;
  }
  for (auto& [address, dsp] : dsps_) {
    if (dsp.ejected || dsp.samples < kSamplesToJudge || (out + 1) * 3 > known) continue;
    if (dsp.latency < kEjectMsMin * kUnit) continue;
    const uint64_t middle = std::max(MiddleOfOthers(&dsp, now_ms), kUnit);
    if (dsp.latency <= middle * kEjectFactor) continue;
    PROBE("client: a slow dsp is left out");
    dsp.ejected = true;
    dsp.ejected_until_ms = now_ms + kEjectedMs;
    ++out;
  }
}

}  // namespace hayloft
