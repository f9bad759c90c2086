// What the nameserver knows of every block: 48 bytes each, replica sets interned.
//
//   pages_:  | ids 0-1023 | ids 1024-2047 | ...     a page is a sorted array of BlockRecords
//   sets_:   0 -> {dsp 3}   1 -> {dsp 1, dsp 4, dsp 7}   ...
//
// Block ids are given out in ascending order, so that pages are full; a page that is adopted in
// any order moves at most 48 KiB an insert. Iteration is in order of ids. Counts are kept for each
// replica set, so that the state of the cluster is a sum over sets, not over blocks.
// Threads: one owner. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "common/limits.h"
#include "common/proto/hayloft.pb.h"

namespace hayloft {

struct BlockRecord {
  uint64_t block_id = 0;
  uint64_t opening_epoch = 0;  // with the id names the block
  uint64_t block_epoch = 0;    // guards appends
  uint64_t digest = 0;         // of its needles, the first 8 bytes; 0: not told; not logged
  uint32_t set = 0;            // into the set table
  uint32_t set_version = 0;
  uint32_t needles = 0;  // the most that a member reported; not logged
  uint8_t state = pb::BLOCK_UNKNOWN;
  // Bit i is member i of the set, by its own word; not logged.
  uint8_t absent = 0;  // it reported without this block
  uint8_t closed = 0;  // it has closed it, durably
  uint8_t sealed = 0;  // and sealed it
};
static_assert(sizeof(BlockRecord) == 48, "goal: 64 bytes a block with all that hangs on it");
static_assert(kReplicasMax <= 8, "the masks have a bit for each member");

// How many blocks of one replica set are in each state, and how many of them miss members.
struct SetCounts {
  std::array<uint64_t, 4> by_state{};  // by pb::BlockState
  uint64_t with_absent = 0;            // in any state
  uint64_t all_absent = 0;             // no member holds it any more
};

class BlockTable {
 public:
  static constexpr uint64_t kPageIds = 1024;

  // Null when it is not known. Valid until the next Put or Remove.
  const BlockRecord* Find(uint64_t block_id) const;
  void Put(const BlockRecord& record);  // inserts, or replaces the one with the same id
  void Remove(uint64_t block_id);
  uint64_t size() const { return size_; }

  // The number of a set of dsps, in this order; the same set always has the same number.
  uint32_t Intern(std::vector<uint32_t> dsp_ids);
  const std::vector<uint32_t>& SetMembers(uint32_t set) const;
  size_t set_count() const { return sets_.size(); }
  uint32_t greatest_member() const { return greatest_member_; }  // that any set ever had
  const SetCounts& Counts(uint32_t set) const;

  // In order of ids. `visit` must not change the table.
  void ForEach(const std::function<void(const BlockRecord&)>& visit) const;
  // From this id on, until `visit` returns false.
  void ForEachFrom(uint64_t first, const std::function<bool(const BlockRecord&)>& visit) const;
  // Bytes of memory that it holds, allocator overhead not counted.
  uint64_t MemoryBytes() const;

 private:
  using Page = std::vector<BlockRecord>;
  void Count(const BlockRecord& record, bool add);

  std::map<uint64_t, Page> pages_;  // by block id / kPageIds
  uint64_t size_ = 0;
  std::vector<std::vector<uint32_t>> sets_;
  std::map<std::vector<uint32_t>, uint32_t> interned_;
  std::vector<SetCounts> counts_;  // by set
  uint32_t greatest_member_ = 0;
};

}  // namespace hayloft
