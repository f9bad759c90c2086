// Fields that are stored with a file and that HTTP carries: sent with an upload, sent back with
// each answer that has bytes of the file.
//
//   surrogate-key    tags for a cache's purges, with spaces between (Fastly, Varnish xkey)
//   cache-tag        the same with commas between (Cloudflare, Akamai)
//   x-hayloft-NAME   the user's own
//
// A value becomes a line of an answer's head, so it must not be able to end that line (response
// splitting): it is visible ASCII and spaces, looked at when it is stored, and once more when it is
// sent, for blocks may have been written by others. Names are stored in lower case. A file may have
// other fields besides, of programs that use the library: those are told of in its JSON only. Pure.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "common/limits.h"

namespace hayloft {

inline constexpr size_t kHttpFieldsMax = 32;            // of one file
inline constexpr size_t kHttpFieldsBytesMax = 6 << 10;  // their names and values together
inline constexpr size_t kHttpFieldNameBytesMax = 64;    // with its "x-hayloft-"
inline constexpr size_t kCacheTagBytesMax = 1 << 10;    // one tag
inline constexpr std::string_view kUserFieldPrefix = "x-hayloft-";

// The metadata's own values and each field's lengths need less than the rest.
static_assert(kHttpFieldsBytesMax + kHttpFieldsMax * 6 + 512 <= kMetadataBytesMax);

enum class FieldFault : uint8_t {
  kNone,
  kReserved,  // a name that is ours
  kName,      // malformed or too long
  kValue,     // a byte that is no visible ASCII or space, a blank at an end
  kTag,       // one tag is too long
};

// Whether HTTP carries a field of this name, which is in lower case, if nothing is wrong with it.
bool IsHttpFieldName(std::string_view name);
// What is wrong with such a field. REQUIRES: IsHttpFieldName(name).
FieldFault CheckHttpField(std::string_view name, std::string_view value);
// Whether a stored field may be sent as a line of an answer's head.
bool IsSendable(std::string_view name, std::string_view value);

}  // namespace hayloft
