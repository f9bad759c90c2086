// What HTTP says about an answer (RFC 9110): dates, entity tags, conditions, ranges, the response
// head. Pure; appends to strings that the caller reuses.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/http_parser.h"

namespace hayloft {

// --- Dates, in seconds since 1970
// -----------------------------------------------------------------
inline constexpr size_t kHttpDateLength = 29;
// IMF-fixdate: "Sun, 06 Nov 1994 08:49:37 GMT". REQUIRES: before the year 10000.
std::array<char, kHttpDateLength> FormatHttpDate(uint64_t seconds);
// Any of the three forms of RFC 9110 section 5.6.7. False when `text` is none, or before 1970.
bool ParseHttpDate(std::string_view text, uint64_t* seconds);
// RFC 3339 in UTC: "1994-11-06T08:49:37.123Z".
std::string FormatTimestamp(uint64_t wall_ms);

// --- Conditions
// -----------------------------------------------------------------------------------
// The conditions of a request, as far as they can be decided before the file has been found: its
// tag is known from its address, its date is not. Holds no view, so it may outlive the request.
struct Conditions {
  enum class Tag : uint8_t { kAbsent, kMatches, kDiffers };
  Tag if_match = Tag::kAbsent;
  Tag if_none_match = Tag::kAbsent;
  Tag if_range = Tag::kAbsent;
  std::optional<uint64_t> if_unmodified_since;  // each a date that could be read
  std::optional<uint64_t> if_modified_since;
  std::optional<uint64_t> if_range_date;
};
// `etag` is strong, with its quotes.
Conditions ParseConditions(const HttpRequest& request, std::string_view etag);

enum class Verdict : uint8_t { kProceed, kNotModified, kFailed };  // 200 or 206, 304, 412
// In the order of RFC 9110 section 13.2.2, for a GET or HEAD of something that exists.
Verdict Evaluate(const Conditions& conditions, uint64_t last_modified_s);
// If-Range is absent, or names just this content: the range may be served.
bool RangeAllowed(const Conditions& conditions, uint64_t last_modified_s);

// --- Ranges
// --------------------------------------------------------------------------------------- What a
// Range header asks for, before the size is known.
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

// --- Answers
// --------------------------------------------------------------------------------------
std::string_view StatusText(int status);  // "Not Found"

// Appends a response head to `out`, field by field. Values must hold no control byte: they are
// constants, numbers, or were checked when they were stored.
class ResponseHead {
 public:
  ResponseHead(std::string* out, int status);
  ResponseHead& Add(std::string_view name, std::string_view value);
  ResponseHead& Add(std::string_view name, uint64_t value);
  void End();  // the empty line

 private:
  std::string* out_;
};

void AppendDecimal(uint64_t value, std::string* out);
// A JSON string with its quotes. Bytes that are no UTF-8 become U+FFFD, so the result is always
// valid JSON.
void AppendJsonString(std::string_view text, std::string* out);
// {"error":"<code>","message":"<message>"} and a newline.
std::string ErrorJson(std::string_view code, std::string_view message);
// The snake_case code of an error that only HTTP knows: 405 -> "method_not_allowed".
std::string_view StatusCodeName(int status);

}  // namespace hayloft
