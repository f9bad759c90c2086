// The gateway's cache, through its sockets: what is answered from memory, and what never is.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/unit/gateway_fixture.h"
#include "tests/unit/no_memory.h"

using namespace hayloft;

namespace {

struct CachedGateway : GatewayFixture {
  explicit CachedGateway(const std::function<void(GatewayConfig*)>& adjust = nullptr)
      : GatewayFixture([&](GatewayConfig* config) {
          config->options.cache_bytes = 16 << 20;
          if (adjust) adjust(config);
        }) {}

  // A file that the gateway has not seen yet.
  std::string StoreId(const std::string& bytes) {
    Metadata metadata;
    metadata.content_type = "image/png";
    return ToText(cluster.Store({.stored = bytes,
                                 .raw_size = static_cast<uint32_t>(bytes.size()),
                                 .metadata = EncodeMetadata(metadata)}));
  }
  RawAnswer Read(const std::string& id, const std::string& headers = "") {
    return Connect().Ask(Get("/" + id, headers));
  }
  // An upload is answered first, then kept.
  void WaitForFill() {
    WaitUntil([&] { return server.shared().cache->stats().entries > 0; });
  }
  // Asks until it comes from memory without a question to the dsp: its feed is trusted.
  void WaitForTrust(const std::string& id) {
    WaitUntil([&] {
      const uint64_t asks = cluster.live_asks, reads = cluster.reads;
      return Read(id)["x-cache"] == "hit" && cluster.live_asks == asks && cluster.reads == reads;
    });
  }
};

}  // namespace

