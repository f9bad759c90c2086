#include "gateway/ranges.h"

#include <doctest/doctest.h>

#include "gateway/byteranges.h"
#include "tests/unit/gateway_fixture.h"
#include "tests/unit/parsed_get.h"

using namespace hayloft;

namespace {

std::vector<RangeSpec> Parse(const std::string& value) {
  return ParseRanges(*ParsedGet("Range: " + value + "\r\n").request);
}

// "0-4,7-9", or "416", or "200" when the whole file is to be sent.
std::string Resolve(const std::string& value, uint64_t size) {
  const std::vector<RangeSpec> specs = Parse(value);
  if (specs.empty()) return "200";
  std::string text;
  for (const ByteRange& range : ResolveRanges(specs, size)) {
    if (!text.empty()) text += ",";
    text += std::to_string(range.offset) + "-" + std::to_string(range.end() - 1);
  }
  return text.empty() ? "416" : text;
}

constexpr std::string_view kId = "AAAAAAAAAAAAAAAAAA";

struct Read {
  std::string body;
  size_t reads = 0;
  uint64_t most = 0;
};
// The body as it comes when at most `bytes_max` of the file are read at a time.
Read ReadBody(ByterangesBody* body, const std::string& file, uint64_t bytes_max) {
  Read all;
  while (!body->done()) {
    const ByteRange next = body->NextRead(bytes_max);
    REQUIRE_GT(next.length, 0);
    REQUIRE_LE(next.end(), file.size());
    all.most = std::max(all.most, next.length);
    ++all.reads;
    const Result<Buffer> taken = body->Take(next, AsBytes(file).subspan(next.offset, next.length));
    REQUIRE(taken.ok());
    const Buffer& piece = *taken;
    REQUIRE_FALSE(piece.empty());
    all.body += AsText(piece.bytes());
  }
  return all;
}

}  // namespace

TEST_CASE("ranges: one or several are read; what is malformed is the whole file (S06)") {
  using Kind = RangeSpec::Kind;
  REQUIRE_EQ(Parse("bytes=0-0").size(), 1);
  CHECK_EQ(Parse("bytes=0-0")[0].kind, Kind::kFromTo);
  CHECK_EQ(Parse("BYTES=5-9")[0].last, 9);
  CHECK_EQ(Parse("bytes=5-")[0].kind, Kind::kFrom);
  CHECK_EQ(Parse("bytes=-5")[0].kind, Kind::kSuffix);
  CHECK_EQ(Parse("bytes=-5")[0].suffix, 5);
  CHECK_EQ(Parse("bytes=0-99999999999999999999999")[0].last, UINT64_MAX);
  const std::vector<RangeSpec> several = Parse("bytes=0-1 ,\t,-7, 5-,");
  REQUIRE_EQ(several.size(), 3);
  CHECK_EQ(several[1].suffix, 7);
  CHECK_EQ(several[2].first, 5);
  for (const char* text :
       {"bytes=", "bytes=,", "bytes=-", "bytes=5", "bytes=9-5", "bytes=a-b", "bytes= 0-1",
        "bytes=+0-1", "pages=1-2", "bytes 0-1", "bytes=--1", "bytes=0-1;2-3", "bytes=0-1,x",
        "bytes=0-1,9-5", "bytes=0 -1", "bytes=0-1 2-3"}) {
    CAPTURE(text);
    CHECK(Parse(text).empty());
  }
  CHECK(ParseRanges(*ParsedGet("Range: bytes=0-1\r\nRange: bytes=2-3\r\n").request).empty());
}

TEST_CASE("ranges: more than 16 are the whole file, also when they could be one (S06)") {
  std::string value = "bytes=0-0";
  for (int i = 1; i < 16; ++i) value += ",0-0";
  CHECK_EQ(Resolve(value, 10), "0-0");
  CHECK_EQ(Resolve(value + ",0-0", 10), "200");
  for (int i = 16; i < 1000; ++i) value += ",0-0";
  CHECK_EQ(Resolve(value, 10), "200");
}

TEST_CASE("ranges: a range is cut to the file, or cannot be satisfied") {
  CHECK_EQ(Resolve("bytes=0-0", 10), "0-0");
  CHECK_EQ(Resolve("bytes=3-5", 10), "3-5");
  CHECK_EQ(Resolve("bytes=3-9", 10), "3-9");
  CHECK_EQ(Resolve("bytes=3-10", 10), "3-9");
  CHECK_EQ(Resolve("bytes=0-18446744073709551615", 10), "0-9");
  CHECK_EQ(Resolve("bytes=9-", 10), "9-9");
  CHECK_EQ(Resolve("bytes=10-", 10), "416");
  CHECK_EQ(Resolve("bytes=10-20", 10), "416");
  CHECK_EQ(Resolve("bytes=-1", 10), "9-9");
  CHECK_EQ(Resolve("bytes=-10", 10), "0-9");
  CHECK_EQ(Resolve("bytes=-99", 10), "0-9");
  CHECK_EQ(Resolve("bytes=-0", 10), "416");
}

