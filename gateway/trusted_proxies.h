// Whose word is taken for the address of a client: proxies and CDNs in front.
//
// Anybody can send X-Forwarded-For. Each proxy on the way appends the address that its connection
// came from, so the list is true from its end up to the first entry that no trusted proxy wrote:
//
//   X-Forwarded-For: 6.6.6.6, 198.51.100.7, 10.0.0.2      from 10.0.0.1; trusted: 10.0.0.0/8
//                    invented  the client    a proxy
//
// From any other peer the field means nothing. What is no address ends the search, and the proxy
// that wrote it counts as the client: better one address too many limited than none. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "gateway/http_parser.h"
#include "gateway/peer_address.h"

namespace hayloft {

class TrustedProxies {
 public:
  // `text` as the option has it, with commas between: "10.0.0.1", "192.0.2.0/24", "2001:db8::/32".
  // REQUIRES: ProxiesFault finds nothing.
  explicit TrustedProxies(std::string_view text);

  bool Trusts(const PeerAddress& peer) const;
  // Who asks, on a connection from `peer`.
  PeerAddress ClientOf(const PeerAddress& peer, const HttpRequest& request) const;

 private:
  struct Range {
    PeerAddress address;
    size_t bits = 0;  // of its 128
  };
  static bool ParseRange(std::string_view text, Range* range);
  friend std::string ProxiesFault(std::string_view text);
  std::vector<Range> ranges_;
};

// What is wrong with the value of the option, in words for its operator; empty: nothing.
std::string ProxiesFault(std::string_view text);

}  // namespace hayloft
