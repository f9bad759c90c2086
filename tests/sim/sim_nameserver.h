// A nameserver of a simulated cluster: an NsServer with its store on a MemKv.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/ha/ha_store.h"
#include "nameserver/ns_server.h"
#include "nameserver/ns_store.h"
#include "tests/sim/mem_kv.h"
#include "tests/sim/sim_coordinator.h"
#include "tests/sim/sim_world.h"

namespace hayloft {

struct SimNameserverOptions {
  std::string address;
  std::string peer;  // empty: it is the only one
  std::string cluster_id;
  uint32_t dsps = 1;  // of the cluster: a rebuild waits for so many
  uint32_t copies = 1;
  bool joining = false;  // the second of a pair
  size_t log_bytes_kept = HaStore::kLogBytesKept;
};

// What all nameservers of a run did that must never be done twice, or differently.
struct SimHaTruth {
  std::map<uint64_t, std::string> history;  // by index
  std::map<uint64_t, std::string> epochs;   // -> node that held it
};

class SimNameserver {
 public:
  // With a new, empty store. Borrows all, which must outlive it.
  SimNameserver(SimWorld* world, SimCoordinator* coordinator, SimHaTruth* truth,
                SimNameserverOptions options);

  void Start();
  void Crash(CrashMode mode);
  // Somebody removed the store's folder. The only one is rebuilt from reports, one of a pair from
  // its peer. REQUIRES: not running.
  void LoseStore();
  // SIGSTOP, and SIGCONT `ms` later: what arrives meanwhile waits.
  void Stall(uint64_t ms) { stalled_until_us_ = world_->events.now_us() + ms * 1000; }
  // Its disk: the next write fails, and the process ends.
  void FailNextWrite(Err err) { kv_.FailNextWrite(err); }
  void HandOver();
  bool running() const { return server_ != nullptr; }
  // It answers now.
  bool active() const { return server_ != nullptr && server_->Answers(now()); }
  // Records are on their way to its disk.
  bool idle() const { return !writing_; }
  SimNodeClock& clock() { return clock_; }
  const NsServer& server() const { return *server_; }
  const std::string& address() const { return options_.address; }
  const std::string& node() const { return node_; }

 private:
  void Init(bool rebuild, bool joining);
  void Tick(uint64_t life);
  void Take(HaOutbox* out);
  uint64_t StallUs() const;  // how long it still hangs
  template <typename Task>
  void WhenAwake(Task&& task);
  // Later, if it lives then and is awake: a call of the server, and what it wants.
  template <typename Call>
  void Later(uint64_t us, Call&& call);
  void Write(RoleWrite&& write);
  void Apply(const std::vector<pb::HaRecord>& records);
  void CheckHistory(const std::vector<pb::HaRecord>& records);
  Now now() const { return clock_.Read(world_->events); }

  SimWorld* world_;
  SimCoordinator* coordinator_;
  SimHaTruth* truth_;
  const SimNameserverOptions options_;
  SimNodeClock clock_;
  SimRandom random_;  // the core's
  MemKv kv_;
  std::unique_ptr<NsStore> store_;
  std::unique_ptr<HaStore> log_;
  std::unique_ptr<NsServer> server_;
  std::string node_;
  uint64_t life_ = 0;
  bool writing_ = false;
  bool rebuild_ = false;
  uint64_t stalled_until_us_ = 0;
};

}  // namespace hayloft
