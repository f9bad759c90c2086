#include "cache/fetches.h"

#include <algorithm>

#include "common/check.h"

namespace hayloft {

bool Fetches::Join(const FileAddress& address, Waiter request, uint64_t now_ms) {
  const auto found = flights_.find(address);
  if (found != flights_.end()) {
    Flight& flight = found->second;
    ASSERT(!flight.fetchers.empty());
    const bool fresh = now_ms < flight.fetchers.back().at_ms + kJoinMs;
    if (fresh && waiters_ < kWaitersMax) {
      flight.waiters.push_back({request, now_ms});
      ++waiters_;
      return false;
    }
  }
  if (fetches_ >= kFetchesMax) return true;  // nobody will wait for it
  flights_[address].fetchers.push_back({request, now_ms});
  ++fetches_;
  return true;
}

std::vector<Fetches::Waiter> Fetches::Settle(const FileAddress& address, Waiter fetcher) {
  std::vector<Waiter> settled;
  const auto found = flights_.find(address);
  if (found == flights_.end()) return settled;
  Flight& flight = found->second;
  const auto own = std::find_if(flight.fetchers.begin(), flight.fetchers.end(),
                                [&](const Joined& each) { return each.request == fetcher; });
  if (own == flight.fetchers.end()) return settled;
  const uint64_t began_ms = own->at_ms;
  flight.fetchers.erase(own);
  --fetches_;
  // A later fetch's waiters are too new for this one's answer.
  std::vector<Joined> left;
  for (const Joined& waiter : flight.waiters) {
    if (waiter.at_ms < began_ms + kJoinMs) {
      settled.push_back(waiter.request);
    } else {
      left.push_back(waiter);
    }
  }
  ASSERT(waiters_ >= settled.size());
  waiters_ -= settled.size();
  flight.waiters = std::move(left);
  if (flight.fetchers.empty()) {
    ASSERT(flight.waiters.empty());
    flights_.erase(found);
  }
  return settled;
}

}  // namespace hayloft
