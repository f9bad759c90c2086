#include "cache/feed_table.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/file_change.h"
#include "common/limits.h"
#include "common/mutant.h"
#include "common/proto/hayloft.pb.h"

namespace hayloft {

namespace {

constexpr uint64_t kFree = 0;
constexpr uint64_t kBeingNamed = 1;
constexpr uint32_t kNoFeed = UINT32_MAX;
// `used_ms` is written no more often, so that the processors that read it need not share the line.
constexpr uint64_t kUsedGrainMs = kFeedForgetMs / 10;

bool IsSound(const pb::DeleteFeedReply& reply) {
  if (reply.incarnation() == 0 || reply.changes_size() > kFeedChangesMax) return false;
  return std::all_of(reply.changes().begin(), reply.changes().end(), [](const auto& change) {
    return change.block_id() <= kBlockIdMax &&
           (change.sequence() <= kSequenceMax || change.sequence() == kWholeBlock);
  });
}

}  // namespace

FeedTable::FeedTable(uint32_t feeds_max, uint64_t first_call_id)
    : feeds_(feeds_max), name_hashes_(feeds_max), next_call_id_(first_call_id) {
  ASSERT(first_call_id != 0);
  ASSERT(feeds_max < kNoFeed);
}

uint64_t FeedTable::HashOf(const Name& name) {
  uint64_t hash = 0x9e3779b97f4a7c15;
  for (const uint64_t word : name) {
    hash = (hash ^ word) * 0xff51afd7ed558ccd;
    hash ^= hash >> 32;
  }
  return std::max(hash, kBeingNamed + 1);
}

bool FeedTable::NameIs(const Feed& feed, const Name& name) {
  for (size_t i = 0; i < name.size(); ++i) {
    if (feed.name[i].load(std::memory_order_relaxed) != name[i]) return false;
  }
  return true;
}

FeedAnchor FeedTable::AnchorFor(std::string_view dsp, uint64_t began_ms) {
  if (dsp.empty() || dsp.size() > kFeedNameBytesMax) return {};
  Name name{};
  std::memcpy(name.data(), dsp.data(), dsp.size());
  const uint64_t hash = HashOf(name);
  // There are some hundred at the most, and this is once for each fill.
  for (uint32_t i = 0; i < feeds_.size(); ++i) {
    if (name_hashes_[i].load(std::memory_order_acquire) != hash) continue;
    if (NameIs(feeds_[i], name)) return AnchorTo(i, name, began_ms);
  }
  Begin(name, hash, began_ms);
  return {};
}

// Two threads may begin the same feed twice. Then the second one is never found, and forgotten.
uint32_t FeedTable::Begin(const Name& name, uint64_t hash, uint64_t began_ms) {
  for (uint32_t i = 0; i < feeds_.size(); ++i) {
    uint64_t expected = kFree;
    if (!name_hashes_[i].compare_exchange_strong(expected, kBeingNamed)) continue;
    for (size_t word = 0; word < name.size(); ++word) {
      feeds_[i].name[word].store(name[word], std::memory_order_relaxed);
    }
    feeds_[i].used_ms.store(began_ms, std::memory_order_relaxed);
    name_hashes_[i].store(hash, std::memory_order_release);
    return i;
  }
  return kNoFeed;
}

// The feed may be forgotten and begun anew for another dsp at the same time. Its epoch changes in
// between; so the name is read behind the epoch, and an anchor of an older epoch does no harm.
FeedAnchor FeedTable::AnchorTo(uint32_t index, const Name& name, uint64_t began_ms) {
  Feed& feed = feeds_[index];
  const uint32_t epoch = feed.epoch.load(std::memory_order_acquire);
  const uint64_t epoch_began_ms = feed.epoch_began_ms.load(std::memory_order_acquire);
  if (!NameIs(feed, name)) return {};
  if (feed.used_ms.load(std::memory_order_relaxed) + kUsedGrainMs < began_ms) {
    feed.used_ms.store(began_ms, std::memory_order_relaxed);
  }
  // In the same millisecond the read may have been first.
  if (epoch_began_ms >= began_ms && !IsMutant(Mutant::kCacheAnyEpoch)) return {};
  return {index, epoch};
}

bool FeedTable::Trusted(FeedAnchor anchor, uint64_t now_ms) const {
  if (anchor.epoch == 0 || anchor.feed >= feeds_.size()) return false;
  const Feed& feed = feeds_[anchor.feed];
  // In this order: a time of trust that belongs to the next epoch is seen only with that epoch.
  const uint64_t until_ms = feed.trusted_until_ms.load(std::memory_order_acquire);
  if (feed.epoch.load(std::memory_order_acquire) != anchor.epoch) return false;
  if (feed.used_ms.load(std::memory_order_relaxed) + kUsedGrainMs < now_ms) {
    feed.used_ms.store(now_ms, std::memory_order_relaxed);
  }
  return now_ms < until_ms || (until_ms != 0 && IsMutant(Mutant::kCacheTrustSilence));
}

void FeedTable::EndEpoch(Feed* feed, uint64_t now_ms) {
  const bool gap = feed->epoch_began_ms.load(std::memory_order_relaxed) != kNoEpoch;
  if (gap && now_ms != kNoEpoch) gaps_.fetch_add(1, std::memory_order_relaxed);
  ASSERT(feed->trust_ms == 0);  // published before anything else is looked at
  feed->trusted_until_ms.store(0, std::memory_order_release);
  feed->epoch_began_ms.store(now_ms, std::memory_order_release);
  feed->epoch.fetch_add(1, std::memory_order_acq_rel);
}

void FeedTable::Forget(uint32_t index) {
  Feed& feed = feeds_[index];
  ASSERT(feed.call_id == 0);
  EndEpoch(&feed, kNoEpoch);
  feed.incarnation = feed.position = 0;
  feed.dsp_id = 0;
  feed.next_poll_ms = 0;
  name_hashes_[index].store(kFree, std::memory_order_release);
}

// The changes that came with these answers have been applied.
void FeedTable::Publish() {
  for (const uint32_t index : to_publish_) {
    Feed& feed = feeds_[index];
    ASSERT(feed.trust_ms != 0);
    feed.trusted_until_ms.store(feed.trust_ms, std::memory_order_release);
    feed.trust_ms = 0;
  }
  to_publish_.clear();
}

void FeedTable::Poll(Now now, std::vector<RpcCall>* calls) {
  Publish();
  for (uint32_t i = 0; i < feeds_.size(); ++i) {
    const uint64_t hash = name_hashes_[i].load(std::memory_order_acquire);
    Feed& feed = feeds_[i];
    if (hash == kFree || hash == kBeingNamed || feed.call_id != 0) continue;
    if (feed.used_ms.load(std::memory_order_relaxed) + kFeedForgetMs < now.mono_ms) {
      Forget(i);
      continue;
    }
    if (now.mono_ms < feed.next_poll_ms) continue;
    feed.call_id = next_call_id_++;
    feed.sent_ms = now.mono_ms;
    calls_[feed.call_id] = i;
    pb::DeleteFeedRequest request;
    request.set_incarnation(feed.incarnation);
    request.set_position(feed.position);
    char name[kFeedNameBytesMax];
    for (size_t word = 0; word < feed.name.size(); ++word) {
      const uint64_t value = feed.name[word].load(std::memory_order_relaxed);
      std::memcpy(name + word * sizeof(value), &value, sizeof(value));
    }
    RpcCall call;
    call.call_id = feed.call_id;
    call.address.assign(name, strnlen(name, sizeof(name)));
    call.type = MessageType::kDeleteFeed;
    call.timeout_ms = kFeedTrustMs;
    call.message = request.SerializeAsString();
    calls->push_back(std::move(call));
  }
}

void FeedTable::OnDone(const CallDone& done, Now now, std::vector<FileChange>* changes) {
  Publish();
  const auto call = calls_.find(done.call_id);
  if (call == calls_.end()) return;
  const uint32_t index = call->second;
  calls_.erase(call);
  Feed& feed = feeds_[index];
  ASSERT(feed.call_id == done.call_id);
  feed.call_id = 0;
  feed.next_poll_ms = feed.sent_ms + kFeedPollMs;
  const size_t changes_before = changes->size();
  if (!Judge(&feed, done, now, changes)) return;
  feed.trust_ms = feed.sent_ms + kFeedTrustMs;
  to_publish_.push_back(index);
  if (changes->size() == changes_before) Publish();
}

// Whether all changes that were acknowledged before the call was sent are known now.
bool FeedTable::Judge(Feed* feed, const CallDone& done, Now now, std::vector<FileChange>* changes) {
  if (done.err != Err::kOk) return false;
  pb::DeleteFeedReply reply;
  if (!reply.ParseFromString(done.message) || !IsSound(reply)) {
    feed->incarnation = feed->position = 0;
    EndEpoch(feed, now.mono_ms);
    return false;
  }
  const bool other = reply.incarnation() != feed->incarnation || reply.dsp_id() != feed->dsp_id ||
                     reply.position() < feed->position;
  const bool first = feed->incarnation == 0;
  if ((reply.gap() || other) && (first || !IsMutant(Mutant::kCacheTrustGap))) {
    EndEpoch(feed, now.mono_ms);
  }
  feed->incarnation = reply.incarnation();
  feed->dsp_id = reply.dsp_id();
  feed->position = reply.position();
  for (const pb::FileChange& change : reply.changes()) {
    changes->push_back({change.block_id(), change.sequence()});
  }
  if (reply.more()) feed->next_poll_ms = now.mono_ms;
  return !reply.doubtful() && !reply.more();
}

FeedTable::Stats FeedTable::StatsAt(uint64_t now_ms) const {
  Stats stats;
  for (uint32_t i = 0; i < feeds_.size(); ++i) {
    if (name_hashes_[i].load(std::memory_order_relaxed) <= kBeingNamed) continue;
    ++stats.feeds;
    const bool trusted = now_ms < feeds_[i].trusted_until_ms.load(std::memory_order_relaxed);
    stats.trusted += trusted ? 1 : 0;
  }
  return stats;
}

}  // namespace hayloft
