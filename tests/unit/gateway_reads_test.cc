// The gateway's answers to readers, through its sockets: what caches and browsers are told.
#include "tests/unit/gateway_fixture.h"

using namespace hayloft;

namespace {

const std::string kUnknownFile = "/AAAAAAAAAAAAAAAAAA";

}  // namespace

TEST_CASE("gateway_reads: how long an answer may be kept follows the options, errors never long") {
  GatewayFixture gateway([](GatewayConfig* config) {
    config->options.max_age_s = 60;
    config->options.stale_if_error_s = 600;
    config->options.not_found_max_age_s = 5;
  });
  const std::string id = gateway.UploadId(NoiseBytes(1000));
  RawHttp client = gateway.Connect();
  const auto cache_control = [&](const std::string& path, const std::string& headers, int status) {
    const RawAnswer answer = client.Ask(GatewayFixture::Get(path, headers));
    CHECK_EQ(answer.status, status);
    return answer["cache-control"];
  };
  const std::string kept = "public, max-age=60, immutable, stale-if-error=600";
  CHECK_EQ(cache_control("/" + id, "", 200), kept);
  CHECK_EQ(cache_control("/" + id, "Range: bytes=0-9\r\n", 206), kept);
  CHECK_EQ(cache_control("/" + id, "If-None-Match: *\r\n", 304), kept);
  CHECK_EQ(cache_control(kUnknownFile, "", 404), "public, max-age=5");
  // These say nothing of the file itself.
  CHECK_EQ(cache_control("/x", "", 400), "no-store");
  CHECK_EQ(cache_control("/favicon.ico", "", 404), "no-store");
  CHECK_EQ(cache_control("/" + id, "If-Match: \"x\"\r\n", 412), "no-store");
  CHECK_EQ(cache_control("/" + id, "Range: bytes=1000-\r\n", 416), "no-store");
  gateway.cluster.read_err.store(Err::kUnsupported);
  const RawAnswer failed = client.Ask(GatewayFixture::Get("/" + id));
  CHECK_GE(failed.status, 500);
  CHECK_EQ(failed["cache-control"], "no-store");
}

TEST_CASE("gateway_reads: pages of any origin may read; those that are listed may upload") {
  GatewayFixture gateway(
      [](GatewayConfig* config) { config->options.cors_origins = "https://a.example"; });
  const std::string id = gateway.UploadId(NoiseBytes(1000));
  RawHttp client = gateway.Connect();
  const std::string foreign = "Origin: https://x.example\r\n";
  for (const std::string& headers : {foreign, std::string(), std::string("If-None-Match: *\r\n"),
                                     std::string("Range: bytes=1000-\r\n")}) {
    const RawAnswer answer = client.Ask(GatewayFixture::Get("/" + id, headers));
    CHECK_EQ(answer["access-control-allow-origin"], "*");
    CHECK_EQ(answer["access-control-allow-credentials"], "");
    CHECK_EQ(answer["vary"], "");
  }
  CHECK_EQ(client.Ask(GatewayFixture::Get(kUnknownFile))["access-control-allow-origin"], "*");
  CHECK_EQ(client.Ask(GatewayFixture::Get("/healthz"))["access-control-allow-origin"], "");
  const auto options = [&](const std::string& path, const std::string& headers) {
    return client.Ask("OPTIONS " + path + " HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n");
  };
  const RawAnswer plain = options("/" + id, "");
  CHECK_EQ(plain.status, 204);
  CHECK_EQ(plain["allow"], "GET, HEAD, OPTIONS");
  CHECK_EQ(plain["access-control-allow-origin"], "");
  CHECK_EQ(options("*", "")["allow"], "GET, HEAD, POST, DELETE, OPTIONS");
  CHECK_EQ(options("/x", "").status, 400);
  const std::string wants = "Access-Control-Request-Method: POST\r\n";
  CHECK_EQ(options("/" + id, foreign + wants)["access-control-allow-methods"], "GET, HEAD");
  CHECK_EQ(options("/v1/files", foreign + wants)["access-control-allow-origin"], "");
  const std::string listed = "Origin: https://a.example\r\n";
  CHECK_EQ(options("/v1/files", listed + wants)["access-control-allow-origin"],
           "https://a.example");
  const RawAnswer stored = client.Ask(GatewayFixture::Post("hello", listed));
  CHECK_EQ(stored.status, 201);
  CHECK_EQ(stored["access-control-allow-origin"], "https://a.example");
  CHECK_EQ(stored["vary"], "Origin");
  const RawAnswer refused = gateway.Connect().Ask(GatewayFixture::Post("hello", foreign));
  CHECK_EQ(refused.status, 421);  // "h" could be anyone's name
  CHECK_EQ(refused["access-control-allow-origin"], "");
}
