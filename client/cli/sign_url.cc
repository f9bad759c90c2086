#include "client/cli/sign_url.h"

#include <algorithm>
#include <charconv>

namespace hayloft {

namespace {

constexpr uint64_t kLifeSMax = uint64_t{10} * 366 * 86'400;

bool IsPathByte(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         std::string_view("/-._~%!$&'()*+,;=:@").find(c) != std::string_view::npos;
}

// Of a query the same and '/', '?' (RFC 3986 section 3.4).
bool IsQueryByte(char c) { return IsPathByte(c) || c == '?'; }

bool IsDotSegment(std::string_view segment) {
  std::string plain;
  for (size_t i = 0; i < segment.size(); ++i) {
    const bool encoded = segment.substr(i, 3) == "%2e" || segment.substr(i, 3) == "%2E";
    plain.push_back(encoded ? '.' : segment[i]);
    if (encoded) i += 2;
  }
  return plain == "." || plain == "..";
}

// Where the path of a URL begins; npos when it is no URL.
size_t PathPlace(std::string_view url) {
  size_t at = std::string_view::npos;
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (url.starts_with(scheme)) at = scheme.size();
  }
  if (at == std::string_view::npos) return at;
  const size_t slash = url.find_first_of("/?#", at);
  return slash != std::string_view::npos && slash > at && url[slash] == '/'
             ? slash
             : std::string_view::npos;
}

}  // namespace

std::optional<uint64_t> ParseLifeS(std::string_view text) {
  uint64_t unit_s = 1;
  constexpr std::pair<char, uint64_t> kUnits[] = {{'s', 1}, {'m', 60}, {'h', 3'600}, {'d', 86'400}};
  for (const auto& [letter, seconds] : kUnits) {
    if (!text.ends_with(letter)) continue;
    unit_s = seconds;
    text.remove_suffix(1);
    break;
  }
  uint64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (count == 0 || count > kLifeSMax / unit_s) return std::nullopt;
  return count * unit_s;
}

std::string PathFault(std::string_view path) {
  if (!path.starts_with('/')) return "a path begins with '/'";
  if (!std::all_of(path.begin(), path.end(), IsPathByte)) {
    return "a path has no blanks and no bytes that belong percent-encoded";
  }
  for (std::string_view rest = path; !rest.empty();) {
    rest.remove_prefix(1);
    const std::string_view segment = rest.substr(0, rest.find('/'));
    if (IsDotSegment(segment)) return "browsers and curl resolve '.' and '..' in a path";
    rest.remove_prefix(segment.size());
  }
  return {};
}

Result<std::string> SignTarget(const SigningKey& key, UrlGrant grant, std::string_view target,
                               std::string* why) {
  const size_t place = target.starts_with('/') ? 0 : PathPlace(target);
  if (place == std::string_view::npos) {
    *why = "a URL is http://HOST/PATH or https://HOST/PATH";
    return Err::kInvalid;
  }
  if (target.find('#') != std::string_view::npos) {
    *why = "a fragment ('#') is never sent to a server";
    return Err::kInvalid;
  }
  const std::string_view rest = target.substr(place);
  grant.path = rest.substr(0, rest.find('?'));
  const bool has_query = grant.path.size() < rest.size();
  const std::string_view query = has_query ? rest.substr(grant.path.size() + 1) : "";
  *why = PathFault(grant.path);
  if (why->empty() && !std::all_of(query.begin(), query.end(), IsQueryByte)) {
    *why = "a query has no blanks and no bytes that belong percent-encoded";
  }
  if (why->empty() && FindSignedParameters(query).present) *why = "it is signed already";
  if (!why->empty()) return Err::kInvalid;
  const Result<std::string> parameters = SignedQuery(key, grant);
  if (!parameters.ok()) {
    *why = "a type is like image/png or image/*, and numbers have at most 18 digits";
    return Err::kInvalid;
  }
  const char* joint = !has_query ? "?" : query.empty() || query.ends_with('&') ? "" : "&";
  return std::string(target) + joint + *parameters;
}

}  // namespace hayloft
