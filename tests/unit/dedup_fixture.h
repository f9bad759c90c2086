// A gateway in front of a fake cluster and a directory.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/unit/fake_directory.h"
#include "tests/unit/gateway_fixture.h"

namespace hayloft {

struct DedupFixture {
  explicit DedupFixture(const std::function<void(GatewayConfig*)>& adjust = nullptr)
      : gateway([this, &adjust](GatewayConfig* config) {
          directory =
              std::make_unique<FakeDirectory>(kTestKey, config->client.core.nameservers.front());
          config->client.core.directory = {{directory->address()}};
          // Slow only where a test says so.
          config->client.core.directory_ms = 20'000;
          if (adjust) adjust(config);
        }) {}

  RawAnswer Ask(const std::string& request) const { return gateway.Connect().Ask(request); }
  RawAnswer Post(const std::string& body, const std::string& headers = "") const {
    return Ask(GatewayFixture::Post(body, headers));
  }
  RawAnswer Get(const std::string& path) const { return Ask(GatewayFixture::Get(path)); }
  // `path` as in Location.
  RawAnswer Delete(const std::string& path, const std::string& token) const {
    return Ask(Change("DELETE /v1/files" + path, token));
  }
  RawAnswer Undelete(const std::string& path, const std::string& token) const {
    return Ask(Change("POST /v1/files" + path + "/undelete", token));
  }
  static std::string Change(const std::string& what, const std::string& token) {
    const std::string line = token.empty() ? "" : "Hayloft-Delete-Token: " + token + "\r\n";
    return what + " HTTP/1.1\r\nHost: h\r\n" + line + "\r\n";
  }

  static std::string Part(const std::string& data) {
    return "--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n" + data + "\r\n";
  }
  RawAnswer PostForm(const std::string& parts, const std::string& headers) const {
    return Post(parts + "--b--\r\n", "Content-Type: multipart/form-data; boundary=b\r\n" + headers);
  }
  // The objects of "files", as text each.
  static std::vector<std::string> Files(const std::string& json) {
    std::vector<std::string> files;
    const size_t list = json.find("\"files\":[");
    REQUIRE_NE(list, std::string::npos);
    for (size_t at = json.find('{', list); at != std::string::npos; at = json.find('{', at + 1)) {
      files.push_back(json.substr(at, json.find('}', at) + 1 - at));
    }
    return files;
  }
  const GatewayMetrics& metrics() const { return gateway.server.shared().metrics; }

  std::unique_ptr<FakeDirectory> directory;
  GatewayFixture gateway;
};

}  // namespace hayloft
