#include "gateway/query.h"

#include <algorithm>

namespace hayloft {

namespace {

// 16: not a hex digit.
uint32_t HexDigit(char c) {
  if (c >= '0' && c <= '9') return static_cast<uint32_t>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<uint32_t>(c - 'a') + 10;
  if (c >= 'A' && c <= 'F') return static_cast<uint32_t>(c - 'A') + 10;
  return 16;
}

std::optional<std::string> Decode(std::string_view value, size_t bytes_max, bool plus_is_space) {
  std::string decoded;
  for (size_t i = 0; i < value.size(); ++i) {
    if (decoded.size() == bytes_max) return std::nullopt;
    char c = value[i];
    if (c == '+' && plus_is_space) c = ' ';
    if (c == '%') {
      if (value.size() - i < 3) return std::nullopt;
      const uint32_t high = HexDigit(value[i + 1]);
      const uint32_t low = HexDigit(value[i + 2]);
      if (high > 15 || low > 15) return std::nullopt;
      c = static_cast<char>(high << 4 | low);
      i += 2;
    }
    decoded.push_back(c);
  }
  return decoded;
}

}  // namespace

std::optional<std::string_view> QueryValue(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view parameter = query.substr(0, end);
    const size_t equals = std::min(parameter.find('='), parameter.size());
    if (parameter.substr(0, equals) == name) {
      return parameter.substr(std::min(equals + 1, parameter.size()));
    }
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return std::nullopt;
}

std::optional<std::string> DecodeQueryValue(std::string_view value, size_t bytes_max) {
  return Decode(value, bytes_max, /*plus_is_space=*/true);
}

std::optional<std::string> DecodePercent(std::string_view text, size_t bytes_max) {
  return Decode(text, bytes_max, /*plus_is_space=*/false);
}

}  // namespace hayloft
