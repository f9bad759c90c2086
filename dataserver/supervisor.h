// Decides when a dataserver starts, kills and gives up its dsps: one process a disk, none of which
// knows of the others.
//
//              kStart                      exit, not 74 or 78
//   waiting ----------> running ------------------------------------> waiting (backoff doubles)
//                          |  no progress for hang_ms: kKill, and the exit leads to waiting
//                          |  exit 74: kMarkFailed, and from then on it is started to read only
//                          |  exit 78, or 74 of one that only reads             --> retired
//                          |  Stop(): kTerminate, after stop_ms kKill            --> retired
//
// Invariants: at most one process a disk, as a new one is ordered only after the exit of the old
// one was seen, even if a kill takes long to work (a process can sit in the kernel on a dead disk);
// what happens to one dsp changes the state of no other. Pure: events come in with the time, orders
// leave through a vector. Threads: one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/core_io.h"

namespace hayloft {

// Exit codes of a dsp that say "do not start me again".
inline constexpr int kDspExitDiskFailed = 74;  // EX_IOERR: a write or sync failed; do so to read
inline constexpr int kDspExitConfig =
    78;  // EX_CONFIG: option, port, folder, disk of another cluster

struct SupervisorOptions {
  uint64_t backoff_first_ms = 100;
  uint64_t backoff_max_ms = 30'000;
  uint64_t healthy_ms = 60'000;  // having run so long, the next exit starts with backoff_first_ms
  uint64_t hang_ms = 10'000;     // without progress of loop or disk
  uint64_t start_ms = 120'000;   // until the first answer, which recovery gives too
  uint64_t stop_ms = 10'000;     // from SIGTERM to SIGKILL
};

enum class DspState : uint8_t { kWaiting, kRunning, kRetired };

// How a process ended. An adopted one is not our child: its status is never known.
struct DspExit {
  enum class Kind : uint8_t { kCode, kSignal, kUnknown, kNotStarted } kind = Kind::kUnknown;
  int value = 0;  // exit code or signal
};

// What the admin port of a dsp told, or that it told nothing in time.
struct DspProbe {
  bool answered = false;
  uint64_t disk_progress_ms = 0;  // age of the last finished disk operation while work waits
};

struct SupervisorOrder {
  enum class Kind : uint8_t {
    kStart,
    kTerminate,   // SIGTERM
    kKill,        // SIGKILL
    kMarkFailed,  // durably: until an operator says otherwise this disk is only read
  } kind;
  size_t dsp;
  friend bool operator==(const SupervisorOrder&, const SupervisorOrder&) = default;
};

class Supervisor {
 public:
  using Orders = std::vector<SupervisorOrder>;

  // `names` are for the log; their places are the numbers of the dsps from here on.
  Supervisor(const SupervisorOptions& options, std::vector<std::string> names);

  // Before the first tick: the process runs already (it outlived its dataserver); its disk bears
  // the mark of a failure, so that it is started to read only.
  void Adopt(size_t dsp, Now now);
  void ServeReadOnly(size_t dsp);
  void Retire(size_t dsp, std::string_view reason);

  // An operator has mended what retired it, or what lets it only read: it is started, or ended and
  // started again, without that. Others are not touched.
  void Revive(size_t dsp, Now now, Orders* orders);

  void OnExit(size_t dsp, DspExit exit, Now now, Orders* orders);
  void OnProbe(size_t dsp, DspProbe probe, Now now, Orders* orders);
  void OnTick(Now now, Orders* orders);
  void Stop(Now now, Orders* orders);

  DspState state(size_t dsp) const { return dsps_[dsp].state; }
  // Running and answering, as far as the last probes told.
  bool answers(size_t dsp) const {
    return dsps_[dsp].state == DspState::kRunning && dsps_[dsp].answered;
  }
  const std::string& retired_why(size_t dsp) const { return dsps_[dsp].retired_why; }
  uint64_t restarts(size_t dsp) const { return dsps_[dsp].restarts; }
  bool read_only(size_t dsp) const { return dsps_[dsp].read_only; }
  bool stopping() const { return stopping_; }
  bool stopped() const;  // Stop was called and no process is left

 private:
  struct Dsp {
    std::string name;
    DspState state = DspState::kWaiting;
    uint64_t start_at_ms = 0;  // kWaiting
    uint64_t backoff_ms = 0;   // of the last start; 0: none yet
    uint64_t started_ms = 0;   // kRunning
    uint64_t progress_ms = 0;  // kRunning: when loop and disk were last seen to move
    uint64_t kill_at_ms = 0;   // stopping: when SIGTERM has had its time
    uint64_t restarts = 0;
    bool answered = false;  // kRunning: at least once
    bool killed = false;    // kRunning: SIGKILL was ordered
    bool ever_started = false;
    bool read_only = false;  // its disk failed
    std::string retired_why;
  };

  void Start(size_t number, Now now, Orders* orders);
  void Kill(size_t number, Orders* orders);
  void WaitOutBackoff(Dsp* dsp, Now now);
  void CheckProgress(size_t number, Now now, Orders* orders);

  const SupervisorOptions options_;
  std::vector<Dsp> dsps_;
  uint64_t last_tick_ms_ = 0;
  bool ticked_ = false;
  bool stopping_ = false;
};

}  // namespace hayloft
