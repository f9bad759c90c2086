// A dsp of a simulated cluster: a DspCore with a simulated disk, LevelDB, writer and readers.
//
// The process dies when somebody says so, or inside a chosen operation of its disk; what its disk
// then keeps is SimDevice's to decide.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dataserver/dsp/dsp_core.h"
#include "tests/sim/mem_kv.h"
#include "tests/sim/sim_device.h"
#include "tests/sim/sim_world.h"

namespace hayloft {

struct SimDspOptions {
  std::string address;
  std::string machine;
  std::vector<std::string> nameservers;
  Id16 cluster_id{};
  bool slow_reads = false;  // some that are not in the page cache are, for a second
};

class SimDsp {
 public:
  static constexpr uint64_t kDiskBytes = 64 << 20;

  // With a formatted, empty disk. Borrows `world`, which must outlive it.
  SimDsp(SimWorld* world, SimDspOptions options);

  // False when it died again while it recovered, or its disk takes no start now: try later.
  bool Start();
  void Crash(CrashMode mode);
  // The n-th operation on its disk from now on is its last; `mode` says what the disk then keeps.
  void CrashAtOperation(uint64_t n, CrashMode mode);
  bool running() const { return core_ != nullptr; }
  // Nothing that it was asked for is still under way.
  bool idle() const { return lanes_[0].jobs.empty() && lanes_[1].jobs.empty() && reading_ == 0; }

  // The disk hangs: what is under way ends `ms` from now.
  void Stall(uint64_t ms) { stalled_until_us_ = world_->events.now_us() + ms * 1000; }
  void FailReads(uint64_t block_id, SimDevice::Range range);
  bool disk_failed() const { return disk_failed_; }
  // Somebody removed LevelDB's folder. REQUIRES: not running.
  void LoseFastStart() { kv_.Wipe(); }
  // A bit flips where something else has the same: in one superblock, or in the delete log, of
  // which LevelDB has a copy. REQUIRES: not running.
  void Rot();
  // A bit flips in a block file, maybe in a needle. REQUIRES: not running.
  void RotBlock();
  // Syncs of block files do nothing until the next crash, which takes what they should have kept.
  bool lies() const { return disk_.lies(); }
  const std::string& machine() const { return options_.machine; }
  void Lie() { disk_.SetLyingSync(true, "blk-"); }
  SimDevice& disk() { return disk_; }
  MemKv& kv() { return kv_; }
  SimNodeClock& clock() { return clock_; }
  const DspCore& core() const { return *core_; }
  // Fails the run if a block holds more sequences than were ever asked to be appended to it.
  // REQUIRES: running.
  void CheckBlocks();
  const std::string& address() const { return options_.address; }

 private:
  struct Lane {
    std::deque<IoJob> jobs;  // the first is being done
    bool busy = false;
  };
  void Tick(uint64_t life);
  void Listen();
  void NoteAppend(const RpcRequest& request);
  void Flush(DspOutbox* outbox);
  void EndTurn();
  void RunLane(size_t lane);
  void RunFirstJob(size_t lane);
  void Recycle(const IoStep& step);
  void StartRead(ReadJob&& job);
  uint64_t DiskDelay();
  bool DiedInOperation();
  DiskStatus Status();
  Now now() const { return clock_.Read(world_->events); }
  uint64_t JobsWaiting() const { return lanes_[0].jobs.size() + lanes_[1].jobs.size(); }

  SimWorld* world_;
  const SimDspOptions options_;
  SimNodeClock clock_;
  SimRandom random_;  // the core's
  SimPower power_;
  SimDevice disk_;
  MemKv kv_;
  std::unique_ptr<DspCore> core_;
  uint64_t life_ = 0;
  Lane lanes_[2];
  uint64_t reading_ = 0;
  uint64_t stalled_until_us_ = 0;
  uint64_t last_done_us_ = 0;
  CrashMode crash_mode_ = CrashMode::kKill;
  bool disk_failed_ = false;
  bool commits_wait_ = false;
  size_t feed_changes_kept_ = 0;
  std::set<std::string> rotten_;  // files in which a bit has flipped
  bool turn_ends_ = false;        // soon
  bool leaving_ = false;          // the disk failed: the process ends once its last jobs are done
};

}  // namespace hayloft
