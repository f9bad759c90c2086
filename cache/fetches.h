// One fetch for many: a hundred readers that miss the same image at once cost one read of a dsp.
//
// Who comes first fetches, the others wait for what he gets. A fetch that began more than kJoinMs
// ago takes nobody in any more: what it brings may be older than what its newest waiter may be told
// (an image that was deleted a second ago). The next one then fetches, too, and its answer goes to
// all who wait. So with kFeedTrustMs before it, which the answer of another gateway may be old, a
// reader is told nothing that is older than a second.
//
// Bounds: kFetchesMax fetches, kWaitersMax waiters; beyond them each fetches for himself. Pure; one
// owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "common/file_address.h"

namespace hayloft {

inline constexpr uint64_t kJoinMs = 200;
inline constexpr size_t kFetchesMax = 8'192;
inline constexpr size_t kWaitersMax = 65'536;

class Fetches {
 public:
  // A request: which event loop it is of, and its number there. No two are equal.
  struct Waiter {
    uint32_t loop = 0;
    uint64_t id = 0;
    friend bool operator==(const Waiter&, const Waiter&) = default;
  };
  // True: `request` fetches, and must Settle, whatever comes of it. False: it waits, and will be in
  // what Settle gives to another one.
  bool Join(const FileAddress& address, Waiter request, uint64_t now_ms);
  // Who waited for what `fetcher` fetched, in the order in which they came.
  std::vector<Waiter> Settle(const FileAddress& address, Waiter fetcher);

  size_t fetches() const { return fetches_; }
  size_t waiters() const { return waiters_; }

 private:
  struct Joined {
    Waiter request;
    uint64_t at_ms;
  };
  struct Flight {
    std::vector<Joined> fetchers;  // seldom more than one; the latest is last
    std::vector<Joined> waiters;
  };
  std::map<FileAddress, Flight> flights_;
  size_t fetches_ = 0;
  size_t waiters_ = 0;
};

}  // namespace hayloft
