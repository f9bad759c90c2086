#include "cache/tier_view.h"

#include <algorithm>
#include <utility>

#include "cache/rendezvous.h"

namespace hayloft {

void TierView::Note(const std::string& nameserver, const pb::GatewayHelloReply& reply,
                    uint64_t now_ms) {
  answers_[nameserver] = {.addresses = {reply.addresses().begin(), reply.addresses().end()},
                          .settled = reply.settled(),
                          .at_ms = now_ms};
}

std::shared_ptr<const CacheTier> TierView::Changed(uint64_t now_ms) {
  std::erase_if(answers_,
                [now_ms](const auto& entry) { return now_ms > entry.second.at_ms + kAnswerMs; });
  std::set<std::string> now_known = {own_address_};
  bool settled = false;
  for (const auto& [nameserver, answer] : answers_) {
    now_known.insert(answer.addresses.begin(), answer.addresses.end());
    settled |= answer.settled;
  }
  if (!settled) now_known.insert(known_.begin(), known_.end());
  if (now_known == known_) return nullptr;
  known_ = std::move(now_known);
  auto tier = std::make_shared<CacheTier>();
  for (const std::string& address : known_) {
    if (address == own_address_) tier->self = tier->addresses.size();
    tier->addresses.push_back(address);
    tier->hashes.push_back(MemberHash(address));
  }
  return tier;
}

}  // namespace hayloft
