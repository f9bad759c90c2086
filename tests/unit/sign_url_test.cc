// What `hayloft sign` signs, and what it refuses to.
#include "client/cli/sign_url.h"

#include <doctest/doctest.h>

#include <string>

using namespace hayloft;

namespace {

const SigningKey kKey{.id = "k1", .secret = "0123456789abcdef0123456789abcdef"};
const UrlGrant kRead{.method = "GET", .path = {}, .expires_s = 1'800'000'000};

std::string Signed(std::string_view target) {
  std::string why;
  const Result<std::string> url = SignTarget(kKey, kRead, target, &why);
  CHECK_EQ(why, "");
  return url.ok() ? *url : why;
}

std::string Refused(std::string_view target) {
  std::string why;
  CHECK_EQ(SignTarget(kKey, kRead, target, &why).err(), Err::kInvalid);
  CHECK_NE(why, "");
  return why;
}

// Whether what stands behind the '?' of `url` is signed for `path`.
bool IsFor(const std::string& url, std::string_view path) {
  const SignedParameters signed_part =
      FindSignedParameters(std::string_view(url).substr(url.find('?') + 1));
  return signed_part.present && !signed_part.malformed &&
         SignatureFits(kKey, {.method = "GET", .path = path}, signed_part);
}

}  // namespace

TEST_CASE("sign_url: a path and a URL with it get the same parameters, behind their own query") {
  const std::string path = Signed("/AAAAAAAAAAAAAAAAAA.png");
  CHECK(IsFor(path, "/AAAAAAAAAAAAAAAAAA.png"));
  CHECK(path.starts_with("/AAAAAAAAAAAAAAAAAA.png?hl-key=k1&hl-expires=1800000000&hl-sig="));
  CHECK_EQ(Signed("http://h/AAAAAAAAAAAAAAAAAA.png"), "http://h" + path);
  CHECK_EQ(Signed("https://[::1]:8080/AAAAAAAAAAAAAAAAAA.png"), "https://[::1]:8080" + path);
  const std::string query = Signed("http://h/a?download=x.png");
  CHECK(query.starts_with("http://h/a?download=x.png&hl-key="));
  CHECK(IsFor(query, "/a"));
  CHECK(Signed("/a?").starts_with("/a?hl-key="));
  CHECK(Signed("/a?b&").starts_with("/a?b&hl-key="));
}

TEST_CASE("sign_url: what a gateway would get in another form is refused") {
  for (const char* target : {"",
                             "a",
                             "ftp://h/a",
                             "http://",
                             "http:///a",
                             "http://h",
                             "http://h?a=/b",
                             "//h#/a",
                             "http://h#/a",
                             "/a#b",
                             "/a b",
                             "/a\n",
                             "/\xc3\xa4",
                             "/a?b c",
                             "/a?\"",
                             "/a/../b",
                             "/..",
                             "/./a",
                             "/a/.",
                             "/%2e%2E/a",
                             "/.%2e",
                             "/a?hl-key=x",
                             "/a?b=1&hl-sig=y"}) {
    CAPTURE(target);
    Refused(target);
  }
  CHECK_EQ(Refused("/a?hl-key=x"), "it is signed already");
  CHECK_EQ(PathFault("/...a/..b/c..."), "");
  CHECK_EQ(PathFault("/v1/names/a%20b"), "");
}

TEST_CASE("sign_url: times of life have one unit, and an end") {
  CHECK_EQ(ParseLifeS("90"), 90);
  CHECK_EQ(ParseLifeS("90s"), 90);
  CHECK_EQ(ParseLifeS("15m"), 900);
  CHECK_EQ(ParseLifeS("1h"), 3'600);
  CHECK_EQ(ParseLifeS("7d"), 604'800);
  CHECK_EQ(ParseLifeS("3660d"), 316'224'000);
  for (const char* text : {"", "h", "0", "0h", "-1h", "+1h", "1.5h", "1 h", "1h30m", "1hh", "1w",
                           "3661d", "99999999999999999999", "18446744073709551615d"}) {
    CAPTURE(text);
    CHECK_FALSE(ParseLifeS(text).has_value());
  }
}
