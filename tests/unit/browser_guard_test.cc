#include "gateway/browser_guard.h"

#include <doctest/doctest.h>

#include "gateway/gateway_options.h"
#include "tests/unit/gateway_fixture.h"

using namespace hayloft;
using Judgement = BrowserVerdict;

namespace {

const BrowserGuard& Guard() {
  static const BrowserGuard guard("images.example,Other.Example");
  return guard;
}

// The verdict on a request of these header lines, each of which ends in CRLF.
BrowserVerdict Judge(const std::string& headers, bool page = false) {
  const std::string text = "POST /v1/files HTTP/1.0\r\n" + headers + "\r\n";
  HttpRequest request;
  REQUIRE_EQ(ParseHttpRequest(text, 0, &request).kind, HttpParsed::Kind::kRequest);
  const CorsPolicy cors("https://www.example,http://127.0.0.1:9000", /*open_reads=*/true);
  return page ? Guard().CheckPage(request) : Guard().CheckWrite(request, cors);
}

}  // namespace

TEST_CASE("browser_guard: what cannot be rebound is an IP address, localhost or listed (S24)") {
  for (const char* host :
       {"127.0.0.1", "127.0.0.1:8080", "10.1.2.255", "[::1]", "[::1]:8080", "[fe80::1]",
        "localhost", "LocalHost:80", "images.example", "IMAGES.example:8443", "other.example"}) {
    CAPTURE(host);
    CHECK(Guard().CannotBeRebound(host));
  }
  for (const char* host : {"",
                           "evil.example",
                           "images.example.evil.example",
                           "ximages.example",
                           "images.example.",
                           "127.0.0.1.evil.example",
                           "127.0.0",
                           "127.0.0.1.",
                           "127.0.0.256",
                           "127.0.0.01",
                           "0x7f.0.0.1",
                           "1.2.3.4.5",
                           "127.0.0.1:80:80",
                           "localhost:x",
                           "localhost.evil.example",
                           "xlocalhost",
                           "[::1",
                           "::1",
                           "[evil.example]",
                           "[]",
                           "h"}) {
    CAPTURE(host);
    CHECK_FALSE(Guard().CannotBeRebound(host));
  }
}

TEST_CASE("browser_guard: who may change something (S24)") {
  const std::string own = "Host: 127.0.0.1:8080\r\n";
  const struct {
    std::string headers;
    BrowserVerdict verdict;
  } rows[] = {
      // Programs say neither Origin nor Sec-Fetch-Site; their Host is not looked at.
      {"", Judgement::kAllowed},
      {own, Judgement::kAllowed},
      {"Host: evil.example\r\n", Judgement::kAllowed},
      {"Host: evil.example\r\nReferer: http://evil.example/\r\n", Judgement::kAllowed},
      // The gateway's own page.
      {own + "Origin: http://127.0.0.1:8080\r\n", Judgement::kAllowed},
      {own + "Origin: http://127.0.0.1:8080\r\nSec-Fetch-Site: same-origin\r\n",
       Judgement::kAllowed},
      {own + "Sec-Fetch-Site: same-origin\r\n", Judgement::kAllowed},
      {"Host: images.example\r\nOrigin: https://images.example\r\n", Judgement::kAllowed},
      {"Host: images.example:443\r\nOrigin: https://images.example\r\n", Judgement::kAllowed},
      {"Host: Images.Example\r\nOrigin: https://images.example:443\r\n", Judgement::kAllowed},
      {"Host: [::1]:8080\r\nOrigin: http://[::1]:8080\r\n", Judgement::kAllowed},
      // Another site's, be it on the same machine.
      {own + "Origin: http://evil.example\r\n", Judgement::kForeignPage},
      {own + "Origin: http://127.0.0.1:8081\r\n", Judgement::kForeignPage},
      {own + "Origin: http://127.0.0.1\r\n", Judgement::kForeignPage},
      {own + "Origin: http://localhost:8080\r\n", Judgement::kForeignPage},
      {own + "Origin: null\r\n", Judgement::kForeignPage},
      {own + "Origin: \r\n", Judgement::kForeignPage},
      {own + "Origin: file://\r\n", Judgement::kForeignPage},
      {own + "Origin: http://127.0.0.1:8080/\r\n", Judgement::kForeignPage},
      {own + "Origin: http://x@127.0.0.1:8080\r\n", Judgement::kForeignPage},
      {own + "Origin: 127.0.0.1:8080\r\n", Judgement::kForeignPage},
      {own + "Sec-Fetch-Site: cross-site\r\n", Judgement::kForeignPage},
      {own + "Sec-Fetch-Site: same-site\r\n", Judgement::kForeignPage},
      {own + "Sec-Fetch-Site: none\r\n", Judgement::kForeignPage},
      {own + "Sec-Fetch-Site: \r\n", Judgement::kForeignPage},
      {own + "Origin: http://127.0.0.1:8080\r\nSec-Fetch-Site: cross-site\r\n",
       Judgement::kForeignPage},
      {own + "Origin: http://evil.example\r\nSec-Fetch-Site: same-origin\r\n",
       Judgement::kForeignPage},
      {own + "Origin: http://127.0.0.1:8080\r\nOrigin: http://evil.example\r\n",
       Judgement::kForeignPage},
      {own + "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n",
       Judgement::kForeignPage},
      // A name that was rebound: its page takes itself for the gateway's own.
      {"Host: evil.example\r\nOrigin: http://evil.example\r\n", Judgement::kWrongHost},
      {"Host: evil.example\r\nSec-Fetch-Site: same-origin\r\n", Judgement::kWrongHost},
      {"Origin: http://evil.example\r\n", Judgement::kWrongHost},
      // Listed, by whatever name the gateway is reached.
      {own + "Origin: https://www.example\r\nSec-Fetch-Site: cross-site\r\n", Judgement::kAllowed},
      {"Host: cdn.example\r\nOrigin: https://www.example\r\n", Judgement::kAllowed},
      {own + "Origin: http://127.0.0.1:9000\r\nSec-Fetch-Site: same-site\r\n", Judgement::kAllowed},
      {own + "Origin: http://www.example\r\n", Judgement::kForeignPage},
      {own + "Origin: https://www.example.evil.example\r\n", Judgement::kForeignPage},
      {own + "Origin: https://www.example\r\nOrigin: https://www.example\r\n",
       Judgement::kForeignPage},
  };
  for (const auto& row : rows) {
    CAPTURE(row.headers);
    CHECK_EQ(Judge(row.headers), row.verdict);
  }
}

