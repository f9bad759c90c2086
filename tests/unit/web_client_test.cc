#include "common/io/web_client.h"

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "common/io/socket_address.h"
#include "common/io/unique_fd.h"

namespace hayloft {
namespace {

// Takes connections one after the other; what it says to each request it says in two pieces.
struct WebServer {
  WebServer(Loop* loop, std::string answer) : answer_(std::move(answer)) {
    Result<UniqueFd> listener =
        ListenOn(*ParseSocketAddress("127.0.0.1:0"), ListenOptions{.backlog = 10});
    REQUIRE(listener.ok());
    listener_ = std::move(*listener);
    address_ = SocketAddressText(BoundAddress(listener_.get()));
    accepting_ = loop->OnReadable(listener_.get(), [this, loop] {
      peer_.Reset(accept(listener_.get(), nullptr, nullptr));
      reading_ = loop->OnReadable(peer_.get(), [this, loop] { Read(loop); });
    });
  }
  void Read(Loop* loop) {
    char bytes[4096];
    const ssize_t got = recv(peer_.get(), bytes, sizeof(bytes), 0);
    if (got <= 0) return reading_.reset();
    request_.append(bytes, static_cast<size_t>(got));
    if (!request_.ends_with("end") || answer_ == "silence") return;
    const size_t half = answer_.size() / 2;
    send(peer_.get(), answer_.data(), half, MSG_NOSIGNAL);
    rest_ = loop->After(5, [this, half] {
      send(peer_.get(), answer_.data() + half, answer_.size() - half, MSG_NOSIGNAL);
      if (closes_) peer_.Reset();
    });
  }

  UniqueFd listener_, peer_;
  bool closes_ = true;
  std::string address_, answer_, request_;
  Loop::Handle accepting_, reading_, rest_;
};

CallDone Ask(Loop* loop, const std::string& address, const std::string& request) {
  CallDone result;
  WebClient client(loop, [&](CallDone&& done) {
    result = std::move(done);
    loop->Stop();
  });
  client.Call({.call_id = 7, .address = address, .request = request, .timeout_ms = 300});
  loop->Run();
  CHECK_EQ(result.call_id, 7);
  return result;
}

TEST_CASE("web_client: what is sent arrives as it is, however long; the status comes back") {
  Loop loop;
  WebServer server(&loop, "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n");
  server.closes_ = false;  // it need not
  const std::string request = "PURGE /a HTTP/1.1\r\n\r\n" + std::string(4 << 20, 'x') + "end";
  const CallDone done = Ask(&loop, server.address_, request);
  CHECK_EQ(done.err, Err::kOk);
  CHECK_EQ(done.message, "204");
  CHECK_EQ(server.request_, request);
}

TEST_CASE("web_client: who answers nothing, nonsense, half a head or too long a one has failed") {
  Loop loop;
  const auto err = [&](const std::string& answer) {
    WebServer server(&loop, answer);
    return Ask(&loop, server.address_, "GET / HTTP/1.1\r\n\r\nend").err;
  };
  CHECK_EQ(err("silence"), Err::kTimeout);
  CHECK_EQ(err(""), Err::kUnavailable);
  CHECK_EQ(err("HTTP/1.1 200 OK\r\n"), Err::kUnavailable);
  CHECK_EQ(err("SSH-2.0-OpenSSH_9.2 Debian\r\n\r\n"), Err::kCorrupt);
  CHECK_EQ(err("HTTP/1.1 2x0 OK\r\n\r\n"), Err::kCorrupt);
  CHECK_EQ(err("HTTP/1.1 200 OK\r\nX: " + std::string(20'000, 'x')), Err::kCorrupt);
  CHECK_EQ(err("HTTP/1.0 503 Busy\r\n\r\n"), Err::kOk);
}

TEST_CASE("web_client: nobody listens, or the address is none") {
  Loop loop;
  std::string address;
  {
    const WebServer gone(&loop, "");
    address = gone.address_;
  }
  CHECK_EQ(Ask(&loop, address, "x").err, Err::kUnavailable);
  CHECK_EQ(Ask(&loop, "cdn.example:80", "x").err, Err::kUnavailable);
}

TEST_CASE("web_client: a client that goes takes its calls with it") {
  Loop loop;
  WebServer server(&loop, "silence");
  int answered = 0;
  {
    WebClient client(&loop, [&](CallDone&&) { ++answered; });
    client.Call({.call_id = 1, .address = server.address_, .request = "x", .timeout_ms = 10});
    client.Call({.call_id = 2, .address = "nonsense", .request = "x", .timeout_ms = 10});
  }
  const Loop::Handle stop = loop.After(50, [&] { loop.Stop(); });
  loop.Run();
  CHECK_EQ(answered, 0);
}

}  // namespace
}  // namespace hayloft
