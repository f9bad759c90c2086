// An ordered key-value store in memory that forgets what was not synced, the way a log-structured
// one does: batches are atomic, and a power cut takes a suffix of the unsynced batches.
//
// Dies and restarts like SimDevice; give both the same SimPower when they belong to one process.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/ports.h"
#include "tests/sim/sim_device.h"
#include "tests/sim/sim_power.h"
#include "tests/sim/sim_random.h"

namespace hayloft {

class MemKv : public Kv {
 public:
  // Borrows `power` when one is given, else has its own.
  explicit MemKv(uint64_t seed, SimPower* power = nullptr)
      : random_(seed), power_(power != nullptr ? power : &own_power_) {}

  // --- Kv ---
  Result<std::string> Get(std::string_view key) override;
  Err Write(std::span<const Change> changes, bool sync) override;
  Err ScanFrom(std::string_view first, const Visit& visit) override;

  // --- Death ---
  void CrashAtOperation(uint64_t n) { power_->CutAtOperation(n); }
  void Crash(CrashMode mode);
  void Restart() { power_->Restore(); }
  // The kernel has written everything back by itself, as it does within half a minute.
  void WriteBack() { unsynced_.clear(); }
  size_t UnsyncedBatches() const { return unsynced_.size(); }

  // --- Faults ---
  void FailNextWrite(Err err = Err::kIo) { fail_write_ = err; }  // nothing of it is kept
  void Break(Err err) { broken_ = err; }                         // what every call answers
  void SetFull(bool on) { full_ = on; }                          // every Write answers kFull
  void Wipe();                                                   // the operator removed the folder
  const std::map<std::string, std::string, std::less<>>& contents() const { return contents_; }

 private:
  // What a batch replaced, newest change first, so that it can be taken back.
  struct Undo {
    std::string key;
    std::string value;
    bool existed = false;
  };

  SimRandom random_;
  SimPower own_power_;
  SimPower* power_;
  std::map<std::string, std::string, std::less<>> contents_;
  std::vector<std::vector<Undo>> unsynced_;  // a row for each batch, oldest first
  Err fail_write_ = Err::kOk;
  Err broken_ = Err::kOk;
  bool full_ = false;
};

}  // namespace hayloft
