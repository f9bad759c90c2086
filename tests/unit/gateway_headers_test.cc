// What the headers of an upload say of its file, through the gateway's sockets.
#include "tests/unit/gateway_fixture.h"

using namespace hayloft;

namespace {

const std::string kFile = "{\"hello\": \"world\"}\n";
const std::string kRight[] = {
    "Content-MD5: UFIauregE76D7gDe0/n0JA==\r\n", "Digest: SHA=yyTATouGJ50S3R4iWotz3qq6P9Y=\r\n",
    "Content-Digest: sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:\r\n",
    "Repr-Digest: "
    "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/"
    "WkppmM44T3qg==:\r\n",
    "Hayloft-SHA1: cb24c04e8b86279d12dd1e225a8b73deaaba3fd6\r\n"};

std::string Part(const std::string& headers, const std::string& data) {
  return "--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n" + headers + "\r\n" + data +
         "\r\n";
}

std::string Form(const std::string& parts, const std::string& headers = "") {
  return GatewayFixture::Post(parts + "--b--\r\n",
                              "Content-Type: multipart/form-data; boundary=b\r\n" + headers);
}

}  // namespace

TEST_CASE("gateway_headers: a digest that is right is no hindrance, whatever came before") {
  GatewayFixture gateway;
  RawHttp client = gateway.Connect();
  for (const std::string& digest : kRight) {
    CAPTURE(digest);
    CHECK_EQ(client.Ask(GatewayFixture::Post(kFile, digest)).status, 201);
    // What the last upload said is forgotten.
    CHECK_EQ(client.Ask(GatewayFixture::Post("another", "")).status, 201);
  }
}

TEST_CASE("gateway_headers: bytes that are not what their digest says are not stored") {
  GatewayFixture gateway;
  RawHttp client = gateway.Connect();
  for (const std::string& digest : kRight) {
    CAPTURE(digest);
    const RawAnswer answer = client.Ask(GatewayFixture::Post(kFile + "x", digest));
    CHECK_EQ(answer.status, 400);
    CHECK_EQ(GatewayFixture::Member(answer.body, "error"), "digest_mismatch");
  }
  CHECK_EQ(gateway.cluster.files(), 0);
  CHECK_EQ(gateway.server.shared().upload_memory.used_bytes(), 0);
  CHECK_EQ(gateway.server.shared().metrics.digest_mismatches_total.value(), std::size(kRight));
}

TEST_CASE("gateway_headers: a malformed digest is refused before the body is asked for") {
  GatewayFixture gateway;
  for (const std::string digest :
       {"Content-MD5: x", "Content-MD5: UFIauregE76D7gDe0/n0JA==\r\nContent-MD5: x",
        "Digest: sha-256", "Content-Digest: sha-256=x",
        "Repr-Digest: md5=::", "Hayloft-SHA1: 00"}) {
    CAPTURE(digest);
    RawHttp client = gateway.Connect();
    const RawAnswer answer =
        client.Ask("POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n" + digest +
                   "\r\nExpect: 100-continue\r\n\r\n");
    CHECK_EQ(answer.status, 400);
    CHECK_EQ(GatewayFixture::Member(answer.body, "error"), "bad_request");
  }
}

TEST_CASE("gateway_headers: each part of a form has its own digest") {
  GatewayFixture gateway;
  RawHttp client = gateway.Connect();
  const std::string fine = Part(kRight[0] + kRight[2], kFile);
  CHECK_EQ(client.Ask(Form(fine + Part("", "x") + Part(kRight[3], kFile))).status, 201);
  const RawAnswer answer = client.Ask(
      Form(fine + Part(kRight[1], "x") + Part("Content-MD5: x\r\n", kFile) + Part("", kFile)));
  CHECK_EQ(answer.status, 400);
  CHECK_NE(answer.body.find("},{\"error\":\"digest_mismatch\""), std::string::npos);
  CHECK_NE(answer.body.find("},{\"error\":\"bad_request\""), std::string::npos);
  CHECK_EQ(gateway.cluster.files(), 3 + 2);
  CHECK_EQ(gateway.server.shared().upload_memory.used_bytes(), 0);
  // Of which of its files would it be?
  CHECK_EQ(client.Ask(Form(fine, kRight[2])).status, 400);
}

