#include "tests/unit/raw_http.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>

#include "common/io/socket_address.h"
#include "common/text.h"

namespace hayloft {

const std::string& RawAnswer::operator[](const std::string& name) const {
  static const std::string kNone;
  const auto entry = fields.find(name);
  return entry == fields.end() ? kNone : entry->second;
}

RawHttp::RawHttp(const std::string& address) {
  const Result<SocketAddress> to = ParseSocketAddress(address);
  REQUIRE(to.ok());
  fd_.Reset(::socket(to->storage.ss_family, SOCK_STREAM, 0));
  REQUIRE(fd_.valid());
  const timeval patience{.tv_sec = 20, .tv_usec = 0};
  REQUIRE_EQ(::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
  const auto* name = reinterpret_cast<const sockaddr*>(&to->storage);
  REQUIRE_EQ(::connect(fd_.get(), name, to->length), 0);
}

bool RawHttp::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool RawHttp::Fill() {
  char bytes[64 << 10];
  const ssize_t got = ::recv(fd_.get(), bytes, sizeof(bytes), 0);
  if (got < 0) reset_ = errno == ECONNRESET;
  if (got <= 0) return false;
  buffer_.append(bytes, static_cast<size_t>(got));
  return true;
}

RawAnswer RawHttp::Read(bool head) {
  size_t end = 0;
  while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
    if (!Fill()) return {};
  }
  RawAnswer answer;
  REQUIRE(buffer_.starts_with("HTTP/1.1 "));
  answer.status = std::stoi(buffer_.substr(9, 3));
  for (size_t line = buffer_.find("\r\n") + 2; line < end + 2;) {
    const size_t next = buffer_.find("\r\n", line);
    const size_t colon = buffer_.find(": ", line);
    REQUIRE(colon < next);
    const std::string name = LowerText(buffer_.substr(line, colon - line));
    CHECK(answer.fields.emplace(name, buffer_.substr(colon + 2, next - colon - 2)).second);
    line = next + 2;
  }
  buffer_.erase(0, end + 4);
  const std::string& length = answer["content-length"];
  const size_t size = head || length.empty() ? 0 : std::stoull(length);
  while (buffer_.size() < size) {
    if (!Fill()) return {};
  }
  answer.body = buffer_.substr(0, size);
  buffer_.erase(0, size);
  return answer;
}

bool RawHttp::ReadClose(bool* reset) {
  while (buffer_.empty() && Fill()) {
  }
  if (reset != nullptr) *reset = reset_;
  return buffer_.empty() && (reset_ || errno != EAGAIN);
}

void RawHttp::ShutdownSend() { REQUIRE_EQ(::shutdown(fd_.get(), SHUT_WR), 0); }

void RawHttp::Abort() {
  const linger hard{.l_onoff = 1, .l_linger = 0};
  REQUIRE_EQ(::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
  fd_.Reset();
}

RawAnswer RawHttp::Ask(std::string_view bytes, bool head) {
  if (!Send(bytes)) return {};
  return Read(head);
}

}  // namespace hayloft
