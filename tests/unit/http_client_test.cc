#include "common/io/http_client.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "common/io/unique_fd.h"

namespace hayloft {
namespace {

// Takes connections, and says the same to each request, or nothing.
struct Server {
  explicit Server(Loop* loop, std::string answer) : answer_(std::move(answer)) {
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* name = reinterpret_cast<sockaddr*>(&any);
    socklen_t size = sizeof(any);
    REQUIRE_EQ(bind(listener_.get(), name, size), 0);
    REQUIRE_EQ(listen(listener_.get(), 10), 0);
    REQUIRE_EQ(getsockname(listener_.get(), name, &size), 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(any.sin_port));
    accepting_ = loop->OnReadable(listener_.get(), [this, loop] {
      peer_.Reset(accept(listener_.get(), nullptr, nullptr));
      reading_ = loop->OnReadable(peer_.get(), [this] { Answer(); });
    });
  }
  void Answer() {
    char bytes[4096];
    const ssize_t got = recv(peer_.get(), bytes, sizeof(bytes), 0);
    if (got <= 0) return reading_.reset();
    request_.append(bytes, static_cast<size_t>(got));
    if (answer_.empty() || request_.find("\r\n\r\n") == std::string::npos) return;
    send(peer_.get(), answer_.data(), answer_.size(), MSG_NOSIGNAL);
    peer_.Reset();
    reading_.reset();
  }

  UniqueFd listener_{socket(AF_INET, SOCK_STREAM, 0)};
  UniqueFd peer_;
  std::string address_, answer_, request_;
  Loop::Handle accepting_, reading_;
};

HttpAnswer Ask(Loop* loop, const HttpCallRequest& request) {
  HttpAnswer result{.status = -1, .body = ""};
  std::unique_ptr<HttpCall> call;
  call = std::make_unique<HttpCall>(loop, request, [&](HttpAnswer answer) {
    result = std::move(answer);
    call.reset();  // allowed inside of its own callback
    loop->Stop();
  });
  loop->Run();
  return result;
}

TEST_CASE("http_client: a get and a post carry path, type and body, and bring status and body") {
  Loop loop;
  Server server(&loop, "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n");
  HttpAnswer answer = Ask(&loop, {.address = server.address_, .path = "/a?b"});
  CHECK_EQ(answer.status, 404);
  CHECK_EQ(answer.body, "no\n");
  CHECK(server.request_.starts_with("GET /a?b HTTP/1.1\r\n"));
  server.request_.clear();
  answer = Ask(&loop, {.address = server.address_,
                       .path = "/v1/files",
                       .content_type = "image/png",
                       .body = "bytes"});
  CHECK_EQ(answer.status, 404);
  CHECK(server.request_.starts_with("POST /v1/files HTTP/1.1\r\n"));
  CHECK_NE(server.request_.find("Content-Type: image/png\r\n"), std::string::npos);
  CHECK(server.request_.ends_with("\r\n\r\nbytes"));
}

TEST_CASE("http_client: who does not answer, listen or exist is status 0") {
  Loop loop;
  Server silent(&loop, "");
  CHECK_EQ(Ask(&loop, {.address = silent.address_, .path = "/", .timeout_ms = 50}).status, 0);
  silent.accepting_.reset();
  silent.listener_.Reset();
  CHECK_EQ(Ask(&loop, {.address = silent.address_, .path = "/"}).status, 0);
  for (const char* address : {"", "127.0.0.1", "127.0.0.1:", ":80", "127.0.0.1:70000"}) {
    CHECK_EQ(Ask(&loop, {.address = address, .path = "/"}).status, 0);
  }
}

TEST_CASE("http_client: a call that is destroyed calls nobody") {
  Loop loop;
  Server server(&loop, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  bool called = false;
  auto call = std::make_unique<HttpCall>(&loop, HttpCallRequest{.address = server.address_},
                                         [&](HttpAnswer) { called = true; });
  call.reset();
  CHECK_EQ(Ask(&loop, {.address = server.address_, .path = "/"}).status, 200);
  CHECK_FALSE(called);
}

TEST_CASE("http_client: a metric is found by its whole name at the start of a line") {
  const std::string text = "# HELP a_b x\n# TYPE a_b gauge\na_bc 1\nx_a_b 2\na_b 37\na_b_c 4\n";
  CHECK_EQ(MetricValue(text, "a_b", 5), 37);
  CHECK_EQ(MetricValue(text, "a_bc", 5), 1);
  CHECK_EQ(MetricValue(text, "a", 5), 5);
}

}  // namespace
}  // namespace hayloft
