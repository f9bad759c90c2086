// A client of a simulated cluster: a ClientCore on the simulated network, driven by a workload of
// puts, gets, ranges, stats, deletes and undeletes whose every answer is held against the model.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "client/client_core.h"
#include "tests/sim/sim_model.h"
#include "tests/sim/sim_world.h"

namespace hayloft {

struct SimClientOptions {
  std::string address;  // where its calls come from
  std::vector<std::string> nameservers;
  uint32_t operations = 50;  // to start in all
  uint32_t in_flight_max = 8;
  uint64_t think_us_max = 20'000;
  bool rests = false;    // now and then it does nothing for some seconds
  size_t hot_files = 0;  // of the model, which most deletes and undeletes are of; 0: of any
  std::function<void(const FileAddress&)> on_put{};  // it was acknowledged just now
};

class SimClient {
 public:
  // Borrows both, which must outlive it.
  SimClient(SimWorld* world, SimModel* model, SimClientOptions options);

  void Start();
  // kill -9: nobody hears how its operations ended.
  void Crash();
  const std::string& address() const { return options_.address; }
  bool running() const { return core_ != nullptr; }
  bool finished() const { return started_ >= options_.operations && pending_.empty(); }
  // Beside its workload, of which nothing begins for so long. REQUIRES: running.
  void SetDelete(size_t file, bool undelete);
  void Rest(uint64_t ms) { rests_until_us_ = world_->events.now_us() + ms * 1000; }
  // Begins nothing new.
  void Finish() { started_ = options_.operations; }
  // A file of the model, and the one dsp to ask; empty: any.
  struct ReadBackOne {
    size_t file = 0;
    std::string dsp;
    bool remove = false;  // it is deleted instead, which must succeed
  };
  // Begins to read these back, whole, and their stats; begins no operation of the workload any
  // more. Done when finished() again.
  void ReadBack(std::vector<ReadBackOne> files);

 private:
  struct PendingPut {
    SimFile file;
  };
  struct PendingGet {
    SimModel::Expected expected;
    GetRequest request = {};
    bool wrong_name = false;  // of no file: must not be found
  };
  struct PendingStat {
    SimModel::Expected expected;
  };
  struct PendingSetDelete {
    SimModel::SetDelete operation;
  };
  using Pending = std::variant<PendingPut, PendingGet, PendingStat, PendingSetDelete>;

  void Tick(uint64_t life);
  void Work(uint64_t life);
  void StartOperation();
  void StartPut();
  void StartGet(size_t file);
  void StartStat(size_t file, uint32_t timeout_ms);
  void StartSetDelete(size_t file);
  void ReadBackNext();
  void Register(uint64_t op_id, Pending pending);
  void Flush(ClientOutbox* outbox);
  template <typename Kind>
  Kind Take(uint64_t op_id);
  void OnPut(PutDone&& done);
  void OnGet(GetDone&& done);
  Now now() const { return clock_.Read(world_->events); }

  SimWorld* world_;
  SimModel* model_;
  const SimClientOptions options_;
  SimNodeClock clock_;
  SimRandom random_;  // the core's: what it draws does not disturb the rest of the run
  std::unique_ptr<ClientCore> core_;
  uint64_t life_ = 0;
  uint32_t started_ = 0;
  uint64_t rests_until_us_ = 0;
  std::map<uint64_t, Pending> pending_;  // by operation id
  bool reading_back_ = false;
  std::vector<ReadBackOne> read_back_;
  size_t next_read_back_ = 0;
};

}  // namespace hayloft