TEST_CASE("gateway_headers: fields are kept with the file and sent back with it") {
  GatewayFixture gateway;
  const std::string id = gateway.UploadId(NoiseBytes(2'000),
                                          "X-Hayloft-Album:  summer 7 \r\nX-HAYLOFT-empty:\r\n"
                                          "Surrogate-Key: album-7 all\r\ncache-tag: a,b\r\n");
  RawHttp client = gateway.Connect();
  const auto check = [](const RawAnswer& answer, int status) {
    CHECK_EQ(answer.status, status);
    CHECK_EQ(answer["x-hayloft-album"], "summer 7");
    CHECK_EQ(answer.fields.count("x-hayloft-empty"), 1);
    CHECK_EQ(answer["surrogate-key"], "album-7 all");
    CHECK_EQ(answer["cache-tag"], "a,b");
  };
  check(client.Ask(GatewayFixture::Get("/" + id)), 200);
  check(client.Ask(GatewayFixture::Get("/" + id, "Range: bytes=0-9\r\n")), 206);
  check(client.Ask(GatewayFixture::Get("/" + id, "Range: bytes=0-9,100-109\r\n")), 206);
  check(client.Ask("HEAD /" + id + " HTTP/1.1\r\nHost: h\r\n\r\n", /*head=*/true), 200);
  // A 304 has what a cache must renew, and nothing of this changes.
  const RawAnswer same = client.Ask(GatewayFixture::Get("/" + id, "If-None-Match: *\r\n"));
  CHECK_EQ(same.status, 304);
  CHECK_EQ(same["surrogate-key"], "");
  const std::string json = client.Ask(GatewayFixture::Get("/v1/files/" + id)).body;
  CHECK_NE(json.find("\"fields\":{\"cache-tag\":\"a,b\",\"surrogate-key\":\"album-7 all\","
                     "\"x-hayloft-album\":\"summer 7\",\"x-hayloft-empty\":\"\"}"),
           std::string::npos);
  // The next file has none of them.
  const std::string plain = gateway.UploadId("another");
  CHECK_EQ(client.Ask(GatewayFixture::Get("/" + plain)).fields.count("x-hayloft-album"), 0);
}

TEST_CASE("gateway_headers: each part of a form has its own fields") {
  GatewayFixture gateway;
  RawHttp client = gateway.Connect();
  const RawAnswer answer = client.Ask(Form(Part("X-Hayloft-N: 1\r\n", "one") + Part("", "two") +
                                           Part("x-hayloft-n: 3\r\n", "three")));
  REQUIRE_EQ(answer.status, 201);
  std::string fields;
  for (size_t at = 0; (at = answer.body.find("\"id\":\"", at)) != std::string::npos; at += 6) {
    const RawAnswer file = client.Ask(GatewayFixture::Get("/" + answer.body.substr(at + 6, 18)));
    fields += file.body + "=" + file["x-hayloft-n"] + ",";
  }
  CHECK_EQ(fields, "one=1,two=,three=3,");
  CHECK_EQ(client.Ask(Form(Part("", "one"), "X-Hayloft-N: 1\r\n")).status, 400);
}

TEST_CASE("gateway_headers: S12: fields that could forge a line, or are too many, are refused") {
  GatewayFixture gateway;
  const auto refused = [&](const std::string& headers) {
    const RawAnswer answer = gateway.Connect().Ask(GatewayFixture::Post("x", headers));
    CHECK_FALSE(GatewayFixture::Member(answer.body, "message").empty());
    // The same in a part costs this file only.
    const RawAnswer form = gateway.Connect().Ask(Form(Part(headers, "x") + Part("", "y")));
    CHECK((form.status == answer.status || form.status == 400));
    return answer.status;
  };
  for (const std::string& value :
       {std::string("a\nb"), std::string("a\rb"), std::string("a\0b", 3), std::string("a\x7f"),
        std::string("a\tb"), std::string("\xc3\xbc")}) {
    CAPTURE(value);
    CHECK_EQ(refused("X-Hayloft-A: " + value + "\r\n"), 400);
    CHECK_EQ(refused("Surrogate-Key: " + value + "\r\n"), 400);
    if (value != "a\tb" && value != "\xc3\xbc")
      CHECK_EQ(refused("Content-Type: " + value + "\r\n"), 400);
  }
  for (const char* line : {"X-Hayloft-: a", "X-Hayloft-Id: a", "x-hayloft-SHA256: a",
                           "X-Hayloft-A: 1\r\nx-hayloft-a: 1", "Cache-Tag: a\r\nCache-Tag: b"}) {
    CAPTURE(line);
    CHECK_EQ(refused(std::string(line) + "\r\n"), 400);
  }
  CHECK_EQ(refused("Cache-Tag: " + std::string(1'025, 'a') + "\r\n"), 400);
  CHECK_EQ(refused("X-Hayloft-A: " + std::string(7'000, 'a') + "\r\n"), 431);
  std::string many;
  for (int i = 0; i < 32; ++i) many += "X-Hayloft-" + std::to_string(i) + ": a\r\n";
  CHECK_EQ(gateway.Connect().Ask(GatewayFixture::Post("x", many)).status, 201);
  CHECK_EQ(gateway.Connect().Ask(GatewayFixture::Post("x", many + "X-Hayloft-A: a\r\n")).status,
           431);
  // A name that no file is stored under, and that some parser might take for one all the same.
  CHECK_EQ(gateway.Connect()
               .Ask(Form("--b\r\nContent-Disposition: form-data; name=f; "
                         "filename=\"a\rSet-Cookie: b\"\r\n\r\nx\r\n"))
               .status,
           400);
}

// Whoever has the cluster's key may write what no gateway would.
TEST_CASE("gateway_headers: S12: what lies in a needle adds no line to an answer") {
  GatewayFixture gateway;
  Metadata metadata{.content_type = "image/png\r\nX-Evil: 1", .fields = {}};
  metadata.fields = {{"x-hayloft-fine", "yes"},
                     {"x-hayloft-a", "b\r\nX-Evil: 1"},
                     {"x-hayloft-b\r\nX-Evil", "1"},
                     {"x-hayloft-c", std::string("\0", 1)},
                     {"x-hayloft-d: e\r\nX-Evil", "1"},
                     {"surrogate-key", "a\nX-Evil: 1"},
                     {"cache-tag", "\r\n\r\n<script>"},
                     {"x-evil", "1"},
                     {"set-cookie", "a=b"},
                     {"content-length", "0"},
                     {"X-Hayloft-Fine", "no"},
                     {"", ""}};
  const FileAddress address = gateway.cluster.Store(
      {.stored = "bytes", .raw_size = 5, .metadata = EncodeMetadata(metadata)});
  RawHttp client = gateway.Connect();
  for (const std::string headers : {"", "Range: bytes=0-0,2-3\r\n", "Range: bytes=1-\r\n"}) {
    const RawAnswer answer = client.Ask(GatewayFixture::Get("/" + ToText(address), headers));
    CHECK_EQ(answer.status, headers.empty() ? 200 : 206);
    CHECK_EQ(answer["x-hayloft-fine"], "yes");
    CHECK_EQ(answer.body.find("X-Evil"), std::string::npos);
    if (headers.empty()) CHECK_EQ(answer["content-type"], "application/octet-stream");
    for (const char* name : {"x-evil", "set-cookie", "surrogate-key", "cache-tag", "x-hayloft-a",
                             "x-hayloft-b", "x-hayloft-c", "x-hayloft-d"}) {
      CAPTURE(name);
      CHECK_EQ(answer.fields.count(name), 0);
    }
  }
  // Its JSON tells of all of it, encoded.
  const RawAnswer json = client.Ask(GatewayFixture::Get("/v1/files/" + ToText(address)));
  CHECK_EQ(json.status, 200);
  CHECK_NE(json.body.find("\"x-hayloft-a\":\"b\\u000d\\u000aX-Evil: 1\""), std::string::npos);
}

TEST_CASE("gateway_headers: S07: a bomb whose needle lies about its size is not inflated") {
  GatewayFixture gateway([](GatewayConfig* config) { config->options.read_timeout_ms = 500; });
  const std::string plain(1 << 20, 'x');
  const std::string bomb(AsText(CompressIfWorthIt(AsBytes(plain)).bytes()));
  RawHttp client = gateway.Connect();
  for (const uint32_t raw_size : {100u, (1u << 20) - 1, (1u << 20) + 1, uint32_t{kFileBytesMax}}) {
    CAPTURE(raw_size);
    const FileAddress address = gateway.cluster.Store(
        {.stored = bomb,
         .raw_size = raw_size,
         .encoding = Encoding::kZstd,
         .metadata = EncodeMetadata({.content_type = "text/plain", .fields = {}})});
    const std::string path = "/" + ToText(address);
    CHECK_EQ(client.Ask(GatewayFixture::Get(path)).status, 503);
    CHECK_EQ(client.Ask(GatewayFixture::Get(path, "Range: bytes=5-9\r\n")).status, 503);
    CHECK_EQ(client.Ask(GatewayFixture::Get(path, "Range: bytes=5-9,20-29\r\n")).status, 503);
    // Who takes zstd gets what lies there, and judges for himself.
    const RawAnswer stored = client.Ask(GatewayFixture::Get(path, "Accept-Encoding: zstd\r\n"));
    CHECK_EQ(stored.status, 200);
    CHECK(stored.body == bomb);
  }
  CHECK_EQ(gateway.server.shared().download_memory.used_bytes(), 0);
  CHECK_EQ(client.Ask(GatewayFixture::Post("x", "Content-Encoding: zstd\r\n")).status, 415);
}
