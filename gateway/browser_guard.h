// Keeps other sites' pages from acting here through the browser of someone who visits them.
//
// A page of any site may send requests to any address that its visitor's browser reaches, a gateway
// in an office or on the visitor's own machine too (CSRF). And a site may let its own name point to
// that address, whereupon its pages count as the gateway's own and may read the answers (DNS
// rebinding). Browsers say what they are about, in fields that a page cannot set: Origin, and
// Sec-Fetch-Site where it is sent. And a page that came by a rebound name says so in Host.
//
//   what changes something, from a browser   Origin is listed; or Host cannot be rebound and all
//                                            that the browser says names this very server
//   pages, the cluster's status              Host cannot be rebound
//   reads of files, programs                 not looked at: no page is behind a request without
//                                            Origin and Sec-Fetch-Site
//
// A Host cannot be rebound when it is an IP address, "localhost", or a name that the operator
// listed. This grants no right; it only refuses. Pure; its answers depend on the request alone.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "gateway/cors.h"
#include "gateway/http_parser.h"

namespace hayloft {

enum class BrowserVerdict : uint8_t {
  kAllowed,
  kWrongHost,    // 421
  kForeignPage,  // 403
};

class BrowserGuard {
 public:
  // As the option `hosts` has them: with commas between.
  explicit BrowserGuard(std::string_view hosts);

  // For a request that changes something if it is carried out.
  BrowserVerdict CheckWrite(const HttpRequest& request, const CorsPolicy& cors) const;
  // For a page, and for what only our pages are to read.
  BrowserVerdict CheckPage(const HttpRequest& request) const;
  // `host` is the value of a Host field: a name or an IP address, perhaps with a port.
  bool CannotBeRebound(std::string_view host) const;

 private:
  std::vector<std::string> hosts_;  // in lower case
};

// What is wrong with the value of an option, in words for its operator; empty: nothing.
std::string HostsFault(std::string_view hosts);
std::string OriginsFault(std::string_view origins);

}  // namespace hayloft
