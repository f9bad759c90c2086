#include "gateway/referer_list.h"

#include <algorithm>

#include "common/options.h"

namespace hayloft {

namespace {

constexpr size_t kPortDigitsMax = 5;
constexpr size_t kHostBytesMax = 255;  // RFC 1035 section 2.3.4

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsNameByte(char c) {
  const char lower = LowerChar(c);
  return IsDigit(c) || (lower >= 'a' && lower <= 'z') || c == '-' || c == '_' || c == '.';
}

bool IsName(std::string_view text) {
  return !text.empty() && text.size() <= kHostBytesMax && text.front() != '.' &&
         text.find("..") == std::string_view::npos &&
         std::all_of(text.begin(), text.end(), IsNameByte);
}

bool IsBracketed(std::string_view text) {
  return text.size() > 4 && text.size() <= kHostBytesMax && text.front() == '[' &&
         text.back() == ']' &&
         text.substr(1, text.size() - 2).find_first_not_of("0123456789abcdefABCDEF:.") ==
             std::string_view::npos;
}

// "host", "host.", "host:80", "[::1]:80" -> the host.
std::string_view HostOfAuthority(std::string_view authority) {
  size_t end = authority.size();
  while (end > 0 && IsDigit(authority[end - 1])) --end;
  if (end > 0 && authority[end - 1] == ':') {
    if (authority.size() - end > kPortDigitsMax) return {};
    authority = authority.substr(0, end - 1);
  }
  if (IsBracketed(authority)) return authority;
  if (authority.ends_with('.')) authority.remove_suffix(1);
  return IsName(authority) && !authority.ends_with('.') ? authority : std::string_view();
}

}  // namespace

std::string_view HostOfUrl(std::string_view url) {
  const size_t slashes = url.find("://");
  if (slashes == std::string_view::npos) return {};
  const std::string_view scheme = url.substr(0, slashes);
  if (!EqualsNoCase(scheme, "http") && !EqualsNoCase(scheme, "https")) return {};
  // A browser takes '\' for '/', and leaves out tabs; others do not.
  if (url.find_first_of("\\\t") != std::string_view::npos) return {};
  const std::string_view rest = url.substr(slashes + 3);
  return HostOfAuthority(rest.substr(0, rest.find_first_of("/?#")));
}

RefererList::RefererList(std::string_view referers, std::string_view hosts, bool needed)
    : on_(!SplitList(referers).empty()), needed_(needed) {
  for (const std::string& entry : SplitList(referers)) {
    if (entry.starts_with("*.")) {
      suffixes_.push_back(LowerText(entry.substr(1)));
    } else {
      hosts_.push_back(LowerText(entry));
    }
  }
  for (const std::string& host : SplitList(hosts)) hosts_.push_back(LowerText(host));
}

bool RefererList::Lists(std::string_view host) const {
  const std::string name = LowerText(host);
  if (std::find(hosts_.begin(), hosts_.end(), name) != hosts_.end()) return true;
  return std::any_of(suffixes_.begin(), suffixes_.end(), [&](const std::string& suffix) {
    return name.size() > suffix.size() && name.ends_with(suffix);
  });
}

bool RefererList::Allows(const HttpRequest& request, const BrowserGuard& own) const {
  const uint32_t count = request.Count(HttpField::kReferer);
  if (count > 1) return false;
  const std::string_view referer = request.Value(HttpField::kReferer);
  if (referer.empty() || EqualsNoCase(referer, "about:blank")) return !needed_;
  const std::string_view host = HostOfUrl(referer);
  if (host.empty()) return false;
  if (Lists(host)) return true;
  const std::string_view asked = HostOfAuthority(request.Value(HttpField::kHost));
  return EqualsNoCase(host, LowerText(asked)) && own.CannotBeRebound(asked);
}

std::string ReferersFault(std::string_view referers) {
  for (const std::string& entry : SplitList(referers)) {
    const std::string_view name = std::string_view(entry).substr(entry.starts_with("*.") ? 2 : 0);
    if (!IsName(name) || name.ends_with('.')) {
      return "\"" + entry + "\" is not a host such as www.example or *.example";
    }
  }
  return {};
}

}  // namespace hayloft
