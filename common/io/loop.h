// One thread's event loop: sockets, timers, signals, and work posted from other threads.
//
// A turn is: wait, run what is ready, run what was put off to the end of the turn. Whoever writes
// to sockets does so at the end of the turn, so that many replies leave in one system call.
//
// Threads: everything but Post and Stop belongs to the thread that calls Run (before Run: to the
// one that set it up). Ownership: handles and TurnEnds must be gone before their Loop. A handle may
// be destroyed inside its own callback.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "common/core_io.h"
#include "common/io/unique_fd.h"

struct event_base;

namespace hayloft {

class Loop {
 public:
  using Fn = std::function<void()>;
  struct Cell;  // a libevent event with its callback
  struct CellFree {
    void operator()(Cell* cell) const;
  };
  // Unregisters its event when destroyed.
  using Handle = std::unique_ptr<Cell, CellFree>;

  Loop();                               // REQUIRES: the process has descriptors left
  static std::unique_ptr<Loop> Make();  // null when it hasn't
  ~Loop();
  Loop(const Loop&) = delete;  // a copy would share the descriptors
  Loop& operator=(const Loop&) = delete;

  void Run();   // until Stop; may be called again afterwards
  void Stop();  // from any thread; a Stop before Run ends that Run at once
  // Runs `fn` on the loop's thread in order of posting. Not bounded: who posts has a bound.
  void Post(Fn fn);

  [[nodiscard]] Handle After(uint64_t delay_ms, Fn fn);   // once
  [[nodiscard]] Handle Every(uint64_t period_ms, Fn fn);  // first after one period
  [[nodiscard]] Handle OnReadable(int fd, Fn fn);         // as long as it is readable
  [[nodiscard]] Handle OnWritable(int fd, Fn fn);
  // One loop a process only, a rule of libevent's.
  [[nodiscard]] Handle OnSignal(int signal_number, Fn fn);
  static void Pause(const Handle& handle);  // keeps it registered, but silent
  static void Resume(const Handle& handle);

  // Read once a turn.
  Now now();
  uint64_t now_us();  // the same reading of the monotonic clock, finer

  // Work put off to the end of the current turn. Cancelled when destroyed.
  class TurnEnd {
   public:
    TurnEnd(Loop* loop, Fn fn) : loop_(loop), fn_(std::move(fn)) {}
    ~TurnEnd();
    TurnEnd(const TurnEnd&) = delete;  // the loop holds its address
    TurnEnd& operator=(const TurnEnd&) = delete;
    void Schedule();  // once per turn, however often it is called

   private:
    friend class Loop;
    Loop* loop_;
    Fn fn_;
    bool scheduled_ = false;
  };

  event_base* base() { return base_.get(); }  // for evhttp

 private:
  struct Unset {};
  struct BaseFree {
    void operator()(event_base* base) const;
  };
  explicit Loop(Unset);
  bool Init();
  Handle NewCell(int fd, int what, uint64_t interval_ms, Fn fn);
  void RunPosted();
  void RunTurnEnds();

  std::unique_ptr<event_base, BaseFree> base_;
  UniqueFd wakeup_;  // eventfd; readable while something is posted
  Handle wakeup_event_;
  std::mutex posted_mutex_;
  std::vector<Fn> posted_;  // under posted_mutex_
  bool stop_ = false;       // under posted_mutex_
  std::vector<TurnEnd*> turn_ends_;
  Cell* running_ = nullptr;  // whose callback is on the stack
  Handle retired_;           // the running cell, if it was destroyed by its own callback
  Now now_;
  uint64_t now_us_ = 0;
  bool now_known_ = false;
};

}  // namespace hayloft
