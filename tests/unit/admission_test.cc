// Admission in front of a simulated store: what overload costs, and that nothing else is refused.
#include "gateway/admission.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <vector>

namespace hayloft {
namespace {

constexpr uint64_t kClientMs = 1'000;  // then a client has given up
constexpr uint64_t kRetryMs = 1'000;   // as Retry-After tells those who are refused
using Verdict = Admission::Verdict;

// A store with one queue, which does so many requests a second, in groups as a disk's syncs do
// them: whatever has come when one ends is in the next. Time goes on in steps of 1 ms.
class Simulation {
 public:
  Simulation(uint64_t rate, uint64_t sync_ms, uint64_t queue_ms = 500)
      : rate_(rate), sync_ms_(sync_ms), admission_(queue_ms) {}

  // Clients that ask again as soon as they are answered.
  void Clients(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) due_.emplace(now_ms_ + i % 100, true);
  }
  // Requests that come whatever becomes of the others.
  void Arrivals(uint64_t a_second) { arrivals_ = a_second; }
  // Besides, each takes so long, however many there are: as with many stores.
  void SetTakes(uint64_t ms) { takes_ms_ = ms; }
  void HaltUntil(uint64_t ms) { halt_until_ms_ = ms; }
  void SetRate(uint64_t rate) { rate_ = rate; }

