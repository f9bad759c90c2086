#include "gateway/cors.h"

#include <doctest/doctest.h>

using namespace hayloft;

namespace {

// The value of a field in lines that each end by CRLF; "-" when it isn't there.
std::string Field(std::string_view lines, const std::string& name) {
  const size_t at = lines.find(name + ": ");
  if (at == std::string_view::npos) return "-";
  const size_t value = at + name.size() + 2;
  return std::string(lines.substr(value, lines.find("\r\n", value) - value));
}

const std::string kOrigin = "Access-Control-Allow-Origin";
const std::string kMethods = "Access-Control-Allow-Methods";
const std::string kFields = "Access-Control-Allow-Headers";
const std::string kReads = "GET, HEAD, OPTIONS";

}  // namespace

TEST_CASE("cors: every page may read, without credentials, and sees what it needs") {
  const CorsPolicy cors("", /*open_reads=*/true);
  CHECK_EQ(Field(cors.ReadLines(), kOrigin), "*");
  CHECK_EQ(cors.ReadLines().find("Credentials"), std::string_view::npos);
  CHECK_EQ(Field(cors.ReadLines(), "Access-Control-Expose-Headers"), "*");
  CHECK_EQ(Field(cors.ReadLines(), "Vary"), "-");  // it is the same for every Origin
  CHECK_EQ(CorsPolicy("https://a.example", false).ReadLines(), "");
}

TEST_CASE("cors: only listed pages see answers to uploads and deletes") {
  const CorsPolicy cors("https://A.example,http://b.example:8080", true);
  CHECK_EQ(Field(cors.WriteLines("https://a.example"), kOrigin), "https://a.example");
  CHECK_EQ(Field(cors.WriteLines("http://b.example:8080"), "Vary"), "Origin");
  CHECK_EQ(cors.WriteLines("https://a.example").find("Credentials"), std::string_view::npos);
  for (const char* origin : {"", "null", "*", "http://a.example", "https://a.example.evil",
                             "https://a.example:443", "http://b.example"}) {
    CAPTURE(origin);
    CHECK_EQ(cors.WriteLines(origin), "");
  }
}

TEST_CASE("cors: a preflight names what the page may do") {
  const CorsPolicy cors("https://a.example", true);
  const auto ask = [&](const std::string& origin, const std::string& allow,
                       const std::string& fields) {
    return cors.PreflightLines(
        {.allow = allow, .origin = origin, .method = "POST", .fields = fields});
  };
  const std::string foreign = ask("https://x.example", kReads, "range");
  CHECK_EQ(Field(foreign, kOrigin), "*");
  CHECK_EQ(Field(foreign, kMethods), "GET, HEAD");
  CHECK_NE(Field(foreign, kFields).find("Range"), std::string::npos);
  CHECK_EQ(Field(foreign, "Access-Control-Max-Age"), "7200");
  CHECK_EQ(ask("https://x.example", "POST, OPTIONS", ""), "");
  const std::string known = ask("https://a.example", "POST, OPTIONS", "x-hayloft-a, content-type");
  CHECK_EQ(Field(known, kOrigin), "https://a.example");
  CHECK_EQ(Field(known, kMethods), "POST, OPTIONS");
  CHECK_EQ(Field(known, kFields), "x-hayloft-a, content-type");
  // What could be no list of names is not echoed.
  for (const std::string& fields : {std::string("a: b"), std::string("a\r\nb"), std::string("é"),
                                    std::string(1025, 'a'), std::string()}) {
    CHECK_NE(Field(ask("https://a.example", "POST", fields), kFields).find("Range"),
             std::string::npos);
  }
  CHECK_EQ(cors.PreflightLines({.allow = kReads, .origin = "", .method = "GET", .fields = ""}), "");
  CHECK_EQ(cors.PreflightLines({.allow = kReads, .origin = "o", .method = "", .fields = ""}), "");
  CHECK_EQ(CorsPolicy("", false).PreflightLines(
               {.allow = kReads, .origin = "https://x", .method = "GET", .fields = ""}),
           "");
}
