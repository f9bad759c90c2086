// The bytes of tests/golden/NAME: hex digits; '#' begins a comment, blanks don't count.
#pragma once

#include <doctest/doctest.h>

#include <fstream>
#include <string>

#include "common/codec.h"

namespace hayloft {

inline std::string Golden(const std::string& name) {
  std::ifstream file("tests/golden/" + name);
  REQUIRE_MESSAGE(file.good(), "tests run in the project's folder; missing: " << name);
  std::string digits;
  for (std::string line; std::getline(file, line);) {
    for (char c : line.substr(0, line.find('#'))) {
      if (c != ' ') digits.push_back(c);
    }
  }
  std::string bytes(digits.size() / 2, '\0');
  REQUIRE(FromHex(digits, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()}));
  return bytes;
}

}  // namespace hayloft
