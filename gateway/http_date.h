// Dates of HTTP (RFC 9110 section 5.6.7) and of JSON (RFC 3339), in seconds or milliseconds since
// 1970. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hayloft {

inline constexpr size_t kHttpDateLength = 29;
// IMF-fixdate: "Sun, 06 Nov 1994 08:49:37 GMT". REQUIRES: before the year 10000.
std::array<char, kHttpDateLength> FormatHttpDate(uint64_t seconds);
// Any of the three forms of RFC 9110 section 5.6.7. False when `text` is none, or before 1970.
bool ParseHttpDate(std::string_view text, uint64_t* seconds);
// RFC 3339 in UTC: "1994-11-06T08:49:37.123Z".
std::string FormatTimestamp(uint64_t wall_ms);

}  // namespace hayloft
