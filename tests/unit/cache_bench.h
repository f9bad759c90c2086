// A shard over an arena of its own, and a feed that the test turns on and off.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "cache/cache_shard.h"
#include "common/limits.h"
#include "common/proto/hayloft.pb.h"

namespace hayloft {

// Of one dsp. Its epoch began at 1,000.
struct TestFeed {
  static constexpr std::string_view kDsp = "10.0.0.1:9000";
  TestFeed() {
    (void)table.AnchorFor(kDsp, 0);
    Answer(1'000, /*gap=*/true);
  }
  void Answer(uint64_t now_ms, bool gap = false) {
    std::vector<RpcCall> calls;
    table.Poll({.mono_ms = now_ms}, &calls);
    REQUIRE_EQ(calls.size(), 1);
    pb::DeleteFeedReply reply;
    reply.set_incarnation(1);
    reply.set_gap(gap);
    std::vector<FileChange> changes;
    table.OnDone({.call_id = calls[0].call_id, .message = reply.SerializeAsString()},
                 {.mono_ms = now_ms}, &changes);
  }
  FeedAnchor Anchor(uint64_t began_ms) { return table.AnchorFor(kDsp, began_ms); }
  FeedTable table{4};
};

struct TestShard {
  explicit TestShard(uint64_t bytes)
      : plan(CacheShard::PlanFor(bytes)),
        region(plan.region_bytes + kPageBytes),
        memory(MutableBytes(PageOf(region.data()), plan.region_bytes)),
        shard(&memory, plan) {}
  static uint8_t* PageOf(uint8_t* begin) {
    return begin + (kPageBytes - reinterpret_cast<uintptr_t>(begin) % kPageBytes) % kPageBytes;
  }

  CacheShard::Plan plan;
  std::vector<uint8_t> region;
  PlainCacheMemory memory;
  CacheShard shard;
};

inline FileAddress AddressOf(uint64_t block_id, uint32_t sequence, uint64_t cookie = 7) {
  return {block_id, FileId::Of(sequence, cookie)};
}

// Always the same for an address.
inline std::vector<uint8_t> StoredOf(const FileAddress& address, size_t bytes) {
  std::vector<uint8_t> stored(bytes);
  uint64_t value = address.block_id * 1'000'003 + address.file_id.value;
  for (uint8_t& byte : stored) {
    value = value * 6364136223846793005 + 1442695040888963407;
    byte = static_cast<uint8_t>(value >> 56);
  }
  return stored;
}

}  // namespace hayloft
