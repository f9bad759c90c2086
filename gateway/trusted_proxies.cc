#include "gateway/trusted_proxies.h"

#include <algorithm>
#include <charconv>

#include "common/options.h"

namespace hayloft {

namespace {

constexpr size_t kBits = 128;
constexpr size_t kV4PrefixBits = 96;  // of ::ffff:0:0/96
constexpr size_t kHopsMax = 100;      // nobody has so many proxies

bool SamePrefix(const PeerAddress& a, const PeerAddress& b, size_t bits) {
  const size_t whole = bits / 8;
  if (!std::equal(a.bytes.begin(), a.bytes.begin() + static_cast<ptrdiff_t>(whole),
                  b.bytes.begin())) {
    return false;
  }
  const size_t rest = bits % 8;
  return rest == 0 || (a.bytes[whole] ^ b.bytes[whole]) >> (8 - rest) == 0;
}

bool HasBitsBehind(const PeerAddress& address, size_t bits) {
  for (size_t i = bits; i < kBits; ++i) {
    if ((address.bytes[i / 8] >> (7 - i % 8) & 1) != 0) return true;
  }
  return false;
}

}  // namespace

bool TrustedProxies::ParseRange(std::string_view text, Range* range) {
  const size_t slash = std::min(text.find('/'), text.size());
  const std::optional<PeerAddress> address = PeerAddress::Parse(text.substr(0, slash));
  if (!address) return false;
  const bool v4 = text.substr(0, slash).find(':') == std::string_view::npos;
  size_t bits = v4 ? kBits - kV4PrefixBits : kBits;
  if (slash < text.size()) {
    const std::string_view digits = text.substr(slash + 1);
    size_t given = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), given);
    if (error != std::errc() || end != digits.data() + digits.size() || given > bits) return false;
    bits = given;
  }
  *range = {.address = *address, .bits = bits + (v4 ? kV4PrefixBits : 0)};
  return !HasBitsBehind(range->address, range->bits);
}

TrustedProxies::TrustedProxies(std::string_view text) {
  for (const std::string& entry : SplitList(text)) ParseRange(entry, &ranges_.emplace_back());
}

bool TrustedProxies::Trusts(const PeerAddress& peer) const {
  return std::any_of(ranges_.begin(), ranges_.end(), [&](const Range& range) {
    return SamePrefix(peer, range.address, range.bits);
  });
}

PeerAddress TrustedProxies::ClientOf(const PeerAddress& peer, const HttpRequest& request) const {
  PeerAddress client = peer;
  if (ranges_.empty() || request.Count(HttpField::kForwardedFor) == 0) return client;
  // Several such fields are one list (RFC 9110 section 5.3).
  const auto headers = request.headers();
  size_t hops = 0;
  for (auto header = headers.rbegin(); header != headers.rend(); ++header) {
    if (header->field != HttpField::kForwardedFor) continue;
    std::string_view list = header->value;
    for (bool more = true; more;) {
      if (!Trusts(client) || ++hops > kHopsMax) return client;
      const size_t comma = list.rfind(',');
      more = comma != std::string_view::npos;
      const auto entry = PeerAddress::Parse(TrimBlanks(more ? list.substr(comma + 1) : list));
      if (!entry) return client;
      client = *entry;
      if (more) list = list.substr(0, comma);
    }
  }
  return client;
}

std::string ProxiesFault(std::string_view text) {
  TrustedProxies::Range range;
  for (const std::string& entry : SplitList(text)) {
    if (!TrustedProxies::ParseRange(entry, &range)) {
      return "\"" + entry + "\" is not an address or a range such as 10.0.0.1 or 192.0.2.0/24";
    }
  }
  return {};
}

}  // namespace hayloft
