// Signed URLs: whoever has a signing key lets others do one thing for a while, by giving them a
// URL.
//
//   /PATH?hl-key=ID&hl-expires=SECONDS[&hl-limit=BYTES][&hl-type=TYPE][&hl-nonce=TEXT]&hl-sig=MAC
//
// MAC is base64url without padding (RFC 4648 section 5) of HMAC-SHA256 (RFC 2104), under the key of
// that id, of eight lines, each with a newline (0x0A) at its end; what is not given is an empty
// line:
//
//   hayloft-url-v1
//   method    GET (which allows HEAD too), POST, DELETE
//   path      as in the request line, from its first slash, neither decoded nor with the query
//   expires   seconds since 1970, decimal
//   limit     bytes that the request's body may have, decimal
//   type      what an upload must turn out to be: "image/png", or "image/*"
//   nonce     8 to 64 of A-Z a-z 0-9 - _
//   id        of the key
//
// No part can hold a newline, so different parts never make the same text. The host and all other
// parameters are not part of it: caches in front have names of their own. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/codec.h"

namespace hayloft {

// All parameters of ours, and no others, begin so. Their values are as good as keys: whoever writes
// a query down leaves them out.
inline constexpr std::string_view kSignedParameterPrefix = "hl-";
inline constexpr size_t kSigningKeyIdMax = 64;
inline constexpr size_t kUrlNonceMin = 8;
inline constexpr size_t kUrlNonceMax = 64;
// A URL that can be used once must be remembered by gateways until it expires: no longer than this.
inline constexpr uint64_t kUrlNonceLifeMaxS = 86'400;

struct SigningKey {
  std::string id;      // 1 to 64 of A-Z a-z 0-9 . _ -
  std::string secret;  // bytes, at least 16
};

// What a URL allows. Views of the caller's.
struct UrlGrant {
  std::string_view method;
  std::string_view path;
  uint64_t expires_s = 0;
  std::optional<uint64_t> limit_bytes{};
  std::string_view type{};
  std::string_view nonce{};
};

// What belongs behind the '?'. kInvalid when a part of the grant may not stand in a URL.
Result<std::string> SignedQuery(const SigningKey& key, const UrlGrant& grant);

// The parameters of a query as they stand there; nothing of it is believed yet.
struct SignedParameters {
  bool present = false;    // at least one begins with the prefix
  bool malformed = false;  // one is unknown, doubled, missing or not as it must be
  std::string_view key_id{};
  uint64_t expires_s = 0;
  std::optional<uint64_t> limit_bytes{};
  std::string_view type{};
  std::string_view nonce{};
  std::string_view limit_text{};    // as signed
  std::string_view expires_text{};  // likewise
  Sha256 mac{};
};
SignedParameters FindSignedParameters(std::string_view query);

struct SignedRequest {
  std::string_view method;  // GET for HEAD too
  std::string_view path;
};
// Whether the parameters were made with this key for this request; compares in constant time.
// Says nothing about the time. REQUIRES: present and not malformed.
bool SignatureFits(const SigningKey& key, const SignedRequest& request,
                   const SignedParameters& parameters);

bool IsKeyId(std::string_view text);

}  // namespace hayloft
