#include "common/signed_url.h"

#include <algorithm>
#include <charconv>

namespace hayloft {

namespace {

constexpr size_t kMacLength = 43;        // base64url of 32 bytes
constexpr size_t kNumberDigitsMax = 18;  // fits 64 bits
constexpr size_t kTypeLengthMax = 100;
constexpr std::string_view kMark = "hayloft-url-v1\n";

bool IsWordByte(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
         c == '_';
}

bool IsNonce(std::string_view text) {
  return text.size() >= kUrlNonceMin && text.size() <= kUrlNonceMax &&
         std::all_of(text.begin(), text.end(), IsWordByte);
}

// type/subtype or type/*, of the bytes that types are made of in practice and that mean nothing in
// a query.
bool IsTypePattern(std::string_view text) {
  const size_t slash = text.find('/');
  if (text.size() > kTypeLengthMax || slash == 0 || slash >= text.size() - 1) return false;
  const std::string_view subtype = text.substr(slash + 1);
  const auto fits = [](char c) { return IsWordByte(c) || c == '.' || c == '+'; };
  return std::all_of(text.begin(), text.begin() + static_cast<ptrdiff_t>(slash), fits) &&
         (subtype == "*" || std::all_of(subtype.begin(), subtype.end(), fits));
}

// The only spelling of a number: no sign, no leading zero.
bool ReadNumber(std::string_view text, uint64_t* number) {
  if (text.empty() || text.size() > kNumberDigitsMax) return false;
  if (text.size() > 1 && text.front() == '0') return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc() && end == text.data() + text.size();
}

Sha256 Mac(const SigningKey& key, const SignedRequest& request, const SignedParameters& said) {
  std::string text(kMark);
  for (const std::string_view part : {request.method, request.path, said.expires_text,
                                      said.limit_text, said.type, said.nonce, said.key_id}) {
    text.append(part).push_back('\n');
  }
  const Bytes parts[] = {AsBytes(text)};
  return HmacSha256(AsBytes(key.secret), parts);
}

// Takes one parameter; false when it is unknown, there already, or not as it must be.
bool Take(std::string_view name, std::string_view value, SignedParameters* out, uint32_t* seen) {
  uint32_t bit = 0;
  bool fits = false;
  if (name == "key") {
    bit = 1;
    out->key_id = value;
    fits = IsKeyId(value);
  } else if (name == "expires") {
    bit = 2;
    out->expires_text = value;
    fits = ReadNumber(value, &out->expires_s);
  } else if (name == "limit") {
    bit = 4;
    out->limit_text = value;
    uint64_t limit = 0;
    fits = ReadNumber(value, &limit);
    out->limit_bytes = limit;
  } else if (name == "type") {
    bit = 8;
    out->type = value;
    fits = IsTypePattern(value);
  } else if (name == "nonce") {
    bit = 16;
    out->nonce = value;
    fits = IsNonce(value);
  } else if (name == "sig") {
    bit = 32;
    fits = value.size() == kMacLength && FromBase64Url(value, out->mac);
  }
  const bool fresh = (*seen & bit) == 0;
  *seen |= bit;
  return fits && fresh;
}

}  // namespace

bool IsKeyId(std::string_view text) {
  return !text.empty() && text.size() <= kSigningKeyIdMax &&
         std::all_of(text.begin(), text.end(), [](char c) { return IsWordByte(c) || c == '.'; });
}

Result<std::string> SignedQuery(const SigningKey& key, const UrlGrant& grant) {
  const std::string expires = std::to_string(grant.expires_s);
  const std::string limit = grant.limit_bytes ? std::to_string(*grant.limit_bytes) : "";
  SignedParameters said{.key_id = key.id,
                        .type = grant.type,
                        .nonce = grant.nonce,
                        .limit_text = limit,
                        .expires_text = expires};
  std::string query = "hl-key=" + key.id + "&hl-expires=" + expires;
  if (!limit.empty()) query += "&hl-limit=" + limit;
  if (!grant.type.empty()) query.append("&hl-type=").append(grant.type);
  if (!grant.nonce.empty()) query.append("&hl-nonce=").append(grant.nonce);
  const Sha256 mac = Mac(key, {.method = grant.method, .path = grant.path}, said);
  query += "&hl-sig=" + ToBase64Url(mac);
  // What we would refuse is not handed out.
  const SignedParameters read = FindSignedParameters(query);
  if (!IsKeyId(key.id) || read.malformed || !grant.path.starts_with('/')) return Err::kInvalid;
  return query;
}

SignedParameters FindSignedParameters(std::string_view query) {
  SignedParameters out;
  uint32_t seen = 0;
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    if (!pair.starts_with(kSignedParameterPrefix)) continue;
    out.present = true;
    const size_t equals = std::min(pair.find('='), pair.size());
    const std::string_view name = pair.substr(0, equals).substr(kSignedParameterPrefix.size());
    const std::string_view value = pair.substr(std::min(equals + 1, pair.size()));
    if (!Take(name, value, &out, &seen)) out.malformed = true;
  }
  constexpr uint32_t kNeeded = 1 | 2 | 32;
  if (out.present && (seen & kNeeded) != kNeeded) out.malformed = true;
  return out;
}

bool SignatureFits(const SigningKey& key, const SignedRequest& request,
                   const SignedParameters& parameters) {
  ASSERT(parameters.present);
  ASSERT(!parameters.malformed);
  return EqualInConstantTime(Mac(key, request, parameters), parameters.mac);
}

}  // namespace hayloft
