// A client's IP address: as text for logs, and as the unit that limits are counted by. Pure.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hayloft {

// 16 bytes in network order; IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2), so that a client
// counts as one, whichever socket it came through. All zeros: not known.
struct PeerAddress {
  std::array<uint8_t, 16> bytes{};

  // As people and fields write it: "192.0.2.1" (no leading zeros), "2001:db8::1" (RFC 4291 section
  // 2.2; without zone, brackets or port). nullopt for anything else.
  static std::optional<PeerAddress> Parse(std::string_view text);
  static PeerAddress OfV4(const std::array<uint8_t, 4>& v4);
  bool IsV4() const;
  // One customer: an IPv4 address, or the /64 that providers hand out at the least (RFC 6177).
  PeerAddress LimitKey() const;
  // "192.0.2.1"; "2001:db8::1" in the form of RFC 5952; "-" when it is not known.
  std::string Text() const;
  friend auto operator<=>(const PeerAddress&, const PeerAddress&) = default;
};

}  // namespace hayloft
