#include "nameserver/block_table.h"

#include <algorithm>
#include <bit>

#include "common/check.h"

namespace hayloft {

namespace {

bool IdLess(const BlockRecord& record, uint64_t block_id) { return record.block_id < block_id; }

// Grows by an eighth: pages mostly fill up to the last place, and doubling would leave a quarter
// of all memory empty.
void ReserveOneMore(std::vector<BlockRecord>* page) {
  if (page->size() < page->capacity()) return;
  const size_t more = std::max<size_t>(page->size() / 8, 8);
  page->reserve(std::min<size_t>(page->size() + more, BlockTable::kPageIds));
}

}  // namespace

const BlockRecord* BlockTable::Find(uint64_t block_id) const {
  const auto page = pages_.find(block_id / kPageIds);
  if (page == pages_.end()) return nullptr;
  const auto at = std::lower_bound(page->second.begin(), page->second.end(), block_id, IdLess);
  if (at == page->second.end() || at->block_id != block_id) return nullptr;
  return &*at;
}

void BlockTable::Count(const BlockRecord& record, bool add) {
  ASSERT(record.set < counts_.size());
  ASSERT(record.state < 4);
  SetCounts& counts = counts_[record.set];
  const uint64_t one = add ? 1 : ~uint64_t{0};
  counts.by_state[record.state] += one;
  if (record.absent == 0) return;
  counts.with_absent += one;
  const auto members = static_cast<int>(sets_[record.set].size());
  if (std::popcount(record.absent) == members) counts.all_absent += one;
}

void BlockTable::Put(const BlockRecord& record) {
  ASSERT(record.block_id <= kBlockIdMax);
  Page& page = pages_[record.block_id / kPageIds];
  auto at = std::lower_bound(page.begin(), page.end(), record.block_id, IdLess);
  if (at != page.end() && at->block_id == record.block_id) {
    Count(*at, /*add=*/false);
    *at = record;
  } else {
    const auto index = at - page.begin();
    ReserveOneMore(&page);
    page.insert(page.begin() + index, record);
    ++size_;
  }
  Count(record, /*add=*/true);
}

void BlockTable::Remove(uint64_t block_id) {
  const auto page = pages_.find(block_id / kPageIds);
  if (page == pages_.end()) return;
  const auto at = std::lower_bound(page->second.begin(), page->second.end(), block_id, IdLess);
  if (at == page->second.end() || at->block_id != block_id) return;
  Count(*at, /*add=*/false);
  page->second.erase(at);
  --size_;
  if (page->second.empty()) pages_.erase(page);
}

uint32_t BlockTable::Intern(std::vector<uint32_t> dsp_ids) {
  ASSERT(!dsp_ids.empty());
  ASSERT(dsp_ids.size() <= kReplicasMax);
  const auto number = static_cast<uint32_t>(sets_.size());
  const auto [at, added] = interned_.emplace(dsp_ids, number);
  if (added) {
    greatest_member_ =
        std::max(greatest_member_, *std::max_element(dsp_ids.begin(), dsp_ids.end()));
    sets_.push_back(std::move(dsp_ids));
    counts_.emplace_back();
  }
  return at->second;
}

const std::vector<uint32_t>& BlockTable::SetMembers(uint32_t set) const {
  ASSERT(set < sets_.size());
  return sets_[set];
}

const SetCounts& BlockTable::Counts(uint32_t set) const {
  ASSERT(set < counts_.size());
  return counts_[set];
}

void BlockTable::ForEach(const std::function<void(const BlockRecord&)>& visit) const {
  ForEachFrom(0, [&](const BlockRecord& record) {
    visit(record);
    return true;
  });
}

void BlockTable::ForEachFrom(uint64_t first,
                             const std::function<bool(const BlockRecord&)>& visit) const {
  for (auto page = pages_.lower_bound(first / kPageIds); page != pages_.end(); ++page) {
    for (const BlockRecord& record : page->second) {
      if (record.block_id >= first && !visit(record)) return;
    }
  }
}

uint64_t BlockTable::MemoryBytes() const {
  constexpr uint64_t kMapNodeBytes = 64;
  uint64_t bytes = sizeof(*this);
  for (const auto& [number, page] : pages_) {
    bytes += kMapNodeBytes + sizeof(Page) + page.capacity() * sizeof(BlockRecord);
  }
  for (const std::vector<uint32_t>& set : sets_) {
    bytes += 2 * (sizeof(set) + set.capacity() * sizeof(uint32_t)) + kMapNodeBytes;
  }
  return bytes + counts_.capacity() * sizeof(SetCounts);
}

}  // namespace hayloft
