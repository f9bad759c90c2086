#include "gateway/content_coding.h"

#include <doctest/doctest.h>

#include "tests/unit/parsed_get.h"

using namespace hayloft;

namespace {

bool Prefers(const std::string& value) {
  return PrefersZstd(*ParsedGet("Accept-Encoding: " + value + "\r\n").request);
}

}  // namespace

TEST_CASE("content_coding: zstd goes to clients that name it and want it at least as much") {
  for (const char* value :
       {"zstd", "ZSTD", "gzip, deflate, br, zstd", "zstd;q=1", "zstd;q=0.001", "zstd ; q=0.5",
        "zstd;Q=1.000", "zstd;q=0.5, identity;q=0.5", "zstd;q=0.5, *;q=0",
        "identity;q=0, zstd;q=0.1", "gzip;q=1.0, zstd;q=0.8, identity;q=0.2", ",, zstd ,",
        "*;q=1, identity;q=0.5", "*, identity;q=0"}) {
    CAPTURE(value);
    CHECK(Prefers(value));
  }
}

TEST_CASE("content_coding: q=0, a lower weight, or a star alone are no wish for zstd") {
  CHECK_FALSE(PrefersZstd(*ParsedGet("").request));
  for (const char* value :
       {"", "gzip", "identity", "*", "*;q=0.5", "zstd;q=0", "zstd;q=0.000", "zstd;q=0, *",
        "zstd;q=0.5, identity", "zstd;q=0.5, identity;q=0.6", "zstd;q=0.5, *", "*;q=0",
        "identity;q=0", "*;q=0, identity;q=1", "zstdx", "x-zstd", "zst", "zstd, zstd;q=0"}) {
    CAPTURE(value);
    CHECK_FALSE(Prefers(value));
  }
  // A weight that is malformed is none.
  for (const char* value : {"zstd;q=", "zstd;q=2", "zstd;q=1.001", "zstd;q=0.0001", "zstd;q=.5",
                            "zstd;q=-1", "zstd;q=0,5", "zstd;q=1x", "zstd;level=3", "zstd;"}) {
    CAPTURE(value);
    CHECK_FALSE(Prefers(value));
  }
}

TEST_CASE("content_coding: several fields are one list") {
  CHECK(PrefersZstd(*ParsedGet("Accept-Encoding: gzip\r\nAccept-Encoding: zstd\r\n").request));
  CHECK_FALSE(
      PrefersZstd(*ParsedGet("Accept-Encoding: zstd\r\nAccept-Encoding: zstd;q=0\r\n").request));
}
