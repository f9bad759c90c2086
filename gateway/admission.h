// Which requests the store works on, which wait for it, and which are refused.
//
//   Arrive --room--> in work --Ended--> ...      then Next: who has waited longest begins
//     |  \---none--> waits ---too long---> Expired: refused
//      \--as many wait as the store does in `queue_ms`--> refused at once
//
// A store that is asked for more than it can do answers ever later, until clients have given up on
// all that it does: it works on, for nobody. So requests wait in front of it, few and shortly, and
// the rest is told to come back. How much the store can do is learnt while requests wait all the
// time, each kIntervalMs:
//   in work  the least time that one of them took. While even the quickest takes longer than
//            kStoreMs a queue stands in the store itself (RFC 8289 section 3), which must be let
//            in less; else more.
//   waiting  what it did a second: by Little's law those who may wait for `queue_ms`.
// While nobody waits, nothing is limited, and what was learnt is forgotten by and by.
//
// Bounds: kWorkMax in work but for what is added by Begin, and as many waiting or what the store
// does in `queue_ms`. Threads: one owner. Pure. Times in milliseconds of one clock.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

namespace hayloft {

class Admission {
 public:
  enum class Verdict : uint8_t { kBegin, kWait, kRefuse };
  static constexpr uint64_t kIntervalMs = 100;
  static constexpr uint64_t kStoreMs = 100;
  // So few are in work at the least: a disk that does 100 a second still gets company to a sync.
  static constexpr uint64_t kWorkMin = 16;
  static constexpr uint64_t kWorkStart = 256;
  static constexpr uint64_t kWorkMax = 8'192;
  static constexpr uint64_t kRateStart = 4'096;  // a second
  static constexpr uint64_t kUnknownMs = UINT64_MAX;

  // 0: none waits and none is refused.
  explicit Admission(uint64_t queue_ms) : queue_ms_(queue_ms) {}

  // A request has come. kBegin: it is in work from now on; kWait: Next or Expired will name it.
  Verdict Arrive(uint64_t id, uint64_t now_ms);
  // What Arrive would say to one more, before its bytes are taken.
  bool WouldRefuse() const { return queue_ms_ > 0 && waiting_.size() >= waiting_max(); }
  // One more piece of a request that was let in.
  void Begin() { ++in_work_; }
  // The store has answered, or failed, after so long. kUnknownMs: its client has gone meanwhile.
  void Ended(uint64_t took_ms, uint64_t now_ms);
  // Who begins now, if there is room: it is in work from now on. To be asked until there is none.
  std::optional<uint64_t> Next() {
    if (waiting_.empty() || in_work_ >= work_max_) return std::nullopt;
    return TakeNext();
  }
  // It was not worth the work: its client has gone.
  void Dropped();
  // Who has waited for `queue_ms`: begun now, the work would be done for a client that has given up
  // before its end. To be asked until there is none, every 100 ms or so.
  std::optional<uint64_t> Expired(uint64_t now_ms);

  uint64_t in_work() const { return in_work_; }
  uint64_t waiting() const { return waiting_.size(); }
  uint64_t work_max() const { return work_max_; }
  uint64_t waiting_max() const;

 private:
  struct Waiting {
    uint64_t id = 0;
    uint64_t since_ms = 0;
  };
  uint64_t TakeNext();
  void Learn(uint64_t now_ms);
  void BeginInterval(uint64_t now_ms);

  const uint64_t queue_ms_;
  std::deque<Waiting> waiting_;  // in the order of their coming
  uint64_t in_work_ = 0;
  uint64_t work_max_ = kWorkStart;
  uint64_t rate_ = kRateStart;  // requests a second that the store does
  // This interval:
  uint64_t began_ms_ = 0;
  bool always_waited_ = false;
  uint64_t ended_ = 0;
  uint64_t least_ms_ = UINT64_MAX;  // that one of those took
};

// How many sockets that have something to say a loop hears in one turn; the others, first come,
// first heard, in the next ones.
//
// What a turn asks of the store leaves at its end, and what the store has answered meanwhile is
// looked at in the next one. If a turn heard all of a crowd that takes the loop 200 ms, the store
// would be idle for most of that, and its answers would look as if it took so long. Pure.
class TurnShare {
 public:
  static constexpr uint32_t kHeardMax = 512;  // some 5 ms; passing over another costs 0.2 us

  // False: not in the turn that began at `turn_us`.
  bool Take(uint64_t turn_us) {
    if (turn_us != turn_us_) {
      turn_us_ = turn_us;
      heard_ = 0;
    }
    return heard_++ < kHeardMax;
  }

 private:
  uint64_t turn_us_ = 0;
  uint32_t heard_ = 0;
};

}  // namespace hayloft
