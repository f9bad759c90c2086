#include "gateway/nonce_table.h"

namespace hayloft {

NonceTable::Outcome NonceTable::Spend(std::string_view key_id, std::string_view nonce,
                                      uint64_t until_s, uint64_t now_s) {
  while (!by_end_.empty() && by_end_.begin()->first + kForgetAfterS <= now_s) {
    spent_.erase(spent_.find(*by_end_.begin()->second));
    by_end_.erase(by_end_.begin());
  }
  // No key's id holds a newline.
  std::string entry(key_id);
  entry.append("\n").append(nonce);
  if (spent_.contains(entry)) return Outcome::kSpent;
  if (spent_.size() >= entries_max_) return Outcome::kFull;
  by_end_.emplace(until_s, &*spent_.insert(std::move(entry)).first);
  return Outcome::kFresh;
}

}  // namespace hayloft
