// A whole cluster in one thread under one seed: nameserver, dsps and clients, their own cores on
// simulated disks and a simulated network.
//
//   trouble:  clients work while processes crash, disks fail and the network misbehaves
//   healing:  the trouble ends, everything is started again and gets time to settle
//   judgement: what was acknowledged is read back from the dsps, and the parts are compared
//
// The seed chooses the size of the cluster, which kinds of trouble there are, and all else.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/sim_client.h"
#include "tests/sim/sim_dsp.h"
#include "tests/sim/sim_model.h"
#include "tests/sim/sim_nameserver.h"
#include "tests/sim/sim_world.h"

namespace hayloft {

struct SimResult {
  uint64_t digest = 0;
  uint64_t lines = 0;  // of the trace
  uint64_t files = 0;  // acknowledged
  uint64_t reads = 0;  // whose bytes were compared
  uint64_t crashes = 0;
  uint64_t virtual_ms = 0;
  std::vector<std::string> failures;  // empty: all promises were kept
};

// One run. `print`: every line of what happens, to stdout. Sets the log sink while it runs.
SimResult RunSimulation(uint64_t seed, bool print, uint32_t copies = 1);

class SimCluster {
 public:
  SimCluster(uint64_t seed, bool print, uint32_t copies);
  SimResult Run();
  // What the log sink calls: an ERROR line that no injected fault explains fails the run.
  void OnLogLine(bool error, const std::string& line);

 private:
  enum class Trouble : uint32_t {
    kDspCrash,
    kDspCrashAtOperation,
    kNameserverCrash,
    kNameserverStoreLost,
    kNameserverStall,
    kClientCrash,
    kWeather,
    kCut,
    kBreak,
    kDiskStall,
    kDiskFull,
    kFastStartLost,
    kRot,
    kDiskBadRead,
    kDiskFailure,
    kClockJump,
    kCount,
  };
  void Build();
  bool RunUntil(uint64_t limit_ms,
                const std::function<bool()>& done);  // false: the limit came first

  void ScheduleTrouble();
  void MakeTrouble(Trouble kind);
  void MakeNetworkTrouble(Trouble kind);
  void MakeDiskTrouble(Trouble kind);
  void KeepStarted(SimDsp* dsp);
  void After(uint64_t most_ms, std::function<void()> task);
  CrashMode AnyCrash();
  SimDsp* AnyDsp();
  std::string AnyAddress();

  void Heal();
  bool Settled();
  std::string DescribeUnsettled();  // empty: settled
  void Judge();
  void CompareMap();

  const uint32_t copies_;
  SimWorld world_;
  SimModel model_;
  std::unique_ptr<SimNameserver> nameserver_;
  std::vector<std::unique_ptr<SimDsp>> dsps_;
  std::vector<std::unique_ptr<SimClient>> clients_;
  std::vector<Trouble> kinds_;  // of this run
  uint64_t trouble_every_ms_ = 0;
  uint64_t crashes_ = 0;
  bool disk_failed_ = false;  // at most one disk a run fails for good: it is the only copy
  bool bad_reads_ = false;
  bool store_lost_ =
      false;  // a nameserver that lost its store hears nothing of an unreadable block
  bool troubled_ = true;
};

}  // namespace hayloft
