// What one gateway knows of the dsps' feeds of deletes: whether what a dsp gave some time ago may
// be answered without asking it again.
//
//   poll sent at s ---> dsp: "changes since position p" ---> answered; all changes that were
//                                                            acknowledged before s are known now:
//   entries of this feed's epoch are answered unasked until s + kFeedTrustMs
//
// A cache's entry is anchored to the feed of the dsp that gave it, and to an epoch of that feed: a
// time without a gap, in which every change reached this gateway. It counts only if its read began
// after the epoch did: an earlier one may have been carried out before what the epoch begins with.
// A gap, another incarnation, another dsp at the address, or an answer that can't be read ends the
// epoch; so each of its entries is asked about once. An answer that is doubtful, or none, ends
// nothing: what was missed comes with the next one.
//
// Threads: AnchorFor and Trusted: any, without a lock. Poll and OnDone: one, the poller's.
// Bound: `feeds_max` dsps; what others give is asked about each time. Pure.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/core_io.h"

namespace hayloft {

inline constexpr uint32_t kFeedPollMs = 200;
inline constexpr uint32_t kFeedTrustMs = 700;  // with kJoinMs less than the second that is promised
inline constexpr uint64_t kFeedForgetMs = 600'000;
inline constexpr size_t kFeedNameBytesMax = 64;  // of "IP:PORT"

// Of an entry. The default one is never trusted.
struct FeedAnchor {
  uint32_t feed = 0;
  uint32_t epoch = 0;
  friend bool operator==(const FeedAnchor&, const FeedAnchor&) = default;
};

// A file that was deleted or undeleted.
struct FileChange {
  uint64_t block_id = 0;
  uint32_t sequence = 0;  // kWholeBlock: of no file of the block will this feed tell
  friend bool operator==(const FileChange&, const FileChange&) = default;
};

class FeedTable {
 public:
  // Its calls have the ids from `first_call_id` on, so that their owner can tell them from others.
  explicit FeedTable(uint32_t feeds_max, uint64_t first_call_id = 1);
  FeedTable(const FeedTable&) = delete;  // two would ask with the same ids
  FeedTable& operator=(const FeedTable&) = delete;

  // The anchor for what `dsp` ("IP:PORT") gave to a read that began at `began_ms`; the default one
  // if the feed's epoch did not begin before. Begins the feed if it is new. Never waits.
  FeedAnchor AnchorFor(std::string_view dsp, uint64_t began_ms);
  bool Trusted(FeedAnchor anchor, uint64_t now_ms) const;

  // Asks the feeds that are due, one call at a time each; forgets those by which nothing was
  // anchored or trusted for kFeedForgetMs. To be called when something came of OnDone, and at least
  // every kFeedPollMs / 4.
  void Poll(Now now, std::vector<RpcCall>* calls);
  // Appends the changes that came, in order; the owner applies them to the cache before the next
  // call of Poll or OnDone, since only that makes the answer count. Others' calls are ignored.
  void OnDone(const CallDone& done, Now now, std::vector<FileChange>* changes);

  struct Stats {
    uint64_t feeds = 0;
    uint64_t trusted = 0;  // of them
  };
  Stats StatsAt(uint64_t now_ms) const;  // any thread
  // Epochs that ended and were followed by another one.
  uint64_t gaps() const { return gaps_.load(std::memory_order_relaxed); }

 private:
  using Name = std::array<uint64_t, kFeedNameBytesMax / 8>;
  static constexpr uint64_t kNoEpoch = UINT64_MAX;

  struct alignas(64) Feed {
    // Read by all. The name counts while name_hashes_ says so.
    std::atomic<uint64_t> trusted_until_ms{0};
    std::atomic<uint64_t> epoch_began_ms{kNoEpoch};
    mutable std::atomic<uint64_t> used_ms{0};
    std::atomic<uint32_t> epoch{1};
    std::array<std::atomic<uint64_t>, kFeedNameBytesMax / 8> name{};

    // The poller's:
    uint64_t call_id = 0;  // 0: none is under way
    uint64_t sent_ms = 0;
    uint64_t next_poll_ms = 0;
    uint64_t trust_ms = 0;  // what counts once the changes are applied; 0: nothing does
    uint64_t incarnation = 0;
    uint64_t position = 0;
    uint32_t dsp_id = 0;
  };

  static uint64_t HashOf(const Name& name);
  static bool NameIs(const Feed& feed, const Name& name);
  uint32_t Begin(const Name& name, uint64_t hash, uint64_t began_ms);
  FeedAnchor AnchorTo(uint32_t index, const Name& name, uint64_t began_ms);
  void EndEpoch(Feed* feed, uint64_t now_ms);
  void Forget(uint32_t index);
  void Publish();
  bool Judge(Feed* feed, const CallDone& done, Now now, std::vector<FileChange>* changes);

  std::vector<Feed> feeds_;
  // Of each feed: 0: free, 1: being named, else the hash of its name.
  std::vector<std::atomic<uint64_t>> name_hashes_;
  std::unordered_map<uint64_t, uint32_t> calls_;  // call id -> feed
  std::vector<uint32_t> to_publish_;
  uint64_t next_call_id_;
  std::atomic<uint64_t> gaps_{0};
};

}  // namespace hayloft
