// What `hayloft sign` makes of a path or a URL. Pure: no clock, no file.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/signed_url.h"

namespace hayloft {

// "90", "90s", "15m", "1h", "7d" in seconds; nullopt for anything else, 0 and more than ten years.
std::optional<uint64_t> ParseLifeS(std::string_view text);

// Whether a path may be signed: as it stands in a request line (RFC 3986 section 3.3), in a form
// that browsers and curl send unchanged. Empty: yes; else what is wrong with it.
std::string PathFault(std::string_view path);

// `target` with the signed parameters at its end: a path, or a URL (http or https) whose path is
// the one that is signed. Both may have a query, which is not signed. `grant.path` is not looked
// at. kInvalid with the cause in `why`.
Result<std::string> SignTarget(const SigningKey& key, UrlGrant grant, std::string_view target,
                               std::string* why);

}  // namespace hayloft
