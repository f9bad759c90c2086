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
