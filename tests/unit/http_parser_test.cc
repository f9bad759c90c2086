#include "gateway/http_parser.h"

#include <doctest/doctest.h>

#include <memory>
#include <string>

using namespace hayloft;

namespace {

struct Case {
  const char* situation;
  std::string bytes;
  uint16_t status;  // 0: a request
};

const std::string kGet = "GET /a HTTP/1.1\r\nHost: h\r\n";

std::string Post(const std::string& headers) {
  return "POST /v1/files HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n";
}

std::string Repeat(const std::string& text, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; ++i) all += text;
  return all;
}

// S02, S03, S04 and what RFC 9112 says besides.
const Case kCases[] = {
    {"the shortest request", kGet + "\r\n", 0},
    {"a request behind one empty line", "\r\n" + kGet + "\r\n", 0},
    {"two empty lines in front", "\r\n\r\n" + kGet + "\r\n", 400},
    {"HTTP/1.0 without a Host", "GET /a HTTP/1.0\r\n\r\n", 0},
    {"a later HTTP/1", "GET /a HTTP/1.7\r\nHost: h\r\n\r\n", 0},
    {"absolute-form", "GET http://h:80/a?b HTTP/1.1\r\nHost: h\r\n\r\n", 0},
    {"absolute-form without a path", "GET http://h HTTP/1.1\r\nHost: h\r\n\r\n", 0},
    {"absolute-form without a host", "GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 0},
    {"GET *", "GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"an unknown method", "BREW /a HTTP/1.1\r\nHost: h\r\n\r\n", 0},
    {"an empty header value", kGet + "X:\r\n\r\n", 0},
    {"tabs and bytes above ASCII in a value", kGet + "X: a\tb \xc3\xa4 \r\n\r\n", 0},
    {"an IPv6 host", "GET /a HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", 0},

    {"Content-Length of zero", Post("Content-Length: 0\r\n"), 0},
    {"Content-Length negative", Post("Content-Length: -1\r\n"), 400},
    {"Content-Length +5", Post("Content-Length: +5\r\n"), 400},
    {"Content-Length 2^64", Post("Content-Length: 18446744073709551616\r\n"), 400},
    {"Content-Length hexadecimal", Post("Content-Length: 0x10\r\n"), 400},
    {"Content-Length empty", Post("Content-Length:\r\n"), 400},
    {"Content-Length twice", Post("Content-Length: 5\r\nContent-Length: 6\r\n"), 400},
    {"Content-Length twice, equal", Post("Content-Length: 5\r\ncontent-length: 5\r\n"), 400},
    {"Content-Length as a list", Post("Content-Length: 5, 5\r\n"), 400},
    {"Content-Length with inner space", Post("Content-Length: 5 5\r\n"), 400},
    {"length and chunked", Post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400},
    {"chunked and length", Post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400},
    {"chunked", Post("Transfer-Encoding: chunked\r\n"), 0},
    {"Chunked in capitals", Post("Transfer-Encoding: CHUNKED\r\n"), 0},
    {"Transfer-Encoding twice",
     Post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400},
    {"chunked, identity", Post("Transfer-Encoding: chunked, identity\r\n"), 400},
    {"identity", Post("Transfer-Encoding: identity\r\n"), 400},
    {"gzip, chunked", Post("Transfer-Encoding: gzip, chunked\r\n"), 400},
    {"xchunked", Post("Transfer-Encoding: xchunked\r\n"), 400},
    {"vertical tab before chunked",
     Post("Transfer-Encoding: \x0b"
          "chunked\r\n"),
     400},
    {"chunked in HTTP/1.0", "POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {"expects 100-continue", Post("Expect: 100-Continue\r\nContent-Length: 1\r\n"), 0},
    {"expects something else", Post("Expect: 200-maybe\r\nContent-Length: 1\r\n"), 417},
    {"Content-Type twice", Post("Content-Type: a/b\r\nContent-Type: c/d\r\n"), 400},
    {"Authorization twice", Post("Authorization: Bearer a\r\nauthorization: Bearer b\r\n"), 400},

    {"obs-fold", kGet + "X: a\r\n b\r\n\r\n", 400},
    {"obs-fold with a tab", kGet + "X: a\r\n\tb\r\n\r\n", 400},
    {"space before a colon", kGet + "X : a\r\n\r\n", 400},
    {"tab before a colon", kGet + "X\t: a\r\n\r\n", 400},
    {"space before the first header", "GET /a HTTP/1.1\r\n Host: h\r\n\r\n", 400},
    {"a header without a colon", kGet + "Xa\r\n\r\n", 400},
    {"an empty header name", kGet + ": a\r\n\r\n", 400},
    {"a bracket in a header name", kGet + "X[]: a\r\n\r\n", 400},
    {"bare LF after the request line", "GET /a HTTP/1.1\nHost: h\r\n\r\n", 400},
    {"bare LF after a header", "GET /a HTTP/1.1\r\nHost: h\nX: a\r\n\r\n", 400},
    {"bare LF as the empty line", kGet + "\n", 400},
    {"bare CR in a value", kGet + "X: a\rb\r\n\r\n", 400},
    {"CR CR LF", kGet + "X: a\r\r\n\r\n", 400},
    {"NUL in a value", kGet + std::string("X: a\0b\r\n\r\n", 10), 400},
    {"NUL in a name", kGet + std::string("X\0: a\r\n\r\n", 9), 400},
    {"NUL in the target", std::string("GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", 28), 400},
    {"a control byte in a value", kGet + "X: a\x01\r\n\r\n", 400},
    {"DEL in a value", kGet + "X: a\x7f\r\n\r\n", 400},

    {"no Host", "GET /a HTTP/1.1\r\nX: a\r\n\r\n", 400},
    {"two Hosts", kGet + "Host: h\r\n\r\n", 400},
    {"two Hosts in HTTP/1.0", "GET /a HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n", 400},
    {"an empty Host", "GET /a HTTP/1.1\r\nHost:\r\n\r\n", 400},
    {"a Host with a space", "GET /a HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
    {"a Host with a path", "GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
    {"a Host with a user", "GET /a HTTP/1.1\r\nHost: a@b\r\n\r\n", 400},
    {"a Host with a bad port", "GET /a HTTP/1.1\r\nHost: a:8x\r\n\r\n", 400},
    {"a Host with an open bracket", "GET /a HTTP/1.1\r\nHost: [::1\r\n\r\n", 400},

    {"HTTP/0.9", "GET /a\r\n\r\n", 400},
    {"the HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
    {"HTTP/3.0", "GET /a HTTP/3.0\r\nHost: h\r\n\r\n", 505},
    {"a TLS hello", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11), 400},
    {"a version in small letters", "GET /a http/1.1\r\nHost: h\r\n\r\n", 400},
    {"a version of two digits", "GET /a HTTP/1.10\r\nHost: h\r\n\r\n", 400},
    {"two spaces in the request line", "GET  /a HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"two spaces before the version", "GET /a  HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"a space after the version", "GET /a HTTP/1.1 \r\nHost: h\r\n\r\n", 400},
    {"a target without a slash", "GET a HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"a target that is only a query", "GET ?a HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"absolute-form with only a query", "GET http://h?a HTTP/1.1\r\nHost: h\r\n\r\n", 0},
    {"a fragment in the target", "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"bytes above ASCII in the target", "GET /\xc3\xa4 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"CONNECT", "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"no method", " /a HTTP/1.1\r\nHost: h\r\n\r\n", 400},

    {"a request line of just 8 KiB",
     "GET /" + std::string(kHttpLineBytesMax - 14, 'a') + " HTTP/1.1\r\nHost: h\r\n\r\n", 0},
    {"a request line of one byte more",
     "GET /" + std::string(kHttpLineBytesMax - 13, 'a') + " HTTP/1.1\r\nHost: h\r\n\r\n", 414},
    {"a request line without an end", "GET /" + std::string(40'000, 'a'), 414},
    {"a method without an end", std::string(40'000, 'A'), 414},
    {"a header line of just 8 KiB",
     kGet + "X: " + std::string(kHttpLineBytesMax - 3, 'a') + "\r\n\r\n", 0},
    {"a header line of one byte more",
     kGet + "X: " + std::string(kHttpLineBytesMax - 2, 'a') + "\r\n\r\n", 431},
    {"a header name without an end", kGet + std::string(40'000, 'a'), 431},
    {"headers of over 32 KiB in all", kGet + Repeat("X: " + std::string(4000, 'a') + "\r\n", 9),
     431},
    {"100 headers", kGet + Repeat("X: a\r\n", 99) + "\r\n", 0},
    {"101 headers", kGet + Repeat("X: a\r\n", 100) + "\r\n", 431},
};

struct Outcome {
  HttpParsed::Kind kind = HttpParsed::Kind::kMore;
  size_t head_bytes = 0;
  uint16_t status = 0;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome OutcomeOf(const HttpParsed& parsed) {
  return {parsed.kind, parsed.head_bytes, parsed.fault.status};
}

// As a connection would: with `step` bytes more at each call until there is an outcome.
Outcome Feed(const std::string& bytes, size_t first, size_t step) {
  const auto request = std::make_unique<HttpRequest>();
  size_t previous = 0;
  for (size_t size = std::min(first, bytes.size());; size = std::min(size + step, bytes.size())) {
    const HttpParsed parsed = ParseHttpRequest({bytes.data(), size}, previous, request.get());
    if (parsed.kind != HttpParsed::Kind::kMore || size == bytes.size()) return OutcomeOf(parsed);
    previous = size;
  }
}

// The whole body, or the status of the fault; "more" when neither came.
std::string Decode(const std::string& bytes, size_t step, std::string* rest = nullptr) {
  ChunkedDecoder decoder;
  std::string body;
  for (size_t at = 0; at < bytes.size(); at += step) {
    std::string_view input = std::string_view(bytes).substr(at, step);
    while (true) {
      std::string_view data;
      const ChunkedDecoder::Step outcome = decoder.Next(&input, &data);
      if (outcome == ChunkedDecoder::Step::kMore) break;
      if (outcome == ChunkedDecoder::Step::kError) return std::to_string(decoder.fault().status);
      if (outcome == ChunkedDecoder::Step::kDone) {
        if (rest != nullptr) *rest = std::string(input);
        return body;
      }
      body += data;
    }
  }
  return "more";
}

}  // namespace

TEST_CASE("http_parser: each request and each abuse gets its outcome (S02 S03 S04)") {
  for (const Case& c : kCases) {
    CAPTURE(c.situation);
    const Outcome outcome = Feed(c.bytes, c.bytes.size(), 1);
    CHECK_EQ(outcome.status, c.status);
    if (c.status == 0) CHECK_EQ(outcome.kind, HttpParsed::Kind::kRequest);
    if (c.status == 0) CHECK_EQ(outcome.head_bytes, c.bytes.size());
    if (c.status != 0) CHECK_EQ(outcome.kind, HttpParsed::Kind::kError);
  }
}

TEST_CASE("http_parser: the outcome is the same byte by byte and cut at each byte") {
  for (const Case& c : kCases) {
    CAPTURE(c.situation);
    const Outcome whole = Feed(c.bytes, c.bytes.size(), 1);
    CHECK_EQ(Feed(c.bytes, 1, 1), whole);
    const size_t stride = c.bytes.size() > 1000 ? 97 : 1;
    for (size_t cut = 1; cut < c.bytes.size(); cut += stride) {
      REQUIRE_EQ(Feed(c.bytes, cut, c.bytes.size()), whole);
    }
  }
}

TEST_CASE("http_parser: a request cut short is never taken for a request") {
  const auto request = std::make_unique<HttpRequest>();
  for (const Case& c : kCases) {
    if (c.status != 0 || c.bytes.size() > 1000) continue;
    CAPTURE(c.situation);
    for (size_t size = 0; size < c.bytes.size(); ++size) {
      // A copy of its own size, so that the sanitizer sees a read behind it.
      const std::string cut = c.bytes.substr(0, size);
      const std::unique_ptr<char[]> exact(new char[size]);
      cut.copy(exact.get(), size);
      const HttpParsed parsed = ParseHttpRequest({exact.get(), size}, 0, request.get());
      REQUIRE_EQ(parsed.kind, HttpParsed::Kind::kMore);
    }
  }
}

TEST_CASE("http_parser: a request's parts are found") {
  const std::string bytes =
      "POST /v1/files?x=/y&z HTTP/1.1\r\nhost: example.org:8080\r\nContent-Type:  image/png \r\n"
      "content-LENGTH: 0012\r\nExpect: 100-continue\r\nHayloft-Delete-Token: t\r\nFoo: b a r\r\n"
      "If-None-Match: \"a\"\r\nIf-None-Match: \"b\"\r\n\r\nGET / HTTP/1.1";
  const auto request = std::make_unique<HttpRequest>();
  const HttpParsed parsed = ParseHttpRequest(bytes, 0, request.get());
  REQUIRE_EQ(parsed.kind, HttpParsed::Kind::kRequest);
  CHECK_EQ(parsed.head_bytes, bytes.size() - 14);
  CHECK_EQ(request->method, HttpMethod::kPost);
  CHECK_EQ(request->path, "/v1/files");
  CHECK_EQ(request->query, "x=/y&z");
  CHECK(request->has_content_length);
  CHECK_EQ(request->content_length, 12);
  CHECK(request->expect_continue);
  CHECK(request->keep_alive);
  CHECK_FALSE(request->chunked);
  CHECK_EQ(request->Value(HttpField::kContentType), "image/png");
  CHECK_EQ(request->Value(HttpField::kDeleteToken), "t");
  CHECK_EQ(request->Value(HttpField::kRange), "");
  CHECK_EQ(request->Count(HttpField::kIfNoneMatch), 2);
  CHECK_EQ(request->headers()[5].name, "Foo");
  CHECK_EQ(request->headers()[5].value, "b a r");
}

TEST_CASE("http_parser: absolute-form is cut to its path") {
  const auto request = std::make_unique<HttpRequest>();
  (void)ParseHttpRequest("GET HTTP://h:80/a?b HTTP/1.1\r\nHost: x\r\n\r\n", 0, request.get());
  CHECK_EQ(request->path, "/a");
  CHECK_EQ(request->query, "b");
  (void)ParseHttpRequest("GET http://h?b HTTP/1.1\r\nHost: x\r\n\r\n", 0, request.get());
  CHECK_EQ(request->path, "/");
  CHECK_EQ(request->query, "b");
}

TEST_CASE("http_parser: a connection is kept only by HTTP/1.1 without close") {
  const auto keeps = [](const std::string& bytes) {
    const auto request = std::make_unique<HttpRequest>();
    REQUIRE_EQ(ParseHttpRequest(bytes, 0, request.get()).kind, HttpParsed::Kind::kRequest);
    return request->keep_alive;
  };
  CHECK(keeps(kGet + "\r\n"));
  CHECK(keeps(kGet + "Connection: keep-alive, x-close\r\n\r\n"));
  CHECK_FALSE(keeps(kGet + "Connection: close\r\n\r\n"));
  CHECK_FALSE(keeps(kGet + "Connection: foo , CLOSE\r\n\r\n"));
  CHECK_FALSE(keeps(kGet + "Connection: keep-alive\r\nConnection: close\r\n\r\n"));
  CHECK_FALSE(keeps("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
}

TEST_CASE("http_parser: chunked bodies are decoded however they are cut") {
  const std::string bytes =
      "5\r\nhello\r\n00C;a=b;c=\"d e\"\r\n, wide world\r\n1;\r\n!\r\n0\r\nX-Sum: "
      "1\r\nY:\r\n\r\nGET";
  for (size_t step = 1; step <= bytes.size(); ++step) {
    std::string rest;
    REQUIRE_EQ(Decode(bytes, step, &rest), "hello, wide world!");
    CHECK_EQ(rest, std::string("GET").substr(0, rest.size()));
  }
  for (size_t size = 0; size < bytes.size() - 3; ++size) {
    REQUIRE_EQ(Decode(bytes.substr(0, size), 7), "more");
  }
  CHECK_EQ(Decode("0\r\n\r\n", 1), "");
}

TEST_CASE("http_parser: abuses of chunked bodies are refused (S03)") {
  const Case cases[] = {
      {"not a number", "x\r\n", 400},
      {"no number", "\r\n", 400},
      {"no number before an extension", ";a\r\n", 400},
      {"negative", "-1\r\n", 400},
      {"0x", "0x5\r\nhello\r\n", 400},
      {"space in front", " 5\r\nhello\r\n", 400},
      {"space behind", "5 \r\nhello\r\n", 400},
      {"2^64", "10000000000000000\r\n", 400},
      {"too many zeros", "0000000000000005\r\nhello\r\n", 400},
      {"bare LF behind the size", "5\nhello\r\n", 400},
      {"CR and no LF behind the size", "5\rhello\r\n", 400},
      {"bare LF in an extension", "5;a\nb\r\nhello\r\n", 400},
      {"NUL in an extension", std::string("5;\0\r\n", 5), 400},
      {"a chunk longer than its size", "5\r\nhello!\r\n", 400},
      {"a chunk that ends in LF", "5\r\nhello\n0\r\n\r\n", 400},
      {"a chunk that ends in CR", "5\r\nhello\r0\r\n\r\n", 400},
      {"a trailer folded", "0\r\nX: a\r\n b\r\n\r\n", 400},
      {"a trailer without a colon", "0\r\nX\r\n\r\n", 400},
      {"a space before a trailer's colon", "0\r\nX : a\r\n\r\n", 400},
      {"bare LF behind a trailer", "0\r\nX: a\n\r\n", 400},
      {"CR and no LF behind a trailer", "0\r\nX: a\rb", 400},
      {"bare LF at the end", "0\r\n\n", 400},
      {"CR and no LF at the end", "0\r\n\rX", 400},
      {"an extension over the bound", "5;" + std::string(kChunkExtensionBytesMax + 1, 'a'), 400},
      {"many extensions over the bound",
       Repeat("1;" + std::string(100, 'a') + "\r\nx\r\n", kChunkExtensionBytesMax / 100 + 1), 400},
      {"trailers over the bound", "0\r\n" + Repeat("X: a\r\n", kChunkTrailerBytesMax / 6 + 1), 431},
  };
  for (const Case& c : cases) {
    CAPTURE(c.situation);
    CHECK_EQ(Decode(c.bytes, c.bytes.size()), std::to_string(c.status));
    CHECK_EQ(Decode(c.bytes, 1), std::to_string(c.status));
  }
}

TEST_CASE("http_parser: a chunked body that failed stays failed") {
  ChunkedDecoder decoder;
  std::string_view input = "x\r\n";
  std::string_view data;
  CHECK_EQ(decoder.Next(&input, &data), ChunkedDecoder::Step::kError);
  input = "5\r\nhello\r\n";
  CHECK_EQ(decoder.Next(&input, &data), ChunkedDecoder::Step::kError);
}
