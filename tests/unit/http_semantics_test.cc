#include "gateway/http_semantics.h"
#include "gateway/conditions.h"
#include "gateway/http_date.h"

#include <doctest/doctest.h>

#include "tests/unit/parsed_get.h"

using namespace hayloft;

namespace {

constexpr std::string_view kTag = "\"AAAAAAAAAAAAAAAAAB\"";
constexpr uint64_t kModified = 784'111'777;  // Sun, 06 Nov 1994 08:49:37 GMT

Verdict Evaluate(const std::string& headers) {
  return Evaluate(ParseConditions(*ParsedGet(headers).request, kTag), kModified);
}

std::string Date(uint64_t seconds) {
  const auto text = FormatHttpDate(seconds);
  return {text.data(), text.size()};
}

uint64_t Parse(std::string_view text) {
  uint64_t seconds = 0;
  return ParseHttpDate(text, &seconds) ? seconds : UINT64_MAX;
}

}  // namespace

TEST_CASE("http_semantics: dates are written and read in all three forms") {
  CHECK_EQ(Date(kModified), "Sun, 06 Nov 1994 08:49:37 GMT");
  CHECK_EQ(Date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
  CHECK_EQ(Date(951'827'696), "Tue, 29 Feb 2000 12:34:56 GMT");
  CHECK_EQ(Date(4'102'444'800), "Fri, 01 Jan 2100 00:00:00 GMT");
  CHECK_EQ(Parse("Sun, 06 Nov 1994 08:49:37 GMT"), kModified);
  CHECK_EQ(Parse("Sunday, 06-Nov-94 08:49:37 GMT"), kModified);
  CHECK_EQ(Parse("Sun Nov  6 08:49:37 1994"), kModified);
  for (uint64_t seconds = 1; seconds < 8'000'000'000; seconds += 7'654'321) {
    REQUIRE_EQ(Parse(Date(seconds)), seconds);
  }
}

TEST_CASE("http_semantics: what is no date is refused") {
  for (const char* text : {"", "x", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC",
                           "Sun, 31 Apr 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
                           "Sun, 29 Feb 1995 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT",
                           "Sun, 06 ovD 1994 08:49:37 GMT", "Sun, 06 Nov 1969 08:49:37 GMT",
                           "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:60:37 GMT",
                           "Sun, 6 Nov 1994 08:49:37 GMT", "Sun Nov 6 08:49:37 1994", ",,,"}) {
    CAPTURE(text);
    CHECK_EQ(Parse(text), UINT64_MAX);
  }
}

TEST_CASE("http_semantics: a timestamp is RFC 3339") {
  CHECK_EQ(FormatTimestamp(kModified * 1000 + 7), "1994-11-06T08:49:37.007Z");
}

TEST_CASE("http_semantics: If-None-Match takes lists, any, and weak tags") {
  const std::string tag(kTag);
  CHECK_EQ(Evaluate(""), Verdict::kProceed);
  CHECK_EQ(Evaluate("If-None-Match: " + tag + "\r\n"), Verdict::kNotModified);
  CHECK_EQ(Evaluate("If-None-Match: W/" + tag + "\r\n"), Verdict::kNotModified);
  CHECK_EQ(Evaluate("If-None-Match: \"a\", W/\"b,c\" ,," + tag + "\r\n"), Verdict::kNotModified);
  CHECK_EQ(Evaluate("If-None-Match: \"a\"\r\nIf-None-Match: " + tag + "\r\n"),
           Verdict::kNotModified);
  CHECK_EQ(Evaluate("If-None-Match: *\r\n"), Verdict::kNotModified);
  CHECK_EQ(Evaluate("If-None-Match: \"a\"\r\n"), Verdict::kProceed);
  CHECK_EQ(Evaluate("If-None-Match: AAAAAAAAAAAAAAAAAB\r\n"), Verdict::kProceed);
  CHECK_EQ(Evaluate("If-None-Match: \"AAAAAAAAAAAAAAAAAB\r\n"), Verdict::kProceed);
  CHECK_EQ(Evaluate("If-None-Match:\r\n"), Verdict::kProceed);
  CHECK_EQ(Evaluate("If-None-Match: w/" + tag + "\r\n"), Verdict::kProceed);
}

TEST_CASE("http_semantics: dates are conditions only where no tag is given") {
  const std::string same = "Sun, 06 Nov 1994 08:49:37 GMT\r\n";
  const std::string before = "Sun, 06 Nov 1994 08:49:36 GMT\r\n";
  CHECK_EQ(Evaluate("If-Modified-Since: " + same), Verdict::kNotModified);
  CHECK_EQ(Evaluate("If-Modified-Since: " + before), Verdict::kProceed);
  CHECK_EQ(Evaluate("If-Modified-Since: yesterday\r\n"), Verdict::kProceed);
  CHECK_EQ(Evaluate("If-Modified-Since: " + same + "If-None-Match: \"a\"\r\n"), Verdict::kProceed);
  CHECK_EQ(Evaluate("If-Unmodified-Since: " + same), Verdict::kProceed);
  CHECK_EQ(Evaluate("If-Unmodified-Since: " + before), Verdict::kFailed);
  CHECK_EQ(Evaluate("If-Unmodified-Since: " + before + "If-Match: *\r\n"), Verdict::kProceed);
}

TEST_CASE("http_semantics: If-Match compares strongly") {
  const std::string tag(kTag);
  CHECK_EQ(Evaluate("If-Match: " + tag + "\r\n"), Verdict::kProceed);
  CHECK_EQ(Evaluate("If-Match: \"a\", " + tag + "\r\n"), Verdict::kProceed);
  CHECK_EQ(Evaluate("If-Match: W/" + tag + "\r\n"), Verdict::kFailed);
  CHECK_EQ(Evaluate("If-Match: \"a\"\r\n"), Verdict::kFailed);
}

TEST_CASE("http_semantics: If-Range needs the same strong tag or the same date") {
  const auto holds = [](const std::string& headers) {
    return RangeAllowed(ParseConditions(*ParsedGet(headers).request, kTag), kModified);
  };
  const std::string tag(kTag);
  CHECK(holds(""));
  CHECK(holds("If-Range: " + tag + "\r\n"));
  CHECK(holds("If-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
  CHECK_FALSE(holds("If-Range: W/" + tag + "\r\n"));
  CHECK_FALSE(holds("If-Range: \"a\"\r\n"));
  CHECK_FALSE(holds("If-Range: Sun, 06 Nov 1994 08:49:38 GMT\r\n"));
  CHECK_FALSE(holds("If-Range: nonsense\r\n"));
}

TEST_CASE("http_semantics: a response head is built field by field") {
  std::string out;
  ResponseHead(&out, 206).Add("Content-Length", uint64_t{1234}).Add("ETag", kTag).End();
  CHECK_EQ(out, "HTTP/1.1 206 Partial Content\r\nContent-Length: 1234\r\nETag: " +
                    std::string(kTag) + "\r\n\r\n");
}

TEST_CASE("http_semantics: JSON stays valid whatever it holds") {
  const auto json = [](std::string_view text) {
    std::string out;
    AppendJsonString(text, &out);
    return out;
  };
  CHECK_EQ(json("a\"b\\c\n\x7f"), "\"a\\\"b\\\\c\\u000a\\u007f\"");
  CHECK_EQ(json("\xc3\xa4\xf0\x9f\x98\x80"), "\"\xc3\xa4\xf0\x9f\x98\x80\"");
  CHECK_EQ(
      json("\xff\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82"), "\"" + [] {
        std::string all;
        for (int i = 0; i < 12; ++i) all += "\\ufffd";
        return all;
      }() + "\"");
  CHECK_EQ(ErrorJson("not_found", "It \"is\" not."),
           "{\"error\":\"not_found\",\"message\":\"It \\\"is\\\" not.\"}\n");
  CHECK_EQ(StatusCodeName(405), "method_not_allowed");
}
