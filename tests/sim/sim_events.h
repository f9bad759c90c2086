// What will happen in a simulation, in order of time; ties happen in the order they were planned.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "common/check.h"

namespace hayloft {

class SimEvents {
 public:
  uint64_t now_us() const { return now_us_; }
  // `task` may own move-only things, such as a message's Buffer.
  template <typename Task>
  void After(uint64_t delay_us, Task&& task) {
    heap_.push_back({now_us_ + delay_us, next_order_++,
                     std::make_unique<Holder<std::decay_t<Task>>>(std::forward<Task>(task))});
    std::push_heap(heap_.begin(), heap_.end(), Later);
  }
  // Runs what comes next and moves time there. False when it lies behind `end_us`; time is
  // `end_us` then.
  bool RunNext(uint64_t end_us) {
    if (heap_.empty() || heap_.front().at_us > end_us) {
      now_us_ = std::max(now_us_, end_us);
      return false;
    }
    std::pop_heap(heap_.begin(), heap_.end(), Later);
    const Event event = std::move(heap_.back());
    heap_.pop_back();
    ASSERT(event.at_us >= now_us_);
    now_us_ = event.at_us;
    event.task->Run();
    return true;
  }

 private:
  struct TaskBase {
    virtual ~TaskBase() = default;
    virtual void Run() = 0;
  };
  template <typename Task>
  struct Holder : TaskBase {
    explicit Holder(Task&& t) : task(std::move(t)) {}
    explicit Holder(const Task& t) : task(t) {}
    void Run() override { task(); }
    Task task;
  };
  struct Event {
    uint64_t at_us;
    uint64_t order;
    std::unique_ptr<TaskBase> task;
  };
  static bool Later(const Event& a, const Event& b) {
    return a.at_us != b.at_us ? a.at_us > b.at_us : a.order > b.order;
  }

  std::vector<Event> heap_;
  uint64_t now_us_ = 0;
  uint64_t next_order_ = 0;
};

}  // namespace hayloft
