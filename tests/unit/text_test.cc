#include "common/text.h"

#include <doctest/doctest.h>

namespace hayloft {
namespace {

TEST_CASE("text: only A to Z have a lower case") {
  CHECK(LowerText("AZaz09@[`{\xc4\xe4") == "azaz09@[`{\xc4\xe4");
  CHECK(EqualsNoCase("Content-MD5", "content-md5"));
  CHECK_FALSE(EqualsNoCase("@", "`"));
  CHECK_FALSE(EqualsNoCase("[", "{"));
  CHECK_FALSE(EqualsNoCase("\xc4", "\xe4"));
  CHECK_FALSE(EqualsNoCase("gzip", "gzi"));
  CHECK_FALSE(EqualsNoCase("gzi", "gzip"));
}

TEST_CASE("text: what begins so, and what is too short for it") {
  CHECK(StartsWithNoCase("Bytes=0-", "bytes="));
  CHECK(StartsWithNoCase("BYTES=", "bytes="));
  CHECK_FALSE(StartsWithNoCase("bytes", "bytes="));
  CHECK(StartsWithNoCase("", ""));
}

TEST_CASE("text: blanks go from both ends, and stay between") {
  CHECK(TrimBlanks(" \ta b\t ") == "a b");
  CHECK(TrimBlanks("a") == "a");
  CHECK(TrimBlanks(" \t").empty());
  CHECK(TrimBlanks("").empty());
  CHECK(TrimBlanks("a\r") == "a\r");
  CHECK(TrimBlanks(" a\r", " \r") == "a");
}

}  // namespace
}  // namespace hayloft
