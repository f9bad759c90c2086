#include "dataserver/supervisor.h"

#include <algorithm>
#include <cinttypes>
#include <utility>

#include "common/check.h"
#include "common/log.h"

namespace hayloft {

namespace {

// Ticks come every 100 ms. After a pause of this length it was the dataserver that stood still
// (SIGSTOP, a starved machine), and silence in the meantime says nothing about its dsps.
constexpr uint64_t kOwnStallMs = 1'000;

const char* KindName(DspExit::Kind kind) {
  switch (kind) {
    case DspExit::Kind::kCode:
      return "code";
    case DspExit::Kind::kSignal:
      return "signal";
    case DspExit::Kind::kUnknown:
      return "unknown";
    case DspExit::Kind::kNotStarted:
      return "not_started";
  }
  return "";
}

}  // namespace

Supervisor::Supervisor(const SupervisorOptions& options, std::vector<std::string> names)
    : options_(options) {
  ASSERT(options.backoff_first_ms > 0);
  ASSERT(options.backoff_first_ms <= options.backoff_max_ms);
  for (std::string& name : names) {
    dsps_.emplace_back();
    dsps_.back().name = std::move(name);
  }
}

void Supervisor::Adopt(size_t dsp, Now now) {
  ASSERT(dsp < dsps_.size());
  ASSERT(!ticked_);
  Dsp& it = dsps_[dsp];
  it.state = DspState::kRunning;
  it.started_ms = it.progress_ms = now.mono_ms;
  it.ever_started = true;
  LOG_INFO("dsp_adopted", "dsp=%s", it.name.c_str());
}

void Supervisor::Retire(size_t dsp, std::string_view reason) {
  ASSERT(dsp < dsps_.size());
  Dsp& it = dsps_[dsp];
  ASSERT(it.state != DspState::kRunning);
  it.state = DspState::kRetired;
  it.retired_why = reason;
  LOG_WARN("dsp_retired", "dsp=%s reason=%s", it.name.c_str(), LogText(reason).c_str());
}

void Supervisor::ServeReadOnly(size_t dsp) {
  ASSERT(dsp < dsps_.size());
  dsps_[dsp].read_only = true;
  LOG_WARN("dsp_read_only", "dsp=%s reason=disk_failed", dsps_[dsp].name.c_str());
}

void Supervisor::Revive(size_t dsp, Now now, Orders* orders) {
  ASSERT(dsp < dsps_.size());
  Dsp& it = dsps_[dsp];
  if (stopping_) return;
  const bool was_read_only = std::exchange(it.read_only, false);
  if (it.state == DspState::kRunning && was_read_only) {
    LOG_INFO("dsp_revived", "dsp=%s was=read_only", it.name.c_str());
    orders->push_back({SupervisorOrder::Kind::kTerminate, dsp});
  }
  if (it.state != DspState::kRetired) return;
  it.state = DspState::kWaiting;
  it.backoff_ms = 0;
  it.start_at_ms = now.mono_ms;
  LOG_INFO("dsp_revived", "dsp=%s was=%s", it.name.c_str(), it.retired_why.c_str());
}

void Supervisor::OnExit(size_t dsp, DspExit exit, Now now, Orders* orders) {
  ASSERT(dsp < dsps_.size());
  Dsp& it = dsps_[dsp];
  ASSERT(it.state == DspState::kRunning);
  LOG_INFO("dsp_exited", "dsp=%s how=%s value=%d ran_ms=%" PRIu64, it.name.c_str(),
           KindName(exit.kind), exit.value, now.mono_ms - it.started_ms);
  it.state = DspState::kWaiting;
  const bool by_code = exit.kind == DspExit::Kind::kCode;
  if (by_code && exit.value == kDspExitConfig) return Retire(dsp, "configuration");
  if (by_code && exit.value == kDspExitDiskFailed) {
    if (it.read_only) return Retire(dsp, "disk_failed");  // not even that works
    // The mark goes first: a dataserver that dies in between must not start the dsp to write.
    orders->push_back({SupervisorOrder::Kind::kMarkFailed, dsp});
    ServeReadOnly(dsp);
  }
  if (stopping_) return Retire(dsp, "stopped");
  WaitOutBackoff(&it, now);
}

void Supervisor::WaitOutBackoff(Dsp* dsp, Now now) {
  const bool was_healthy = dsp->answered && now.mono_ms - dsp->started_ms >= options_.healthy_ms;
  dsp->backoff_ms = was_healthy || dsp->backoff_ms == 0
                        ? options_.backoff_first_ms
                        : std::min(dsp->backoff_ms * 2, options_.backoff_max_ms);
  dsp->start_at_ms = now.mono_ms + dsp->backoff_ms;
}

void Supervisor::OnProbe(size_t dsp, DspProbe probe, Now now, Orders* orders) {
  ASSERT(dsp < dsps_.size());
  Dsp& it = dsps_[dsp];
  if (it.state != DspState::kRunning) return;  // an answer that its process did not outlive
  if (probe.answered) {
    it.answered = true;
    // Progress of the process is that of the slower one: a loop that lives on while fsync hangs is
    // as dead as one that does not answer.
    const uint64_t progress_ms =
        now.mono_ms - std::min(probe.disk_progress_ms, now.mono_ms - it.started_ms);
    it.progress_ms = std::max(it.progress_ms, progress_ms);
  }
  CheckProgress(dsp, now, orders);
}

void Supervisor::CheckProgress(size_t number, Now now, Orders* orders) {
  Dsp& it = dsps_[number];
  if (it.killed || stopping_) return;
  const uint64_t patience_ms = it.answered ? options_.hang_ms : options_.start_ms;
  if (now.mono_ms - it.progress_ms < patience_ms) return;
  LOG_WARN("dsp_hung", "dsp=%s no_progress_ms=%" PRIu64 " action=kill", it.name.c_str(),
           now.mono_ms - it.progress_ms);
  Kill(number, orders);
}

void Supervisor::OnTick(Now now, Orders* orders) {
  ASSERT(!ticked_ || now.mono_ms >= last_tick_ms_);
  const bool own_stall = ticked_ && now.mono_ms - last_tick_ms_ > kOwnStallMs;
  ticked_ = true;
  last_tick_ms_ = now.mono_ms;
  for (size_t i = 0; i < dsps_.size(); ++i) {
    Dsp& it = dsps_[i];
    if (it.state == DspState::kRunning) {
      if (own_stall) it.progress_ms = now.mono_ms;
      if (stopping_ && !it.killed && now.mono_ms >= it.kill_at_ms) Kill(i, orders);
      CheckProgress(i, now, orders);
    } else if (it.state == DspState::kWaiting && now.mono_ms >= it.start_at_ms) {
      Start(i, now, orders);
    }
  }
}

void Supervisor::Start(size_t number, Now now, Orders* orders) {
  Dsp& it = dsps_[number];
  ASSERT(it.state == DspState::kWaiting);
  ASSERT(!stopping_);
  it.state = DspState::kRunning;
  it.started_ms = it.progress_ms = now.mono_ms;
  it.answered = it.killed = false;
  if (it.ever_started) ++it.restarts;
  it.ever_started = true;
  orders->push_back({SupervisorOrder::Kind::kStart, number});
}

void Supervisor::Kill(size_t number, Orders* orders) {
  ASSERT(dsps_[number].state == DspState::kRunning);
  dsps_[number].killed = true;
  orders->push_back({SupervisorOrder::Kind::kKill, number});
}

void Supervisor::Stop(Now now, Orders* orders) {
  if (stopping_) return;
  stopping_ = true;
  for (size_t i = 0; i < dsps_.size(); ++i) {
    Dsp& it = dsps_[i];
    if (it.state == DspState::kRunning) {
      it.kill_at_ms = now.mono_ms + options_.stop_ms;
      orders->push_back({SupervisorOrder::Kind::kTerminate, i});
    } else if (it.state == DspState::kWaiting) {
      Retire(i, "stopped");
    }
  }
}

bool Supervisor::stopped() const {
  const auto left = [](const Dsp& dsp) { return dsp.state != DspState::kRetired; };
  return stopping_ && std::none_of(dsps_.begin(), dsps_.end(), left);
}

}  // namespace hayloft
