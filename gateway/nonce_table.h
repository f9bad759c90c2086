// Which URLs that are for once have been used: their nonces, until the URLs have expired by
// themselves.
//
// A nonce that still counts is never forgotten to make room for another one: then a URL could be
// used twice by whoever uses many others in between. New ones are refused instead: of a key that
// has as many as there is room left. So one key alone gets half of the table, each of two a third,
// and whoever signs few is served however many the others sign. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace hayloft {

class NonceTable {
 public:
  enum class Outcome : uint8_t { kFresh, kSpent, kFull };
  // It is kept for so much longer than its URL is honoured: another worker's clock may have been
  // read a turn ago, and clocks are set back.
  static constexpr uint64_t kForgetAfterS = 60;
  static constexpr size_t kEntriesMax = 131'072;  // some 32 MiB at the most

  explicit NonceTable(size_t entries_max = kEntriesMax) : entries_max_(entries_max) {}
  // Spends it: only the first call for a key and its nonce is kFresh, until `now_s` is
  // kForgetAfterS beyond the `until_s` of that call.
  Outcome Spend(std::string_view key_id, std::string_view nonce, uint64_t until_s, uint64_t now_s);
  size_t size() const { return by_end_.size(); }

 private:
  using Spent = std::unordered_set<std::string>;
  struct Entry {
    uint64_t until_s;
    Spent* of_key;
    const std::string* nonce;
    auto operator<=>(const Entry&) const = default;
  };
  const size_t entries_max_;
  std::map<std::string, Spent, std::less<>> spent_;  // by the key's id
  std::set<Entry> by_end_;                           // of spent_
};

}  // namespace hayloft
