#include "dataserver/dsp/block_index.h"

#include <doctest/doctest.h>

#include "common/limits.h"
#include "common/needle.h"
#include "tests/sim/sim_random.h"

using namespace hayloft;

namespace {

// Ascending offsets in units of 8 bytes, with repeats, below `end`.
std::vector<uint32_t> SomeOffsets(SimRandom* random, uint32_t count, uint32_t end) {
  std::vector<uint32_t> offsets;
  for (uint32_t i = 0; i < count; ++i) {
    offsets.push_back(static_cast<uint32_t>(random->Below(uint64_t{end} + 1)));
  }
  std::sort(offsets.begin(), offsets.end());
  return offsets;
}

void FindsAll(const std::vector<uint32_t>& offsets, uint32_t end) {
  const SealedIndex index(offsets, end);
  REQUIRE(index.size() == offsets.size());
  for (uint32_t i = 0; i < offsets.size(); ++i) {
    const NeedleSpan span = index.Find(i);
    const uint32_t next = i + 1 < offsets.size() ? offsets[i + 1] : end;
    if (span.offset != uint64_t{offsets[i]} * kNeedleAlign ||
        span.next != uint64_t{next} * kNeedleAlign) {
      FAIL("sequence " << i << " of " << offsets.size() << " end " << end);
    }
  }
}

}  // namespace

TEST_CASE("block_index: a sealed index finds what it was built from, at every density") {
  SimRandom random(1);
  FindsAll({}, 0);
  FindsAll({}, 1024);
  FindsAll({0}, 0);
  FindsAll({1024}, 1024);
  FindsAll(std::vector<uint32_t>(500, 1024), 1024);  // all lost but perhaps the last
  for (int round = 0; round < 300; ++round) {
    const uint32_t end = static_cast<uint32_t>(random.Below(kBlockBytes / kNeedleAlign) + 1);
    FindsAll(SomeOffsets(&random, static_cast<uint32_t>(random.Below(3000)), end), end);
  }
  FindsAll(SomeOffsets(&random, 200'000, 1000), 1000);
}

TEST_CASE("block_index: a sealed index costs at most 1.9 bytes a needle at a mean of 16 KB") {
  SimRandom random(2);
  const uint32_t end = kBlockBytes / kNeedleAlign;
  const std::vector<uint32_t> offsets = SomeOffsets(&random, 4096, end);
  const SealedIndex index(offsets, end);
  const double bytes = static_cast<double>(index.memory_bytes()) / 4096;
  MESSAGE("bytes a needle: " << bytes);
  CHECK(bytes <= 1.9);
}

TEST_CASE("block_index: an open index finds each needle and the end of the last") {
  OpenIndex index;
  for (uint32_t i = 0; i < 5000; ++i) index.Add(8192 + uint64_t{i} * 24);
  CHECK(index.size() == 5000);
  CHECK(index.Find(0, 1 << 20).offset == 8192);
  CHECK(index.Find(1023, 1 << 20).next == 8192 + 1024 * 24);
  CHECK(index.Find(4999, 1 << 20).next == 1 << 20);
  CHECK(index.memory_bytes() <= 5 * 5000);
}
