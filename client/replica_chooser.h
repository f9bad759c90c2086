// Which replica a read asks: where it is answered soonest, as far as recent answers tell.
//
//   choose   two at random, of them the one with clearly less to do: outstanding calls x recent
//            latency, which fades while the dsp isn't asked
//   hedge    a read that takes longer than 95 % of recent ones asks a second replica, too; at most
//            one read in 20, so that a slow cluster isn't given more to do
//   eject    a dsp five times as slow as the middle of the others is left out for some seconds,
//   then
//            tried again; at most a third of them, as they can't all be slower than the others
//
// All of this is preference: a replica that is avoided is asked when the others have failed.
// Latencies are integers of 1/256 ms; the clock's are whole milliseconds, of which the average is
// finer.
// Bounds: dsps known, reads remembered. Threads: one owner. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/ports.h"
#include "common/result.h"

namespace hayloft {

class ReplicaChooser {
 public:
  static constexpr uint64_t kHedgeMsMin = 2;       // below it the clock can't tell
  static constexpr uint64_t kHedgeMsMax = 500;     // slower reads than that are no measure
  static constexpr uint64_t kHedgeMsUnknown = 50;  // as long as few reads were seen
  static constexpr uint32_t kReadsAHedge = 20;     // 5 %
  static constexpr uint32_t kHedgesSavedMax = 10;
  static constexpr uint64_t kEjectedMs = 5'000;
  static constexpr uint64_t kEjectFactor = 5;
  static constexpr uint64_t kEjectMsMin = 10;  // a dsp as quick as that is never left out
  static constexpr uint64_t kAvoidedMs = 500;  // after a broken connection, or "not serving"
  static constexpr size_t kDspsMax = 4'096;

  // One of those whose bit is not in `asked`. REQUIRES: there is one; at most 32 replicas.
  size_t Choose(const std::vector<std::string>& replicas, uint32_t asked, uint64_t now_ms,
                Random* random);
  void Sent(const std::string& dsp);
  struct Ended {
    uint64_t sent_ms = 0;
    uint64_t now_ms = 0;
    Err err = Err::kOk;
    uint64_t payload_bytes = 0;  // a long answer's time says nothing about its dsp
  };
  void OnEnded(const std::string& dsp, const Ended& read);

  // A read was begun: the hedges' allowance grows.
  void CountRead();
  // How long a read waits before it asks a second replica.
  uint64_t hedge_after_ms() const { return hedge_after_ms_; }
  // False: not now, there were too many.
  bool TakeHedge();

  bool IsEjected(const std::string& dsp, uint64_t now_ms) const;
  size_t dsps_known() const { return dsps_.size(); }

 private:
  struct Dsp {
    uint64_t latency = 0;  // 1/256 ms, averaged over the last 8 or so
    uint32_t samples = 0;  // since it was first tried, or tried again
    uint32_t outstanding = 0;
    uint64_t avoided_until_ms = 0;
    uint64_t ejected_until_ms = 0;
    uint64_t last_ms = 0;  // of its last sample
    bool ejected = false;
  };
  void Sample(Dsp* dsp, uint64_t took_ms, uint64_t now_ms);
  void Remember(uint64_t took_ms);
  void Judge(uint64_t now_ms);
  uint64_t MiddleOfOthers(const Dsp* one, uint64_t now_ms) const;

  std::map<std::string, Dsp> dsps_;  // by address
  std::array<uint16_t, 256> recent_ms_{};
  size_t recent_count_ = 0;
  size_t recent_next_ = 0;
  uint64_t hedge_after_ms_ = kHedgeMsUnknown;
  uint32_t allowance_ = 0;  // in reads; kReadsAHedge of them are a hedge
  uint64_t next_judge_ms_ = 0;
};

}  // namespace hayloft