TEST_CASE("browser_guard: a page is shown by a name that cannot be rebound only (S24)") {
  CHECK_EQ(Judge("Host: 127.0.0.1:8080\r\n", true), Judgement::kAllowed);
  CHECK_EQ(Judge("Host: images.example\r\nSec-Fetch-Site: cross-site\r\n", true),
           Judgement::kAllowed);  // somebody followed a link
  CHECK_EQ(Judge("Host: evil.example\r\n", true), Judgement::kWrongHost);
  CHECK_EQ(Judge("", true), Judgement::kWrongHost);
}

TEST_CASE("browser_guard: options that could match nothing are refused") {
  CHECK_EQ(HostsFault("images.example,localhost"), "");
  CHECK_EQ(OriginsFault("https://www.example,http://127.0.0.1:9000"), "");
  for (const char* hosts : {"http://images.example", "images.example:80", "*", "*.example", "[::1]",
                            "a b", "ok.example,x/y"}) {
    CAPTURE(hosts);
    CHECK_NE(HostsFault(hosts), "");
  }
  for (const char* origins : {"*", "www.example", "https://www.example/", "https://", "null",
                              "ftp://x", "https://*.example", "https://ok.example,x"}) {
    CAPTURE(origins);
    CHECK_NE(OriginsFault(origins), "");
  }
  GatewayOptions options;
  options.nameservers = options.cluster_key_file = "x";
  CHECK_EQ(options.Fault(), "");
  options.cors_origins = "*";
  CHECK(options.Fault().starts_with("cors_origins: "));
  options.hosts = "*";
  CHECK(options.Fault().starts_with("hosts: "));
}

TEST_CASE("browser_guard: a foreign page neither uploads, deletes nor undeletes (S24)") {
  GatewayFixture fixture;
  const std::string stored = fixture.Upload(NoiseBytes(100)).body;
  const std::string path = "/v1/files/" + GatewayFixture::Member(stored, "id");
  const std::string token =
      "Hayloft-Delete-Token: " + GatewayFixture::Member(stored, "delete_token") + "\r\n";
  const std::string foreign = "Origin: http://evil.example\r\n";
  const std::string rebound = "Host: evil.example\r\nOrigin: http://evil.example\r\n";
  const auto ask = [&](const std::string& line, const std::string& headers) {
    return fixture.Connect().Ask(line + " HTTP/1.1\r\n" + headers + "\r\n");
  };
  const std::string own = "Host: " + fixture.server.address() + "\r\n";
  const uint64_t appends = fixture.cluster.appends;
  for (const std::string& line :
       {std::string("POST /v1/files"), "DELETE " + path, "POST " + path + "/undelete"}) {
    CAPTURE(line);
    const std::string body = "Content-Length: 50\r\n";  // which is not waited for
    const RawAnswer cross = ask(line, own + foreign + token + body);
    CHECK_EQ(cross.status, 403);
    CHECK_EQ(GatewayFixture::Member(cross.body, "error"), "foreign_page");
    const RawAnswer named = ask(line, rebound + token + body);
    CHECK_EQ(named.status, 421);
    CHECK_EQ(GatewayFixture::Member(named.body, "error"), "wrong_host");
    CHECK_EQ(named["cache-control"], "no-store");
  }
  CHECK_EQ(fixture.cluster.appends, appends);
  CHECK_EQ(fixture.server.shared().metrics.foreign_total.value(), 6);
  // Reads and programs are as free as ever; the file is still there.
  const std::string id = GatewayFixture::Member(stored, "id");
  CHECK_EQ(ask("GET /" + id, rebound).status, 200);
  CHECK_EQ(ask("DELETE " + path, "Host: evil.example\r\n" + token).status, 204);
  const std::string self = own + "Origin: http://" + fixture.server.address() + "\r\n";
  CHECK_EQ(ask("POST " + path + "/undelete", self + token).status, 200);
}
