#include "common/io/loop.h"

#include <event2/event.h>
#include <fcntl.h>
#include <sys/eventfd.h>

#include <array>

#include "common/check.h"
#include "common/io/system_clock.h"

namespace hayloft {

struct Loop::Cell {
  Loop* loop = nullptr;
  event* handle = nullptr;
  Fn fn;
  bool has_interval = false;
  timeval interval{};

  static void OnEvent(evutil_socket_t, short, void* self) {
    auto* cell = static_cast<Cell*>(self);
    Loop* loop = cell->loop;
    ASSERT(loop->running_ == nullptr);  // libevent never nests callbacks of one base
    loop->running_ = cell;
    cell->fn();
    loop->running_ = nullptr;
    loop->retired_.reset();
  }
};

void Loop::CellFree::operator()(Cell* cell) const {
  if (cell->handle != nullptr) event_free(std::exchange(cell->handle, nullptr));
  // A function must outlive its own call.
  if (cell->loop->running_ == cell) {
    cell->loop->running_ = nullptr;
    cell->loop->retired_.reset(cell);
    return;
  }
  delete cell;
}

void Loop::BaseFree::operator()(event_base* base) const { event_base_free(base); }

Loop::Loop() {
  const bool made = Init();
  ASSERT(made);
}

Loop::Loop(Unset) {}

std::unique_ptr<Loop> Loop::Make() {
  std::unique_ptr<Loop> loop(new Loop(Unset()));
  return loop->Init() ? std::move(loop) : nullptr;
}

bool Loop::Init() {
  wakeup_.Reset(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!wakeup_.valid()) return false;
  {
    // Without the descriptors that it wants, libevent complains on stderr and makes do with less.
    std::array<UniqueFd, 4> wanted;
    for (UniqueFd& fd : wanted) {
      fd.Reset(fcntl(wakeup_.get(), F_DUPFD_CLOEXEC, 0));
      if (!fd.valid()) return false;
    }
  }
  event_config* config = event_config_new();
  if (config == nullptr) return false;
  // Only Post and Stop come from other threads, and they go through the eventfd.
  event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
  base_.reset(event_base_new_with_config(config));
  event_config_free(config);
  if (base_ == nullptr) return false;
  wakeup_event_ = OnReadable(wakeup_.get(), [this] { RunPosted(); });
  return true;
}

Loop::~Loop() {
  ASSERT(turn_ends_.empty() || running_ == nullptr);
  wakeup_event_.reset();
}

void Loop::Run() {
  while (true) {
    RunTurnEnds();
    {
      const std::lock_guard<std::mutex> lock(posted_mutex_);
      if (std::exchange(stop_, false)) return;
    }
    const int code = event_base_loop(base_.get(), EVLOOP_ONCE);
    ASSERT(code >= 0);
  }
}

void Loop::Stop() {
  const std::lock_guard<std::mutex> lock(posted_mutex_);
  stop_ = true;
  (void)eventfd_write(wakeup_.get(), 1);  // fails only when a wake-up is pending anyway
}

void Loop::Post(Fn fn) {
  const std::lock_guard<std::mutex> lock(posted_mutex_);
  posted_.push_back(std::move(fn));
  if (posted_.size() == 1) (void)eventfd_write(wakeup_.get(), 1);  // as in Stop
}

void Loop::RunPosted() {
  eventfd_t ignored = 0;
  (void)eventfd_read(wakeup_.get(), &ignored);  // EAGAIN: an earlier turn took it
  std::vector<Fn> batch;
  {
    const std::lock_guard<std::mutex> lock(posted_mutex_);
    batch.swap(posted_);
  }
  for (Fn& fn : batch) fn();
}

void Loop::RunTurnEnds() {
  // What runs here may schedule more; it still belongs to this turn.
  for (size_t i = 0; i < turn_ends_.size(); ++i) {
    TurnEnd* turn_end = turn_ends_[i];
    if (turn_end == nullptr) continue;
    turn_ends_[i] = nullptr;
    turn_end->scheduled_ = false;
    turn_end->fn_();
  }
  turn_ends_.clear();
  now_known_ = false;
}

void Loop::TurnEnd::Schedule() {
  if (scheduled_) return;
  scheduled_ = true;
  loop_->turn_ends_.push_back(this);
}

Loop::TurnEnd::~TurnEnd() {
  if (!scheduled_) return;
  for (TurnEnd*& entry : loop_->turn_ends_) {
    if (entry == this) entry = nullptr;
  }
}

Loop::Handle Loop::NewCell(int fd, int what, uint64_t interval_ms, Fn fn) {
  Handle cell(new Cell);
  cell->loop = this;
  cell->fn = std::move(fn);
  cell->has_interval = (what & EV_TIMEOUT) != 0;
  cell->interval.tv_sec = static_cast<time_t>(interval_ms / 1000);
  cell->interval.tv_usec = static_cast<suseconds_t>(interval_ms % 1000 * 1000);
  cell->handle =
      event_new(base_.get(), fd, static_cast<short>(what & ~EV_TIMEOUT), Cell::OnEvent, cell.get());
  ASSERT(cell->handle != nullptr);
  Resume(cell);
  return cell;
}

Loop::Handle Loop::After(uint64_t delay_ms, Fn fn) {
  return NewCell(-1, EV_TIMEOUT, delay_ms, std::move(fn));
}
Loop::Handle Loop::Every(uint64_t period_ms, Fn fn) {
  ASSERT(period_ms > 0);
  return NewCell(-1, EV_TIMEOUT | EV_PERSIST, period_ms, std::move(fn));
}
Loop::Handle Loop::OnReadable(int fd, Fn fn) {
  ASSERT(fd >= 0);
  return NewCell(fd, EV_READ | EV_PERSIST, 0, std::move(fn));
}
Loop::Handle Loop::OnWritable(int fd, Fn fn) {
  ASSERT(fd >= 0);
  return NewCell(fd, EV_WRITE | EV_PERSIST, 0, std::move(fn));
}
Loop::Handle Loop::OnSignal(int signal_number, Fn fn) {
  return NewCell(signal_number, EV_SIGNAL | EV_PERSIST, 0, std::move(fn));
}

void Loop::Pause(const Handle& handle) {
  ASSERT(handle != nullptr);
  event_del(handle->handle);
}

void Loop::Resume(const Handle& handle) {
  ASSERT(handle != nullptr);
  const int code = event_add(handle->handle, handle->has_interval ? &handle->interval : nullptr);
  ASSERT(code == 0);
}

Now Loop::now() {
  if (!now_known_) {
    now_us_ = SystemMonotonicUs();
    now_ = Now{.mono_ms = now_us_ / 1'000, .wall_ms = SystemWallMs()};
    now_known_ = true;
  }
  return now_;
}

uint64_t Loop::now_us() {
  (void)now();  // reads the clock if this turn has not
  return now_us_;
}

}  // namespace hayloft
