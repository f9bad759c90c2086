// Who had a fault lately, and is therefore chosen last for a while: a dsp, or a pair of dsps that
// could not append together.
//
// The first fault pauses for 5 s, each further one twice as long as the last, up to 10 min: a dsp
// that flaps all day costs ever fewer uploads a detour. Counted are faults, not the blocks that
// they closed. A minute without one, after the pause has ended, and all is forgotten.
// Bound: kEntriesMax; a fault beyond is not remembered, which costs a preference only.
// Threads: one owner. Pure.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <map>

namespace hayloft {

struct FaultyParty {
  uint32_t dsp_id = 0;
  uint32_t other_dsp_id = 0;  // 0: alone
  static FaultyParty Dsp(uint32_t dsp_id) { return {dsp_id, 0}; }
  static FaultyParty Pair(uint32_t a, uint32_t b) { return {std::min(a, b), std::max(a, b)}; }
  friend auto operator<=>(const FaultyParty&, const FaultyParty&) = default;
};

class FaultPauses {
 public:
  static constexpr uint64_t kFirstMs = 5'000;
  static constexpr uint64_t kMostMs = 600'000;
  static constexpr uint64_t kForgottenMs = 60'000;
  static constexpr size_t kEntriesMax = 100'000;

  // Returns how long it is chosen last from now on, in milliseconds; 0: not remembered.
  uint64_t OnFault(const FaultyParty& party, uint64_t now_ms);
  bool Paused(const FaultyParty& party, uint64_t now_ms) const;
  void Forget(uint64_t now_ms);
  size_t size() const { return pauses_.size(); }

 private:
  struct Pause {
    uint64_t length_ms = 0;
    uint64_t until_ms = 0;
  };
  std::map<FaultyParty, Pause> pauses_;
};

}  // namespace hayloft
