// Which pages may show files: the host that a Referer names, read strictly.
#include "gateway/referer_list.h"

#include <doctest/doctest.h>

#include "gateway/gateway_options.h"
#include "tests/unit/gateway_fixture.h"

using namespace hayloft;

namespace {

bool Allowed(const std::string& headers, const std::string& host = "files.example",
             bool needed = false) {
  const BrowserGuard own("files.example");
  const RefererList list("www.example, Shop.Example,*.Cdn.example", "files.example", needed);
  const std::string bytes = "GET /x HTTP/1.1\r\nHost: " + host + "\r\n" + headers + "\r\n";
  HttpRequest request;
  REQUIRE_EQ(ParseHttpRequest(bytes, 0, &request).kind, HttpParsed::Kind::kRequest);
  return list.Allows(request, own);
}

bool AllowedFrom(const std::string& referer, const std::string& host = "files.example") {
  return Allowed("Referer: " + referer + "\r\n", host);
}

}  // namespace

TEST_CASE("referer_list: listed hosts, with any port, path and case") {
  for (const char* referer :
       {"http://www.example", "https://www.example/", "https://www.example:8443/a?b#c",
        "HTTPS://WWW.Example/x", "http://shop.example./", "http://a.cdn.example/",
        "http://a.b.cdn.example", "http://www.example?x", "http://www.example:/",
        "https://files.example/gallery", "http://www.example/http://evil.example@x"}) {
    CAPTURE(referer);
    CHECK(AllowedFrom(referer));
  }
}

TEST_CASE("referer_list: what only looks like a listed host is refused") {
  for (const char* referer : {"http://evil.example/",
                              "http://www.example@evil.example/",
                              "http://www.example:80@evil/",
                              "http://evil@www.example/",
                              "http://:@www.example/",
                              "http://www.example.evil.example/",
                              "http://evilwww.example/",
                              "http://cdn.example/",
                              "http://xcdn.example/",
                              "http://.cdn.example/",
                              "http://evil.example/?http://www.example/",
                              "http://evil.example#www.example",
                              "http://evil.example\\@www.example/",
                              "http://www.example\\.evil.example/",
                              "http://www.example\t.evil.example/",
                              "http://www.example:80:80/",
                              "http://www.example:123456/",
                              "http://www.example:8o/",
                              "http://www.example../",
                              "http://www..example/",
                              "http://www.example%2eevil.example/",
                              "http://www%2eexample/",
                              "http://www.example,evil.example/",
                              "http:///www.example/",
                              "http:/www.example/",
                              "http:www.example",
                              "//www.example/",
                              "www.example",
                              "/",
                              "http://",
                              "ftp://www.example/",
                              "javascript://www.example/",
                              "file://www.example/",
                              "data:,x",
                              "android-app://www.example/",
                              "about:blankx",
                              "null",
                              "http://w\xc3\xa4w.example/",
                              "http://[www.example]/",
                              "http://[::1/",
                              "http://127.0.0.1/",
                              "http://localhost/",
                              "http://[::1]/"}) {
    CAPTURE(referer);
    CHECK_FALSE(AllowedFrom(referer));
  }
  CHECK_FALSE(Allowed("Referer: http://www.example/\r\nReferer: http://evil.example/\r\n"));
  CHECK_FALSE(Allowed("Referer: http://www.example/\r\nReferer: http://www.example/\r\n"));
  CHECK_FALSE(AllowedFrom("http://" + std::string(256, 'a') + ".cdn.example/"));
}

TEST_CASE("referer_list: the gateway's own page is known by its Host, if no DNS can make that") {
  CHECK(AllowedFrom("http://127.0.0.1:8080/", "127.0.0.1:8080"));
  CHECK(AllowedFrom("http://localhost:8080/", "LOCALHOST:8080"));
  CHECK(AllowedFrom("http://[::1]:8080/", "[::1]:8080"));
  CHECK_FALSE(AllowedFrom("http://10.0.0.1/", "127.0.0.1:8080"));
  CHECK_FALSE(AllowedFrom("http://evil.example/", "evil.example"));
}

TEST_CASE("referer_list: who says nothing is let in, unless that is switched off") {
  for (const char* headers : {"", "Referer:\r\n", "Referer: about:blank\r\n"}) {
    CAPTURE(headers);
    CHECK(Allowed(headers));
    CHECK_FALSE(Allowed(headers, "files.example", /*needed=*/true));
  }
  CHECK(Allowed("Referer: http://www.example/\r\n", "h", /*needed=*/true));
}

TEST_CASE("referer_list: the option's value is checked at the start") {
  for (const char* fine : {"", "www.example", "a.example, *.b.example", "xn--bcher-kva.example",
                           "10.0.0.1", "*.example", ","}) {
    CAPTURE(fine);
    CHECK_EQ(ReferersFault(fine), "");
  }
  for (const char* wrong : {"http://www.example", "www.example/", "www.example:80", "*", "*.",
                            "a.*.example", "**.example", "a b", "www.example.", ".example",
                            "b\xc3\xbc"
                            "cher.example",
                            "[::1]"}) {
    CAPTURE(wrong);
    CHECK_NE(ReferersFault(wrong), "");
  }
  GatewayOptions options;
  options.nameservers = "127.0.0.1:1";
  options.cluster_key_file = "x";
  CHECK_EQ(options.Fault(), "");
  options.referer_needed = true;
  CHECK_EQ(options.Fault(), "referer_needed: of which referers?");
  options.referers = "www.example";
  CHECK_EQ(options.Fault(), "");
}

TEST_CASE("gateway: a page of another host gets no file, and no cache keeps that") {
  GatewayFixture gateway([](GatewayConfig* config) { config->options.referers = "www.example"; });
  const std::string id = gateway.UploadId("bytes", "Referer: http://evil.example/\r\n");
  RawHttp client = gateway.Connect();
  const std::string evil = "Referer: http://evil.example/\r\n";
  for (const std::string& path : {"/" + id, "/" + id + ".png?download"}) {
    const RawAnswer refused = client.Ask(GatewayFixture::Get(path, evil));
    CHECK_EQ(refused.status, 403);
    CHECK_EQ(GatewayFixture::Member(refused.body, "error"), "referer_refused");
    CHECK_EQ(refused["cache-control"], "no-store");
  }
  // On the same connection. One URL has one content for caches: whom they serve is theirs to say.
  const RawAnswer shown =
      client.Ask(GatewayFixture::Get("/" + id, "Referer: http://www.example/a\r\n"));
  CHECK_EQ(shown.status, 200);
  CHECK_EQ(shown["vary"], "");
  CHECK_EQ(client.Ask(GatewayFixture::Get("/" + id)).status, 200);
  CHECK_EQ(client.Ask(GatewayFixture::Get("/healthz", evil)).status, 200);
  CHECK_EQ(client.Ask(GatewayFixture::Get("/v1/files/" + id, evil)).status, 200);
  CHECK_EQ(gateway.server.shared().metrics.referer_refused_total.value(), 2);
}
