// The cache of one gateway, for all of its event loops.
//
//   loop 1 --.     .--> shard 0: mutex, entries, region ..---.
//   loop 2 ---+---+---> shard 1                               >-- one mapping
//   loop 3 --'     '--> ...                              ..---'
//
// By the hash of block and sequence a file belongs to one shard, whose mutex is held for a look-up
// (some hundred nanoseconds) or for the copy of a fill. A region has a mutex of its own, since
// readers let go of its bytes anywhere.
//
// The region is touched only as it fills. An image goes from it to a socket by write(): sendfile
// from a memfd was not faster over loopback (14 us of processor time against 12 for 64 KiB), and
// hands pages to the socket that the next image must not be written to before SIOCOUTQ says 0.
//
// Threads: any. The clock's times are the caller's, as CacheShard has them.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "cache/cache_shard.h"
#include "common/metrics.h"
#include "common/result.h"

namespace hayloft {

inline constexpr size_t kCacheShardsMax = 16;
inline constexpr uint64_t kCacheShardBytesMin = 8 << 20;

class SharedCache {
 public:
  // All that it keeps lies within `cache_bytes`, tables included. 0, or too few for anything: it
  // keeps nothing, but one still fetches for many. kIo: the system gives no memory.
  static Result<std::unique_ptr<SharedCache>> Create(uint64_t cache_bytes);
  ~SharedCache();                            // after all Buffers that it gave out
  SharedCache(const SharedCache&) = delete;  // its buffers know its address
  SharedCache& operator=(const SharedCache&) = delete;

  // As CacheShard has them:
  CacheShard::Answer Find(const FileAddress& address, const FeedTable& feeds, uint64_t now_ms);
  CacheShard::Answer FindAgain(const FileAddress& address, const FeedTable& feeds, uint64_t now_ms);
  bool ChangedSince(const FileAddress& address, uint64_t since_ms) const;
  bool Add(const CacheShard::Fill& fill);
  void Renew(const FileAddress& address, FeedAnchor anchor, uint64_t began_ms);
  void Change(const FileChange& change, uint64_t now_ms);  // not of a whole block
  // What feeds told. With a whole block among it, it goes once through all entries.
  void Apply(std::span<const FileChange> changes, uint64_t now_ms);
  void AddAbsent(const FileAddress& address, Err err, uint64_t began_ms);
  bool Join(const FileAddress& address, Fetches::Waiter request, uint64_t now_ms);
  std::vector<Fetches::Waiter> Settle(const FileAddress& address, Fetches::Waiter fetcher);
  std::vector<FileAddress> Hottest(size_t max) const;

  uint64_t bytes_max() const { return bytes_max_; }
  size_t shards() const { return shards_.size(); }
  // Entries, what only readers still hold, and tables.
  uint64_t used_bytes() const;
  CacheShard::Stats stats() const;
  void Print(MetricsText* out) const;  // hayloft_gateway_cache_*

 private:
  struct Shard;
  struct Unmap {
    size_t bytes;
    void operator()(uint8_t* region) const;
  };

  SharedCache(uint64_t cache_bytes, size_t shards);
  Err MapRegion(uint64_t bytes);
  Shard& ShardOf(uint64_t block_id, uint32_t sequence) const;
  Shard& ShardOf(const FileAddress& address) const {
    return ShardOf(address.block_id, address.file_id.sequence());
  }

  const uint64_t bytes_max_;
  std::unique_ptr<uint8_t, Unmap> region_;
  std::vector<std::unique_ptr<Shard>> shards_;
};

}  // namespace hayloft
