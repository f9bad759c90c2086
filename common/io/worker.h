// Threads for calls that block: a disk's writer, its readers, hashing. Bounded queue; no result:
// the task posts it to a Loop.
//
// Threads: Run may be called from any. The destructor runs what is queued and waits for it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace hayloft {

class WorkerPool {
 public:
  struct Options {
    std::string name;  // of its threads, at most 15 characters
    size_t threads = 1;
    size_t queue_max = 1024;  // tasks waiting
  };
  explicit WorkerPool(Options options);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;  // the threads hold its address
  WorkerPool& operator=(const WorkerPool&) = delete;

  // False, and nothing happens, when the queue is full or the destructor has begun.
  [[nodiscard]] bool Run(std::function<void()> task);
  size_t queued() const;

 private:
  void Work();

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;  // under mutex_
  bool stopping_ = false;                    // under mutex_
  std::vector<std::thread> threads_;
};

// One thread: tasks run one after the other, in order.
class WorkerThread : public WorkerPool {
 public:
  WorkerThread(std::string name, size_t queue_max)
      : WorkerPool({.name = std::move(name), .threads = 1, .queue_max = queue_max}) {}
};

}  // namespace hayloft
