#include "gateway/rate_limiter.h"

#include <algorithm>
#include <cstring>

#include "common/codec.h"

namespace hayloft {

namespace {

constexpr int64_t kMillis = 1'000;
constexpr size_t kLooksMax = 16;  // at buckets that may be forgotten, for each newcomer

static_assert(kRateBurstSeconds * kRateBytesMax < INT64_MAX / kMillis / 4);

int64_t Signed(uint64_t number) { return static_cast<int64_t>(number); }

// The level after `elapsed_ms`, without a product that could overflow.
int64_t Refilled(int64_t level, int64_t level_max, uint64_t rate, uint64_t elapsed_ms) {
  const uint64_t missing = static_cast<uint64_t>(level_max - level);
  if (rate == 0 || elapsed_ms > missing / rate) return rate == 0 ? level : level_max;
  return level + Signed(elapsed_ms * rate);
}

// Until `missing` thousandths have come: a millisecond brings `rate` of them.
uint64_t WaitMs(int64_t missing, uint64_t rate) {
  ASSERT(missing > 0);
  return (static_cast<uint64_t>(missing) + rate - 1) / rate;
}

uint64_t Mix(uint64_t x) {  // the finalizer of MurmurHash3
  x = (x ^ x >> 33) * 0xff51afd7ed558ccd;
  x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53;
  return x ^ x >> 33;
}

}  // namespace

RateKey RateKeyOf(const PeerAddress& peer) { return peer.LimitKey().bytes; }

RateKey RateKeyOfName(std::string_view name) {
  const Sha256 hash = Sha256Of(AsBytes(name));
  RateKey key;
  std::copy_n(hash.begin(), key.size(), key.begin());
  return key;
}

uint64_t RateHash(const RateKey& key, uint64_t seed) {
  uint64_t halves[2];
  std::memcpy(halves, key.data(), sizeof(halves));
  return Mix(Mix(halves[0] ^ seed) ^ halves[1]);
}

RateTable::RateTable(const RateLimits& limits, size_t entries_max, uint64_t seed)
    : limits_(limits),
      request_millis_max_(kMillis * Signed(kRateBurstSeconds * limits.requests_per_s)),
      byte_millis_max_(
          kMillis * Signed(std::max(kRateBurstSeconds * limits.upload_bytes_per_s,
                                    limits.upload_bytes_per_s > 0 ? limits.upload_bytes_max : 0))),
      byte_millis_min_(-kMillis * Signed(limits.upload_bytes_max)),
      entries_max_(entries_max),
      places_(0, Hash{seed}) {
  ASSERT(limits.requests_per_s <= kRateRequestsMax);
  ASSERT(limits.upload_bytes_per_s <= kRateBytesMax && limits.upload_bytes_max <= kRateBytesMax);
  ASSERT(limits.upload_bytes_per_s == 0 || limits.upload_bytes_max > 0);
  ASSERT(entries_max > 0 && entries_max < UINT32_MAX);
  shared_.request_millis = request_millis_max_;
  shared_.byte_millis = byte_millis_max_;
}

void RateTable::Refill(Bucket* bucket, uint64_t now_ms) const {
  if (now_ms <= bucket->at_ms) return;  // another thread's clock was read a little later
  const uint64_t elapsed_ms = now_ms - bucket->at_ms;
  bucket->request_millis =
      Refilled(bucket->request_millis, request_millis_max_, limits_.requests_per_s, elapsed_ms);
  bucket->byte_millis =
      Refilled(bucket->byte_millis, byte_millis_max_, limits_.upload_bytes_per_s, elapsed_ms);
  bucket->at_ms = now_ms;
}

bool RateTable::IsFull(const Bucket& bucket) const {
  return bucket.request_millis == request_millis_max_ && bucket.byte_millis == byte_millis_max_;
}

// A place whose bucket is full, or null. Looks at a few, the next time at the next ones.
RateTable::Bucket* RateTable::Forget(uint64_t now_ms) {
  for (size_t i = 0; i < std::min(kLooksMax, buckets_.size()); ++i) {
    Bucket* bucket = &buckets_[hand_];
    hand_ = (hand_ + 1) % buckets_.size();
    Refill(bucket, now_ms);
    if (!IsFull(*bucket)) continue;
    places_.erase(bucket->key);
    return bucket;
  }
  return nullptr;
}

RateTable::Bucket* RateTable::Find(const RateKey& key, uint64_t now_ms) {
  if (const auto place = places_.find(key); place != places_.end()) {
    Refill(&buckets_[place->second], now_ms);
    return &buckets_[place->second];
  }
  Bucket* bucket = nullptr;
  if (buckets_.size() < entries_max_) {
    bucket = &buckets_.emplace_back();
  } else {
    bucket = Forget(now_ms);
  }
  if (bucket == nullptr) {
    Refill(&shared_, now_ms);
    return &shared_;
  }
  places_[key] = static_cast<uint32_t>(bucket - buckets_.data());
  *bucket = {.key = key,
             .at_ms = now_ms,
             .request_millis = request_millis_max_,
             .byte_millis = byte_millis_max_};
  return bucket;
}

uint64_t RateTable::TakeRequest(const RateKey& key, uint64_t now_ms) {
  if (limits_.requests_per_s == 0) return 0;
  Bucket* bucket = Find(key, now_ms);
  if (bucket->request_millis < kMillis) {
    return WaitMs(kMillis - bucket->request_millis, limits_.requests_per_s);
  }
  bucket->request_millis -= kMillis;
  return 0;
}

uint64_t RateTable::BeginUpload(const RateKey& key, uint64_t now_ms) {
  if (limits_.upload_bytes_per_s == 0) return 0;
  const Bucket* bucket = Find(key, now_ms);
  if (bucket->byte_millis >= 0) return 0;
  return WaitMs(-bucket->byte_millis, limits_.upload_bytes_per_s);
}

uint64_t RateTable::TakeBytes(const RateKey& key, uint64_t bytes, uint64_t now_ms) {
  if (limits_.upload_bytes_per_s == 0) return 0;
  Bucket* bucket = Find(key, now_ms);
  const uint64_t left = static_cast<uint64_t>(bucket->byte_millis - byte_millis_min_) / kMillis;
  if (bytes <= left) {
    bucket->byte_millis -= kMillis * Signed(bytes);
    return 0;
  }
  bucket->byte_millis = byte_millis_min_;
  return WaitMs(-byte_millis_min_, limits_.upload_bytes_per_s);
}

}  // namespace hayloft
