#include "gateway/nonce_table.h"

namespace hayloft {

NonceTable::Outcome NonceTable::Spend(std::string_view key_id, std::string_view nonce,
                                      uint64_t until_s, uint64_t now_s) {
  while (!by_end_.empty() && by_end_.begin()->until_s + kForgetAfterS <= now_s) {
    const Entry& oldest = *by_end_.begin();
    oldest.of_key->erase(oldest.of_key->find(*oldest.nonce));
    by_end_.erase(by_end_.begin());
  }
  auto key = spent_.find(key_id);
  if (key == spent_.end()) key = spent_.emplace(key_id, Spent()).first;
  Spent& spent = key->second;
  const auto [entry, fresh] = spent.emplace(nonce);
  if (!fresh) return Outcome::kSpent;
  if (spent.size() > entries_max_ - by_end_.size()) {
    spent.erase(entry);
    return Outcome::kFull;
  }
  by_end_.insert({.until_s = until_s, .of_key = &spent, .nonce = &*entry});
  return Outcome::kFresh;
}

}  // namespace hayloft
