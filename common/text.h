// ASCII text as protocols compare it: no locale has a say.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

namespace hayloft {

constexpr char LowerChar(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

inline std::string LowerText(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), LowerChar);
  return lower;
}

// Compares without case; `lower` is in lower case.
inline bool EqualsNoCase(std::string_view text, std::string_view lower) {
  return std::equal(text.begin(), text.end(), lower.begin(), lower.end(),
                    [](char any, char small) { return LowerChar(any) == small; });
}
inline bool StartsWithNoCase(std::string_view text, std::string_view lower) {
  return EqualsNoCase(text.substr(0, lower.size()), lower);
}

// Without what of `blanks` stands at either end: spaces and tabs.
inline std::string_view TrimBlanks(std::string_view text, std::string_view blanks = " \t") {
  text.remove_prefix(std::min(text.find_first_not_of(blanks), text.size()));
  text.remove_suffix(text.size() - (text.find_last_not_of(blanks) + 1));  // of none: 0
  return text;
}

}  // namespace hayloft
