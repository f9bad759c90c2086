// One line for each answered request, in a form that the tools of web servers read. Pure.
//
//   combined  192.0.2.1 - - [29/Nov/2026:03:06:15 +0000] "GET /AAAAAAAAAAAAAAAAAA HTTP/1.1" 200
//   1532
//             "referer" "user agent" 812 634 0123456789abcdef 10.0.0.7:7003 miss TLSv1.3 -
//   json      {"time":"2026-11-29T03:06:15.123Z","client":"192.0.2.1",...}
//
// Behind Apache's combined form: microseconds from the request's head to the answer's last byte,
// the same to its first byte, X-Request-Id, the dsp that answered, the cache's part, the TLS
// version, and "broken" when the answer did not reach its end. What is absent is "-".
//
// No secret gets in: of a query only what is known to hold none keeps its value, the same in the
// Referer; of a request that could not be parsed nothing is told, since it may begin anywhere, in a
// body too. No byte from outside gets in as it is: control bytes, quotes and all that is not ASCII
// are escaped, so that no client can forge a line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "gateway/http_parser.h"
#include "gateway/peer_address.h"

namespace hayloft {

// Longer ones are cut, with "..." at the end.
inline constexpr size_t kAccessTargetBytesMax = 1'024;
inline constexpr size_t kAccessFieldBytesMax = 256;

struct AccessRecord {
  // Of the request; empty when it could not be parsed.
  std::string method;
  std::string target;  // path and query, its values redacted
  uint8_t minor_version = 1;
  std::string referer;
  std::string user_agent;
  // Of the answer.
  PeerAddress peer;
  uint64_t wall_ms = 0;  // when the answer ended
  int status = 0;
  uint64_t sent_bytes = 0;  // head and body
  uint64_t whole_us = 0;
  uint64_t first_byte_us = 0;
  std::string request_id;
  std::string user;              // name of the key that allowed it
  std::string dsp;               // the last that answered
  std::string_view cache;        // a constant: as in X-Cache; of an upload duplicate or unchecked
  std::string_view tls_version;  // a constant: "TLSv1.3"
  bool broken = false;
};

enum class AccessFormat : uint8_t { kCombined, kJson };

// Takes over what lines tell of a request, still with all its bytes.
void NoteRequest(const HttpRequest& request, AccessRecord* record);
// Appends the line, with its newline.
void AppendAccessLine(const AccessRecord& record, AccessFormat format, std::string* out);

// `query` (behind the '?') with "*" in place of each value but those known to be no secret.
std::string RedactQuery(std::string_view query);

}  // namespace hayloft
