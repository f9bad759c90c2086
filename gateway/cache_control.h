// Cache-Control of what the gateway answers (RFC 9111 section 5.2, RFC 5861, RFC 8246). Pure.
//
// What an id names never changes, so a file may be kept for as long as the options say; it is not
// kept beyond the life of the URL that gave a right to it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/gateway_options.h"

namespace hayloft {

inline constexpr std::string_view kNoStore = "no-store";
// Of a file that may have been deleted: caches ask again.
inline constexpr std::string_view kAskAgain = "no-cache";

// Of a file. With `seconds_left`, the rest of the life of the URL, no time in it is longer, what
// is said for stale answers included.
std::string CacheControl(const GatewayOptions& options, std::optional<uint64_t> seconds_left);
// Of a file that was read by a name, which may be given to another one; likewise.
std::string NameCacheControl(const GatewayOptions& options, std::optional<uint64_t> seconds_left);
// Of 404 and 410 of a file; likewise.
std::string NotFoundCacheControl(const GatewayOptions& options,
                                 std::optional<uint64_t> seconds_left);

}  // namespace hayloft
