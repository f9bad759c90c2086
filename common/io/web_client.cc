#include "common/io/web_client.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include "common/check.h"
#include "common/io/socket_address.h"

namespace hayloft {

namespace {

constexpr size_t kHeadBytesMax = 16 << 10;

bool IsRetry(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

// The three digits of "HTTP/1.x NNN ..."; empty: it is no such line.
std::string_view StatusOf(std::string_view head) {
  constexpr std::string_view kVersion = "HTTP/1.";
  constexpr size_t kAt = kVersion.size() + 2;
  if (!head.starts_with(kVersion) || head.size() < kAt + 3 || head[kAt - 1] != ' ') return {};
  const std::string_view digits = head.substr(kAt, 3);
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  return std::all_of(digits.begin(), digits.end(), digit) ? digits : std::string_view();
}

}  // namespace

struct WebClient::Exchange {
  WebCall call;
  UniqueFd fd;
  size_t sent = 0;
  std::string head;
  Loop::Handle timeout, writable, readable, finish;
};

WebClient::WebClient(Loop* loop, std::function<void(CallDone&&)> done)
    : loop_(loop), done_(std::move(done)) {}

WebClient::~WebClient() = default;

void WebClient::Call(WebCall&& call) {
  const uint64_t call_id = call.call_id;
  std::unique_ptr<Exchange>& place = exchanges_[call_id];
  ASSERT(place == nullptr);
  place = std::make_unique<Exchange>();
  Exchange* exchange = place.get();
  exchange->call = std::move(call);
  const Result<SocketAddress> address = ParseSocketAddress(exchange->call.address);
  Result<UniqueFd> fd = address.ok() ? StartConnect(*address) : Result<UniqueFd>(Err::kUnavailable);
  if (!fd.ok()) return Finish(exchange, Err::kUnavailable, "");
  exchange->fd = std::move(*fd);
  exchange->timeout = loop_->After(exchange->call.timeout_ms,
                                   [this, exchange] { Finish(exchange, Err::kTimeout, ""); });
  exchange->writable =
      loop_->OnWritable(exchange->fd.get(), [this, exchange] { OnWritable(exchange); });
}

void WebClient::OnWritable(Exchange* exchange) {
  if (exchange->readable == nullptr) {
    if (const Err err = FinishConnect(exchange->fd.get()); err != Err::kOk) {
      return Finish(exchange, err, "");
    }
    // An answer may come before all of the request is gone.
    exchange->readable =
        loop_->OnReadable(exchange->fd.get(), [this, exchange] { OnReadable(exchange); });
  }
  const std::string_view left = std::string_view(exchange->call.request).substr(exchange->sent);
  const ssize_t sent = ::send(exchange->fd.get(), left.data(), left.size(), MSG_NOSIGNAL);
  if (sent < 0 && IsRetry(errno)) return;
  if (sent < 0) {  // it may have answered before it closed
    exchange->writable.reset();
    return;
  }
  exchange->sent += static_cast<size_t>(sent);
  if (exchange->sent == exchange->call.request.size()) exchange->writable.reset();
}

void WebClient::OnReadable(Exchange* exchange) {
  char bytes[4'096];
  const ssize_t got = ::recv(exchange->fd.get(), bytes, sizeof(bytes), 0);
  if (got < 0 && IsRetry(errno)) return;
  if (got > 0) exchange->head.append(bytes, static_cast<size_t>(got));
  const bool whole = exchange->head.find("\r\n\r\n") != std::string::npos;
  if (!whole && got > 0 && exchange->head.size() < kHeadBytesMax) return;
  if (!whole && got <= 0) return Finish(exchange, Err::kUnavailable, "");
  const std::string_view status = StatusOf(exchange->head);
  if (!whole || status.empty()) return Finish(exchange, Err::kCorrupt, "");
  Finish(exchange, Err::kOk, std::string(status));
}

// Its handles are not of use any more; it is told of from the loop.
void WebClient::Finish(Exchange* exchange, Err err, std::string status) {
  exchange->timeout.reset();
  exchange->writable.reset();
  exchange->readable.reset();
  exchange->fd.Reset();
  CallDone done;
  done.call_id = exchange->call.call_id;
  done.err = err;
  done.message = std::move(status);
  exchange->finish = loop_->After(0, [this, done = std::make_shared<CallDone>(std::move(done))] {
    exchanges_.erase(done->call_id);  // with the handle whose callback this is
    done_(std::move(*done));
  });
}

}  // namespace hayloft
