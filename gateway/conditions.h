// Conditional requests: entity tags and dates (RFC 9110 section 13). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "gateway/http_parser.h"

namespace hayloft {

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

}  // namespace hayloft
