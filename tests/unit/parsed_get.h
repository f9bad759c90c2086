// A GET with given header lines, parsed, for tests of what is read from them.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>

#include "gateway/http_parser.h"

namespace hayloft {

// Its bytes live as long as it does. Each header line ends with CRLF.
struct ParsedGet {
  explicit ParsedGet(const std::string& headers)
      : bytes("GET /x HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n"),
        request(std::make_unique<HttpRequest>()) {
    REQUIRE_EQ(ParseHttpRequest(bytes, 0, request.get()).kind, HttpParsed::Kind::kRequest);
  }
  std::string bytes;
  std::unique_ptr<HttpRequest> request;
};

}  // namespace hayloft
