// A GET whose header fields are fuzzed, parsed: for targets of what is read from them.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "gateway/http_parser.h"

namespace hayloft {

struct FuzzedGet {
  // Adds a header line. False: the parser would not let it through.
  bool Add(std::string_view name, std::string_view value) {
    bytes.append(name).append(": ").append(value).append("\r\n");
    return value.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos;
  }
  // Null when the parser refuses it. What is returned lives until the next call.
  const HttpRequest* Parse() {
    static const auto request = std::make_unique<HttpRequest>();
    bytes += "\r\n";
    const HttpParsed parsed = ParseHttpRequest(bytes, 0, request.get());
    const bool whole =
        parsed.kind == HttpParsed::Kind::kRequest && parsed.head_bytes == bytes.size();
    return whole ? request.get() : nullptr;
  }
  std::string bytes = "GET /x HTTP/1.1\r\nHost: h\r\n";
};

}  // namespace hayloft
