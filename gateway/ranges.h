// Byte ranges of a file (RFC 9110 section 14). Pure.
#pragma once

#include <cstdint>

#include "gateway/http_parser.h"

namespace hayloft {

// What a Range header asks for, before the size is known.
struct RangeSpec {
  enum class Kind : uint8_t {
    kWhole,   // no Range, a malformed one, or several ranges: the whole file with 200
    kFrom,    // first, to the end
    kFromTo,  // first to last, both included
    kSuffix,  // the last `suffix` bytes
  };
  Kind kind = Kind::kWhole;
  uint64_t first = 0;
  uint64_t last = 0;
  uint64_t suffix = 0;
};
// The range of a request; kWhole also when there is more than one Range header.
RangeSpec ParseRange(const HttpRequest& request);

struct ByteRange {
  bool satisfiable = false;
  uint64_t offset = 0;
  uint64_t length = 0;  // at least 1 when satisfiable and the size is not 0
};
// REQUIRES: spec.kind is not kWhole.
ByteRange ResolveRange(const RangeSpec& spec, uint64_t size);

}  // namespace hayloft
