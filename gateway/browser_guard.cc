#include "gateway/browser_guard.h"

#include <algorithm>

#include "common/options.h"

namespace hayloft {

namespace {

bool AllOf(std::string_view text, std::string_view letters) {
  return !text.empty() && text.find_first_not_of(letters) == std::string_view::npos;
}

// Four numbers of at most 255 without leading zeros, as browsers write any IPv4 address into Host.
bool IsIpv4(std::string_view text) {
  for (int part = 0; part < 4; ++part) {
    const size_t dot = part < 3 ? text.find('.') : text.size();
    if (dot == std::string_view::npos) return false;
    const std::string_view digits = text.substr(0, dot);
    if (!AllOf(digits, "0123456789") || digits.size() > 3) return false;
    if (digits.size() > 1 && digits.front() == '0') return false;
    if (digits.size() == 3 && digits > "255") return false;
    text.remove_prefix(std::min(dot + 1, text.size()));
  }
  return text.empty();
}

// Whatever stands between brackets, it is no name and therefore no DNS server is asked for it.
bool IsIpv6(std::string_view text) {
  return text.size() > 4 && text.front() == '[' && text.back() == ']' &&
         AllOf(text.substr(1, text.size() - 2), "0123456789abcdefABCDEF:.");
}

// "host:80" -> "host". A port that is none stays, and the whole is then known to nobody.
std::string_view WithoutPort(std::string_view host) {
  const size_t colon = host.rfind(':');
  if (colon == std::string_view::npos || colon < host.rfind(']') + 1) return host;
  return AllOf(host.substr(colon + 1), "0123456789") ? host.substr(0, colon) : host;
}

// The host and port of "http://host:port" (RFC 6454 section 6.2); empty when it is no such thing,
// as the "null" of a page that has no origin. `*port` becomes what its scheme takes without one.
std::string_view AuthorityOf(std::string_view origin, std::string_view* port) {
  for (const auto& [scheme, scheme_port] :
       {std::pair<std::string_view, std::string_view>("http://", ":80"), {"https://", ":443"}}) {
    if (!StartsWithNoCase(origin, scheme)) continue;
    *port = scheme_port;
    const std::string_view authority = origin.substr(scheme.size());
    const bool sane = authority.find_first_of("/?#@ \t,*\\") == std::string_view::npos;
    return sane ? authority : std::string_view();
  }
  return {};
}

// A front may have taken TLS off, so that the scheme is not known here: only that no port stands
// for the scheme's own.
bool IsOwnOrigin(std::string_view origin, std::string_view host) {
  std::string_view port;
  std::string_view own = AuthorityOf(origin, &port);
  if (own.empty()) return false;
  if (own.ends_with(port)) own.remove_suffix(port.size());
  if (host.ends_with(port)) host.remove_suffix(port.size());
  return EqualsNoCase(own, LowerText(host));
}

}  // namespace

BrowserGuard::BrowserGuard(std::string_view hosts) {
  for (const std::string& host : SplitList(hosts)) hosts_.push_back(LowerText(host));
}

bool BrowserGuard::CannotBeRebound(std::string_view host) const {
  const std::string_view name = WithoutPort(host);
  if (IsIpv4(name) || IsIpv6(name) || EqualsNoCase(name, "localhost")) return true;
  return std::any_of(hosts_.begin(), hosts_.end(),
                     [&](const std::string& listed) { return EqualsNoCase(name, listed); });
}

BrowserVerdict BrowserGuard::CheckPage(const HttpRequest& request) const {
  const bool fits = CannotBeRebound(request.Value(HttpField::kHost));
  return fits ? BrowserVerdict::kAllowed : BrowserVerdict::kWrongHost;
}

BrowserVerdict BrowserGuard::CheckWrite(const HttpRequest& request, const CorsPolicy& cors) const {
  const uint32_t origins = request.Count(HttpField::kOrigin);
  const uint32_t sites = request.Count(HttpField::kSecFetchSite);
  if (origins + sites == 0) return BrowserVerdict::kAllowed;
  if (origins > 1 || sites > 1) return BrowserVerdict::kForeignPage;  // no browser does that
  const std::string_view origin = request.Value(HttpField::kOrigin);
  if (origins == 1 && cors.Lists(origin)) return BrowserVerdict::kAllowed;
  const std::string_view host = request.Value(HttpField::kHost);
  if (!CannotBeRebound(host)) return BrowserVerdict::kWrongHost;
  if (origins == 1 && !IsOwnOrigin(origin, host)) return BrowserVerdict::kForeignPage;
  if (sites == 1 && request.Value(HttpField::kSecFetchSite) != "same-origin") {
    return BrowserVerdict::kForeignPage;
  }
  return BrowserVerdict::kAllowed;
}

std::string HostsFault(std::string_view hosts) {
  for (const std::string& host : SplitList(hosts)) {
    if (host.find_first_of("/:*@ []") != std::string::npos) {
      return "\"" + host + "\" is not a name such as images.example";
    }
  }
  return {};
}

std::string OriginsFault(std::string_view origins) {
  std::string_view port;
  for (const std::string& origin : SplitList(origins)) {
    if (AuthorityOf(origin, &port).empty()) {
      return "\"" + origin + "\" is not an origin such as https://www.example";
    }
  }
  return {};
}

}  // namespace hayloft
