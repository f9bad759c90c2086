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

#include "tests/sim/pair_history.h"
#include "tests/sim/sim_client.h"
#include "tests/sim/sim_coordinator.h"
#include "tests/sim/sim_dsp.h"
#include "tests/sim/sim_gateway.h"
#include "tests/sim/sim_model.h"
#include "tests/sim/sim_nameserver.h"
#include "tests/sim/sim_world.h"

namespace hayloft {

struct SimResult {
  uint64_t digest = 0;
  uint64_t lines = 0;  // of the trace
  uint64_t files = 0;  // acknowledged
  uint64_t reads = 0;  // whose bytes were compared
  uint64_t hits = 0;   // of them and of denials, from gateways' caches
  uint64_t crashes = 0;
  uint64_t virtual_ms = 0;
  std::vector<std::string> failures;  // empty: all promises were kept
};

// One run. `print`: every line of what happens, to stdout. Sets the log sink while it runs.
SimResult RunSimulation(uint64_t seed, bool print);

class SimCluster {
 public:
  SimCluster(uint64_t seed, bool print);
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
    kNameserverBothCrash,
    kNameserverDisk,
    kFailover,
    kCoordinatorStop,
    kPairCut,
    kClientCrash,
    kGatewayCrash,
    kGatewayStall,
    kCutMerging,
    kBurst,
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
    kMachineCrash,
    // What costs a replica, of which at least one other must be sound: always the same dsp's.
    kBlockRot,
    kLyingSync,
    kGone,
    kCount,
  };
  void Build();
  bool RunUntil(uint64_t limit_ms,
                const std::function<bool()>& done);  // false: the limit came first

  void ScheduleTrouble();
  void MakeTrouble(Trouble kind);
  void MakeNetworkTrouble(Trouble kind);
  void MakeNameserverTrouble(Trouble kind);
  void MakeGatewayTrouble(Trouble kind);
  void LoseStore(SimNameserver* nameserver);
  void CutLong(const std::string& dsp);
  void CutMerging();
  void CutFromMerging(const std::string& dsp);
  void Burst();
  void SetAllHot(bool undelete);
  void Swizzle();
  void MakeDiskTrouble(Trouble kind);
  void MakeVictimTrouble(Trouble kind);
  void AddNameservers(uint32_t dsps);
  void AddDsps(uint32_t dsps);
  SimNameserver* AnyNameserver();
  // That answers now; of two that believe so, the one of the later epoch. Null: none.
  const SimNameserver* Active() const;
  const NsCore* ActiveCore() const;
  std::vector<std::string> NameserverAddresses() const;
  void KeepStarted(SimNameserver* nameserver);
  void AddClients();
  void AddGateways();
  void KeepStarted(SimDsp* dsp);
  void After(uint64_t most_ms, std::function<void()> task);
  CrashMode AnyCrash();
  SimDsp* AnyDsp();
  std::vector<std::string> Addresses() const;
  std::string AnyAddress();

  void Heal();
  bool Settled();
  std::string DescribeUnsettled();  // empty: settled
  std::string DescribeUnsealed();
  void Judge();
  bool ReadAllBack(std::vector<SimClient::ReadBackOne> files);
  bool ReadByGateways();
  void CompareMap();
  void CompareReplicas();
  void CompareBlock(const BlockRecord& record);
  void CheckSyncedEverywhere(const FileAddress& address);
  std::vector<SimDsp*> MembersOf(uint64_t block_id);
  SimDsp* DspAt(const std::string& address);
  bool Sound(const SimDsp& dsp) const;
  void DeclareGone();
  void SayGoneAgain();
  void DeclareStrangersGone();
  void CallDeclareGone(uint32_t dsp_id, bool even_last);

  SimWorld world_;
  const uint32_t copies_;
  SimModel model_;
  SimCoordinator coordinator_;
  SimHaTruth ha_truth_;
  PairHistory history_;
  std::unique_ptr<PairAsker> asker_;
  std::vector<std::unique_ptr<SimNameserver>> nameservers_;
  std::vector<std::unique_ptr<SimDsp>> dsps_;
  std::vector<std::unique_ptr<SimClient>> clients_;
  std::vector<std::unique_ptr<SimGateway>> gateways_;
  size_t hot_files_ = 0;
  uint64_t calm_until_us_ = 0;  // what is being done with the hot files is done then
  std::vector<Trouble> kinds_;  // of this run
  uint64_t trouble_every_ms_ = 0;
  uint64_t crashes_ = 0;
  bool disk_failed_ = false;  // at most one disk a run fails for good
  SimDsp* victim_ = nullptr;  // whose replicas alone may be lost
  bool victim_lost_ = false;  // some of them are, or were
  bool gone_ = false;         // it does not come back by itself
  bool declared_gone_ = false;
  uint32_t gone_dsp_id_ = 0;
  bool bad_reads_ = false;
  std::map<uint64_t, std::set<std::string>> holders_;  // block -> who had an acknowledged file
  bool troubled_ = true;
  uint64_t healed_us_ = 0;
};

}  // namespace hayloft
