#include "common/io/worker.h"

#include <pthread.h>

#include "common/check.h"

namespace hayloft {

WorkerPool::WorkerPool(Options options) : options_(std::move(options)) {
  ASSERT(options_.threads > 0);
  ASSERT(options_.queue_max > 0);
  for (size_t i = 0; i < options_.threads; ++i) {
    threads_.emplace_back([this] { Work(); });
    (void)pthread_setname_np(threads_.back().native_handle(),  // only for people with a debugger
                             options_.name.substr(0, 15).c_str());
  }
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  ASSERT(tasks_.empty());
}

bool WorkerPool::Run(std::function<void()> task) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_ || tasks_.size() >= options_.queue_max) return false;
    tasks_.push_back(std::move(task));
  }
  wake_.notify_one();
  return true;
}

size_t WorkerPool::queued() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return tasks_.size();
}

void WorkerPool::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    task = nullptr;  // what it captured is freed outside the lock
    lock.lock();
  }
}

}  // namespace hayloft
