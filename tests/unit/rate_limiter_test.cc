// Token buckets by a clock of the test's own, and who a client is behind proxies.
#include "gateway/rate_limiter.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>

#include <sstream>
#include <string>

#include "gateway/trusted_proxies.h"
#include "tests/unit/gateway_fixture.h"
#include "tests/unit/parsed_get.h"

using namespace hayloft;

namespace {

RateKey KeyOf(uint32_t number) {
  return RateKeyOf(PeerAddress::OfV4(
      {static_cast<uint8_t>(number >> 24), static_cast<uint8_t>(number >> 16 & 0xff),
       static_cast<uint8_t>(number >> 8 & 0xff), static_cast<uint8_t>(number & 0xff)}));
}

const RateKey kA = KeyOf(1);
const RateKey kB = KeyOf(2);
constexpr uint64_t kStartMs = 1'000'000;

RateTable Requests(uint64_t per_s, size_t entries_max = 100) {
  return RateTable({.requests_per_s = per_s}, entries_max, /*seed=*/7);
}

RateTable UploadBytes(uint64_t per_s, uint64_t file_max) {
  return RateTable({.upload_bytes_per_s = per_s, .upload_bytes_max = file_max}, 100, /*seed=*/7);
}

PeerAddress Peer(std::string_view text) {
  const std::optional<PeerAddress> peer = PeerAddress::Parse(text);
  REQUIRE(peer.has_value());
  return *peer;
}

std::optional<PeerAddress> BySystem(const std::string& text) {
  PeerAddress peer;
  std::array<uint8_t, 4> v4{};
  if (::inet_pton(AF_INET6, text.c_str(), peer.bytes.data()) == 1) return peer;
  if (::inet_pton(AF_INET, text.c_str(), v4.data()) == 1) return PeerAddress::OfV4(v4);
  return std::nullopt;
}

}  // namespace

