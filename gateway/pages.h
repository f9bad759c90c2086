// The pages for people, as the gateway serves them: the files of gateway/pages/, compiled in.
//
//   /           files are uploaded there, looked at and deleted
//   /status     what the cluster is doing, from GET /v1/status
//   /pages/...  what both of them load
//
// They load nothing from elsewhere, and hold no script or style within the HTML, so that a strict
// Content-Security-Policy can forbid all that an attacker might put there. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hayloft {

struct Page {
  std::string_view path;
  std::string_view type;
  std::string bytes;
  std::string etag;  // strong, with its quotes: of the bytes
};

class PageTable {
 public:
  // As the option `pages` has it: "none", "upload" or "all". REQUIRES: PagesFault finds nothing.
  explicit PageTable(std::string_view wanted);
  // Null when there is none, or it is not wanted. Pages live as long as this.
  const Page* Find(std::string_view path) const {
    for (const Page& page : pages_) {
      if (page.path == path) return &page;
    }
    return nullptr;
  }
  bool has_status() const { return has_status_; }  // and with it /v1/status

 private:
  std::vector<Page> pages_;  // few
  bool has_status_ = false;
};

// What is wrong with the option's value, in words for its operator; empty: nothing.
std::string PagesFault(std::string_view wanted);

// Header lines, each with its CRLF, of every page: whatever got into it, it runs no script but its
// own, talks to this gateway only, and stands in no other site's frame. (CSP level 3, Fetch
// metadata's CORP, HTML's COOP.)
inline constexpr std::string_view kPageHeaderLines =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'\r\n"
    "Referrer-Policy: same-origin\r\n"
    "X-Frame-Options: DENY\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n";

}  // namespace hayloft
