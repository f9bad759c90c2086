// What an uploaded file is: its first bytes against what its uploader says.
//
// A browser must never be told that bytes are a page when they are an image, or the other way round
// (stored XSS): what the bytes show wins over the client's word. Pure.
#pragma once

#include <string>
#include <string_view>

#include "common/le.h"

namespace hayloft {

inline constexpr size_t kSniffBytesMax = 512;  // looked at, from the front
inline constexpr size_t kContentTypeBytesMax = 255;
inline constexpr std::string_view kUnknownType = "application/octet-stream";

// The type that the bytes show: an image's, text/html, image/svg+xml, text/plain, else
// application/octet-stream. `bytes` may be the whole file.
std::string_view SniffType(Bytes bytes);

// True when `type` is a media type with well-formed parameters (RFC 9110 section 8.3.1), of
// bounded length, in visible ASCII and spaces.
bool IsValidType(std::string_view type);
// A byte that must never get into a stored type: CR, LF or another control byte.
bool HasControlByte(std::string_view type);

// The type to store. The client's is kept, parameters and all, unless it is missing, malformed, a
// form's, or contradicts the bytes. REQUIRES: !HasControlByte(claimed).
std::string DecideType(std::string_view claimed, Bytes bytes);

// A type that a browser may run scripts in: served with a sandboxing Content-Security-Policy.
bool IsActiveType(std::string_view type);

}  // namespace hayloft