TEST_CASE("rate_limiter: a burst of two seconds, then exactly the rate, for any rate") {
  for (const uint64_t rate : {1, 3, 7, 10, 999, 1'000, 1'001, 30'007}) {
    CAPTURE(rate);
    RateTable table = Requests(rate);
    for (uint64_t i = 0; i < 2 * rate; ++i) REQUIRE_EQ(table.TakeRequest(kA, kStartMs), 0);
    CHECK_GT(table.TakeRequest(kA, kStartMs), 0);
    // Asked every millisecond for 100 s: not one more, not one less, whatever does not divide.
    uint64_t allowed = 0;
    for (uint64_t ms = 1; ms <= 100'000; ++ms) {
      while (table.TakeRequest(kA, kStartMs + ms) == 0) ++allowed;
    }
    CHECK_EQ(allowed, 100 * rate);
  }
}

TEST_CASE("rate_limiter: the time that it tells is the first at which it is allowed") {
  for (const uint64_t rate : {1, 3, 7, 400, 1'000'000}) {
    CAPTURE(rate);
    RateTable table = Requests(rate);
    uint64_t now_ms = kStartMs;
    for (int i = 0; i < 50; ++i) {
      while (table.TakeRequest(kA, now_ms) == 0) continue;
      const uint64_t wait_ms = table.TakeRequest(kA, now_ms);
      REQUIRE_GT(wait_ms, 0);
      if (wait_ms > 1) CHECK_GT(table.TakeRequest(kA, now_ms + wait_ms - 1), 0);
      now_ms += wait_ms;
      CHECK_EQ(table.TakeRequest(kA, now_ms), 0);
    }
  }
}

TEST_CASE("rate_limiter: one client's flood takes nothing from another, nor from its own future") {
  RateTable table = Requests(10);
  uint64_t served = 0;
  for (uint64_t ms = 0; ms < 10'000; ++ms) {
    for (int i = 0; i < 50; ++i) served += table.TakeRequest(kA, kStartMs + ms) == 0 ? 1u : 0u;
    if (ms % 100 == 0) CHECK_EQ(table.TakeRequest(kB, kStartMs + ms), 0);
  }
  CHECK_EQ(served, 20 + 99);  // refused ones cost nothing: the rate goes on
}

TEST_CASE("rate_limiter: the table has a bound; who is in it keeps what is his") {
  RateTable table = Requests(1, /*entries_max=*/64);
  for (uint32_t i = 0; i < 64; ++i) CHECK_EQ(table.TakeRequest(KeyOf(i), kStartMs), 0);
  // Newcomers share one bucket: two tokens in all.
  int served = 0;
  for (uint32_t i = 1'000; i < 2'000; ++i) served += table.TakeRequest(KeyOf(i), kStartMs) == 0;
  CHECK_EQ(served, 2);
  CHECK_EQ(table.entries(), 64);
  for (uint32_t i = 0; i < 64; ++i) CHECK_EQ(table.TakeRequest(KeyOf(i), kStartMs), 0);
  for (uint32_t i = 0; i < 64; ++i) CHECK_GT(table.TakeRequest(KeyOf(i), kStartMs), 0);
  // Later their buckets are full, and are as good as none.
  const uint64_t later_ms = kStartMs + 2'000;
  served = 0;
  for (uint32_t i = 1'000; i < 1'064; ++i) served += table.TakeRequest(KeyOf(i), later_ms) == 0;
  CHECK_EQ(served, 64);
  CHECK_EQ(table.entries(), 64);
  CHECK_EQ(table.TakeRequest(KeyOf(1'000), later_ms), 0);
  CHECK_GT(table.TakeRequest(KeyOf(1'000), later_ms), 0);
}

TEST_CASE("rate_limiter: a million strangers leave it as large as it may be") {
  RateTable table = Requests(5, /*entries_max=*/4'096);
  for (uint32_t i = 0; i < 1'000'000; ++i) (void)table.TakeRequest(KeyOf(i), kStartMs + i / 1'000);
  CHECK_EQ(table.entries(), 4'096);
}

TEST_CASE("rate_limiter: a clock that jumps or steps back brings nothing that is not due") {
  RateTable table = Requests(kRateRequestsMax);
  REQUIRE_EQ(table.TakeRequest(kA, UINT64_MAX - 10), 0);
  for (uint64_t i = 1; i < 2 * kRateRequestsMax; ++i) (void)table.TakeRequest(kA, UINT64_MAX - 10);
  CHECK_GT(table.TakeRequest(kA, UINT64_MAX - 10), 0);
  CHECK_GT(table.TakeRequest(kA, 0), 0);
  CHECK_GT(table.TakeRequest(kA, UINT64_MAX - 10), 0);
  CHECK_EQ(table.TakeRequest(kA, UINT64_MAX), 0);
  RateTable fresh = Requests(1);
  CHECK_EQ(fresh.TakeRequest(kA, 0), 0);
  CHECK_EQ(fresh.TakeRequest(kA, UINT64_MAX), 0);
  CHECK_EQ(fresh.TakeRequest(kA, UINT64_MAX), 0);
  CHECK_EQ(fresh.TakeRequest(kA, UINT64_MAX), 1'000);
}

TEST_CASE("rate_limiter: an upload that has begun comes through, the next one waits") {
  RateTable table = UploadBytes(1'000, /*file_max=*/50'000);
  CHECK_EQ(table.BeginUpload(kA, kStartMs), 0);
  CHECK_EQ(table.TakeBytes(kA, 50'000, kStartMs), 0);  // the bucket is empty now
  CHECK_EQ(table.BeginUpload(kA, kStartMs), 0);
  for (int i = 0; i < 5; ++i) CHECK_EQ(table.TakeBytes(kA, 10'000, kStartMs), 0);
  CHECK_EQ(table.BeginUpload(kA, kStartMs), 50'000);
  CHECK_GT(table.TakeBytes(kA, 1, kStartMs), 0);  // one that ran beside it is cut
  CHECK_GT(table.BeginUpload(kA, kStartMs + 49'999), 0);
  CHECK_EQ(table.BeginUpload(kA, kStartMs + 50'000), 0);
  CHECK_EQ(table.BeginUpload(kB, kStartMs), 0);
  CHECK_EQ(table.TakeRequest(kA, kStartMs), 0);  // requests have no limit here
}

TEST_CASE("rate_limiter: bytes beyond all measure are the bound, no overflow") {
  RateTable table = UploadBytes(kRateBytesMax, kRateBytesMax);
  CHECK_EQ(table.TakeBytes(kA, UINT64_MAX, 0), 1'000);
  CHECK_EQ(table.TakeBytes(kA, UINT64_MAX, 0), 1'000);
  CHECK_EQ(table.BeginUpload(kA, 0), 1'000);
  CHECK_EQ(table.BeginUpload(kA, UINT64_MAX), 0);
  CHECK_EQ(table.TakeBytes(kA, 3 * kRateBytesMax, UINT64_MAX), 0);
  CHECK_GT(table.TakeBytes(kA, 1, UINT64_MAX), 0);
  RateTable slow = UploadBytes(1, kRateBytesMax);
  CHECK_EQ(slow.TakeBytes(kA, UINT64_MAX, 5), kRateBytesMax * 1'000);
}

TEST_CASE("rate_limiter: IPv6 counts by /64, names by themselves") {
  CHECK_EQ(RateKeyOf(Peer("2001:db8::1")), RateKeyOf(Peer("2001:db8::ffff:0:0:2")));
  CHECK_NE(RateKeyOf(Peer("2001:db8::1")), RateKeyOf(Peer("2001:db8:0:1::1")));
  CHECK_EQ(RateKeyOf(Peer("::ffff:1.2.3.4")), RateKeyOf(Peer("1.2.3.4")));
  CHECK_NE(RateKeyOf(Peer("1.2.3.4")), RateKeyOf(Peer("1.2.3.5")));
  CHECK_NE(RateKeyOfName("a"), RateKeyOfName("b"));
}

TEST_CASE("peer_address: text is read as inet_pton reads it") {
  std::istringstream texts(
      "1.2.3.4 255.255.255.255 0.0.0.0 256.1.1.1 1.2.3 1.2.3.4.5 1..2.3 .1.2.3 1.2.3. 0x1.2.3.4 "
      "01.2.3.4 1.2.3.-4 1.2.3.+4 :: ::1 1:: 1:2:3:4:5:6:7:8 1:2:3:4:5:6:7 1:2:3:4:5:6:7:8:9 "
      "1:2:3:4:5:6:7:: ::2:3:4:5:6:7:8 1:2:3:4::5:6:7:8 1::2::3 ::: :1 1: 12345:: g:: ::1.2.3.4 "
      "::ffff:1.2.3.4 1:2:3:4:5:6:1.2.3.4 1:2:3:4:5:6:7:1.2.3.4 1.2.3.4:: ::1.2.3 ::1.2.3.4:5 "
      "fe80::1%eth0 [::1] ::1/64 1.2.3.4:80 ABCD::EF ::-1 ::+1 ::0x1 2001:db8::1 1:::2 ::1: a "
      "unknown _hidden");
  for (std::string text; texts >> text;) {
    CAPTURE(text);
    CHECK_EQ(PeerAddress::Parse(text), BySystem(text));
  }
  for (const std::string& text :
       {std::string(), std::string("1.2.3.4 "), std::string(" ::1"), std::string("1.2.3.4\0", 8)}) {
    CHECK_FALSE(PeerAddress::Parse(text).has_value());
  }
  uint64_t state = 88'172'645'463'325'252;
  for (int i = 0; i < 20'000; ++i) {  // what is made of few letters is often nearly an address
    std::string text;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    for (uint64_t bits = state; bits > 0; bits >>= 4) text.push_back("0123:::::..afF1:"[bits & 15]);
    CAPTURE(text);
    REQUIRE_EQ(PeerAddress::Parse(text), BySystem(text));
  }
}

TEST_CASE("trusted_proxies: the client is the last entry that no trusted proxy wrote (S19)") {
  const TrustedProxies proxies("10.0.0.0/8, 192.0.2.7, 2001:db8::/32");
  const auto client = [&](std::string_view peer, const std::string& headers) {
    return proxies.ClientOf(Peer(peer), *ParsedGet(headers).request).Text();
  };
  const auto forwarded = [&](std::string_view peer, const std::string& list) {
    return client(peer, "X-Forwarded-For: " + list + "\r\n");
  };
  CHECK_EQ(forwarded("10.0.0.1", "198.51.100.7"), "198.51.100.7");
  CHECK_EQ(forwarded("10.0.0.1", "6.6.6.6, 198.51.100.7"), "198.51.100.7");
  CHECK_EQ(forwarded("10.0.0.1", "6.6.6.6,198.51.100.7 ,\t10.9.9.9, 192.0.2.7"), "198.51.100.7");
  CHECK_EQ(forwarded("2001:db8::5", "6.6.6.6, 2001:db9::1"), "2001:db9::1");
  CHECK_EQ(client("10.0.0.1", "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 198.51.100.7\r\n"),
           "198.51.100.7");
  CHECK_EQ(
      client("10.0.0.1", "X-Forwarded-For: 6.6.6.6, 198.51.100.7\r\nX-Forwarded-For: 10.2.2.2\r\n"),
      "198.51.100.7");
  // An attacker's own words, from where nobody is trusted.
  CHECK_EQ(forwarded("198.51.100.7", "10.0.0.1"), "198.51.100.7");
  CHECK_EQ(forwarded("192.0.2.8", "6.6.6.6"), "192.0.2.8");
  CHECK_EQ(client("10.0.0.1", "Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n"), "10.0.0.1");
  // What is no address: the proxy that let it through counts.
  for (const char* list :
       {"unknown", "6.6.6.6, unknown", "6.6.6.6, ", ",", "6.6.6.6, 1.2.3.4:80", "6.6.6.6, [::1]",
        "6.6.6.6; 1.2.3.4", "6.6.6.6 1.2.3.4", "\"1.2.3.4\""}) {
    CAPTURE(list);
    CHECK_EQ(forwarded("10.0.0.1", list), "10.0.0.1");
  }
  CHECK_EQ(forwarded("10.0.0.1", "6.6.6.6, x, 10.0.0.2"), "10.0.0.2");
  // All are trusted: the farthest of them.
  CHECK_EQ(forwarded("10.0.0.1", "10.0.0.9, 10.0.0.2"), "10.0.0.9");
  CHECK_EQ(TrustedProxies("").ClientOf(Peer("10.0.0.1"),
                                       *ParsedGet("X-Forwarded-For: 6.6.6.6\r\n").request),
           Peer("10.0.0.1"));
}

TEST_CASE("trusted_proxies: ranges are checked at the start") {
  for (const char* fine : {"", "10.0.0.1", "10.0.0.0/8, ::1", "2001:db8::/32", "0.0.0.0/0", "::/0",
                           "192.0.2.7/32", "::1/128"}) {
    CAPTURE(fine);
    CHECK_EQ(ProxiesFault(fine), "");
  }
  for (const char* wrong : {"cdn.example", "10.0.0.1/8", "10.0.0.0/33", "::/129", "10.0.0.0/",
                            "10.0.0.0/-1", "10.0.0.0/8x", "/8", "10.0.0", "2001:db8::1/32"}) {
    CAPTURE(wrong);
    CHECK_NE(ProxiesFault(wrong), "");
  }
  // All of IPv4 is not all of IPv6.
  CHECK_FALSE(TrustedProxies("0.0.0.0/0").Trusts(Peer("2001:db8::1")));
  CHECK(TrustedProxies("0.0.0.0/0").Trusts(Peer("1.2.3.4")));
}

TEST_CASE(
    "gateway: too many requests are 429 on a connection that goes on, health is not counted") {
  GatewayFixture gateway(
      [](GatewayConfig* config) { config->options.requests_per_s_per_address = 1; });
  RawHttp client = gateway.Connect();
  const std::string get = GatewayFixture::Get("/AAAAAAAAAAAAAAAAAA");
  int refused = 0;
  for (int i = 0; i < 6; ++i) {
    const RawAnswer answer = client.Ask(get);
    if (answer.status == 404) continue;
    ++refused;
    CHECK_EQ(answer.status, 429);
    CHECK_EQ(GatewayFixture::Member(answer.body, "error"), "rate_limited");
    CHECK_EQ(answer["retry-after"], "1");
    CHECK_EQ(answer["cache-control"], "no-store");
    CHECK_EQ(answer["connection"], "");
    CHECK_EQ(answer["access-control-allow-origin"], "*");
  }
  CHECK_GE(refused, 2);
  for (int i = 0; i < 20; ++i) CHECK_EQ(client.Ask(GatewayFixture::Get("/healthz")).status, 200);
  CHECK_EQ(gateway.server.shared().metrics.rate_limited_total.value(), refused);
  // The loopback is nobody's proxy here.
  CHECK_EQ(
      client.Ask(GatewayFixture::Get("/AAAAAAAAAAAAAAAAAA", "X-Forwarded-For: 6.6.6.6\r\n")).status,
      429);
}

TEST_CASE("gateway: one file comes through, then uploads wait, raw ones and forms") {
  GatewayFixture gateway([](GatewayConfig* config) {
    config->options.upload_bytes_max = 20'000;
    config->options.upload_bytes_per_s_per_address = 1'000;
  });
  gateway.Upload(std::string(20'000, 'a'));
  gateway.Upload(std::string(20'000, 'b'));
  const RawAnswer refused = gateway.Connect().Ask(GatewayFixture::Post("c"));
  CHECK_EQ(refused.status, 429);
  const int wait_s = std::stoi(refused["retry-after"]);
  CHECK_GE(wait_s, 10);
  CHECK_LE(wait_s, 20);
  // Before the body, where the client waits for that.
  RawHttp waiting = gateway.Connect();
  CHECK_EQ(waiting
               .Ask("POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n"
                    "Expect: 100-continue\r\n\r\n")
               .status,
           429);
  CHECK_EQ(gateway.Connect().Ask(GatewayFixture::Get("/AAAAAAAAAAAAAAAAAA")).status, 404);
}

TEST_CASE("gateway: a form that brings too much is cut, and told what of it is stored") {
  GatewayFixture gateway([](GatewayConfig* config) {
    config->options.upload_bytes_max = 20'000;
    config->options.upload_bytes_per_s_per_address = 1'000;
  });
  std::string form;
  for (int i = 0; i < 8; ++i) {
    form += "--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n" +
            std::string(10'000, static_cast<char>('a' + i)) + "\r\n";
  }
  form += "--b--\r\n";
  const std::string head =
      "POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Type: "
      "multipart/form-data; boundary=b\r\nContent-Length: " +
      std::to_string(form.size()) + "\r\n\r\n";
  RawHttp client = gateway.Connect();
  // In two pieces, of which the first is within the bound: it is read before the second is sent.
  REQUIRE(client.Send(head + form.substr(0, 25'000)));
  GatewayFixture::WaitUntil(
      [&] { return gateway.server.shared().metrics.uploads_total.value() == 2; });
  REQUIRE(client.Send(form.substr(25'000)));
  const RawAnswer answer = client.Read();
  CHECK_EQ(answer.status, 429);
  CHECK_EQ(GatewayFixture::Member(answer.body, "error"), "rate_limited");
  CHECK_GE(std::stoi(answer["retry-after"]), 10);
  CHECK_EQ(answer["connection"], "close");
  CHECK_NE(answer.body.find("\"files\":[{\"id\":"), std::string::npos);
  CHECK_EQ(gateway.server.shared().metrics.rate_limited_total.value(), 1);
}
