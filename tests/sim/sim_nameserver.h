// The nameserver of a simulated cluster: an NsCore with its store on a MemKv, and a coordinator
// that hands out epochs.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "nameserver/ns_core.h"
#include "nameserver/ns_store.h"
#include "tests/sim/mem_kv.h"
#include "tests/sim/sim_world.h"

namespace hayloft {

struct SimNameserverOptions {
  std::string address;
  std::string cluster_id;
  uint32_t dsps = 1;  // of the cluster: a rebuild waits for so many
  uint32_t copies = 1;
};

class SimNameserver {
 public:
  // With a new, empty store. Borrows `world`, which must outlive it.
  SimNameserver(SimWorld* world, SimNameserverOptions options);

  void Start();
  void Crash(CrashMode mode);
  // Somebody removed the store's folder; the next start is a rebuild. REQUIRES: not running.
  void LoseStore();
  // SIGSTOP, and SIGCONT `ms` later: what arrives meanwhile waits.
  void Stall(uint64_t ms) { stalled_until_us_ = world_->events.now_us() + ms * 1000; }
  bool running() const { return core_ != nullptr; }
  // Records are on their way to its disk.
  bool idle() const { return queue_.empty() && !writing_; }
  SimNodeClock& clock() { return clock_; }
  const NsCore& core() const { return *core_; }
  const std::string& address() const { return options_.address; }

 private:
  void Init(bool rebuild);
  void Tick(uint64_t life);
  void Flush(NsOutbox* outbox);
  uint64_t StallUs() const;  // how long it still hangs
  template <typename Task>
  void WhenAwake(Task&& task);
  void WriteLog();
  Now now() const { return clock_.Read(world_->events); }

  SimWorld* world_;
  const SimNameserverOptions options_;
  SimNodeClock clock_;
  SimRandom random_;  // the core's
  MemKv kv_;
  std::unique_ptr<NsStore> store_;
  std::unique_ptr<NsCore> core_;
  uint64_t life_ = 0;
  uint64_t epoch_ = 0;  // the coordinator's: survives everything
  std::vector<pb::LogRecord> queue_;
  bool writing_ = false;
  uint64_t stalled_until_us_ = 0;
};

}  // namespace hayloft
