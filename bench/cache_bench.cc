// The cost of the gateway's cache on the path of one request, without sockets: what a hit costs a
// loop alone and beside another one, what a fill costs once the cache is full, who a file's owner
// is.
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "cache/cache_shell.h"
#include "cache/rendezvous.h"
#include "common/proto/hayloft.pb.h"

namespace hayloft {
namespace {

constexpr uint64_t kCacheBytes = 256 << 20;
constexpr uint32_t kFiles = 8'192;
constexpr uint64_t kNowMs = 2'000;

FileAddress FileOf(uint32_t number) { return {1 + number / 500, FileId::Of(number % 500, 7)}; }

// A cache of images of 16 KiB, and a feed that is trusted.
struct Filled {
  Filled() {
    constexpr std::string_view kDsp = "10.0.0.1:9000";
    (void)feeds.AnchorFor(kDsp, 0);
    std::vector<RpcCall> calls;
    feeds.Poll({.mono_ms = kNowMs - 10}, &calls);
    pb::DeleteFeedReply reply;
    reply.set_incarnation(1);
    reply.set_gap(true);
    std::vector<FileChange> changes;
    feeds.OnDone({.call_id = calls[0].call_id, .message = reply.SerializeAsString()},
                 {.mono_ms = kNowMs - 10}, &changes);
    const std::vector<uint8_t> stored(16 << 10, 0x5a);
    for (uint32_t i = 0; i < kFiles; ++i) {
      (void)cache->Add({.address = FileOf(i),
                        .lines = "ETag: \"AAAAAAEAAAAAAAAAAA\"\r\n",
                        .stored = stored,
                        .anchor = feeds.AnchorFor(kDsp, kNowMs),
                        .began_ms = kNowMs});
    }
  }
  FeedTable feeds{64};
  std::unique_ptr<SharedCache> cache = SharedCache::Create(kCacheBytes).value();
};

// One look-up in 8,192 images, one after the other, and letting go of it: locks, index, feed, count
// of holders. By 1 and 2 threads (real time: what each waits).
void BM_CacheHit(benchmark::State& state) {
  static Filled filled;
  auto number = static_cast<uint32_t>(state.thread_index()) * 4'001;
  for (auto _ : state) {
    number = (number + 1'237) % kFiles;
    CacheShard::Answer answer = filled.cache->Find(FileOf(number), filled.feeds, kNowMs);
    if (answer.found != CacheShard::Found::kHit) return state.SkipWithError("no hit");
    benchmark::DoNotOptimize(answer.file.block.data());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_CacheHit)->ThreadRange(1, 2)->UseRealTime();

// All threads want the same image.
void BM_CacheHitOne(benchmark::State& state) {
  static Filled filled;
  for (auto _ : state) {
    CacheShard::Answer answer = filled.cache->Find(FileOf(5), filled.feeds, kNowMs);
    if (answer.found != CacheShard::Found::kHit) return state.SkipWithError("no hit");
    benchmark::DoNotOptimize(answer.file.block.data());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_CacheHitOne)->ThreadRange(1, 2)->UseRealTime();

// A look-up of what is not there.
void BM_CacheMiss(benchmark::State& state) {
  static Filled filled;
  uint32_t number = 0;
  for (auto _ : state) {
    CacheShard::Answer answer = filled.cache->Find(FileOf(kFiles + ++number), filled.feeds, kNowMs);
    if (answer.found != CacheShard::Found::kMiss) return state.SkipWithError("no miss");
  }
}
BENCHMARK(BM_CacheMiss);

// A fill of a full cache, with the evictions that it needs and the copy. Arg: bytes of each image.
void BM_CacheFill(benchmark::State& state) {
  const std::unique_ptr<SharedCache> cache = SharedCache::Create(64 << 20).value();
  const std::vector<uint8_t> stored(static_cast<size_t>(state.range(0)), 0x5a);
  uint32_t number = 0;
  const auto fill = [&] {
    return cache->Add({.address = FileOf(++number), .stored = stored, .began_ms = kNowMs});
  };
  while (cache->stats().evictions < 100) (void)fill();
  for (auto _ : state) {
    if (!fill()) return state.SkipWithError("refused");
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_CacheFill)->Arg(4 << 10)->Arg(16 << 10)->Arg(64 << 10);

// Arg: gateways.
void BM_OwnerOf(benchmark::State& state) {
  std::vector<uint64_t> members;
  for (int64_t i = 0; i < state.range(0); ++i) members.push_back(MemberHash(std::to_string(i)));
  uint32_t number = 0;
  for (auto _ : state) benchmark::DoNotOptimize(OwnerOf(members, FileOf(++number)));
}
BENCHMARK(BM_OwnerOf)->Arg(3)->Arg(10)->Arg(100);

}  // namespace
}  // namespace hayloft

BENCHMARK_MAIN();
