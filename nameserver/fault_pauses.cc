#include "nameserver/fault_pauses.h"

#include "common/check.h"

namespace hayloft {

uint64_t FaultPauses::OnFault(const FaultyParty& party, uint64_t now_ms) {
  ASSERT(party.dsp_id != 0);
  if (!pauses_.contains(party) && pauses_.size() >= kEntriesMax) return 0;
  Pause& pause = pauses_[party];
  const bool again = pause.length_ms > 0 && now_ms < pause.until_ms + kForgottenMs;
  pause.length_ms = again ? std::min(pause.length_ms * 2, kMostMs) : kFirstMs;
  pause.until_ms = now_ms + pause.length_ms;
  return pause.length_ms;
}

bool FaultPauses::Paused(const FaultyParty& party, uint64_t now_ms) const {
  const auto found = pauses_.find(party);
  return found != pauses_.end() && now_ms < found->second.until_ms;
}

void FaultPauses::Forget(uint64_t now_ms) {
  std::erase_if(pauses_,
                [&](const auto& one) { return now_ms >= one.second.until_ms + kForgottenMs; });
}

}  // namespace hayloft
