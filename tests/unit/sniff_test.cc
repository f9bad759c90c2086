#include "client/sniff.h"

#include <doctest/doctest.h>

#include "common/buffer.h"

using namespace hayloft;

namespace {

std::string_view Sniff(std::string_view text) { return SniffType(AsBytes(text)); }
std::string Decide(std::string_view claimed, std::string_view text) {
  return DecideType(claimed, AsBytes(text));
}
// A string literal with its NULs.
#define TEXT(literal) std::string(literal, sizeof(literal) - 1)

const std::string kPng = TEXT("\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
const std::string kBinary = TEXT("\x01\x02\x00\xff whatever");

}  // namespace

TEST_CASE("sniff: images are known by their first bytes") {
  CHECK_EQ(Sniff(kPng), "image/png");
  CHECK_EQ(Sniff("\xff\xd8\xff\xe0 JFIF"), "image/jpeg");
  CHECK_EQ(Sniff("GIF87a..."), "image/gif");
  CHECK_EQ(Sniff("GIF89a..."), "image/gif");
  CHECK_EQ(Sniff(TEXT("RIFF\x10\0\0\0WEBPVP8 ")), "image/webp");
  CHECK_EQ(Sniff(TEXT("\0\0\0\x1c"
                      "ftypavif\0\0\0\0mif1miaf")),
           "image/avif");
  CHECK_EQ(Sniff(TEXT("\0\0\0\x18"
                      "ftypmif1\0\0\0\0mif1heic")),
           "image/heic");
  CHECK_EQ(Sniff(TEXT("\0\0\0\x18"
                      "ftypheic\0\0\0\0mif1heic")),
           "image/heic");
  CHECK_EQ(Sniff(TEXT("BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0")), "image/bmp");
  CHECK_EQ(Sniff(TEXT("\0\0\1\0\1\0")), "image/x-icon");
  CHECK_EQ(Sniff(TEXT("II*\0\x08\0\0\0")), "image/tiff");
  CHECK_EQ(Sniff(TEXT("MM\0*\0\0\0\x08")), "image/tiff");
}

TEST_CASE("sniff: markup is known behind space, declarations and comments") {
  CHECK_EQ(Sniff("<svg xmlns='x'>"), "image/svg+xml");
  CHECK_EQ(Sniff("\xef\xbb\xbf <?xml version='1.0'?>\n<!-- a --> <svg>"), "image/svg+xml");
  CHECK_EQ(Sniff("<?xml version='1.0'?><!DOCTYPE svg PUBLIC 'x'><svg>"), "image/svg+xml");
  CHECK_EQ(Sniff("<!DOCTYPE HTML><p>"), "text/html");
  CHECK_EQ(Sniff("  \n<html>"), "text/html");
  CHECK_EQ(Sniff("<SCRIPT>alert(1)</SCRIPT>"), "text/html");
  CHECK_EQ(Sniff("<!-- x --><script>"), "text/html");
  CHECK_EQ(Sniff("<!-- never closed <script>"), "text/html");
  CHECK_EQ(Sniff("<?xml version='1.0'?><note>"), "text/xml");
  CHECK_EQ(Sniff("<svgx>"), "text/plain");
  CHECK_EQ(Sniff("hello, world"), "text/plain");
  CHECK_EQ(Sniff("BM is short for benchmark, which this is not."), "text/plain");
  CHECK_EQ(Sniff("\xff\xfeh"), "text/plain");
  CHECK_EQ(Sniff(kBinary), "application/octet-stream");
  CHECK_EQ(Sniff(""), "text/plain");
}

TEST_CASE("sniff: every cut of an image's head is handled") {
  for (const std::string& whole :
       {kPng,
        TEXT("\0\0\0\x18"
             "ftypmif1\0\0\0\0mif1heic"),
        TEXT("RIFF\x10\0\0\0WEBPVP8 "), std::string("<?xml ?><!-- -->")}) {
    for (size_t size = 0; size <= whole.size(); ++size) {
      const Buffer exact = Buffer::CopyOf(AsBytes(whole.substr(0, size)));
      CHECK_FALSE(SniffType(exact.bytes()).empty());
    }
  }
}

TEST_CASE("sniff: media types are checked by their grammar (S12)") {
  for (const char* type :
       {"image/png", "text/plain; charset=utf-8", "text/plain;charset=\"a;\\\"b\"",
        "application/vnd.x+json", "a/b ; c=d ; e=f", "a/b;"}) {
    CAPTURE(type);
    CHECK(IsValidType(type));
  }
  for (const char* type :
       {"", "image", "image/", "/png", "image/p ng", "image/png; x", "a/b; c=", "a/b; c=\"d",
        "a/b, c/d", "a/b\r\nX: y", "a/b\tc", "a/\xc3\xa4", "a//b"}) {
    CAPTURE(type);
    CHECK_FALSE(IsValidType(type));
  }
  CHECK_FALSE(IsValidType("a/" + std::string(kContentTypeBytesMax, 'b')));
  CHECK(HasControlByte("a/b\r\nX: y"));
  CHECK(HasControlByte("a\x7f"));
  CHECK_FALSE(HasControlByte("a/b; c=d"));
}

TEST_CASE("sniff: the client's type is kept unless missing, malformed or contradicted") {
  CHECK_EQ(Decide("image/png", kPng), "image/png");
  CHECK_EQ(Decide("", kPng), "image/png");
  CHECK_EQ(Decide("nonsense", kPng), "image/png");
  CHECK_EQ(Decide("image/jpeg", kPng), "image/png");
  CHECK_EQ(Decide("text/html", kPng), "image/png");
  CHECK_EQ(Decide("application/x-www-form-urlencoded", kPng), "image/png");
  CHECK_EQ(Decide("application/octet-stream", kPng), "image/png");
  CHECK_EQ(Decide("IMAGE/PNG; a=b", kPng), "IMAGE/PNG; a=b");
  CHECK_EQ(Decide("text/plain; charset=utf-8", "hello"), "text/plain; charset=utf-8");
  CHECK_EQ(Decide("application/json", "{}"), "application/json");
  CHECK_EQ(Decide("image/svg+xml", "<svg>"), "image/svg+xml");
  CHECK_EQ(Decide("video/mp4", kBinary), "video/mp4");
  CHECK_EQ(Decide("image/vnd.microsoft.icon", TEXT("\0\0\1\0\1\0")), "image/vnd.microsoft.icon");
}

TEST_CASE("sniff: a page is not served as an image, nor a download as a page (S13)") {
  CHECK_EQ(Decide("image/png", "<script>alert(1)</script>"), "text/html");
  CHECK_EQ(Decide("image/png", "plain words"), "text/plain");
  CHECK_EQ(Decide("image/png", kBinary), "application/octet-stream");
  CHECK_EQ(Decide("text/html", kBinary), "application/octet-stream");
  CHECK_EQ(Decide("text/plain", "<script>"), "text/plain");
  CHECK_EQ(Decide("application/octet-stream", "<script>"), "application/octet-stream");
  CHECK(IsActiveType("text/html; charset=utf-8"));
  CHECK(IsActiveType("Image/SVG+xml"));
  CHECK(IsActiveType("application/xhtml+xml"));
  CHECK(IsActiveType("text/xml"));
  CHECK_FALSE(IsActiveType("image/png"));
  CHECK_FALSE(IsActiveType("text/plain"));
}
