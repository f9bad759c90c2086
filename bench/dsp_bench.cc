// What the dsp's core costs with the disk taken away, and its building blocks. Times are of one
// thread; sizes are bytes of one image.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "common/frame.h"
#include "common/log.h"
#include "dataserver/dsp/block_index.h"
#include "tests/sim/dsp_driver.h"

namespace hayloft {
namespace {

std::string MakeImage(size_t size) {
  std::string bytes(size, '\0');
  SimRandom(size).Fill({reinterpret_cast<uint8_t*>(bytes.data()), size});
  return bytes;
}

// A dsp with one open block of 64 MiB. Blocks are made anew when full, outside of the timing.
struct OpenDsp {
  OpenDsp() : dsp(1) {
    SetLogSink([](LogLevel, std::string_view) {}, LogLevel::kError);
    Must(dsp.Format(kBlockBytes));
    Must(dsp.Start());
    NextBlock();
  }
  void NextBlock() {
    if (block > 0 && dsp.core().blocks().at(block).state == pb::BLOCK_OPEN) {
      Must(dsp.CloseBlock(block));
    }
    dsp.TakeDiskAway(false);
    Must(dsp.CreateBlock(++block));
    dsp.TakeDiskAway(true);
  }
  bool NearlyFull(uint64_t bytes) {
    return dsp.core().blocks().at(block).end + bytes + (1 << 20) > kBlockBytes;
  }
  static void Must(Err err) { ASSERT(err == Err::kOk); }
  DspDriver dsp;
  uint64_t block = 0;
};

// One append after the other, each its own commit: decode, checks, needle, answer; the piece CRCs
// of the caller included. Args: image size, appends in one commit.
void BM_Append(benchmark::State& state) {
  const size_t size = static_cast<size_t>(state.range(0));
  const uint64_t together = static_cast<uint64_t>(state.range(1));
  const std::string image = MakeImage(size);
  OpenDsp open;
  for (auto _ : state) {
    if (open.NearlyFull(together * (size + kPageBytes))) {
      state.PauseTiming();
      open.NextBlock();
      state.ResumeTiming();
    }
    for (uint64_t i = 0; i < together; ++i) (void)open.dsp.SendAppend(open.block, image);
    open.dsp.RunJobs();
    for (const auto& [number, reply] : open.dsp.replies()) OpenDsp::Must(reply.err);
    open.dsp.replies().clear();
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * together));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * together * size));
}
BENCHMARK(BM_Append)->Args({16 << 10, 1})->Args({16 << 10, 64})->Args({1 << 20, 1});

// A read of a whole image: look-up, copy out of memory, header and piece CRCs checked, answer.
// Arg: image size.
void BM_Read(benchmark::State& state) {
  const size_t size = static_cast<size_t>(state.range(0));
  OpenDsp open;
  open.dsp.TakeDiskAway(false);
  std::vector<FileAddress> files;
  for (int i = 0; i < 16; ++i) {
    const Result<FileAddress> address = open.dsp.Append(open.block, MakeImage(size));
    OpenDsp::Must(address.err());
    files.push_back(*address);
  }
  size_t next = 0;
  for (auto _ : state) {
    const Result<std::string> read = open.dsp.Read(files[next++ % files.size()]);
    OpenDsp::Must(read.err());
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * size));
}
BENCHMARK(BM_Read)->Arg(4 << 10)->Arg(16 << 10)->Arg(64 << 10);

// Offsets of a 64 MiB block full of images of `mean` bytes, in units of 8.
std::vector<uint32_t> Offsets(uint64_t mean) {
  SimRandom random(mean);
  std::vector<uint32_t> offsets;
  for (uint64_t offset = 1024; offset < kBlockBytes / 8;) {
    offsets.push_back(static_cast<uint32_t>(offset));
    offset += random.Between(mean / 16, mean / 16 * 3);
  }
  return offsets;
}

// The index of one sealed block. Arg: mean image size.
void BM_IndexBuild(benchmark::State& state) {
  const std::vector<uint32_t> offsets = Offsets(static_cast<uint64_t>(state.range(0)));
  uint64_t bytes = 0;
  for (auto _ : state) {
    const SealedIndex index(offsets, static_cast<uint32_t>(kBlockBytes / 8));
    bytes = index.memory_bytes();
    benchmark::DoNotOptimize(bytes);
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * offsets.size()));
  state.counters["bytes_per_image"] =
      static_cast<double>(bytes) / static_cast<double>(offsets.size());
}
BENCHMARK(BM_IndexBuild)->Arg(16 << 10)->Arg(27 << 10);

// One look-up in a sealed block's index that is in the processor's cache. Arg: mean image size.
void BM_IndexFind(benchmark::State& state) {
  const std::vector<uint32_t> offsets = Offsets(static_cast<uint64_t>(state.range(0)));
  const SealedIndex index(offsets, static_cast<uint32_t>(kBlockBytes / 8));
  uint32_t sequence = 0;
  for (auto _ : state) {
    sequence = (sequence * 1664525 + 1013904223) % index.size();
    benchmark::DoNotOptimize(index.Find(sequence));
  }
}
BENCHMARK(BM_IndexFind)->Arg(16 << 10);

// The frame header of a message of 100 bytes beside 16 KiB whose CRC is known: made, and checked.
void BM_Frame(benchmark::State& state) {
  const std::string message(100, 'm');
  for (auto _ : state) {
    const FrameHeader header = MakeFrameHeader({.type = MessageType::kRead,
                                                .request_id = 7,
                                                .reply = true,
                                                .message = AsBytes(message),
                                                .payload_size = 16 << 10,
                                                .payload_crc = 1});
    OpenDsp::Must(CheckFrameHeader(header));
  }
}
BENCHMARK(BM_Frame);

// CRC-32C alone. Arg: bytes.
void BM_Crc32c(benchmark::State& state) {
  const std::string image = MakeImage(static_cast<size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(Crc32c(AsBytes(image)));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Crc32c)->Arg(16 << 10);

// SHA-1 and SHA-256 of an upload in one pass. Arg: bytes.
void BM_Hash(benchmark::State& state) {
  const std::string image = MakeImage(static_cast<size_t>(state.range(0)));
  Hasher hasher;
  Sha1 sha1;
  Sha256 sha256;
  for (auto _ : state) {
    hasher.Reset();
    hasher.Update(AsBytes(image));
    hasher.Finish(&sha1, &sha256);
    benchmark::DoNotOptimize(sha256);
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Hash)->Arg(16 << 10);

}  // namespace
}  // namespace hayloft

BENCHMARK_MAIN();
