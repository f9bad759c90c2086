// Byte ranges of a file (RFC 9110 section 14). Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "gateway/http_parser.h"

namespace hayloft {

// Of one Range header; beyond it the whole file is sent, as it is to someone who means no harm.
inline constexpr size_t kRangesMax = 16;

// One range as a Range header asks for it, before the size is known.
struct RangeSpec {
  enum class Kind : uint8_t {
    kFrom,    // first, to the end
    kFromTo,  // first to last, both included
    kSuffix,  // the last `suffix` bytes
  };
  Kind kind = Kind::kFrom;
  uint64_t first = 0;
  uint64_t last = 0;
  uint64_t suffix = 0;
};
// The ranges of a request, as they stand there. Empty, which means the whole file with 200: no
// Range header or more than one, one with a malformed member or another unit, too many.
std::vector<RangeSpec> ParseRanges(const HttpRequest& request);

struct ByteRange {
  uint64_t offset = 0;
  uint64_t length = 0;  // at least 1
  uint64_t end() const { return offset + length; }
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};
// What there is of the ranges in `size` bytes, each byte once: those that overlap or touch are one,
// and stand where the first of them was asked for. Empty: none can be satisfied (416).
std::vector<ByteRange> ResolveRanges(std::span<const RangeSpec> specs, uint64_t size);

// "bytes FIRST-LAST/SIZE", the value of a Content-Range.
void AppendContentRange(const ByteRange& range, uint64_t size, std::string* out);

}  // namespace hayloft
