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
    "WkppmM44T3qg==:\r\n"};

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
        "Digest: sha-256", "Content-Digest: sha-256=x", "Repr-Digest: md5=::"}) {
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