TEST_CASE("gateway_cache: a file is read from its dsp once, and then from memory") {
  CachedGateway gateway;
  const std::string bytes = NoiseBytes(20'000);
  const std::string id = gateway.StoreId(bytes);
  const RawAnswer first = gateway.Read(id);
  CHECK_EQ(first.status, 200);
  CHECK_EQ(first["x-cache"], "miss");
  CHECK_EQ(first.body, bytes);
  gateway.WaitForTrust(id);
  const RawAnswer second = gateway.Read(id);
  CHECK_EQ(second["x-cache"], "hit");
  CHECK_EQ(second.body, bytes);
  // But for what tells one answer from another, a hit says what a miss says.
  for (const auto& [name, value] : first.fields) {
    if (name != "x-cache" && name != "date" && name != "x-request-id") {
      CHECK_EQ(second[name], value);
    }
  }
  CHECK_EQ(gateway.cluster.reads, 1);
}

TEST_CASE("gateway_cache: parts, conditions, heads and names of it come from memory, too") {
  CachedGateway gateway;
  const std::string bytes = NoiseBytes(200'000);
  const std::string id = gateway.StoreId(bytes);
  const RawAnswer whole = gateway.Read(id);
  gateway.WaitForTrust(id);
  const uint64_t reads = gateway.cluster.reads;
  RawAnswer answer = gateway.Read(id, "Range: bytes=100-199\r\n");
  CHECK_EQ(answer.status, 206);
  CHECK_EQ(answer.body, bytes.substr(100, 100));
  CHECK_EQ(answer["content-range"], "bytes 100-199/200000");
  CHECK_EQ(gateway.Read(id, "Range: bytes=-7\r\n").body, bytes.substr(199'993));
  answer = gateway.Read(id, "Range: bytes=0-9,50000-50009,150000-150009\r\n");
  CHECK_EQ(answer.status, 206);
  CHECK_NE(answer.body.find(bytes.substr(150'000, 10)), std::string::npos);
  CHECK_EQ(gateway.Read(id, "Range: bytes=200000-\r\n").status, 416);
  answer = gateway.Read(id, "If-None-Match: " + whole["etag"] + "\r\n");
  CHECK_EQ(answer.status, 304);
  CHECK_EQ(answer["etag"], whole["etag"]);
  CHECK_EQ(gateway.Read(id, "If-Match: \"other\"\r\n").status, 412);
  answer = gateway.Connect().Ask("HEAD /" + id + " HTTP/1.1\r\nHost: h\r\n\r\n", /*head=*/true);
  CHECK_EQ(answer["content-length"], "200000");
  CHECK_EQ(answer["x-cache"], "hit");
  answer = gateway.Connect().Ask(GatewayFixture::Get("/" + id + "?download=a.png"));
  CHECK_EQ(answer.body, bytes);
  CHECK_EQ(answer["content-disposition"].find("attachment"), 0);
  CHECK_EQ(gateway.cluster.reads, reads);
}

TEST_CASE("gateway_cache: what is stored as zstd is kept so, and decoded for who wants it plain") {
  CachedGateway gateway;
  std::string words;
  for (int i = 0; words.size() < 100'000; ++i) words += "word " + std::to_string(i) + "\n";
  const std::string id = gateway.UploadId(words, "Content-Type: text/plain\r\n");
  gateway.WaitForFill();
  gateway.WaitForTrust(id);
  CHECK_EQ(gateway.Read(id).body, words);
  const RawAnswer coded = gateway.Read(id, "Accept-Encoding: zstd\r\n");
  CHECK_EQ(coded["content-encoding"], "zstd");
  CHECK_LT(coded.body.size(), words.size());
  CHECK_EQ(gateway.Read(id, "Range: bytes=10-19\r\n").body, words.substr(10, 10));
  CHECK_EQ(gateway.cluster.reads, 0);
}

TEST_CASE("gateway_cache: an upload is kept, and its first reader costs no read") {
  CachedGateway gateway;
  const std::string bytes = NoiseBytes(5'000);
  const std::string id = gateway.UploadId(bytes, "Content-Type: image/png\r\nCache-Tag: cats\r\n");
  gateway.WaitForFill();
  const RawAnswer kept = gateway.Read(id);
  CHECK_EQ(kept.body, bytes);
  CHECK_EQ(kept["x-cache"], "hit");
  CHECK_EQ(gateway.cluster.reads, 0);
  // The head that is kept is that of the needle: a gateway without a cache says the same.
  GatewayFixture plain;
  const std::string again = plain.UploadId(bytes, "Content-Type: image/png\r\nCache-Tag: cats\r\n");
  const RawAnswer read = plain.Connect().Ask(GatewayFixture::Get("/" + again));
  for (const auto& [name, value] : read.fields) {
    const bool own = name == "x-cache" || name == "date" || name == "x-request-id";
    if (!own) CHECK_EQ(kept[name], value);
  }
}

TEST_CASE("gateway_cache: F57 a hundred who ask for one file at once cost one read") {
  CachedGateway gateway;
  const std::string bytes = NoiseBytes(30'000);
  const std::string id = gateway.StoreId(bytes);
  gateway.cluster.hold_reads = true;
  const uint64_t from_ms = SystemMonotonicMs();
  std::vector<RawHttp> clients;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(gateway.Connect());
    REQUIRE(clients.back().Send(GatewayFixture::Get("/" + id)));
  }
  GatewayFixture::WaitUntil([&] { return gateway.cluster.reads_held() > 0; });
  const auto asked = [&] { return gateway.server.shared().http_metrics.requests_total.value(); };
  GatewayFixture::WaitUntil([&] { return asked() >= 100; });
  // Who comes kJoinMs after a read began gets one of its own: on a busy machine some may.
  const uint64_t reads_max = 1 + (SystemMonotonicMs() - from_ms) / kJoinMs;
  gateway.cluster.hold_reads = false;
  gateway.cluster.ReleaseReads();
  for (RawHttp& client : clients) CHECK_EQ(client.Read().body, bytes);
  CHECK_GE(gateway.cluster.reads, 1);
  CHECK_LE(gateway.cluster.reads, reads_max);
}

TEST_CASE("gateway_cache: a hit allocates nothing, from the socket to the socket") {
  CachedGateway gateway([](GatewayConfig* config) { config->options.loops = 1; });
  const std::string bytes = NoiseBytes(4'000);
  const std::string id = gateway.StoreId(bytes);
  CHECK_EQ(gateway.Read(id).status, 200);
  gateway.WaitForTrust(id);
  int loop = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    // Of an earlier test's gateway none is left.
    if (name == "gateway-loop") loop = std::stoi(task.path().filename());
  }
  REQUIRE_GT(loop, 0);
  constexpr uint64_t kHits = 2'000;
  RawHttp client = gateway.Connect();
  const std::string request = GatewayFixture::Get("/" + id);
  const auto ask = [&](uint64_t times) {
    for (uint64_t i = 0; i < times; ++i) CHECK_EQ(client.Ask(request)["x-cache"], "hit");
  };
  ask(100);
  const uint64_t before = AllocationsBy(loop);
  ask(kHits);
  // The loop also asks after the cluster each second, and looks at its connections.
  CHECK_LT(AllocationsBy(loop) - before, kHits / 10);
}

TEST_CASE("gateway_cache: a file that is deleted here is gone at once, and back at once") {
  CachedGateway gateway;
  const RawAnswer stored = gateway.Upload(NoiseBytes(5'000));
  const std::string id = stored["location"].substr(1);
  const std::string token =
      "Hayloft-Delete-Token: " + GatewayFixture::Member(stored.body, "delete_token") + "\r\n";
  gateway.WaitForTrust(id);
  const std::string change = "/v1/files/" + id;
  CHECK_EQ(gateway.Connect()
               .Ask("DELETE " + change + " HTTP/1.1\r\nHost: h\r\n" + token + "\r\n")
               .status,
           204);
  CHECK_EQ(gateway.Read(id).status, 410);
  CHECK_EQ(gateway.Connect()
               .Ask("POST " + change + "/undelete HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n" +
                    token + "\r\n")
               .status,
           200);
  CHECK_EQ(gateway.Read(id).status, 200);
}

TEST_CASE("gateway_cache: a delete by another gateway comes by the feed, within a second") {
  CachedGateway gateway;
  const std::string id = gateway.StoreId(NoiseBytes(5'000));
  CHECK_EQ(gateway.Read(id).status, 200);
  gateway.WaitForTrust(id);
  gateway.cluster.Change(*ParseFileAddress(id), /*deleted=*/true);
  const uint64_t from_ms = SystemMonotonicMs();
  GatewayFixture::WaitUntil([&] { return gateway.Read(id).status == 410; });
  // The bound is a second; on a machine that is busy with other things a bit more of it passes
  // here.
  CHECK_LT(SystemMonotonicMs() - from_ms, 3'000);
  gateway.cluster.Change(*ParseFileAddress(id), /*deleted=*/false);
  GatewayFixture::WaitUntil([&] { return gateway.Read(id).status == 200; });
}

TEST_CASE("gateway_cache: while a feed is silent, each file is asked about and none is read") {
  CachedGateway gateway;
  const std::string id = gateway.StoreId(NoiseBytes(5'000));
  CHECK_EQ(gateway.Read(id).status, 200);
  gateway.WaitForTrust(id);
  gateway.cluster.feed_silent = true;
  GatewayFixture::WaitUntil([&] {
    const uint64_t asks = gateway.cluster.live_asks;
    CHECK_EQ(gateway.Read(id).status, 200);
    return gateway.cluster.live_asks > asks;
  });
  CHECK_EQ(gateway.cluster.reads, 1);
  gateway.cluster.Change(*ParseFileAddress(id), /*deleted=*/true);
  CHECK_EQ(gateway.Read(id).status, 410);
  gateway.cluster.feed_silent = false;
  CHECK_EQ(gateway.Read(id).status, 410);
}

TEST_CASE("gateway_cache: F67 a fill that a delete overtook is not kept") {
  CachedGateway gateway;
  const std::string other = gateway.StoreId(NoiseBytes(100));
  CHECK_EQ(gateway.Read(other).status, 200);  // the feed is followed
  gateway.WaitForTrust(other);
  const std::string id = gateway.StoreId(NoiseBytes(5'000));
  gateway.cluster.hold_answers = true;  // the read is done, its answer is on its way
  RawHttp client = gateway.Connect();
  REQUIRE(client.Send(GatewayFixture::Get("/" + id)));
  GatewayFixture::WaitUntil([&] { return gateway.cluster.answers_held() == 1; });
  gateway.cluster.Change(*ParseFileAddress(id), /*deleted=*/true);
  const uint64_t feed_asks = gateway.cluster.feed_asks;
  GatewayFixture::WaitUntil([&] { return gateway.cluster.feed_asks > feed_asks + 1; });
  gateway.cluster.hold_answers = false;
  gateway.cluster.ReleaseAnswers();
  CHECK_EQ(client.Read().status, 200);  // it was asked for before the delete
  CHECK_EQ(gateway.Read(id).status, 410);
}

TEST_CASE("gateway_cache: what is not there is not asked for again for a second") {
  CachedGateway gateway;
  const std::string unknown = "AAAAAAEAAAFql_x4hw";
  CHECK_EQ(gateway.Read(unknown).status, 404);
  const uint64_t reads = gateway.cluster.reads;
  CHECK_EQ(gateway.Read(unknown).status, 404);
  CHECK_EQ(gateway.cluster.reads, reads);
  GatewayFixture::WaitUntil([&] {
    CHECK_EQ(gateway.Read(unknown).status, 404);
    return gateway.cluster.reads > reads;
  });
}

TEST_CASE("gateway_cache: neither a 503 nor an answer in doubt is kept") {
  CachedGateway gateway([](GatewayConfig* config) { config->options.read_timeout_ms = 300; });
  const std::string id = gateway.StoreId(NoiseBytes(5'000));
  gateway.cluster.read_err.store(Err::kNotServing);
  CHECK_EQ(gateway.Read(id).status, 503);
  gateway.cluster.read_err.store(Err::kOk);
  gateway.cluster.doubtful = true;
  const RawAnswer doubtful = gateway.Read(id);
  CHECK_EQ(doubtful.status, 200);
  CHECK_EQ(doubtful["cache-control"], "no-cache");
  const uint64_t reads = gateway.cluster.reads;
  gateway.cluster.doubtful = false;
  CHECK_EQ(gateway.Read(id)["cache-control"].find("public"), 0);
  CHECK_GT(gateway.cluster.reads, reads);
}

TEST_CASE("gateway_cache: Haystack's rules: of users, not CDNs, and of open blocks") {
  CachedGateway gateway([](GatewayConfig* config) {
    config->options.admit = "haystack";
    config->options.cdn_header = "X-From-CDN";
  });
  const auto reads_of_three = [&](const std::string& headers) {
    const std::string id = gateway.StoreId(NoiseBytes(5'000));
    const uint64_t reads = gateway.cluster.reads;
    for (int i = 0; i < 3; ++i) CHECK_EQ(gateway.Read(id, headers).status, 200);
    return gateway.cluster.reads - reads;
  };
  CHECK_EQ(reads_of_three(""), 1);
  CHECK_EQ(reads_of_three("x-from-cdn: yes\r\n"), 3);
  gateway.cluster.block_open = false;
  CHECK_EQ(reads_of_three(""), 3);
}

TEST_CASE("gateway_cache: CDNs are known by their networks, too") {
  CachedGateway gateway([](GatewayConfig* config) {
    config->options.cdn_networks = "127.0.0.0/8";  // they are not kept: that is the default
  });
  const std::string id = gateway.StoreId(NoiseBytes(5'000));
  for (int i = 0; i < 3; ++i) CHECK_EQ(gateway.Read(id).status, 200);
  CHECK_EQ(gateway.cluster.reads, 3);
}

TEST_CASE("gateway_cache: a long file is sent in runs as ever, of it only the head is kept") {
  CachedGateway gateway;
  const std::string bytes = NoiseBytes(3 << 20);
  const std::string id = gateway.StoreId(bytes);
  CHECK_EQ(gateway.Read(id).body, bytes);
  CHECK_EQ(gateway.Read(id).body, bytes);
  const std::string range = "Range: bytes=2000000-2000009\r\n";
  CHECK_EQ(gateway.Read(id, range).body, bytes.substr(2'000'000, 10));
}

TEST_CASE("gateway_cache: POST /v1/warm brings files into memory, and says which it could not") {
  CachedGateway gateway;
  std::string ids;
  std::vector<std::string> all;
  for (int i = 0; i < 20; ++i) {
    all.push_back(gateway.StoreId(NoiseBytes(1'000, static_cast<uint64_t>(i) + 1)));
    ids += "\"" + all.back() + "\",";
  }
  const auto warm = [&](const std::string& body) {
    return gateway.Connect().Ask("POST /v1/warm HTTP/1.1\r\nHost: h\r\nContent-Length: " +
                                 std::to_string(body.size()) + "\r\n\r\n" + body);
  };
  RawAnswer answer = warm("{\"ids\":[" + ids + "\"AAAAAAEAAAFql_x4hw\"]}");
  CHECK_EQ(answer.status, 200);
  CHECK_EQ(
      answer.body,
      "{\"warmed\":20,\"failed\":[{\"id\":\"AAAAAAEAAAFql_x4hw\",\"error\":\"not_found\"}]}\n");
  const uint64_t reads = gateway.cluster.reads;
  for (const std::string& id : all) CHECK_EQ(gateway.Read(id)["x-cache"], "hit");
  CHECK_EQ(gateway.cluster.reads, reads);
  for (const char* wrong : {"", "{", "[]", "{\"ids\":[]}", "{\"ids\":[7]}", "{\"ids\":[\"x\"]}"}) {
    CHECK_EQ(warm(wrong).status, 400);
  }
  CHECK_EQ(warm(std::string(70'000, ' ')).status, 413);
  CHECK_EQ(gateway.Connect().Ask(GatewayFixture::Get("/v1/warm")).status, 405);
}

TEST_CASE("gateway_cache: without a cache nothing is warmed, and nothing comes from memory") {
  GatewayFixture gateway;
  CHECK_EQ(gateway.Connect()
               .Ask("POST /v1/warm HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
               .status,
           501);
  const std::string id = gateway.UploadId(NoiseBytes(5'000));
  gateway.cluster.hold_reads = true;
  RawHttp one = gateway.Connect(), other = gateway.Connect();
  REQUIRE(one.Send(GatewayFixture::Get("/" + id)));
  REQUIRE(other.Send(GatewayFixture::Get("/" + id)));
  GatewayFixture::WaitUntil([&] { return gateway.cluster.reads_held() > 0; });
  gateway.cluster.ReleaseReads();
  CHECK_EQ(one.Read().status, 200);
  CHECK_EQ(other.Read().status, 200);
  CHECK_EQ(gateway.Connect().Ask(GatewayFixture::Get("/" + id))["x-cache"], "miss");
}
