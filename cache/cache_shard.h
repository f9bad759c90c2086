// Images in a gateway's memory: one of the shards that its event loops share.
//
// What is kept of an image is one allocation, so that a hit copies nothing, allocates nothing, and
// hands out one reference:
//
//   | count of holders | entry | answer lines | needle head | stored bytes |
//                              '-- CachedFile::block
//
// An entry that goes leaves the bytes to who still holds them. Nothing is aligned to pages.
//
// The key is (block id, sequence). Another cookie is a miss and displaces nothing; that a file is
// absent is kept in a table of its own. What is answered unasked is FeedTable's to say; a Change
// drops an entry and leaves a mark, against bytes that were on their way (change_marks.h). What
// goes when there is no room, S3Fifo says.
//
// Bounds: everything within `Plan::bytes`, tables included, and the bytes of entries by
// construction; requests that wait for each other are counted apart (fetches.h).
//
// Times are of one monotonic clock. `began_ms` may be too early, never too late: read before the
// request was sent. `now_ms` of Find and Change must be read after what is looked up or changed was
// heard of: a loop's time of its last turn is not good enough.
//
// Threads: one at a time; the Buffers that it gave out, any (as `memory` allows). Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cache/absent_table.h"
#include "cache/cache_memory.h"
#include "cache/change_marks.h"
#include "cache/feed_table.h"
#include "cache/fetches.h"
#include "cache/s3_fifo.h"
#include "common/buffer.h"
#include "common/file_address.h"
#include "common/le.h"
#include "common/result.h"

namespace hayloft {

inline constexpr uint64_t kCachedFileBytesMax = 1 << 20;   // of longer ones the head is kept
inline constexpr uint64_t kCachedHeadBytesMax = 64 << 10;  // of the answer lines, and of the head

// Shared by readers; what is told of it never changes.
struct CachedFile {
  FileAddress address;
  Buffer block;  // answer lines | needle head | stored bytes
  uint32_t lines_bytes = 0;
  uint32_t head_bytes = 0;
  bool too_large = false;  // longer than kCachedFileBytesMax: no stored bytes

  std::string_view lines() const { return AsText(block.bytes().first(lines_bytes)); }
  Bytes head() const { return block.bytes().subspan(lines_bytes, head_bytes); }
  Bytes stored_bytes() const { return block.bytes().subspan(lines_bytes + head_bytes); }
  Buffer stored() const;  // held once more
  CachedFile Share() const;
};

class CacheShard {
 public:
  // How so many bytes are divided. `region_bytes` is 0 if they are too few to keep anything.
  struct Plan {
    uint64_t bytes = 0;
    uint64_t region_bytes = 0;
    uint64_t table_bytes = 0;  // all else
    uint64_t ghost_entries = 0;
    size_t buckets = 0;
    size_t marks = 0;
    size_t absent_slots = 0;
  };
  static Plan PlanFor(uint64_t bytes);

  // `memory` gives out the plan's region; borrowed. It outlives the shard and every Buffer of it.
  CacheShard(CacheMemory* memory, const Plan& plan);
  ~CacheShard();
  CacheShard(const CacheShard&) = delete;  // nodes of one queue
  CacheShard& operator=(const CacheShard&) = delete;

  enum class Found : uint8_t {
    kMiss,
    kHit,
    kAsk,     // it is there; whether the file still lives must be asked
    kAbsent,  // with `err`: kNotFound, kGone
  };
  struct Answer {
    Found found = Found::kMiss;
    Err err = Err::kOk;
    CachedFile file{};  // of kHit and kAsk
  };
  Answer Find(const FileAddress& address, const FeedTable& feeds, uint64_t now_ms);
  // The same for a request that has been counted before.
  Answer FindAgain(const FileAddress& address, const FeedTable& feeds, uint64_t now_ms);
  // Whether the file was deleted or undeleted at `since_ms` or later, or may have been.
  bool ChangedSince(const FileAddress& address, uint64_t since_ms) const;

  // What a read that began at `began_ms` brought.
  struct Fill {
    FileAddress address;
    std::string_view lines{};
    Bytes head{};
    Bytes stored{};  // copied; of a file that is too large, nothing is
    bool too_large = false;
    FeedAnchor anchor{};
    uint64_t began_ms = 0;
  };
  // Keeps it, in place of what it has under this block and sequence. Not if a change came since the
  // read began, or a later read's bytes are there, or no room can be made.
  bool Add(const Fill& fill);
  // A read that began at `began_ms` said that the file still lives.
  void Renew(const FileAddress& address, FeedAnchor anchor, uint64_t began_ms);
  // It was deleted or undeleted.
  void Change(const FileChange& change, uint64_t now_ms);
  // A feed tells no more of these blocks: each of their files that is here is asked about once, and
  // what of them was read before is not kept. Looks at some buckets from `bucket` on, so that
  // nobody waits long, and returns where to go on, with the same time; 0: that is all. REQUIRES:
  // sorted.
  size_t ChangeBlocks(std::span<const uint64_t> blocks, size_t bucket, uint64_t now_ms);
  // A read that began at `began_ms` said kNotFound or kGone: so it is for kAbsentMs from then, and
  // what was kept of it goes.
  void AddAbsent(const FileAddress& address, Err err, uint64_t began_ms);

  using Waiter = Fetches::Waiter;
  // As Fetches has them: true: fetch it, then Settle.
  bool Join(const FileAddress& address, Waiter request, uint64_t now_ms);
  std::vector<Waiter> Settle(const FileAddress& address, Waiter fetcher);

  // At most so many, the most asked for first. Slow: walks all entries.
  std::vector<FileAddress> Hottest(size_t max) const;

  struct Stats {
    uint64_t entries = 0;
    uint64_t bytes = 0;  // of entries in the region; without those that only readers still hold
    uint64_t hits = 0;   // asked ones included
    uint64_t misses = 0;
    uint64_t asked = 0;
    uint64_t absent_hits = 0;
    uint64_t fills = 0;
    uint64_t fills_changed = 0;  // not kept: a change came since they began
    uint64_t fills_no_room = 0;  // not kept: larger than allowed, or readers hold too much
    uint64_t evictions = 0;
    uint64_t changes = 0;  // told by feeds
    uint64_t waits = 0;    // requests that another one's fetch answers
  };
  Stats stats() const;
  uint64_t table_bytes() const { return plan_.table_bytes; }

 private:
  struct Entry;
  static constexpr size_t kEvictionsMin = 64;  // for one newcomer, whatever they give back
  static constexpr size_t kEvictionsMax = 512;
  static constexpr size_t kBucketsAtOnce = 4'096;

  Entry** PlaceOf(uint64_t hash, uint64_t block_id, uint32_t sequence);
  Entry* FindEntry(const FileAddress& address);
  Answer AnswerOf(const Entry* entry, const FileAddress& address, const FeedTable& feeds,
                  uint64_t now_ms) const;
  bool IsOvertaken(const FileAddress& address, uint64_t began_ms) const;
  void* MakeRoom(uint64_t bytes);
  void Insert(Entry* entry, uint64_t hash);
  void Remove(Entry** place);   // out of queue and index; its bytes go with their last holder
  void Unindex(Entry** place);  // it is in no queue any more

  CacheMemory* const memory_;
  const Plan plan_;
  std::vector<Entry*> buckets_;
  S3Fifo queue_;
  ChangeMarks marks_;
  AbsentTable absent_;
  Fetches fetches_;
  Stats stats_;
};

}  // namespace hayloft
