// Caches elsewhere must hear of deletes: the changes of delete counters that this process applied,
// numbered from its start on, the latest kept.
//
//   positions:  | not kept any more ... | change | change | ... | change |
//                                       begin_                           end
//
// Whoever asks names the position that it was told last, and is told what came since. A position
// that is not among those kept (or that no answer ever named) is a gap: the asker must not rest on
// what it heard before. A block of which no more deletes come is a change of its own (kWholeBlock),
// which concerns no other one. When the feed can't vouch for what it told before, it breaks: that
// takes up a position of its own, so that everybody who asked before it finds a gap, and nobody
// else.
//
// Memory: 16 bytes a change kept. Threads: one owner. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

#include "common/proto/hayloft.pb.h"

namespace hayloft {

class DeleteFeed {
 public:
  static constexpr size_t kKeptMax = 65'536;
  explicit DeleteFeed(size_t kept_max = kKeptMax) : kept_max_(kept_max) {}

  void Add(uint64_t block_id, uint32_t sequence);
  void Break();
  // What came since `position`, as far as it fits into one answer; a gap if that can't be told.
  void Fill(uint64_t position, pb::DeleteFeedReply* reply) const;
  // For one who knows another feed, or none: where to begin.
  void FillGap(pb::DeleteFeedReply* reply) const;

  uint64_t end() const { return begin_ + changes_.size(); }

 private:
  struct Change {
    uint64_t block_id = 0;
    uint32_t sequence = 0;
  };

  const size_t kept_max_;
  std::deque<Change> changes_;
  uint64_t begin_ = 0;  // the position of the first one kept
};

}  // namespace hayloft
