// What is behind the SDK's Client: an AsyncClient on a loop in a thread of its own.
//
//   caller's thread: check, copy, hash --Post--> loop's thread: AsyncClient --> callback
//
// A blocking call is an asynchronous one that is waited for.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "client/async_client.h"
#include "client/sdk_answers.h"
#include "common/delete_token.h"
#include "common/io/loop.h"
#include "hayloft/client.h"

namespace hayloft {

struct Nothing {};  // the value of an answer that has none

// "out of memory" fits into a string's own room: nothing is allocated.
inline Status OutOfMemory() { return {Code::kBusy, "out of memory"}; }

struct SdkClient {
  // Null: there is nothing to do, the callback was called.
  using Task = std::function<void()>;
  template <typename T>
  using Done = std::function<void(const Status&, T&&)>;

  ~SdkClient();
  Status Start(const Options& given);
  // What ~Client does: from any thread, a callback of this client included.
  static void Close(std::unique_ptr<SdkClient>* own);
  // Not ok: no blocking call may be made here.
  Status MayBlock() const;
  bool forked() const;  // this is a child of the process that opened it: its thread isn't here
  uint32_t TimeoutMs(uint32_t own_ms) const { return own_ms != 0 ? own_ms : options.timeout_ms; }
  void Post(Task task);

  // `fn` as a callback. Null when there is no memory for it, of which it was told.
  template <typename T, typename Fn>
  static Done<T> Kept(Fn fn);

  // What the loop is to do for a call. Each calls its `done` exactly once, run or not, and throws
  // nothing. Deadlines count from `begun_ms`; 0: from when the task is run.
  struct Raw {
    Buffer bytes;
    Hasher* hasher = nullptr;  // that has seen them
    uint64_t batch = 0;        // see PutRequest
    uint64_t begun_ms = 0;
  };
  Task CopyingPutTask(std::string_view bytes, Raw raw, const PutOptions& put, Done<Stored> done);
  Task PutTask(Raw raw, const PutOptions& put, Done<Stored> done);
  Task GetTask(std::string_view id, const GetOptions& get, uint64_t begun_ms, Done<Image> done);
  Task StatTask(std::string_view id, const StatOptions& stat, Done<ImageInfo> done);
  Task DeleteTask(std::string_view id, const DeleteOptions& change, bool undelete,
                  Done<Nothing> done);
  // One that only calls `done`: a callback is not called from inside its own call.
  Task FailedGet(const Status& status, Done<Image> done);

  Options options;
  std::optional<ClusterKey> key;
  std::atomic<bool> closing{false};
  std::atomic<uint32_t> calls{0};  // in flight
  std::atomic<uint64_t> put_bytes{0};
  std::atomic<uint64_t> batches{0};  // begun, for their numbers
  std::unique_ptr<Loop> loop;
  std::unique_ptr<AsyncClient> client;  // the loop's thread's; null when closing
  std::thread thread;
  std::thread::id callback_thread;  // where callbacks are called
  uint64_t forks = 0;               // of the process when this was opened

 private:
  void StartThread();
  void End();
  void EndCalls();
  std::unique_ptr<SdkClient> orphan_;  // this, when its Client was destroyed by a callback
};

template <typename T, typename Fn>
SdkClient::Done<T> SdkClient::Kept(Fn fn) {
  Done<T> done;
  try {
    done = std::move(fn);  // allocates before it moves
  } catch (const std::bad_alloc&) {
    fn(OutOfMemory(), T());
  }
  return done;
}

// A call that waits for its answer.
template <typename T>
class SdkWaiter {
 public:
  std::function<void(const Status&, T&&)> Callback() {
    return [this](const Status& status, T&& value) { Tell(status, std::move(value)); };
  }
  void Tell(const Status& status, T&& value) {
    const std::lock_guard<std::mutex> lock(mutex_);
    status_ = status;
    value_ = std::move(value);
    done_ = true;
    changed_.notify_one();  // under the lock: the waiter destroys this as soon as it has it
  }
  Status Take(T* value) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return done_; });
    if (status_.ok()) *value = std::move(value_);
    return status_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  Status status_;
  T value_{};
};

// Runs a blocking call, from which nothing may be thrown on.
template <typename Fn>
Status SdkGuarded(Fn fn) {
  try {
    return fn();
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  } catch (...) {
    return {Code::kCancelled, "a callback threw an exception"};
  }
}

}  // namespace hayloft
