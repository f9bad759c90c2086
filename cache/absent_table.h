// Files that a dsp just said are not there: for a second nobody asks again. A second, since nothing
// tells a gateway of what comes to be; and from the beginning of that read, so that an undelete is
// seen a second after it was acknowledged.
//
// A table of fixed size beside the cache's entries: whoever guesses addresses displaces other
// guesses. All addresses of one file (its block and sequence, with any cookie) lie in one set of
// four slots. Pure; one owner.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/file_address.h"
#include "common/result.h"

namespace hayloft {

inline constexpr uint64_t kAbsentMs = 1'000;

class AbsentTable {
 public:
  // REQUIRES: `slots` is 0 or a power of two, at least 4. `hash` is always that of the address's
  // block and sequence.
  explicit AbsentTable(size_t slots);
  static uint64_t TableBytes(size_t slots);

  // Keeps it until kAbsentMs after `began_ms`. REQUIRES: err is not kOk.
  void Add(uint64_t hash, const FileAddress& address, Err err, uint64_t began_ms);
  // kOk: not known to be absent.
  Err Find(uint64_t hash, const FileAddress& address, uint64_t now_ms) const;
  // All addresses of this file.
  void Drop(uint64_t hash, uint64_t block_id, uint32_t sequence);

 private:
  static constexpr size_t kWays = 4;
  struct Slot {
    FileAddress address;
    uint64_t until_ms = 0;
    Err err = Err::kOk;  // kOk: free
  };
  using Set = std::array<Slot, kWays>;
  size_t SetOf(uint64_t hash) const { return (hash >> 32) & (sets_.size() - 1); }

  std::vector<Set> sets_;
};

}  // namespace hayloft