  void Run(uint64_t ms) {
    good_ = late_ = refused_ = gone_ = 0;
    for (const uint64_t end_ms = now_ms_ + ms; now_ms_ < end_ms; ++now_ms_) Step();
  }
  // A second, of answers that found their client waiting.
  uint64_t Goodput(uint64_t ms) const { return good_ * 1'000 / ms; }

  uint64_t now_ms_ = 1;
  uint64_t rate_;
  const uint64_t sync_ms_;
  Admission admission_;
  uint64_t good_ = 0, late_ = 0, refused_ = 0, gone_ = 0;
  uint64_t most_held_ = 0;

 private:
  struct Request {
    bool again = false;  // its client asks again
    uint64_t since_ms = 0;
    uint64_t begun_ms = 0;
  };
  void Step() {
    for (credit_ += arrivals_; credit_ >= 1'000; credit_ -= 1'000) due_.emplace(now_ms_, false);
    while (!due_.empty() && due_.begin()->first <= now_ms_) {
      const bool again = due_.begin()->second;
      due_.erase(due_.begin());
      Ask(again);
    }
    if (now_ms_ >= halt_until_ms_) Work();
    while (const auto id = admission_.Expired(now_ms_)) Refuse(*id);
    most_held_ = std::max(most_held_, admission_.waiting() + admission_.in_work());
  }
  void Ask(bool again) {
    const uint64_t id = ++last_id_;
    requests_[id] = {.again = again, .since_ms = now_ms_, .begun_ms = now_ms_};
    const Verdict verdict = admission_.Arrive(id, now_ms_);
    if (verdict == Verdict::kBegin) store_.push_back(id);
    if (verdict == Verdict::kRefuse) Refuse(id);
  }
  void Refuse(uint64_t id) {
    ++refused_;
    if (requests_[id].again) due_.emplace(now_ms_ + kRetryMs, true);
    requests_.erase(id);
  }
  void Work() {
    work_ += rate_;
    if (now_ms_ < sync_end_ms_) return;
    sync_end_ms_ = now_ms_ + sync_ms_;
    const uint64_t can = work_ / 1'000;
    work_ %= 1'000;
    for (uint64_t i = 0; i < can && !store_.empty(); ++i) {
      const uint64_t id = store_.front();
      if (now_ms_ - requests_[id].begun_ms < takes_ms_) return;
      store_.pop_front();
      Answer(id);
    }
  }
  void Answer(uint64_t id) {
    const Request request = requests_[id];
    requests_.erase(id);
    ++(now_ms_ - request.since_ms <= kClientMs ? good_ : late_);
    if (request.again) due_.emplace(now_ms_ + 1, true);
    admission_.Ended(now_ms_ - request.begun_ms, now_ms_);
    while (const auto next = admission_.Next()) {
      Request& begun = requests_[*next];
      begun.begun_ms = now_ms_;
      if (now_ms_ - begun.since_ms > kClientMs) {
        ++gone_;
        requests_.erase(*next);
        admission_.Dropped();
      } else {
        store_.push_back(*next);
      }
    }
  }

  std::multimap<uint64_t, bool> due_;  // requests to come, and whether their client asks again
  std::map<uint64_t, Request> requests_;
  std::deque<uint64_t> store_;
  uint64_t last_id_ = 0;
  uint64_t arrivals_ = 0, credit_ = 0, work_ = 0;
  uint64_t sync_end_ms_ = 0, halt_until_ms_ = 0, takes_ms_ = 0;
};

struct Store {
  uint64_t rate = 0;
  uint64_t sync_ms = 0;
};
// A page cache, a good disk, a busy one, a spinning one with a journal, one that is ill.
const std::vector<Store> kStores = {{40'000, 1}, {10'000, 3}, {2'000, 10}, {400, 40}, {100, 50}};

// A loop for which each request costs as much as each answer, in front of a store of `kRate` a
// second, with ten times the clients that these serve. Turn by turn; times in microseconds.
class BusyLoop {
 public:
  static constexpr uint64_t kRate = 4'000, kLoopClients = 4'000, kQueueMs = 500;
  BusyLoop(uint64_t cost_us, bool shares_turns) : cost_us_(cost_us), shares_(shares_turns) {}

  // Answers of the store in time, a second.
  uint64_t Goodput(uint64_t seconds) {
    const uint64_t end_us = now_us_ + seconds * 1'000'000;
    while (now_us_ < end_us) Turn();
    return good_ / seconds;
  }

 private:
  struct Call {
    uint64_t id = 0;
    uint64_t asked_ms = 0;
    uint64_t done_us = 0;
  };
  void Turn() {
    const uint64_t began_us = now_us_;
    ms_ = began_us / 1'000;
    Arrive(began_us);
    while (!store_.empty() && store_.front().done_us <= began_us) Answered();
    for (uint64_t left = unread_.size(); left > 0 && MayHear(began_us); --left) Request();
    while (const auto id = admission_.Expired(ms_)) Done(*id);
    for (Call& call : calls_) {
      call.done_us = store_us_ = std::max(store_us_, now_us_) + 1'000'000 / kRate;
      store_.push_back(call);
    }
    calls_.clear();
    now_us_ = std::max(now_us_, began_us + 100);  // until something comes
  }
  void Arrive(uint64_t until_us) {
    for (; come_us_ < until_us; come_us_ += 1'000'000 / (10 * kRate)) {
      if (asking_ == kLoopClients) continue;
      ++asking_;
      since_us_[++last_id_] = come_us_;
      unread_.push_back(last_id_);
    }
  }
  void Answered() {
    const Call call = store_.front();
    store_.pop_front();
    good_ += now_us_ - since_us_[call.id] <= kClientMs * 1'000;
    Done(call.id);
    admission_.Ended(ms_ - call.asked_ms, ms_);
    while (const auto next = admission_.Next()) calls_.push_back({.id = *next, .asked_ms = ms_});
  }
  bool MayHear(uint64_t began_us) { return !shares_ || turn_.Take(began_us); }
  void Request() {
    const uint64_t id = unread_.front();
    unread_.pop_front();
    if (ms_ > since_us_[id] / 1'000 + kQueueMs) return Done(id);
    const Verdict verdict = admission_.Arrive(id, ms_);
    if (verdict == Verdict::kRefuse) return Done(id);
    now_us_ += cost_us_;
    if (verdict == Verdict::kBegin) calls_.push_back({.id = id, .asked_ms = ms_});
  }
  void Done(uint64_t id) {
    now_us_ += cost_us_;
    --asking_;
    since_us_.erase(id);
  }

  const uint64_t cost_us_;
  const bool shares_;
  Admission admission_{kQueueMs};
  TurnShare turn_;
  std::deque<uint64_t> unread_;
  std::vector<Call> calls_;  // made in this turn
  std::deque<Call> store_;
  std::map<uint64_t, uint64_t> since_us_;  // by request
  uint64_t now_us_ = 1'000'000, ms_ = 0, come_us_ = now_us_, store_us_ = 0;
  uint64_t asking_ = 0, last_id_ = 0, good_ = 0;
};

}  // namespace

TEST_CASE("admission: a loop that is behind with its clients leaves no store idle (F56)") {
  for (const uint64_t cost_us : {10, 25, 40, 60}) {
    CAPTURE(cost_us);
    CHECK_GE(BusyLoop(cost_us, true).Goodput(10), BusyLoop::kRate * 9 / 10);
  }
  // Where it hears all of them in each turn the store waits for it, and seems to be slow itself.
  CHECK_LT(BusyLoop(40, false).Goodput(10), BusyLoop::kRate / 4);
}

TEST_CASE("admission: ten times what the store can do leaves 80 % of it, in time (F56)") {
  for (const Store& store : kStores) {
    CAPTURE(store.rate);
    Simulation open(store.rate, store.sync_ms);
    open.Arrivals(10 * store.rate);
    open.Run(5'000);
    CHECK_GE(open.Goodput(5'000), store.rate * 6 / 10);  // the first seconds included
    open.Run(8'000);
    CHECK_GE(open.Goodput(8'000), store.rate * 8 / 10);
    CHECK_GE(open.refused_, 8 * 8 * store.rate);
    CHECK_LE(open.most_held_, 4'096 + store.rate);
  }
}

TEST_CASE("admission: without it the same load leaves nothing that is in time (F56)") {
  for (const Store& store : kStores) {
    Simulation open(store.rate, store.sync_ms, /*queue_ms=*/0);
    open.Arrivals(10 * store.rate);
    open.Run(5'000);
    open.Run(8'000);
    CHECK_EQ(open.Goodput(8'000), 0);
    CHECK_EQ(open.refused_, 0);
  }
}

TEST_CASE("admission: 640 and 10,000 clients that obey Retry-After (F56)") {
  for (const Store& store : kStores) {
    for (const uint64_t clients : {640, 10'000}) {
      CAPTURE(store.rate);
      CAPTURE(clients);
      Simulation closed(store.rate, store.sync_ms);
      closed.Clients(clients);
      closed.Run(5'000);
      closed.Run(8'000);
      CHECK_GE(closed.Goodput(8'000), store.rate * 8 / 10);
    }
  }
}

TEST_CASE("admission: what the store can do is never refused") {
  for (const Store& store : kStores) {
    CAPTURE(store.rate);
    Simulation open(store.rate, store.sync_ms);
    open.Arrivals(store.rate * 9 / 10);
    open.Run(8'000);
    CHECK_EQ(open.refused_, 0);
    CHECK_GE(open.Goodput(8'000), store.rate * 85 / 100);
    Simulation closed(store.rate, store.sync_ms);
    closed.Clients(64);
    closed.Run(8'000);
    CHECK_EQ(closed.refused_, 0);
  }
}

TEST_CASE("admission: 1,024 clients at once are all served where they can be within a second") {
  Simulation busy(3'000, 5);
  busy.Clients(1'024);
  busy.Run(8'000);
  CHECK_EQ(busy.refused_, 0);
  CHECK_EQ(busy.late_, 0);
}

TEST_CASE("admission: a burst and a halt of the store that end soon cost nobody an answer") {
  Simulation burst(10'000, 3);
  burst.Arrivals(1'000);
  burst.Run(1'000);
  burst.Clients(2'000);
  burst.Run(1'000);
  CHECK_EQ(burst.refused_, 0);

  Simulation halt(5'000, 3);
  halt.Clients(1'024);
  halt.Run(3'000);
  halt.HaltUntil(halt.now_ms_ + 400);
  halt.Run(3'000);
  CHECK_EQ(halt.refused_, 0);
}

TEST_CASE("admission: a dead store holds few, and each of them gets its refusal") {
  Simulation dead(1'000, 5);
  dead.Arrivals(5'000);
  dead.Run(5'000);
  dead.HaltUntil(UINT64_MAX);
  dead.Run(5'000);
  CHECK_LE(dead.admission_.waiting(), 1'000);
  CHECK_LE(dead.admission_.in_work(), Admission::kWorkStart);
  CHECK_GE(dead.refused_, 5'000 * 4);
}

TEST_CASE("admission: when the overload is over nothing is refused any more") {
  Simulation over(1'000, 5);
  over.Arrivals(10'000);
  over.Run(10'000);
  CHECK_GT(over.refused_, 0);
  over.Arrivals(500);
  over.Run(2'000);
  over.Run(5'000);
  CHECK_EQ(over.refused_, 0);
  CHECK_EQ(over.admission_.work_max(), Admission::kWorkStart);
  // As many may come at once as before.
  over.SetRate(10'000);
  over.Clients(1'500);
  over.Run(100);
  CHECK_EQ(over.refused_, 0);
}

TEST_CASE("admission: stores that take long but many at a time get as many as they take") {
  Simulation wide(40'000, 1);
  wide.SetTakes(60);
  wide.Arrivals(20'000);
  wide.Run(3'000);
  wide.Run(5'000);
  CHECK_EQ(wide.refused_, 0);
  CHECK_GE(wide.Goodput(5'000), 19'900);
  CHECK_GE(wide.admission_.work_max(), 1'200);
}

TEST_CASE("admission: who waited longest begins first; who has gone makes room for the next") {
  Admission admission(500);
  for (uint64_t id = 0; id < Admission::kWorkStart; ++id) {
    CHECK_EQ(admission.Arrive(id, 0), Verdict::kBegin);
  }
  CHECK_EQ(admission.Arrive(1'001, 0), Verdict::kWait);
  CHECK_EQ(admission.Arrive(1'002, 10), Verdict::kWait);
  CHECK_EQ(admission.Arrive(1'003, 20), Verdict::kWait);
  CHECK_FALSE(admission.Next().has_value());
  admission.Ended(5, 30);
  CHECK_EQ(admission.Next().value(), 1'001);
  CHECK_FALSE(admission.Next().has_value());
  admission.Dropped();
  CHECK_EQ(admission.Next().value(), 1'002);
  CHECK_FALSE(admission.Expired(519).has_value());
  CHECK_EQ(admission.Expired(520).value(), 1'003);
  CHECK_FALSE(admission.Expired(520).has_value());
}

}  // namespace hayloft
