// Which pages may show files of this gateway: a list of the hosts that a Referer may name.
//
// It keeps other sites from using the gateway as their image server ("hotlinking"). It is no right:
// any program says what Referer it likes, and any page can have its browser say none. Who must be
// kept out needs signed URLs.
//
//   Referer                                     verdict
//   none, empty, about:blank                    allowed, unless a Referer is needed
//   a listed host, a name of the option hosts   allowed
//   the host of the request itself, when that   allowed: a page of the gateway's own
//     is an IP address or localhost
//   anything else, malformed, or twice          refused
//
// Read as strictly as RFC 9110 section 10.1.3 writes it (no user before the host, http and https
// only), because what two readers take for different hosts is how such lists are got around.
// Compared without case, port and the dot of a full name; letters beyond ASCII only as punycode
// ("xn--..."), which is what browsers send. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "gateway/browser_guard.h"

namespace hayloft {

class RefererList {
 public:
  // `referers` as the option has it, with commas between: "www.example", or "*.example" for all
  // names beneath it, but not itself. `hosts` as the option of that name. REQUIRES: ReferersFault
  // finds nothing.
  RefererList(std::string_view referers, std::string_view hosts, bool needed);

  bool is_on() const { return on_; }
  // `own` tells which hosts are the gateway's own.
  bool Allows(const HttpRequest& request, const BrowserGuard& own) const;

 private:
  bool Lists(std::string_view host) const;

  bool on_;
  bool needed_;
  std::vector<std::string> hosts_;     // in lower case
  std::vector<std::string> suffixes_;  // ".example" of "*.example"
};

// The host of an http or https URL, without port and a dot at its end; empty when there is none, or
// when two readers could disagree on it. As it is spelled: not in lower case.
std::string_view HostOfUrl(std::string_view url);

// What is wrong with the value of the option, in words for its operator; empty: nothing.
std::string ReferersFault(std::string_view referers);

}  // namespace hayloft
