// A DspCore on its simulated disk without a cluster around it, one step after the other: for unit
// tests, the crash sweep and benchmarks.
//
// Requests are answered at once: whatever job or read the core asks for is run before the method
// returns. A method that got no answer, because the process died meanwhile, says kCancelled.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dataserver/dsp/dsp_core.h"
#include "tests/sim/mem_kv.h"
#include "tests/sim/sim_clock.h"
#include "tests/sim/sim_device.h"

namespace hayloft {

class DspDriver {
 public:
  static constexpr uint64_t kEpoch = 1;  // of the nameserver that commands

  explicit DspDriver(uint64_t seed, uint64_t total_bytes = SimDevice::kDefaultBytes);

  // An empty disk becomes a dsp's. REQUIRES: nothing runs.
  Err Format(uint64_t block_bytes = kBlockBytesMin);
  // A new process. Whatever ran before is gone, as by kill -9 unless Crash came before.
  Err Start();
  void Crash(CrashMode mode);
  bool running() const { return core_ != nullptr; }

  // --- One request each, run to its answer ---
  Err CreateBlock(uint64_t block_id);
  Result<FileAddress> Append(uint64_t block_id, std::string_view bytes);
  Result<std::string> Read(const FileAddress& address);  // the stored bytes
  Err CloseBlock(uint64_t block_id);
  Err SealBlock(uint64_t block_id);
  Result<uint32_t> SetDelete(const FileAddress& address, uint32_t counter);
  Result<uint32_t> DeleteCounter(const FileAddress& address);
  void Tick(uint64_t ms = 100);
  void CloseAll();  // as before an orderly end

  // --- Several under way at once ---
  // The number of the request; its answer lies in replies() when there is one. `crcs` may be wrong
  // on purpose.
  uint64_t SendAppend(uint64_t block_id, std::string_view bytes);
  uint64_t Send(MessageType type, std::string message, Buffer payload = {});
  void RunJobs();  // runs what the core asked for, and what that leads to
  std::map<uint64_t, RpcReply>& replies() { return replies_; }
  size_t jobs_waiting() const { return jobs_.size(); }
  // Takes the disk away: jobs that only write and sync are done at once, and nothing is written.
  void TakeDiskAway(bool on) { disk_taken_away_ = on; }

  SimDevice& disk() { return disk_; }
  MemKv& kv() { return kv_; }
  SimClock& clock() { return clock_; }
  DspCore& core() { return *core_; }
  DspOptions& options() { return options_; }  // for the next Start
  bool disk_failed() const { return disk_failed_; }

 private:
  RpcReply Ask(MessageType type, std::string message, Buffer payload = {});
  void Take(DspOutbox* outbox);
  JobDone Run(const IoJob& job);
  Now now() { return {clock_.MonotonicMs(), clock_.WallMs()}; }

  SimRandom random_;
  SimPower power_;
  SimDevice disk_;
  MemKv kv_;
  SimClock clock_;
  DspOptions options_;
  std::unique_ptr<DspCore> core_;
  uint64_t next_request_ = 1;
  std::deque<IoJob> jobs_;
  std::deque<ReadJob> reads_;
  std::map<uint64_t, RpcReply> replies_;
  bool disk_taken_away_ = false;
  bool disk_failed_ = false;
};

}  // namespace hayloft
