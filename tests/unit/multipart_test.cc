#include "gateway/multipart.h"

#include <doctest/doctest.h>

#include <vector>

namespace hayloft {
namespace {

// All that a parser says about a body, as one text: what tests compare.
std::string Outcome(std::string_view body, size_t step, std::string_view boundary = "XyZ") {
  MultipartParser parser(boundary);
  std::string said;
  std::string_view data;
  for (size_t at = 0; at < body.size(); at += step) {
    std::string_view input = body.substr(at, step);
    while (true) {
      const MultipartParser::Step next = parser.Next(&input, &data);
      if (next == MultipartParser::Step::kMore) break;
      if (next == MultipartParser::Step::kError) {
        return said + "error " + std::to_string(parser.fault().status) + " " +
               parser.fault().reason;
      }
      const FormPart& part = parser.part();
      if (next == MultipartParser::Step::kPart) {
        said += "part " + std::string(part.name) + (part.is_file ? " file" : "") +
                (part.unnamed ? " unnamed" : "") + " type=" + std::string(part.content_type) +
                " headers=" + std::to_string(part.headers.size()) + " [";
      } else if (next == MultipartParser::Step::kData) {
        CHECK_FALSE(data.empty());
        said += data;
      } else {
        said += "] ";
      }
    }
  }
  if (!parser.End()) return said + "error " + std::to_string(parser.fault().status) + " at the end";
  return said + "end";
}

// The outcome, which must be the same however the body is cut.
std::string Parse(std::string_view body, std::string_view boundary = "XyZ") {
  const std::string whole = Outcome(body, body.size(), boundary);
  for (const size_t step : {1, 2, 3, 7, 64}) CHECK_EQ(Outcome(body, step, boundary), whole);
  return whole;
}

std::string Part(const std::string& data, const std::string& headers = "") {
  return "--XyZ\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.png\"\r\n" + headers +
         "\r\n" + data + "\r\n";
}

HttpFault TypeFault(std::string_view type) {
  std::string_view boundary;
  return ParseFormType(type, &boundary);
}

struct BadForm {
  const char* situation;
  std::string body;
  int status;
};

}  // namespace

TEST_CASE("multipart: files and fields come in order with what is known of them") {
  const std::string body =
      Part("first\r\nfile", "Content-Type: image/png\r\n") +
      "--XyZ\r\ncontent-disposition: FORM-DATA;name=note\r\n\r\n\r\n" + Part("") +
      "--XyZ\r\nContent-Disposition: form-data; name=\"a \\\"b\\\\\"; filename*=utf-8''x\r\n\r\nx" +
      "\r\n--XyZ\r\nContent-Disposition: form-data; name=\"none\"; filename=\"\"\r\n\r\n\r\n" +
      "--XyZ--\r\n";
  CHECK_EQ(Parse(body),
           "part f file type=image/png headers=2 [first\r\nfile] part note type= headers=1 [] "
           "part f file type= headers=1 [] part a \"b\\ file type= headers=1 [x] "
           "part none file unnamed type= headers=1 [] end");
}

TEST_CASE("multipart: what only looks like a boundary is data") {
  const std::string data =
      "\r\n--Xy\r\r\n--XyY\r\n\r\n-\r\n--\r\n---XyZ\n--XyZ--XyZ\r--XyZ\r\n--xYz\r\n--Xy";
  CHECK_EQ(Parse(Part(data) + "--XyZ--"), "part f file type= headers=1 [" + data + "] end");
  CHECK_EQ(Parse(Part("--XyY") + "--XyZ--"), "part f file type= headers=1 [--XyY] end");
  CHECK_EQ(Parse(Part("\r") + "--XyZ--"), "part f file type= headers=1 [\r] end");
  CHECK_EQ(Parse(Part("\r\n") + "--XyZ--"), "part f file type= headers=1 [\r\n] end");
}

TEST_CASE("multipart: preamble, blanks behind a boundary and epilogue are let pass, to a bound") {
  const std::string part = Part("x");
  const std::string wanted = "part f file type= headers=1 [x] end";
  const std::string spaced = "--XyZ \t\r\n" + part.substr(7) + "--XyZ-- \r\nbye\r\n--XyZ\r\n";
  CHECK_EQ(Parse(std::string(kPreambleBytesMax, '-') + "\r\n" + spaced), wanted);
  CHECK_EQ(Parse("\r\n" + part + "--XyZ--"), wanted);
  CHECK_NE(Parse(std::string(kPreambleBytesMax + 1, '-') + "\r\n" + spaced), wanted);
  const std::string closed = part + "--XyZ--";
  CHECK_EQ(Parse(closed + "\r\n" + std::string(kEpilogueBytesMax - 2, 'e')), wanted);
  CHECK_NE(Parse(closed + "\r\n" + std::string(kEpilogueBytesMax - 1, 'e')), wanted);
}

TEST_CASE("multipart: bodies that two parsers could read in two ways are refused") {
  const std::string head = "--XyZ\r\nContent-Disposition: form-data; name=f\r\n";
  const std::string part = Part("x");
  const BadForm cases[] = {
      {"nothing", "", 400},
      {"no boundary", std::string(5'000, 'x'), 400},
      {"no last boundary", part + "--XyZ", 400},
      {"half of the last dashes", part + "--XyZ-", 400},
      {"one dash behind a boundary", part + "--XyZ-\r\n", 400},
      {"a longer boundary", Part("x\r\n--XyZ2") + "--XyZ--", 400},
      {"a boundary's line with bare LF", "--XyZ\n" + part.substr(7) + "--XyZ--", 400},
      {"too many blanks behind a boundary", "--XyZ" + std::string(65, ' ') + "\r\n", 400},
      {"a lone CR behind a boundary", "--XyZ\rX", 400},
      {"text behind the last boundary", part + "--XyZ--x", 400},
      {"a lone CR behind the last boundary", part + "--XyZ--\rx", 400},
      {"a boundary right behind the headers", head + "\r\n--XyZ--", 400},
      {"no headers", "--XyZ\r\n\r\nx\r\n--XyZ--", 400},
      {"a bare LF in headers", head + "X: y\n\r\nx\r\n--XyZ--", 400},
      {"a bare CR in headers", head + "X: y\rz\r\n\r\nx\r\n--XyZ--", 400},
      {"a folded header", head + "X: y\r\n z\r\n\r\nx\r\n--XyZ--", 400},
      {"a space before a colon", head + "X : y\r\n\r\nx\r\n--XyZ--", 400},
      {"a header without a colon", head + "X\r\n\r\nx\r\n--XyZ--", 400},
      {"NUL in a header", head + std::string("X: \0\r\n\r\nx\r\n--XyZ--", 17), 400},
      {"two dispositions", head + head.substr(7) + "\r\nx\r\n--XyZ--", 400},
      {"two types", Part("x", "Content-Type: a/b\r\nContent-Type: a/b\r\n") + "--XyZ--", 400},
      {"not form-data", "--XyZ\r\nContent-Disposition: attachment; name=f\r\n\r\n", 400},
      {"form-datax", "--XyZ\r\nContent-Disposition: form-datax; name=f\r\n\r\n", 400},
      {"no name", "--XyZ\r\nContent-Disposition: form-data; filename=f\r\n\r\n", 400},
      {"name twice", "--XyZ\r\nContent-Disposition: form-data; name=f; name=f\r\n\r\n", 400},
      {"filename twice",
       "--XyZ\r\nContent-Disposition: form-data; name=f; filename=a; filename=a\r\n\r\n", 400},
      {"an open quote", "--XyZ\r\nContent-Disposition: form-data; name=\"f\r\n\r\n", 400},
      {"a quote that is escaped", "--XyZ\r\nContent-Disposition: form-data; name=\"f\\\"\r\n\r\n",
       400},
      {"base64", Part("x", "Content-Transfer-Encoding: base64\r\n") + "--XyZ--", 415},
      {"gzip", Part("x", "Content-Encoding: gzip\r\n") + "--XyZ--", 415},
      {"long headers", head + "X: " + std::string(kPartHeadBytesMax, 'x') + "\r\n", 431},
  };
  for (const BadForm& c : cases) {
    CAPTURE(c.situation);
    const std::string said = Parse(c.body);
    CAPTURE(said);
    CHECK_NE(said.find("error " + std::to_string(c.status) + " "), std::string::npos);
  }
}

TEST_CASE("multipart: the bounds on headers and parts are met exactly") {
  const size_t fixed = Part("", "X: \r\n").size() - std::string("--XyZ\r\n\r\n").size();
  const auto long_head = [&](size_t size) {
    return Parse(Part("x", "X: " + std::string(size - fixed, 'x') + "\r\n") + "--XyZ--");
  };
  CHECK(long_head(kPartHeadBytesMax).ends_with("end"));
  CHECK(long_head(kPartHeadBytesMax + 1).ends_with("longer than 8 KiB."));
  std::string headers;
  for (size_t i = 1; i < kPartHeadersMax; ++i) headers += "X: y\r\n";
  CHECK(Parse(Part("x", headers) + "--XyZ--").ends_with("end"));
  CHECK(Parse(Part("x", headers + "X: y\r\n") + "--XyZ--").ends_with("more than 32 headers."));
  std::string parts;
  for (size_t i = 0; i < kPartsMax; ++i) parts += Part("x");
  CHECK(Parse(parts + "--XyZ--").ends_with("end"));
  CHECK(Parse(parts + Part("x") + "--XyZ--").ends_with("more than 1,000 parts."));
}

TEST_CASE("multipart: the boundary is taken out of a Content-Type, or refused") {
  const std::pair<const char*, const char*> fine[] = {
      {"multipart/form-data; boundary=abc", "abc"},
      {"Multipart/Form-Data;charset=utf-8;BOUNDARY=\"a b:c\"; x=y;", "a b:c"},
      {"multipart/form-data ; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
       "----WebKitFormBoundary7MA4YWxkTrZu0gW"},
      {"multipart/form-data; boundary==_a?=(b)", "=_a?=(b)"},
  };
  for (const auto& [type, wanted] : fine) {
    std::string_view boundary;
    CHECK_EQ(ParseFormType(type, &boundary).status, 0);
    CHECK_EQ(boundary, wanted);
  }
  const std::string seventy(kBoundaryBytesMax, 'b');
  CHECK_EQ(TypeFault("multipart/form-data; boundary=" + seventy).status, 0);
  CHECK_EQ(TypeFault("multipart/form-data; boundary=" + seventy + "b").status, 400);
  for (const char* type :
       {"multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary",
        "multipart/form-data; boundary=\"\"", "multipart/form-data; boundary=\"a ",
        "multipart/form-data; boundary=\"a \"", "multipart/form-data; boundary=a; boundary=a",
        "multipart/form-data; boundary=a*b", "multipart/form-data; boundary=a\tb",
        "multipart/form-data; boundary=\"a\\\"b\"", "multipart/form-data boundary=a"}) {
    CAPTURE(type);
    CHECK_EQ(TypeFault(type).status, 400);
  }
  for (const char* type : {"multipart/mixed; boundary=a", "multipart/form-datax; boundary=a",
                           "multipart/", "multipart/form"}) {
    CAPTURE(type);
    CHECK_EQ(TypeFault(type).status, 415);
  }
  CHECK_FALSE(IsMultipart("image/png"));
  CHECK_FALSE(IsMultipart("multipart"));
}

}  // namespace hayloft
