#include "dataserver/dsp/delete_feed.h"

#include <algorithm>

#include "common/limits.h"

namespace hayloft {

void DeleteFeed::Add(uint64_t block_id, uint32_t sequence) {
  changes_.push_back({.block_id = block_id, .sequence = sequence});
  if (changes_.size() <= kept_max_) return;
  changes_.pop_front();
  ++begin_;
}

void DeleteFeed::Break() {
  begin_ = end() + 1;
  changes_.clear();
}

void DeleteFeed::Fill(uint64_t position, pb::DeleteFeedReply* reply) const {
  if (position < begin_ || position > end()) return FillGap(reply);
  const uint64_t last = std::min<uint64_t>(end(), position + uint64_t{kFeedChangesMax});
  for (uint64_t at = position; at < last; ++at) {
    const Change& change = changes_[at - begin_];
    pb::FileChange& told = *reply->add_changes();
    told.set_block_id(change.block_id);
    told.set_sequence(change.sequence);
  }
  reply->set_position(last);
  reply->set_more(last < end());
}

void DeleteFeed::FillGap(pb::DeleteFeedReply* reply) const {
  reply->set_gap(true);
  reply->set_position(end());
}

}  // namespace hayloft
