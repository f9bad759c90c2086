// The pages for people: which are served, under which names, and what keeps others out of them.
#include "gateway/pages.h"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <set>

#include "tests/unit/gateway_fixture.h"

using namespace hayloft;

namespace {

std::string PageRequest(const std::string& path, const std::string& headers = "",
                        const std::string& host = "localhost") {
  return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + headers + "\r\n";
}

std::string FileText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

GatewayFixture WithPages(const char* pages) {
  return GatewayFixture([pages](GatewayConfig* config) { config->options.pages = pages; });
}

}  // namespace

TEST_CASE("pages: what is compiled in is the files of gateway/pages, with a tag of its own each") {
  const PageTable table("all");
  std::set<std::string> tags;
  for (const char* name : {"upload.js", "common.js", "page.css", "icon.svg"}) {
    CAPTURE(name);
    const Page* page = table.Find(std::string("/pages/") + name);
    REQUIRE(page != nullptr);
    CHECK_EQ(page->bytes, FileText(std::string("gateway/pages/") + name));
    CHECK(tags.insert(page->etag).second);
  }
  CHECK_EQ(PagesFault("some"), "none, upload or all");
}

TEST_CASE("gateway: no page is served unless it is wanted") {
  const GatewayFixture fixture;
  CHECK_EQ(fixture.Connect().Ask(PageRequest("/")).status, 404);
  CHECK_EQ(fixture.Connect().Ask(PageRequest("/pages/page.css")).status, 404);
}

TEST_CASE("gateway: a page comes with a strict policy and is revalidated by its tag") {
  const GatewayFixture fixture = WithPages("upload");
  RawHttp client = fixture.Connect();
  RawAnswer page = client.Ask(PageRequest("/"));
  CHECK_EQ(page.status, 200);
  CHECK_EQ(page["content-type"], "text/html; charset=utf-8");
  CHECK_EQ(page["cache-control"], "no-cache");
  CHECK_EQ(page["x-content-type-options"], "nosniff");
  CHECK_EQ(page["x-frame-options"], "DENY");
  CHECK_EQ(page["referrer-policy"], "same-origin");
  CHECK_EQ(page["cross-origin-opener-policy"], "same-origin");
  const std::string& policy = page["content-security-policy"];
  for (const char* word : {"default-src 'none'", "script-src 'self'", "base-uri 'none'",
                           "form-action 'none'", "frame-ancestors 'none'"}) {
    CHECK_NE(policy.find(word), std::string::npos);
  }
  CHECK_EQ(policy.find("unsafe"), std::string::npos);
  const std::string tag = page["etag"];
  RawAnswer same = client.Ask(PageRequest("/", "If-None-Match: " + tag + "\r\n"));
  CHECK_EQ(same.status, 304);
  CHECK_EQ(same["etag"], tag);
  CHECK_EQ(same["content-security-policy"], policy);
  CHECK_EQ(client.Ask(PageRequest("/", "If-Match: \"x\"\r\n")).status, 412);
  // It has no date, so a date is no condition.
  const std::string late = "Fri, 01 Jan 2100 00:00:00 GMT\r\n";
  CHECK_EQ(client.Ask(PageRequest("/", "If-Modified-Since: " + late)).status, 200);
  CHECK_EQ(
      client.Ask(PageRequest("/", "If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT\r\n")).status,
      200);
  const RawAnswer head = client.Ask("HEAD / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", /*head=*/true);
  CHECK_EQ(head.status, 200);
  CHECK_EQ(head["content-length"], page["content-length"]);
  CHECK_EQ(client.Ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").status, 405);
}

TEST_CASE("gateway: a page is not given under a name that may have been rebound (S24)") {
  const GatewayFixture fixture([](GatewayConfig* config) {
    config->options.pages = "all";
    config->options.hosts = "images.example";
  });
  for (const char* path : {"/", "/pages/upload.js"}) {
    CAPTURE(path);
    RawAnswer answer = fixture.Connect().Ask(PageRequest(path, "", "evil.example"));
    CHECK_EQ(answer.status, 421);
    CHECK_EQ(GatewayFixture::Member(answer.body, "error"), "wrong_host");
    CHECK_EQ(fixture.Connect().Ask(PageRequest(path, "", "images.example:8080")).status, 200);
    CHECK_EQ(fixture.Connect().Ask(PageRequest(path, "", "127.0.0.1:8080")).status, 200);
  }
}
