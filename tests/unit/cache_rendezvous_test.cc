// Who keeps which file: evenly, agreed by all, and moved only when it must be.
#include "cache/rendezvous.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "tests/unit/cache_bench.h"

using namespace hayloft;

namespace {

constexpr size_t kKeys = 100'000;

std::vector<uint64_t> Members(size_t count) {
  std::vector<uint64_t> members;
  for (size_t i = 0; i < count; ++i) {
    members.push_back(MemberHash("10.0.0." + std::to_string(i + 1) + ":8080"));
  }
  return members;
}

// Blocks as they are written: some hundred files each, one after the other.
FileAddress Key(size_t i) { return AddressOf(1 + i / 500, static_cast<uint32_t>(i % 500), i); }

}  // namespace

TEST_CASE("rendezvous: each of 3 and of 10 gateways keeps its share of 100,000 files within 5 %") {
  for (const size_t count : {3u, 10u}) {
    CAPTURE(count);
    const std::vector<uint64_t> members = Members(count);
    std::vector<size_t> kept(count);
    for (size_t i = 0; i < kKeys; ++i) ++kept[OwnerOf(members, Key(i))];
    for (const size_t each : kept) {
      CHECK_GE(each * count * 100, kKeys * 95);
      CHECK_LE(each * count * 100, kKeys * 105);
    }
  }
}

TEST_CASE("rendezvous: who joins takes at most 1.2/N of the files, who leaves gives only his own") {
  for (const size_t count : {2u, 3u, 10u}) {
    CAPTURE(count);
    const std::vector<uint64_t> few = Members(count);
    const std::vector<uint64_t> more = Members(count + 1);
    size_t moved = 0;
    for (size_t i = 0; i < kKeys; ++i) {
      const size_t before = OwnerOf(few, Key(i));
      const size_t after = OwnerOf(more, Key(i));
      if (before == after) continue;
      REQUIRE_EQ(after, count);  // to the new one; the same look-up backwards is his leaving
      ++moved;
    }
    CHECK_LE(moved * 10 * (count + 1), kKeys * 12);
    CHECK_GE(moved * 10 * (count + 1), kKeys * 8);
  }
}

TEST_CASE("rendezvous: the owner depends on neither order nor cookie; alone it is oneself") {
  std::vector<uint64_t> members = Members(7);
  std::vector<uint64_t> turned = members;
  std::reverse(turned.begin(), turned.end());
  for (size_t i = 0; i < 10'000; ++i) {
    const uint64_t owner = members[OwnerOf(members, Key(i))];
    REQUIRE_EQ(turned[OwnerOf(turned, Key(i))], owner);
    const FileAddress key = Key(i);
    const FileAddress other = AddressOf(key.block_id, key.file_id.sequence(), 999'999);
    REQUIRE_EQ(members[OwnerOf(members, other)], owner);
    REQUIRE_EQ(OwnerOf({MemberHash("10.0.0.1:8080")}, key), 0);
  }
}

// Gateways of different versions must agree: these never change. Computed apart, in
// Python.
TEST_CASE("rendezvous: hashes and owners are frozen") {
  CHECK_EQ(MemberHash(""), 0xefd01f60ba992926);
  CHECK_EQ(MemberHash("10.0.0.1:8080"), 0xe8c721156ed52b14);
  std::string owners;
  for (size_t i = 0; i < 40; ++i) {
    owners += std::to_string(OwnerOf(Members(10), AddressOf(i * 37, static_cast<uint32_t>(i))));
  }
  CHECK_EQ(owners, "9805685148477223705773943098971343051571");
}
