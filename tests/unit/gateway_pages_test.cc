// The pages for people: which are served, under which names, and what keeps others out of them.
#include "gateway/pages.h"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <set>

#include "gateway/cluster_view.h"
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
  for (const char* name : {"upload.js", "status.js", "common.js", "page.css", "icon.svg"}) {
    CAPTURE(name);
    const Page* page = table.Find(std::string("/pages/") + name);
    REQUIRE(page != nullptr);
    CHECK_EQ(page->bytes, FileText(std::string("gateway/pages/") + name));
    CHECK(tags.insert(page->etag).second);
  }
  // A page that is not served is not linked to.
  CHECK_NE(table.Find("/")->bytes.find("\"/status\""), std::string::npos);
  CHECK_EQ(PageTable("upload").Find("/")->bytes.find("/status"), std::string::npos);
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
  for (const char* path : {"/", "/pages/upload.js", "/status", "/v1/status"}) {
    CAPTURE(path);
    RawAnswer answer = fixture.Connect().Ask(PageRequest(path, "", "evil.example"));
    CHECK_EQ(answer.status, 421);
    CHECK_EQ(GatewayFixture::Member(answer.body, "error"), "wrong_host");
    CHECK_EQ(fixture.Connect().Ask(PageRequest(path, "", "images.example:8080")).status, 200);
    CHECK_EQ(fixture.Connect().Ask(PageRequest(path, "", "127.0.0.1:8080")).status, 200);
  }
}

TEST_CASE(
    "gateway: its status is what the nameserver told, with its own counters, for no other page") {
  const GatewayFixture fixture = WithPages("all");
  fixture.Upload("some image");
  RawAnswer answer = fixture.Connect().Ask(
      PageRequest("/v1/status", "Origin: http://evil.example\r\nSec-Fetch-Site: cross-site\r\n"));
  CHECK_EQ(answer.status, 200);
  CHECK_EQ(answer["content-type"], "application/json");
  CHECK_EQ(answer["cache-control"], "no-store");
  CHECK_EQ(answer["cross-origin-resource-policy"], "same-origin");
  CHECK_EQ(answer["access-control-allow-origin"], "");
  for (const char* text : {"\"role\":\"active\"", "\"writable\":true", "\"uploads_total\":1,",
                           "\"ready\":true", "\"age_ms\":"}) {
    CAPTURE(text);
    CHECK_NE(answer.body.find(text), std::string::npos);
  }
}

TEST_CASE("cluster view: what was told last stays, with its age, while no nameserver answers") {
  ClusterView view;
  CHECK_EQ(view.Json("{}", 5),
           "{\"nameservers\":[],\"age_ms\":null,\"cluster\":null,\"gateway\":{}}\n");
  StatusDone told;
  NameserverStatus& one = told.nameservers.emplace_back();
  one.address = "10.0.0.1:7000";
  one.status.set_role("active");
  one.status.set_epoch(3);
  one.status.set_files_live(17);
  pb::DspStatus& dsp = *one.status.add_dsps();
  dsp.set_machine("\"quoted\"");
  view.Note(told, 1'000);
  const std::string first = view.Json("{}", 1'250);
  CHECK_NE(first.find("\"age_ms\":250,"), std::string::npos);
  CHECK_NE(first.find("\"machine\":\"\\\"quoted\\\"\""), std::string::npos);
  CHECK_NE(first.find("\"silent_ms\":null"), std::string::npos);
  one.err = Err::kTimeout;
  view.Note(told, 2'000);
  const std::string silent = view.Json("{}", 9'000);
  CHECK_NE(silent.find("\"age_ms\":8000,"), std::string::npos);
  CHECK_NE(silent.find("\"role\":\"down\""), std::string::npos);
  CHECK_NE(silent.find("\"live\":17"), std::string::npos);
  // Of two that call themselves active, the newer one is believed.
  one.err = Err::kOk;
  NameserverStatus two = one;
  two.status.set_epoch(4);
  two.status.set_files_live(18);
  told.nameservers.insert(told.nameservers.begin(), two);
  view.Note(told, 9'000);
  CHECK_NE(view.Json("{}", 8'999).find("\"age_ms\":0,"), std::string::npos);
  CHECK_NE(view.Json("{}", 9'000).find("\"live\":18"), std::string::npos);
}
