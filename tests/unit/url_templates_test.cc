#include "gateway/url_templates.h"

#include <doctest/doctest.h>

#include <map>

#include "common/file_address.h"

using namespace hayloft;

namespace {

std::string IdOf(uint32_t sequence) {
  return ToText({.block_id = 7, .file_id = FileId::Of(sequence, 0x1234567890 + sequence * 77)});
}

}  // namespace

TEST_CASE("url_templates: without one a URL is relative") {
  CHECK_EQ(UrlTemplates("").Url("AAAAAAAAAAAAAAAAAA", "image/png"), "/AAAAAAAAAAAAAAAAAA");
}

TEST_CASE("url_templates: id and extension stand where the template wants them") {
  const auto url = [](const char* text, const char* type) {
    return UrlTemplates(text).Url("ID", type);
  };
  CHECK_EQ(url("https://img.example.com/{id}.{ext}", "image/png"),
           "https://img.example.com/ID.png");
  CHECK_EQ(url("https://img.example.com/{id}.{ext}", "image/x-unheard-of"),
           "https://img.example.com/ID");
  CHECK_EQ(url("http://h:8080/a/{id}?v={id}&e={ext}", "image/jpeg"),
           "http://h:8080/a/ID?v=ID&e=jpg");
  CHECK_EQ(url("/{id}", "image/png"), "/ID");
}

TEST_CASE("url_templates: files are shared out by weight, each always to the same one") {
  const UrlTemplates templates("900 https://a/{id}, 100 https://b/{id},1 https://c/{id}");
  std::map<char, int> counts;
  constexpr uint32_t kFiles = 20'000;
  for (uint32_t i = 0; i < kFiles; ++i) {
    const std::string url = templates.Url(IdOf(i), "image/png");
    CHECK_EQ(templates.Url(IdOf(i), "image/gif"), url);
    CHECK(url.ends_with(IdOf(i)));
    ++counts[url[8]];
  }
  CHECK_EQ(counts['a'] + counts['b'] + counts['c'], int{kFiles});
  CHECK(counts['b'] > 1'800);
  CHECK(counts['b'] < 2'200);
  CHECK(counts['c'] > 0);
  CHECK(counts['c'] < 60);
  // Two of equal weight need none written.
  const UrlTemplates halves("https://a/{id},https://b/{id}");
  counts.clear();
  for (uint32_t i = 0; i < kFiles; ++i) ++counts[halves.Url(IdOf(i), "")[8]];
  CHECK(counts['a'] > 9'500);
  CHECK(counts['a'] < 10'500);
}

TEST_CASE("url_templates: what could not be a URL is refused") {
  for (const char* good :
       {"", "https://h/{id}", "1 https://h/{id}", "1000000 /x/{id}.{ext}, 1  https://h/{id}"}) {
    CAPTURE(good);
    CHECK_EQ(UrlTemplatesFault(good), "");
  }
  for (const char* bad : {"https://h/",
                          "h/{id}",
                          "ftp://h/{id}",
                          "https:///{id}",
                          "https://{id}",
                          "https://",
                          "https://h/{id}{x}",
                          "https://h/{id}}",
                          "https://h/{ID}",
                          "https://h/{id}\"",
                          "0 /{id}",
                          "-1 /{id}",
                          "1000001 /{id}",
                          "99999999999999999999999 /{id}",
                          "x /{id}",
                          "1 ",
                          "1 1 /{id}",
                          "1 /{id},/{id}",
                          "https://h/{id}\r\nX: y",
                          "https://h/\xc3\xa4{id}"}) {
    CAPTURE(bad);
    CHECK_NE(UrlTemplatesFault(bad), "");
  }
}