TEST_CASE("ranges: those that overlap or touch are one, and no others, in the order asked for") {
  CHECK_EQ(Resolve("bytes=0-1,3-4", 10), "0-1,3-4");
  CHECK_EQ(Resolve("bytes=0-1,2-4", 10), "0-4");
  CHECK_EQ(Resolve("bytes=5-6,0-1", 10), "5-6,0-1");
  CHECK_EQ(Resolve("bytes=8-8,0-1,7-7,3-4,1-2", 10), "7-8,0-4");
  CHECK_EQ(Resolve("bytes=0-,0-,-1", 10), "0-9");
  CHECK_EQ(Resolve("bytes=-3,-5,0-0", 10), "5-9,0-0");
  CHECK_EQ(Resolve("bytes=1-8,2-3,0-0", 10), "0-8");
  // What cannot be satisfied is left out, unless nothing else is there.
  CHECK_EQ(Resolve("bytes=10-,0-1", 10), "0-1");
  CHECK_EQ(Resolve("bytes=-0,5-6,99-,0-1", 10), "5-6,0-1");
  CHECK_EQ(Resolve("bytes=10-,-0,11-12", 10), "416");
}

TEST_CASE("ranges: against a naive model, no byte twice and none missing") {
  uint64_t state = 7;
  const auto random = [&state](uint64_t below) {
    state = state * 6'364'136'223'846'793'005 + 1'442'695'040'888'963'407;
    return (state >> 33) % below;
  };
  for (int round = 0; round < 5'000; ++round) {
    const uint64_t size = 1 + random(40);
    std::vector<RangeSpec> specs(1 + random(kRangesMax));
    std::vector<bool> wanted(size);
    for (RangeSpec& spec : specs) {
      const uint64_t first = random(45);
      const uint64_t last = first + random(10);
      spec = {.kind = RangeSpec::Kind::kFromTo, .first = first, .last = last};
      for (uint64_t i = first; i <= last && i < size; ++i) wanted[i] = true;
    }
    std::vector<bool> got(size);
    for (const ByteRange& range : ResolveRanges(specs, size)) {
      for (uint64_t i = range.offset; i < range.end(); ++i) {
        REQUIRE_FALSE(got[i]);
        got[i] = true;
      }
      REQUIRE((range.end() == size || !wanted[range.end()]));  // a neighbour was left apart
    }
    REQUIRE_EQ(got, wanted);
  }
}

TEST_CASE("ranges: a body of several has the form of RFC 9110, to the byte") {
  const std::string file = "0123456789";
  ByterangesBody body({.id = kId, .type = "text/plain", .size = 10},
                      {{.offset = 7, .length = 2}, {.offset = 0, .length = 1}});
  CHECK_EQ(body.ContentType(), "multipart/byteranges; boundary=hayloft-AAAAAAAAAAAAAAAAAA");
  const std::string wanted =
      "--hayloft-AAAAAAAAAAAAAAAAAA\r\nContent-Type: text/plain\r\n"
      "Content-Range: bytes 7-8/10\r\n\r\n78\r\n"
      "--hayloft-AAAAAAAAAAAAAAAAAA\r\nContent-Type: text/plain\r\n"
      "Content-Range: bytes 0-0/10\r\n\r\n0\r\n"
      "--hayloft-AAAAAAAAAAAAAAAAAA--\r\n";
  CHECK_EQ(body.Length(), wanted.size());
  CHECK_EQ(ReadBody(&body, file, 100).body, wanted);
}

TEST_CASE("ranges: a body is the same however little is read at a time, near parts by one read") {
  const std::string file = NoiseBytes(10'000);
  const std::vector<ByteRange> ranges = {{.offset = 9'000, .length = 1'000},
                                         {.offset = 0, .length = 1},
                                         {.offset = 100, .length = 10},
                                         {.offset = 50, .length = 10},
                                         {.offset = 1'000, .length = 7'000}};
  const ByterangesFile of{.id = kId, .type = "image/png", .size = file.size()};
  ByterangesBody once(of, ranges);
  const uint64_t length = once.Length();
  const Read whole = ReadBody(&once, file, file.size());
  CHECK_EQ(whole.reads, 1);
  CHECK_EQ(whole.body.size(), length);
  for (const uint64_t bytes_max : {1, 2, 7, 64, 999, 1'000, 5'000, 9'999}) {
    CAPTURE(bytes_max);
    ByterangesBody body(of, ranges);
    const Read read = ReadBody(&body, file, bytes_max);
    CHECK(read.body == whole.body);
    CHECK_LE(read.most, bytes_max);
    // 9000-9999; 0, 100-109 and 50-59 together; 1000-7999 in seven.
    if (bytes_max == 1'000) CHECK_EQ(read.reads, 9);
  }
}

TEST_CASE("ranges: a body does not go on with bytes that are too few or others (F13)") {
  const std::string file = NoiseBytes(1'000);
  ByterangesBody body({.id = kId, .type = "image/png", .size = file.size()},
                      {{.offset = 100, .length = 10}, {.offset = 500, .length = 10}});
  const ByteRange read = body.NextRead(20);
  CHECK_EQ(read, ByteRange{.offset = 100, .length = 10});
  CHECK_EQ(body.Take(read, AsBytes(file).subspan(100, 9)).err(), Err::kCorrupt);
  CHECK_EQ(body.Take(read, {}).err(), Err::kCorrupt);
  const ByteRange elsewhere{.offset = 500, .length = 10};
  CHECK_EQ(body.Take(elsewhere, AsBytes(file).subspan(500, 10)).err(), Err::kCorrupt);
  CHECK_FALSE(body.done());
  CHECK(body.Take(read, AsBytes(file).subspan(100, 10)).ok());
}
