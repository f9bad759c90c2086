// A real gateway on a loopback port, in front of a fake cluster.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <thread>

#include "common/io/system_clock.h"
#include "gateway/server_shell.h"
#include "tests/unit/fake_cluster.h"
#include "tests/unit/raw_http.h"

namespace hayloft {

inline const std::string kTestKey(32, 'k');

struct GatewayFixture {
  explicit GatewayFixture(const std::function<void(GatewayConfig*)>& adjust = nullptr)
      : cluster(kTestKey), server(Config(cluster, adjust)) {
    std::string why;
    REQUIRE_EQ(server.Start(&why), Err::kOk);
    WaitUntil([this] { return server.NotReady(SystemMonotonicMs()).empty(); });
  }
  static GatewayConfig Config(const FakeCluster& fake,
                              const std::function<void(GatewayConfig*)>& adjust) {
    GatewayConfig config;
    config.options.listen = "127.0.0.1:0";
    config.options.loops = 2;
    config.options.cache_bytes = 0;  // each read asks the cluster; tests of the cache change that
    config.client.core.nameservers = {fake.nameserver()};
    config.client.core.no_block_patience_ms = 100;
    // A loaded machine under a sanitizer needs seconds for 30 MiB; nothing here is about that.
    config.client.core.append_timeout_ms = config.client.core.read_timeout_ms = 30'000;
    config.options.upload_timeout_ms = config.options.read_timeout_ms = 30'000;
    config.client.rpc.role = "gateway";
    config.client.rpc.cluster_key = kTestKey;
    config.key.bytes = kTestKey;
    if (adjust) adjust(&config);
    return config;
  }
  static void WaitUntil(const std::function<bool()>& done) {
    const uint64_t end_ms = SystemMonotonicMs() + 20'000;
    bool in_time = true;
    while (!done() && in_time) {
      std::this_thread::yield();
      in_time = SystemMonotonicMs() < end_ms;
    }
    REQUIRE(in_time);
  }

  RawHttp Connect() const { return RawHttp(server.address()); }
  static std::string Get(const std::string& path, const std::string& headers = "") {
    return "GET " + path + " HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n";
  }
  static std::string Post(const std::string& body, const std::string& headers = "") {
    return "POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\n" + headers + "\r\n" + body;
  }
  // Stores a file over a connection of its own; the answer is 201.
  RawAnswer Upload(const std::string& body, const std::string& headers = "") const {
    const RawAnswer answer = Connect().Ask(Post(body, headers));
    REQUIRE_EQ(answer.status, 201);
    return answer;
  }
  std::string UploadId(const std::string& body, const std::string& headers = "") const {
    return Upload(body, headers)["location"].substr(1);
  }
  // The text of a member of flat JSON.
  static std::string Member(const std::string& json, const std::string& name) {
    const std::string key = "\"" + name + "\":\"";
    const size_t begin = json.find(key);
    REQUIRE_NE(begin, std::string::npos);
    const size_t value = begin + key.size();
    return json.substr(value, json.find('"', value) - value);
  }

  FakeCluster cluster;
  GatewayServer server;
};

// Bytes that no compression makes smaller, so that they are stored as they are.
inline std::string NoiseBytes(size_t size, uint64_t seed = 1) {
  std::string bytes(size, '\0');
  uint64_t state = seed * 0x9e3779b97f4a7c15;
  for (char& byte : bytes) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    byte = static_cast<char>(state >> 32);
  }
  return bytes;
}

}  // namespace hayloft
