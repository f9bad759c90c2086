#include "gateway/content_disposition.h"

#include <doctest/doctest.h>

#include "gateway/query.h"

using namespace hayloft;

namespace {

std::string Decode(std::string_view value, size_t bytes_max = 20) {
  return DecodeQueryValue(value, bytes_max).value_or("(none)");
}

}  // namespace

TEST_CASE("query: a parameter is found by its name as it stands, the first one") {
  const auto value = [](std::string_view query) {
    const auto found = QueryValue(query, "download");
    return found ? std::string(*found) : std::string("(none)");
  };
  CHECK_EQ(value("download=a.jpg"), "a.jpg");
  CHECK_EQ(value("x=1&download=a=b&y"), "a=b");
  CHECK_EQ(value("download"), "");
  CHECK_EQ(value("download="), "");
  CHECK_EQ(value("x&download&"), "");
  CHECK_EQ(value("download=1&download=2"), "1");
  for (const char* query : {"", "&", "=", "downloads=1", "Download=1", "x=download", "%64ownload=1",
                            "xdownload=1", "x;download=1"}) {
    CAPTURE(query);
    CHECK_EQ(value(query), "(none)");
  }
}

TEST_CASE("query: %XX is decoded strictly and once") {
  CHECK_EQ(Decode("a%20b+c%2Bd%2b"), "a b c+d+");
  CHECK_EQ(Decode("%252e"), "%2e");
  CHECK_EQ(Decode("%00%ff"), std::string("\0\xff", 2));
  CHECK_EQ(Decode(""), "");
  for (const char* value : {"%", "%2", "a%", "%g0", "%0g", "% 1", "%+1", "%%41", "%-1"}) {
    CAPTURE(value);
    CHECK_EQ(Decode(value), "(none)");
  }
  CHECK_EQ(Decode("%41%41", 2), "AA");
  CHECK_EQ(Decode("%41%41", 1), "(none)");
  CHECK_EQ(Decode("abc", 2), "(none)");
}

TEST_CASE("content_disposition: what names no file, or hides what it is, is refused (S12)") {
  for (const char* name : {"a.jpg", " a b ", "\xc3\xbc.png", "\xf0\x9f\x98\x80", "...", ".a",
                           "a\"b", "a;b", "100%", "a:b*?<>|", "\xe6\x97\xa5\xe6\x9c\xac.jpg"}) {
    CAPTURE(name);
    CHECK(IsSaveName(name));
  }
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("a\\b"),
        std::string("a\r\nSet-Cookie: x"), std::string("a\0b", 3), std::string("a\x7f"),
        std::string("a\xc2\x85"), std::string("a\xe2\x80\xaegpj.exe"), std::string("a\xe2\x81\xa6"),
        std::string("a\xe2\x80\x8f"), std::string("a\xe2\x80\xa8"), std::string("a\xff"),
        std::string("\xc0\xaf"), std::string("\xed\xa0\x80"), std::string("a\xc3"),
        std::string(256, 'a')}) {
    CAPTURE(name);
    CHECK_FALSE(IsSaveName(name));
  }
  CHECK(IsSaveName(std::string(255, 'a')));
}

TEST_CASE("content_disposition: plain names are quoted, others also encoded (RFC 6266, 8187)") {
  CHECK_EQ(AttachmentNamed("cat 1.jpg"), "attachment; filename=\"cat 1.jpg\"");
  CHECK_EQ(AttachmentNamed("Käse €.png"),
           "attachment; filename=\"K_se _.png\"; filename*=UTF-8''K%C3%A4se%20%E2%82%AC.png");
  CHECK_EQ(AttachmentNamed("a\"b%41.txt"),
           "attachment; filename=\"a_b_41.txt\"; filename*=UTF-8''a%22b%2541.txt");
  CHECK_EQ(AttachmentNamed("it's (1)é"),
           "attachment; filename=\"it's (1)_\"; filename*=UTF-8''it%27s%20%281%29%C3%A9");
}

TEST_CASE("content_disposition: usual extensions by type") {
  CHECK_EQ(ExtensionOf("image/png"), ".png");
  CHECK_EQ(ExtensionOf("Image/JPEG ; q=1"), ".jpg");
  CHECK_EQ(ExtensionOf("text/html;charset=utf-8"), ".html");
  CHECK_EQ(ExtensionOf("application/octet-stream"), "");
  CHECK_EQ(ExtensionOf(""), "");
}
