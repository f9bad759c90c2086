// Many operations, a bounded number of them under way: what makes thousands of small files fast.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "common/check.h"
#include "common/io/loop.h"

namespace hayloft {

class Pipeline {
 public:
  using Done = std::function<void()>;
  // Starts the next operation and returns its size in memory; nullopt when there is none left. The
  // operation calls Done once, perhaps before this returns.
  using StartNext = std::function<std::optional<uint64_t>(Done)>;

  Pipeline(Loop* loop, uint32_t in_flight_max) : loop_(loop), in_flight_max_(in_flight_max) {}

  // Returns when all are done.
  void Run(StartNext start_next) {
    start_next_ = std::move(start_next);
    Fill();
    while (in_flight_ > 0) loop_->Run();
  }

 private:
  static constexpr uint64_t kBytesMax = 128 << 20;

  void Fill() {
    while (!exhausted_ && in_flight_ < in_flight_max_ && bytes_ < kBytesMax) {
      ++in_flight_;
      // The size is known only after the start, which may end it at once: the end waits its turn.
      auto size = std::make_shared<uint64_t>(0);
      const std::optional<uint64_t> started =
          start_next_([this, size] { loop_->Post([this, size] { Finish(*size); }); });
      if (!started.has_value()) {
        --in_flight_;
        exhausted_ = true;
        break;
      }
      *size = *started;
      bytes_ += *started;
    }
  }

  void Finish(uint64_t size) {
    ASSERT(in_flight_ > 0);
    --in_flight_;
    bytes_ -= size;
    Fill();
    if (in_flight_ == 0) loop_->Stop();
  }

  Loop* const loop_;
  const uint32_t in_flight_max_;
  StartNext start_next_;
  uint32_t in_flight_ = 0;
  uint64_t bytes_ = 0;
  bool exhausted_ = false;
};

}  // namespace hayloft
