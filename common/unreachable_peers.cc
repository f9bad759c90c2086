#include "common/unreachable_peers.h"

#include "common/check.h"

namespace hayloft {

void UnreachablePeers::OnCallDone(const std::string& address, const Ended& call) {
  if (address.empty()) return;  // somebody's message named none
  ASSERT(call.sent_ms <= call.now_ms);
  if (call.err != Err::kUnavailable && call.err != Err::kTimeout) {
    failed_.erase(address);
    if (heard_.size() >= kHeardMax && !heard_.contains(address)) heard_.clear();
    heard_[address] = call.now_ms;
    return;
  }
  if (call.err == Err::kTimeout) {
    const auto heard = heard_.find(address);
    const bool answered = heard != heard_.end() && heard->second >= call.sent_ms;
    if (answered || call.now_ms - call.sent_ms < kSilentMs) return;
  }
  if (failed_.size() >= kNamedMax && !failed_.contains(address)) return;
  failed_[address] = call.now_ms;
}

void UnreachablePeers::Describe(uint64_t now_ms, pb::Unreachable* message) {
  std::erase_if(failed_, [&](const auto& one) { return one.second + kForgottenMs < now_ms; });
  for (const auto& [address, failed_ms] : failed_) message->add_addresses(address);
}

}  // namespace hayloft
