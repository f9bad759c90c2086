// Upload keys and signed URLs through the gateway's sockets.
#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/signed_url.h"
#include "tests/unit/gateway_fixture.h"
#include "tests/unit/temp_folder.h"

using namespace hayloft;

namespace {

const std::string kBearer = "Authorization: Bearer " + UploadKeyText({9}) + "\r\n";
const SigningKey kOld{.id = "old", .secret = "0123456789abcdef"};
const SigningKey kNew{.id = "new", .secret = "fedcba9876543210"};

std::string Line(const SigningKey& key) { return key.id + " " + ToHex(AsBytes(key.secret)) + "\n"; }

struct Keys {
  Keys() {
    Write("upload", "shop " + ToHex(Sha256Of(AsBytes(UploadKeyText({9})))) + "\n");
    Write("signing", Line(kOld));
  }
  void Write(const std::string& name, const std::string& text, unsigned mode = 0600) const {
    REQUIRE_EQ(ReplaceFile(folder / name, text, mode), Err::kOk);
  }
  std::function<void(GatewayConfig*)> Config(bool signed_reads = false) const {
    return [this, signed_reads](GatewayConfig* config) {
      config->options.upload_keys = folder / "upload";
      config->options.signing_keys = folder / "signing";
      config->options.signed_reads = signed_reads;
      config->options.not_found_max_age_s = 3'600;
    };
  }
  TempFolder folder;
};

uint64_t NowS() { return SystemWallMs() / 1'000; }

struct Url {
  std::string_view method = "POST";
  std::string_view path = "/v1/files";
  std::optional<uint64_t> limit_bytes{};
  std::string_view type{};
  std::string_view nonce{};
  int64_t life_s = 600;
};

std::string Signed(const Url& url, const SigningKey& key = kOld) {
  const Result<std::string> query = SignedQuery(
      key, {.method = url.method,
            .path = url.path,
            .expires_s = static_cast<uint64_t>(static_cast<int64_t>(NowS()) + url.life_s),
            .limit_bytes = url.limit_bytes,
            .type = url.type,
            .nonce = url.nonce});
  REQUIRE(query.ok());
  return std::string(url.path) + "?" + *query;
}

std::string Request(std::string_view method, const std::string& target, const std::string& headers,
                    const std::string& body = "") {
  return std::string(method) + " " + target + " HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n" + body;
}

RawAnswer Post(const GatewayFixture& gateway, const std::string& target, const std::string& body,
               const std::string& headers = "") {
  return gateway.Connect().Ask(Request(
      "POST", target, "Content-Length: " + std::to_string(body.size()) + "\r\n" + headers, body));
}

std::string Part(const std::string& data) {
  return "--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n" + data + "\r\n";
}
const std::string kForm = "Content-Type: multipart/form-data; boundary=b\r\n";
const std::string kChunked = "Transfer-Encoding: chunked\r\n";
const std::string kPng = "\x89PNG\r\n\x1a\n" + NoiseBytes(92);

std::string Chunk(const std::string& data) {
  std::string size;
  for (size_t rest = data.size(); rest > 0; rest /= 16)
    size.insert(0, 1, "0123456789abcdef"[rest % 16]);
  return size + "\r\n" + data + "\r\n";
}

std::string Error(const RawAnswer& answer) { return GatewayFixture::Member(answer.body, "error"); }

}  // namespace

TEST_CASE("gateway: with keys an upload needs one, or a URL; refused before the body (S14)") {
  const Keys keys;
  GatewayFixture gateway(keys.Config());
  RawHttp client = gateway.Connect();
  const std::string waits = "Content-Length: 1000\r\nExpect: 100-continue\r\n";
  const RawAnswer none = client.Ask(Request("POST", "/v1/files", waits));
  CHECK_EQ(none.status, 401);
  CHECK_EQ(Error(none), "unauthorized");
  CHECK_EQ(none["www-authenticate"], "Bearer realm=\"hayloft\"");
  CHECK_EQ(none["cache-control"], "no-store");
  CHECK_EQ(Post(gateway, "/v1/files", kPng, "Authorization: Bearer x\r\n").status, 403);
  CHECK_EQ(Post(gateway, "/v1/files", kPng, kBearer).status, 201);
  CHECK_EQ(Post(gateway, Signed({}), kPng).status, 201);
  CHECK_EQ(Post(gateway, Signed({.method = "GET"}), kPng).status, 403);
  CHECK_EQ(Post(gateway, Signed({}, kNew), kPng).status, 403);
  const RawAnswer expired = Post(gateway, Signed({.life_s = -1}), kPng);
  CHECK_EQ(expired.status, 410);
  CHECK_EQ(Error(expired), "expired");
  const GatewayMetrics& metrics = gateway.server.shared().metrics;
  CHECK_EQ(metrics.rights_missing_total.value(), 1);
  CHECK_EQ(metrics.rights_wrong_total.value(), 3);
  CHECK_EQ(metrics.rights_expired_total.value(), 1);
  CHECK_EQ(gateway.cluster.appends, 2);
}

TEST_CASE("gateway: a signed URL bounds the bytes of the body, however it comes (S15)") {
  const Keys keys;
  GatewayFixture gateway(keys.Config());
  const std::string target = Signed({.limit_bytes = 100});
  CHECK_EQ(Post(gateway, target, kPng).status, 201);
  RawHttp waiting = gateway.Connect();
  const RawAnswer early =
      waiting.Ask(Request("POST", target, "Content-Length: 101\r\nExpect: 100-continue\r\n"));
  CHECK_EQ(early.status, 413);
  CHECK_EQ(Post(gateway, target, kPng + "x").status, 413);
  const auto chunked = [&](const std::string& body, const std::string& headers) {
    return gateway.Connect().Ask(Request("POST", target, kChunked + headers, body)).status;
  };
  CHECK_EQ(chunked(Chunk(kPng) + "0\r\n\r\n", ""), 201);
  // The body does not end: the bound alone brings the answer.
  CHECK_EQ(chunked(Chunk(kPng) + Chunk("x"), ""), 413);
  CHECK_EQ(chunked(Chunk(Part("small")) + Chunk(Part("much more")), kForm), 413);
  const std::string form = Part(std::string(20, 'x')) + "--b--";
  REQUIRE(form.size() <= 100);
  CHECK_EQ(Post(gateway, target, form, kForm).status, 201);
  CHECK_EQ(Post(gateway, target, form + std::string(100, ' '), kForm).status, 413);
}

TEST_CASE("gateway: a signed URL says of which type files must turn out to be (S15)") {
  const Keys keys;
  GatewayFixture gateway(keys.Config());
  const std::string target = Signed({.type = "image/*"});
  CHECK_EQ(Post(gateway, target, kPng).status, 201);
  const uint64_t appends = gateway.cluster.appends;
  const RawAnswer page = Post(gateway, target, "<html><script>", "Content-Type: image/png\r\n");
  CHECK_EQ(page.status, 415);
  CHECK_EQ(Error(page), "unsupported_media_type");
  CHECK_EQ(Post(gateway, Signed({.type = "image/gif"}), kPng).status, 415);
  CHECK_EQ(gateway.cluster.appends, appends);
  // Of a form each file for itself.
  const RawAnswer form =
      Post(gateway, target, Part(kPng) + Part("plain words") + Part(kPng) + "--b--", kForm);
  CHECK_EQ(form.status, 415);
  CHECK_EQ(gateway.cluster.appends, appends + 2);
}

TEST_CASE("gateway: a URL for once is spent by the request that it lets through (S15)") {
  const Keys keys;
  GatewayFixture gateway(keys.Config());
  const std::string target = Signed({.limit_bytes = 100, .nonce = "abcdefgh"});
  // What is refused by its head leaves it as it was.
  CHECK_EQ(Post(gateway, target, kPng + "x").status, 413);
  CHECK_EQ(Post(gateway, target, kPng, "Content-Encoding: gzip\r\n").status, 415);
  CHECK_EQ(Post(gateway, target, kPng).status, 201);
  for (int i = 0; i < 8; ++i) {  // on either loop
    const RawAnswer again = Post(gateway, target, kPng);
    CHECK_EQ(again.status, 403);
    CHECK_EQ(Error(again), "spent");
  }
  CHECK_EQ(gateway.cluster.appends, 1);
  CHECK_EQ(gateway.server.shared().metrics.rights_spent_total.value(), 8);
  CHECK_EQ(gateway.server.shared().metrics.nonces.value(), 1);
  CHECK_EQ(Post(gateway, Signed({.nonce = "another-one"}), Part(kPng) + "--b--", kForm).status,
           201);
  // So much for a delete, which its token is needed for all the same.
  const std::string stored = Post(gateway, "/v1/files", kPng, kBearer).body;
  const std::string token =
      "Hayloft-Delete-Token: " + GatewayFixture::Member(stored, "delete_token") + "\r\n";
  const std::string path = "/v1/files/" + GatewayFixture::Member(stored, "id");
  const std::string once = Signed({.method = "DELETE", .path = path, .nonce = "abcdefgi"});
  const auto ask = [&gateway](const std::string& method, const std::string& to,
                              const std::string& headers) {
    return gateway.Connect().Ask(Request(method, to, headers)).status;
  };
  CHECK_EQ(ask("DELETE", once, ""), 401);
  CHECK_EQ(ask("DELETE", once, token), 204);
  CHECK_EQ(ask("POST", path + "/undelete", token), 200);
  CHECK_EQ(ask("DELETE", once, token), 403);
  CHECK_EQ(gateway.Connect().Ask(GatewayFixture::Get("/" + path.substr(10))).status, 200);
}

TEST_CASE("gateway: what a signed URL reads is kept no longer than the URL lives (S15)") {
  const Keys keys;
  GatewayFixture gateway(keys.Config(/*signed_reads=*/true));
  const std::string id =
      GatewayFixture::Member(Post(gateway, "/v1/files", kPng, kBearer).body, "id");
  const auto get = [&gateway](const std::string& target, const std::string& headers = "") {
    return gateway.Connect().Ask(GatewayFixture::Get(target, headers));
  };
  const auto max_age = [](const RawAnswer& answer) {
    const std::string& text = answer["cache-control"];
    REQUIRE(text.starts_with("public, max-age="));
    return std::stoul(text.substr(16));
  };
  const std::string target = Signed({.method = "GET", .path = "/" + id});
  const RawAnswer whole = get(target);
  CHECK_EQ(whole.status, 200);
  CHECK_EQ(whole.body, kPng);
  const RawAnswer same = get(target, "If-None-Match: *\r\n");
  CHECK_EQ(same.status, 304);
  const RawAnswer part = get(target, "Range: bytes=0-9\r\n");
  CHECK_EQ(part.status, 206);
  const std::string absent(18, 'A');
  const RawAnswer unknown = get(Signed({.method = "GET", .path = "/" + absent, .life_s = 30}));
  CHECK_EQ(unknown.status, 404);
  CHECK(max_age(unknown) <= 30);
  for (const RawAnswer* answer : {&whole, &same, &part}) {
    CHECK(max_age(*answer) <= 600);
    CHECK(max_age(*answer) > 500);
  }
  // Whether a file is there, nobody learns without a URL; its JSON an upload key opens as well.
  const RawAnswer closed = get("/" + id);
  CHECK_EQ(closed.status, 403);
  CHECK_EQ(get("/" + absent).body, closed.body);
  CHECK_EQ(get("/" + id, kBearer).status, 403);
  CHECK_EQ(get("/v1/files/" + id).status, 401);
  CHECK_EQ(get("/v1/files/" + absent).status, 401);
  CHECK_EQ(get("/v1/files/" + id, kBearer).status, 200);
  CHECK_EQ(get(Signed({.method = "GET", .path = "/v1/files/" + id})).status, 200);
  CHECK_EQ(get("/healthz").status, 200);
  CHECK_EQ(get("/readyz").status, 200);
}

TEST_CASE("gateway: keys are replaced while it runs; files that are unfit change nothing (S15)") {
  const Keys keys;
  GatewayFixture gateway(keys.Config());
  const auto status = [&gateway](const SigningKey& key) {
    return Post(gateway, Signed({}, key), kPng).status;
  };
  const auto becomes = [&](const SigningKey& key, int wanted) {
    GatewayFixture::WaitUntil([&] {
      for (int i = 0; i < 8; ++i) {
        if (status(key) != wanted) return false;
      }
      return true;
    });
  };
  keys.Write("signing", Line(kOld) + Line(kNew));
  gateway.server.Reload();
  becomes(kNew, 201);
  CHECK_EQ(status(kOld), 201);
  keys.Write("signing", Line(kNew));
  gateway.server.Reload();
  becomes(kOld, 403);
  CHECK_EQ(status(kNew), 201);
  for (const auto& [text, mode] :
       {std::pair<std::string, unsigned>("", 0600), {"new tooshort\n", 0600}, {Line(kOld), 0644}}) {
    keys.Write("signing", text, mode);
    gateway.server.Reload();
  }
  CHECK_EQ(status(kNew), 201);
  CHECK_EQ(status(kOld), 403);
}

TEST_CASE("gateway: it does not start with keys that others may read, or that are none (S18)") {
  const Keys keys;
  FakeCluster cluster(kTestKey);
  const auto fault = [&] {
    GatewayServer server(GatewayFixture::Config(cluster, keys.Config()));
    std::string why;
    CHECK_EQ(server.Start(&why), Err::kConfig);
    return why;
  };
  keys.Write("upload", "shop " + std::string(64, 'a') + "\n", 0640);
  CHECK_EQ(fault(),
           "upload_keys: " + (keys.folder / "upload") + " is open to other users; chmod 600");
  keys.Write("upload", "shop " + std::string(63, 'a') + "\n");
  CHECK_EQ(fault().find(std::string(63, 'a')), std::string::npos);
  GatewayOptions options;
  options.nameservers = options.cluster_key_file = "x";
  options.signed_reads = true;
  CHECK_NE(options.Fault(), "");
  options.signed_reads = false;
  options.upload_bytes_per_s_per_key = 1;  // of no key
  CHECK_NE(options.Fault(), "");
  options.signing_keys = "x";
  CHECK_EQ(options.Fault(), "");
}

TEST_CASE("gateway: a key's requests have a rate, whatever they are; other keys have their own") {
  const Keys keys;
  keys.Write("signing", Line(kOld) + Line(kNew));
  GatewayFixture gateway([&keys](GatewayConfig* config) {
    keys.Config()(config);
    config->options.requests_per_s_per_key = 1;
  });
  const std::string path = "/AAAAAAAAAAAAAAAAAA";
  const std::string target = Signed({.method = "GET", .path = path});
  RawHttp client = gateway.Connect();
  int refused = 0;
  for (int i = 0; i < 6; ++i) {
    const RawAnswer answer = client.Ask(GatewayFixture::Get(target));
    if (answer.status == 404) continue;
    ++refused;
    CHECK_EQ(answer.status, 429);
    CHECK_EQ(Error(answer), "rate_limited");
    CHECK_EQ(answer["retry-after"], "1");
    CHECK_EQ(answer["connection"], "");
  }
  CHECK_GE(refused, 2);
  CHECK_EQ(gateway.server.shared().metrics.rate_limited_total.value(), refused);
  // On the same connection: another key, and what needs none.
  const std::string other = Signed({.method = "GET", .path = path}, kNew);
  CHECK_EQ(client.Ask(GatewayFixture::Get(other)).status, 404);
  CHECK_EQ(client.Ask(GatewayFixture::Get(other)).status, 404);
  for (int i = 0; i < 20; ++i) CHECK_EQ(client.Ask(GatewayFixture::Get(path)).status, 404);
  // What is not allowed counts for no key: it is told so, however often it comes.
  for (int i = 0; i < 20; ++i) {
    CHECK_EQ(Post(gateway, "/v1/files", kPng, "Authorization: Bearer x\r\n").status, 403);
    CHECK_EQ(client.Ask(GatewayFixture::Get(Signed({.path = path}, kNew))).status, 403);
    const std::string expired = Signed({.method = "GET", .path = path, .life_s = -1}, kNew);
    CHECK_EQ(client.Ask(GatewayFixture::Get(expired)).status, 410);
  }
  CHECK_EQ(Post(gateway, "/v1/files", kPng, kBearer).status, 201);
}

TEST_CASE("gateway: a key's uploads have a rate of bytes; a refused one leaves a nonce unspent") {
  const Keys keys;
  GatewayFixture gateway([&keys](GatewayConfig* config) {
    keys.Config()(config);
    config->options.upload_bytes_max = 20'000;
    config->options.upload_bytes_per_s_per_key = 40'000;
  });
  const std::string body = NoiseBytes(20'000);
  std::string once;
  RawAnswer answer = Post(gateway, "/v1/files", kPng, kBearer);
  for (int i = 0; i < 100 && answer.status == 201; ++i) {
    const std::string nonce = "nonce-of-" + std::to_string(i);
    once = Signed({.nonce = nonce});
    answer = Post(gateway, once, body);
  }
  CHECK_EQ(answer.status, 429);
  CHECK_EQ(Error(answer), "rate_limited");
  CHECK_EQ(answer["retry-after"], "1");
  CHECK_EQ(Post(gateway, "/v1/files", body, kBearer).status, 201);
  GatewayFixture::WaitUntil([&] {
    answer = Post(gateway, once, kPng);
    return answer.status != 429;
  });
  CHECK_EQ(answer.status, 201);
}
