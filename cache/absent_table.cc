#include "cache/absent_table.h"

#include <bit>

#include "common/check.h"

namespace hayloft {

AbsentTable::AbsentTable(size_t slots) : sets_(slots / kWays) {
  ASSERT(slots == 0 || (slots >= kWays && std::has_single_bit(slots)));
}

uint64_t AbsentTable::TableBytes(size_t slots) { return slots / kWays * sizeof(Set); }

void AbsentTable::Add(uint64_t hash, const FileAddress& address, Err err, uint64_t began_ms) {
  ASSERT(err != Err::kOk);
  if (sets_.empty()) return;
  Set& set = sets_[SetOf(hash)];
  Slot* place = &set[0];
  for (Slot& slot : set) {
    if (slot.err != Err::kOk && slot.address == address) {
      place = &slot;
      break;
    }
    if (slot.until_ms < place->until_ms) place = &slot;
  }
  *place = {address, began_ms + kAbsentMs, err};
}

Err AbsentTable::Find(uint64_t hash, const FileAddress& address, uint64_t now_ms) const {
  if (sets_.empty()) return Err::kOk;
  for (const Slot& slot : sets_[SetOf(hash)]) {
    if (now_ms < slot.until_ms && slot.address == address) return slot.err;
  }
  return Err::kOk;
}

void AbsentTable::Drop(uint64_t hash, uint64_t block_id, uint32_t sequence) {
  if (sets_.empty()) return;
  for (Slot& slot : sets_[SetOf(hash)]) {
    const FileAddress& address = slot.address;
    if (address.block_id == block_id && address.file_id.sequence() == sequence) slot = {};
  }
}

}  // namespace hayloft
