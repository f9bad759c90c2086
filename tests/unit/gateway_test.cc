// The gateway through its sockets: what well-behaved clients get.
#include <algorithm>

#include "common/codec.h"
#include "tests/unit/gateway_fixture.h"

using namespace hayloft;

namespace {

const std::string kPngHead("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16);

std::string Png(size_t size) { return kPngHead + NoiseBytes(size - kPngHead.size()); }

std::string Chunked(const std::string& body, size_t chunk_bytes) {
  std::string text;
  for (size_t at = 0; at < body.size(); at += chunk_bytes) {
    const std::string piece = body.substr(at, chunk_bytes);
    char size[20];
    std::snprintf(size, sizeof(size), "%zx\r\n", piece.size());
    text += size + piece + "\r\n";
  }
  return text + "0\r\n\r\n";
}

}  // namespace

TEST_CASE("gateway: an upload is answered with all that is known of it, and comes back") {
  GatewayFixture gateway;
  const std::string body = Png(16 << 10);
  const RawAnswer stored = gateway.Upload(body, "X-Request-Id: my-id.7\r\n");
  const std::string id = GatewayFixture::Member(stored.body, "id");
  CHECK_EQ(id.size(), kAddressTextLength);
  CHECK_EQ(stored["location"], "/" + id);
  CHECK_EQ(stored["x-request-id"], "my-id.7");
  CHECK_EQ(stored["content-type"], "application/json");
  Hasher hasher;
  Sha1 sha1;
  Sha256 sha256;
  hasher.Update(AsBytes(body));
  hasher.Finish(&sha1, &sha256);
  CHECK_EQ(GatewayFixture::Member(stored.body, "sha1"), ToHex(sha1));
  CHECK_EQ(GatewayFixture::Member(stored.body, "content_type"), "image/png");
  CHECK_EQ(GatewayFixture::Member(stored.body, "delete_token").size(), kDeleteTokenLength);
  CHECK_NE(stored.body.find("\"size\":16384,"), std::string::npos);
  CHECK_NE(stored.body.find("\"duplicate\":false"), std::string::npos);

  RawHttp client = gateway.Connect();
  const RawAnswer got = client.Ask(GatewayFixture::Get("/" + id + ".png?any=thing"));
  CHECK_EQ(got.status, 200);
  CHECK(got.body == body);
  CHECK_EQ(got["etag"], "\"" + id + "\"");
  CHECK_EQ(got["content-type"], "image/png");
  CHECK_EQ(got["last-modified"], "Tue, 14 Nov 2023 22:13:20 GMT");
  CHECK_EQ(got["cache-control"], "public, max-age=31536000, immutable");
  CHECK_EQ(got["accept-ranges"], "bytes");
  CHECK_EQ(got["x-content-type-options"], "nosniff");
  CHECK_EQ(got["x-cache"], "miss");
  CHECK_EQ(got["x-request-id"].size(), 16);
  CHECK_EQ(got["date"].size(), kHttpDateLength);
  const RawAnswer head = client.Ask("HEAD /" + id + " HTTP/1.1\r\nHost: h\r\n\r\n", true);
  CHECK_EQ(head.status, 200);
  for (const char* name : {"etag", "content-type", "content-length", "last-modified",
                           "cache-control", "accept-ranges"}) {
    CHECK_EQ(head[name], got[name]);
  }
}

TEST_CASE("gateway: the JSON of a file says what is known of it") {
  GatewayFixture gateway;
  const std::string id = gateway.UploadId("hello", "Content-Type: text/plain; charset=utf-8\r\n");
  const RawAnswer answer = gateway.Connect().Ask(GatewayFixture::Get("/v1/files/" + id));
  CHECK_EQ(answer.status, 200);
  CHECK_EQ(answer["content-type"], "application/json");
  CHECK_NE(answer.body.find("{\"id\":\"" + id +
                            "\",\"size\":5,\"sha1\":"
                            "\"aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d\","),
           std::string::npos);
  CHECK_NE(answer.body.find("\"content_type\":\"text/plain; charset=utf-8\","
                            "\"created\":\"2023-11-14T22:13:20.000Z\",\"block\":1,"
                            "\"deleted\":false,\"replicas\":[{\"dsp\":\"127.0.0.1:"),
           std::string::npos);
  CHECK_NE(answer.body.find("\"state\":\"ok\"}],\"fields\":{}}"), std::string::npos);
}

TEST_CASE("gateway: chunked uploads of every cut are the same file") {
  GatewayFixture gateway;
  const std::string body = Png(10'000);
  for (const size_t chunk_bytes : {1, 7, 4096, 10'000}) {
    RawHttp client = gateway.Connect();
    const RawAnswer stored =
        client.Ask("POST /v1/files HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" +
                   Chunked(body, chunk_bytes));
    REQUIRE_EQ(stored.status, 201);
    const RawAnswer got = client.Ask(GatewayFixture::Get(stored["location"]));
    CHECK(got.body == body);
  }
}

TEST_CASE("gateway: 100 Continue is sent when the body will be taken, and only then") {
  GatewayFixture gateway([](GatewayConfig* config) { config->options.upload_bytes_max = 1000; });
  const std::string expect = "Expect: 100-continue\r\n";
  const std::string post = "POST /v1/files HTTP/1.1\r\nHost: h\r\n" + expect;
  RawHttp client = gateway.Connect();
  CHECK_EQ(client.Ask(post + "Content-Length: 5\r\n\r\n").status, 100);
  CHECK_EQ(client.Ask("hello").status, 201);
  CHECK_EQ(client.Ask(post + "Transfer-Encoding: chunked\r\n\r\n").status, 100);
  CHECK_EQ(client.Ask("5\r\nhello\r\n0\r\n\r\n").status, 201);
  CHECK_EQ(client.Ask(post + "Content-Length: 1001\r\n\r\n").status, 413);
  CHECK_EQ(gateway.Connect().Ask(post + "\r\n").status, 411);
  CHECK_EQ(gateway.Connect().Ask(post + "Content-Length: 0\r\n\r\n").status, 400);
  CHECK_EQ(
      gateway.Connect().Ask(post + "Content-Length: 5\r\nContent-Encoding: gzip\r\n\r\n").status,
      415);
  const std::string twice = "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n\r\n";
  CHECK_EQ(gateway.Connect().Ask(post + "Content-Length: 5\r\n" + twice).status, 415);
  CHECK_EQ(gateway.cluster.files(), 2);
}

TEST_CASE("gateway: pipelined requests are answered in order") {
  GatewayFixture gateway;
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(gateway.UploadId("file " + std::to_string(i)));
  std::string requests;
  for (int round = 0; round < 100; ++round) {
    for (const std::string& id : ids) requests += GatewayFixture::Get("/" + id);
    requests += GatewayFixture::Get("/healthz");
    requests += GatewayFixture::Post("posted " + std::to_string(round));
  }
  RawHttp client = gateway.Connect();
  std::thread sender([&] { CHECK(client.Send(requests)); });
  for (int round = 0; round < 100; ++round) {
    for (int i = 0; i < 5; ++i) CHECK_EQ(client.Read().body, "file " + std::to_string(i));
    CHECK_EQ(client.Read().body, "ok\n");
    CHECK_EQ(client.Read().status, 201);
  }
  sender.join();
}

TEST_CASE("gateway: a client that shuts its sending side still gets its answers") {
  GatewayFixture gateway;
  const std::string id = gateway.UploadId("hello");
  RawHttp client = gateway.Connect();
  CHECK(client.Send(GatewayFixture::Get("/" + id) + GatewayFixture::Get("/" + id)));
  client.ShutdownSend();
  CHECK_EQ(client.Read().body, "hello");
  CHECK_EQ(client.Read().body, "hello");
  CHECK(client.ReadClose());
}

TEST_CASE("gateway: HTTP/1.0 and Connection: close get their answer and the end") {
  GatewayFixture gateway;
  for (const std::string request :
       {"GET /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"}) {
    RawHttp client = gateway.Connect();
    const RawAnswer answer = client.Ask(request);
    CHECK_EQ(answer.status, 200);
    CHECK_EQ(answer["connection"], "close");
    CHECK(client.ReadClose());
  }
}

TEST_CASE("gateway: conditions give 304 and 412, and a deleted file is never 'not modified'") {
  GatewayFixture gateway;
  const RawAnswer stored = gateway.Upload(Png(1000));
  const std::string id = GatewayFixture::Member(stored.body, "id");
  const std::string tag = "\"" + id + "\"";
  RawHttp client = gateway.Connect();
  const auto ask = [&](const std::string& headers) {
    return client.Ask(GatewayFixture::Get("/" + id, headers));
  };
  const RawAnswer same = ask("If-None-Match: \"x\", W/" + tag + "\r\n");
  CHECK_EQ(same.status, 304);
  CHECK_EQ(same["etag"], tag);
  CHECK_EQ(same["cache-control"], "public, max-age=31536000, immutable");
  CHECK_EQ(same["content-length"], "");
  CHECK_EQ(ask("If-None-Match: *\r\n").status, 304);
  // Only a replica answers that may not know of a delete: no cache may keep that for a year.
  gateway.cluster.doubtful = true;
  CHECK_EQ(ask("")["cache-control"], "no-cache");
  CHECK_EQ(ask("If-None-Match: " + tag + "\r\n")["cache-control"], "no-cache");
  gateway.cluster.doubtful = false;
  CHECK_EQ(ask("If-None-Match: \"x\"\r\n").status, 200);
  const std::string date = "Tue, 14 Nov 2023 22:13:20 GMT\r\n";
  CHECK_EQ(ask("If-Modified-Since: " + date).status, 304);
  CHECK_EQ(ask("If-Modified-Since: " + date + "If-None-Match: \"x\"\r\n").status, 200);
  CHECK_EQ(ask("If-Modified-Since: Tue, 14 Nov 2023 22:13:19 GMT\r\n").status, 200);
  CHECK_EQ(ask("If-Match: \"x\"\r\n").status, 412);
  CHECK_EQ(ask("If-Unmodified-Since: Tue, 14 Nov 2023 22:13:19 GMT\r\n").status, 412);
  const std::string token = GatewayFixture::Member(stored.body, "delete_token");
  CHECK_EQ(client
               .Ask("DELETE /v1/files/" + id +
                    " HTTP/1.1\r\nHost: h\r\nHayloft-Delete-Token: " + token + "\r\n\r\n")
               .status,
           204);
  CHECK_EQ(ask("If-None-Match: " + tag + "\r\n").status, 410);
}

TEST_CASE("gateway: ranges of small and long files, and of files stored compressed") {
  GatewayFixture gateway;
  std::string words;
  for (int i = 0; words.size() < 900'000; ++i) words += "word " + std::to_string(i) + "\n";
  for (const std::string& body : {Png(1000), Png((3 << 20) + 12'345), words}) {
    const std::string id = gateway.UploadId(body);
    const uint64_t size = body.size();
    RawHttp client = gateway.Connect();
    const auto check = [&](const std::string& range, uint64_t first, uint64_t last) {
      CAPTURE(range);
      const RawAnswer answer =
          client.Ask(GatewayFixture::Get("/" + id, "Range: " + range + "\r\n"));
      CHECK_EQ(answer.status, 206);
      CHECK_EQ(answer["content-range"], "bytes " + std::to_string(first) + "-" +
                                            std::to_string(last) + "/" + std::to_string(size));
      CHECK(answer.body == body.substr(first, last - first + 1));
    };
    check("bytes=0-0", 0, 0);
    check("bytes=100-199", 100, 199);
    check("bytes=999-", 999, size - 1);
    check("bytes=5-99999999999999999999", 5, size - 1);
    check("bytes=-1", size - 1, size - 1);
    check("bytes=-1000", size - 1000, size - 1);
    check("bytes=-99999999999", 0, size - 1);
    check("bytes=0-" + std::to_string(size), 0, size - 1);
    for (const std::string& range :
         std::vector<std::string>{"bytes=" + std::to_string(size) + "-", "bytes=99999999999-",
                                  std::string("bytes=-0")}) {
      CAPTURE(range);
      const RawAnswer answer =
          client.Ask(GatewayFixture::Get("/" + id, "Range: " + range + "\r\n"));
      CHECK_EQ(answer.status, 416);
      CHECK_EQ(answer["content-range"], "bytes */" + std::to_string(size));
    }
    for (const char* headers :
         {"Range: lines=1-2\r\n", "Range: bytes=0-1\r\nIf-Range: \"x\"\r\n",
          "Range: bytes=0-1\r\nIf-Range: Tue, 14 Nov 2023 22:13:19 GMT\r\n"}) {
      CAPTURE(headers);
      const RawAnswer answer = client.Ask(GatewayFixture::Get("/" + id, headers));
      CHECK_EQ(answer.status, 200);
      CHECK(answer.body == body);
    }
    for (const std::string& condition :
         {"\"" + id + "\"", std::string("Tue, 14 Nov 2023 22:13:20 GMT")}) {
      const RawAnswer answer = client.Ask(
          GatewayFixture::Get("/" + id, "Range: bytes=-7\r\nIf-Range: " + condition + "\r\n"));
      CHECK_EQ(answer.status, 206);
      CHECK(answer.body == body.substr(size - 7));
    }
    const RawAnswer head =
        client.Ask("HEAD /" + id + " HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\n\r\n", true);
    CHECK_EQ(head.status, 200);  // a range is for GET only
    CHECK_EQ(head["content-length"], std::to_string(size));
  }
}

TEST_CASE("gateway: a long file comes in bounded runs, and breaks off when a run fails") {
  GatewayFixture gateway;
  const std::string body = Png(10 << 20);
  const std::string id = gateway.UploadId(body);
  const uint64_t reads = gateway.cluster.reads;
  RawHttp client = gateway.Connect();
  CHECK(client.Ask(GatewayFixture::Get("/" + id)).body == body);
  CHECK_EQ(gateway.cluster.reads - reads, 10);

  gateway.cluster.reads_before_err = 4;
  gateway.cluster.read_err.store(Err::kNotFound);  // a fact: no other try
  CHECK(client.Send(GatewayFixture::Get("/" + id)));
  CHECK_EQ(client.Read().status, 0);
  bool reset = false;
  (void)client.ReadClose(&reset);
  CHECK(reset);
}

TEST_CASE("gateway: tokens guard deletes, and both ways may be repeated (F44)") {
  GatewayFixture gateway;
  const RawAnswer stored = gateway.Upload(Png(1000));
  const RawAnswer other = gateway.Upload(Png(2000));
  const std::string id = GatewayFixture::Member(stored.body, "id");
  const std::string token = GatewayFixture::Member(stored.body, "delete_token");
  const std::string wrong = GatewayFixture::Member(other.body, "delete_token");
  RawHttp client = gateway.Connect();
  const auto ask = [&](const std::string& method, const std::string& path,
                       const std::string& with) {
    const std::string field = with.empty() ? "" : "Hayloft-Delete-Token: " + with + "\r\n";
    return client.Ask(method + " " + path + " HTTP/1.1\r\nHost: h\r\n" + field + "\r\n");
  };
  const std::string file = "/v1/files/" + id;
  const RawAnswer none = ask("DELETE", file, "");
  CHECK_EQ(none.status, 401);
  CHECK_FALSE(none["www-authenticate"].empty());
  CHECK_EQ(ask("DELETE", file, wrong).status, 403);
  CHECK_EQ(ask("DELETE", file, "nonsense").status, 403);
  CHECK_EQ(ask("DELETE", file, token.substr(1)).status, 403);
  CHECK_EQ(ask("POST", file + "/undelete", "").status, 401);
  CHECK_EQ(ask("POST", file + "/undelete", wrong).status, 403);
  CHECK_EQ(client.Ask(GatewayFixture::Get("/" + id)).status, 200);

  CHECK_EQ(ask("POST", file + "/undelete", token).status, 200);  // nothing to take back
  CHECK_EQ(ask("DELETE", file, token).status, 204);
  CHECK_EQ(ask("DELETE", file, token).status, 204);
  CHECK_EQ(client.Ask(GatewayFixture::Get("/" + id)).status, 410);
  CHECK_NE(client.Ask(GatewayFixture::Get(file)).body.find("\"deleted\":true"), std::string::npos);
  CHECK_EQ(ask("POST", file + "/undelete", token).status, 200);
  CHECK_EQ(client.Ask(GatewayFixture::Get("/" + id)).status, 200);
  CHECK_EQ(ask("DELETE", file, token).status, 204);
  gateway.cluster.trash_time_over = true;
  CHECK_EQ(ask("POST", file + "/undelete", token).status, 410);
  CHECK_EQ(client.Ask(GatewayFixture::Get("/" + id)).status, 404);

  const FileAddress unknown{.block_id = FakeCluster::kBlockId, .file_id = FileId::Of(77, 1)};
  const std::string forged = MakeDeleteToken({.bytes = kTestKey}, unknown, Nonce{});
  CHECK_EQ(ask("DELETE", "/v1/files/" + ToText(unknown), forged).status, 404);
}

TEST_CASE("gateway: pages and drawings are served in a sandbox (S12 S13)") {
  GatewayFixture gateway;
  RawHttp client = gateway.Connect();
  const auto serve = [&](const std::string& body, const std::string& type) {
    const std::string field = type.empty() ? "" : "Content-Type: " + type + "\r\n";
    return client.Ask(GatewayFixture::Get("/" + gateway.UploadId(body, field)));
  };
  const std::string page = "<html><script>alert(1)</script></html>";
  const RawAnswer as_image = serve(page, "image/png");
  CHECK_EQ(as_image["content-type"], "text/html");
  CHECK_EQ(as_image["content-security-policy"],
           "default-src 'none'; style-src 'unsafe-inline'; sandbox");
  CHECK_EQ(as_image["x-content-type-options"], "nosniff");
  const RawAnswer drawing = serve("<svg onload='x'/>", "");
  CHECK_EQ(drawing["content-type"], "image/svg+xml");
  CHECK_FALSE(drawing["content-security-policy"].empty());
  const RawAnswer form = serve(kPngHead, "application/x-www-form-urlencoded");
  CHECK_EQ(form["content-type"], "image/png");
  CHECK(form["content-security-policy"].empty());
}

TEST_CASE("gateway: it is ready once an upload would succeed, and says when it stops being so") {
  GatewayFixture gateway;
  RawHttp client = gateway.Connect();
  CHECK_EQ(client.Ask(GatewayFixture::Get("/readyz")).status, 200);
  CHECK_EQ(client.Ask(GatewayFixture::Get("/healthz")).body, "ok\n");
  CHECK_EQ(client.Ask("HEAD /healthz HTTP/1.1\r\nHost: h\r\n\r\n", true).status, 200);
  CHECK_EQ(client.Ask(GatewayFixture::Get("/metrics")).status, 404);  // on the admin port only
  MetricsText metrics;
  gateway.server.PrintMetrics(&metrics);
  CHECK_NE(metrics.text().find("hayloft_gateway_http_requests_total 4"), std::string::npos);
  CHECK_FALSE(gateway.server.NotReady(SystemMonotonicMs() + 60'000).empty());
}

TEST_CASE("gateway: stopping finishes what runs") {
  GatewayFixture gateway;
  gateway.cluster.hold_appends = true;
  RawHttp idle = gateway.Connect();
  CHECK_EQ(idle.Ask(GatewayFixture::Get("/healthz")).status, 200);
  RawHttp busy = gateway.Connect();
  CHECK(busy.Send(GatewayFixture::Post("hello")));
  GatewayFixture::WaitUntil([&] { return gateway.cluster.appends > 0; });
  std::thread stopper([&] { gateway.server.Stop(20'000); });
  CHECK(idle.ReadClose());
  gateway.cluster.ReleaseAppends();
  const RawAnswer answer = busy.Read();
  CHECK_EQ(answer.status, 201);
  CHECK_EQ(answer["connection"], "close");
  CHECK(busy.ReadClose());
  stopper.join();
}

TEST_CASE("gateway: a wrong configuration is said in one line (F53)") {
  FakeCluster cluster(kTestKey);
  GatewayConfig config = GatewayFixture::Config(cluster, nullptr);
  std::string why;
  GatewayServer first(config);
  REQUIRE_EQ(first.Start(&why), Err::kOk);
  config.options.listen = first.address();
  CHECK_EQ(GatewayServer(config).Start(&why), Err::kConfig);
  CHECK_EQ(why, "cannot listen on " + first.address() + ": the port is in use");
  config.options.listen = "nowhere:80";
  CHECK_EQ(GatewayServer(config).Start(&why), Err::kConfig);
  CHECK_EQ(why, "not an address to listen on: nowhere:80");
  config.key.bytes = "short";
  CHECK_EQ(GatewayServer(config).Start(&why), Err::kConfig);
}
