// Who is up: the dsps as their heartbeats show them. Nothing here is logged.
//
//   up --silent for suspect_after--> suspect --silent for down_after--> down
//    ^------------------- a heartbeat whose disk makes progress -----------'
//
// Suspicion closes a dsp's open blocks, which costs space; so it is not acted on when the fault is
// more likely ours: after a stall of our own all silences begin anew, and while over 30 % of the
// dsps, of more than one machine, are silent at once, nothing is closed (FAULTS F37).
// Threads: one owner. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/core_io.h"
#include "common/proto/hayloft.pb.h"

namespace hayloft {

enum class DspState : uint8_t { kUp, kSuspect, kDown };

struct DspLive {
  std::string machine;
  DspState state = DspState::kSuspect;  // until it is heard
  uint64_t heard_ms = 0;
  bool suspicion_acted_on = false;
  bool given_up = false;  // by an operator: down until it is heard
  // Deletes wait for it: it may serve, as it has not been silent for kDoubtMs. Unlike `state`
  // this holds for a dsp that a nameserver which just started has not heard yet.
  bool counted = true;
  // From here on as its last registration and heartbeat said; zero before.
  bool registered = false;  // with this nameserver, in this life of it
  uint64_t incarnation = 0;
  pb::DiskState disk_state = pb::DISK_HEALTHY;
  bool draining = false;
  uint64_t total_bytes = 0, free_bytes = 0, used_bytes = 0;
  uint64_t full_percent = 100;  // its own limit
  bool nearly_full = false;     // and somebody was warned
  uint64_t files_live = 0, files_deleted = 0, files_lost = 0;
  uint64_t needles_corrupt = 0;
  uint32_t blocks = 0;

  bool Writable() const {
    return registered && state == DspState::kUp && disk_state == pb::DISK_HEALTHY && !draining;
  }
  // Of the disk, with what appends may not take.
  uint64_t UsedPercent() const {
    return total_bytes == 0 ? 0
                            : (total_bytes - std::min(free_bytes, total_bytes)) * 100 / total_bytes;
  }
  bool Full() const { return free_bytes == 0 || UsedPercent() >= full_percent; }
};

struct MembershipOptions {
  uint64_t suspect_after_ms = 3'000;
  uint64_t down_after_ms = 600'000;
};

class Membership {
 public:
  explicit Membership(const MembershipOptions& options) : options_(options) {}

  // A dsp of the log: suspect, its silence beginning now. The same again only moves it.
  DspLive* Add(uint32_t dsp_id, const std::string& machine, Now now);
  DspLive* Find(uint32_t dsp_id);
  const DspLive* Find(uint32_t dsp_id) const;
  void Heard(DspLive* dsp, Now now);
  // Another process speaks from its address, so that it can't be there.
  void Vanished(DspLive* dsp) { dsp->state = DspState::kSuspect; }
  void GiveUp(DspLive* dsp) {
    dsp->state = DspState::kDown;
    dsp->given_up = true;
    dsp->counted = false;
    ++changes_;
  }
  // What dsps are told of it.
  static pb::PeerState PeerStateOf(const DspLive& dsp);
  // Counts whatever changes the answer to that, for some dsp.
  uint64_t changes() const { return changes_; }
  void NoteChange() { ++changes_; }
  // The dsps whose open blocks are to be closed now.
  std::vector<uint32_t> OnTick(Now now);
  // So many at once that the fault is likelier that of whoever complains.
  bool TooManyAtOnce(const std::set<uint32_t>& dsp_ids) const;
  const std::map<uint32_t, DspLive>& dsps() const { return dsps_; }

 private:
  bool MassSilence(Now now) const;

  MembershipOptions options_;
  std::map<uint32_t, DspLive> dsps_;
  uint64_t last_tick_ms_ = 0;
  uint64_t changes_ = 0;
};

}  // namespace hayloft
