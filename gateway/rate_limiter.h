// How much each client may ask for: token buckets of requests and of uploaded bytes, one pair for
// each address or key.
//
//   requests   a bucket holds what comes in 2 s. A request takes one token, or is refused and takes
//              none.
//   bytes      a bucket holds what comes in 2 s, or one file of the largest size if that is more,
//              and may be overdrawn by one file. An upload begins only with a bucket that is not
//              overdrawn and takes what its body brings, as it comes: never by its Content-Length,
//              with which a stranger behind the same address could take everything. So a file
//              that has begun alone always comes through; many at a time are cut at the bound.
//
// A full bucket is as good as none, so the table forgets those first. When it is full of others,
// newcomers share one bucket: memory has a bound, and who is known already keeps what is his.
//
// Exact: a rate of r tokens a second is r thousandths a millisecond, in integers; nothing is
// rounded and nothing drifts. A clock that steps back brings no tokens. Pure; for one thread at a
// time.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gateway/peer_address.h"

namespace hayloft {

inline constexpr uint64_t kRateRequestsMax = 1'000'000;       // a second
inline constexpr uint64_t kRateBytesMax = uint64_t{1} << 40;  // likewise
inline constexpr uint64_t kRateBurstSeconds = 2;

struct RateLimits {
  uint64_t requests_per_s = 0;      // 0: no limit; at most kRateRequestsMax
  uint64_t upload_bytes_per_s = 0;  // 0: no limit; at most kRateBytesMax
  uint64_t upload_bytes_max = 0;    // the largest file; above 0 where bytes have a limit
  bool is_on() const { return requests_per_s > 0 || upload_bytes_per_s > 0; }
};

// Whom a bucket belongs to.
using RateKey = std::array<uint8_t, 16>;
RateKey RateKeyOf(const PeerAddress& peer);    // by LimitKey: IPv6 by /64
RateKey RateKeyOfName(std::string_view name);  // of an upload or signing key: of its SHA-256
// Nobody can choose keys whose hashes are alike who does not know the seed.
uint64_t RateHash(const RateKey& key, uint64_t seed);

class RateTable {
 public:
  // `seed` is for RateHash. REQUIRES: limits within their bounds, entries_max > 0.
  RateTable(const RateLimits& limits, size_t entries_max, uint64_t seed);

  // 0: allowed. Else the milliseconds until it would be; at least 1.
  uint64_t TakeRequest(const RateKey& key, uint64_t now_ms);
  // Likewise, whether an upload may begin. Takes nothing.
  uint64_t BeginUpload(const RateKey& key, uint64_t now_ms);
  // Takes what has come of a body. Not 0: the bucket is overdrawn to its bound; the milliseconds
  // until an upload may begin.
  uint64_t TakeBytes(const RateKey& key, uint64_t bytes, uint64_t now_ms);

  size_t entries() const { return buckets_.size(); }

 private:
  struct Bucket {
    RateKey key{};
    uint64_t at_ms = 0;          // when the levels were so
    int64_t request_millis = 0;  // thousandths of a request
    int64_t byte_millis = 0;     // thousandths of a byte; below 0: overdrawn
  };
  struct Hash {
    uint64_t seed;
    size_t operator()(const RateKey& key) const { return RateHash(key, seed); }
  };
  Bucket* Find(const RateKey& key, uint64_t now_ms);
  Bucket* Forget(uint64_t now_ms);
  void Refill(Bucket* bucket, uint64_t now_ms) const;
  bool IsFull(const Bucket& bucket) const;

  const RateLimits limits_;
  const int64_t request_millis_max_;
  const int64_t byte_millis_max_;
  const int64_t byte_millis_min_;
  const size_t entries_max_;
  std::vector<Bucket> buckets_;
  std::unordered_map<RateKey, uint32_t, Hash> places_;  // in buckets_
  size_t hand_ = 0;                                     // where Forget looks next
  Bucket shared_;                                       // of those for whom there is no place
};

}  // namespace hayloft
