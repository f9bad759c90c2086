#include "client/cli/http_load.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <charconv>

#include "common/check.h"
#include "common/text.h"

namespace hayloft {

namespace {

constexpr std::string_view kLength = "\r\ncontent-length: ";
constexpr size_t kReadBytes = 256 << 10;

// The number behind `name` in a header that was put in lower case; false when there is none.
bool LengthOf(std::string_view header, size_t* length) {
  const size_t at = header.find(kLength);
  if (at == std::string_view::npos) return false;
  const char* digits = header.data() + at + kLength.size();
  return std::from_chars(digits, header.data() + header.size(), *length).ec == std::errc();
}

}  // namespace

LoadConnection::LoadConnection(Loop* loop, std::string address,
                               std::function<void(const LoadAnswer&)> on_answer)
    : loop_(loop), address_(std::move(address)), on_answer_(std::move(on_answer)) {}

bool LoadConnection::Connect() {
  const size_t colon = address_.rfind(':');
  sockaddr_in to{};
  to.sin_family = AF_INET;
  uint16_t port = 0;
  std::from_chars(address_.data() + colon + 1, address_.data() + address_.size(), port);
  to.sin_port = htons(port);
  if (inet_pton(AF_INET, address_.substr(0, colon).c_str(), &to.sin_addr) != 1) return false;
  fd_.Reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  // Does not wait: where a backlog is full that would take a second, for all other connections too.
  // What is written before it is made finds the socket full.
  if (connect(fd_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0 &&
      errno != EINPROGRESS) {
    return false;
  }
  readable_ = loop_->OnReadable(fd_.get(), [this] { ReadMore(); });
  return true;
}

void LoadConnection::Send(std::string_view path, Bytes body) {
  ASSERT(!busy_);
  busy_ = true;
  head_.assign(body.empty() ? "GET " : "POST ").append(path).append(" HTTP/1.1\r\nHost: ");
  head_.append(address_).append("\r\n");
  if (!body.empty()) {
    head_ += "Content-Type: image/png\r\nContent-Length: ";
    head_ += std::to_string(body.size()) + "\r\n" + post_lines_;
  }
  head_ += "\r\n";
  if (memcached_) head_.assign("get ").append(path.substr(1)).append("\r\n");
  body_ = body;
  written_ = 0;
  in_.clear();
  if (!fd_.valid() && !Connect()) return Break();
  WriteMore();
}

void LoadConnection::WriteMore() {
  while (written_ < head_.size() + body_.size()) {
    std::array<iovec, 2> parts{};
    int count = 0;
    if (written_ < head_.size()) {
      parts[static_cast<size_t>(count++)] = {head_.data() + written_, head_.size() - written_};
    }
    const size_t body_at = written_ < head_.size() ? 0 : written_ - head_.size();
    if (body_at < body_.size()) {
      parts[static_cast<size_t>(count++)] = {const_cast<uint8_t*>(body_.data()) + body_at,
                                             body_.size() - body_at};
    }
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = static_cast<size_t>(count);
    const ssize_t sent = sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) {
      if (writable_ == nullptr) writable_ = loop_->OnWritable(fd_.get(), [this] { WriteMore(); });
      return;
    }
    if (sent < 0) return Break();
    written_ += static_cast<size_t>(sent);
  }
  writable_.reset();
}

void LoadConnection::ReadMore() {
  thread_local std::array<char, kReadBytes> bytes;
  const ssize_t got = recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return Break();
  in_.append(bytes.data(), static_cast<size_t>(got));
  if (!busy_ || !TakeAnswer()) Break();
}

void LoadConnection::GiveUp() {
  busy_ = false;
  broken_.reset();
  Break();
}

// False when the answer is malformed.
bool LoadConnection::TakeAnswer() {
  if (memcached_) return TakeValue();
  const size_t end = in_.find("\r\n\r\n");
  if (end == std::string::npos) return true;
  const std::string header = LowerText(std::string_view(in_).substr(0, end + 2));
  LoadAnswer answer;
  size_t length = 0;
  if (header.size() < 12 || !LengthOf(header, &length)) return false;
  std::from_chars(header.data() + 9, header.data() + 12, answer.status);
  answer.retry_after = header.find("\r\nretry-after: ") != std::string::npos;
  if (in_.size() < end + 4 + length) return true;
  if (in_.size() > end + 4 + length) return false;
  answer.body = std::string_view(in_).substr(end + 4);
  Answer(answer);
  return true;
}

// "VALUE <key> <flags> <bytes>\r\n<data>\r\nEND\r\n"
bool LoadConnection::TakeValue() {
  constexpr std::string_view kEnd = "\r\nEND\r\n";
  const size_t line = in_.find("\r\n");
  if (line == std::string::npos) return true;
  const size_t blank = in_.rfind(' ', line);
  size_t length = 0;
  if (blank == std::string::npos || !in_.starts_with("VALUE ")) return false;
  if (std::from_chars(in_.data() + blank + 1, in_.data() + line, length).ec != std::errc()) {
    return false;
  }
  const size_t whole = line + 2 + length + kEnd.size();
  if (in_.size() < whole) return true;
  if (in_.size() > whole || !in_.ends_with(kEnd)) return false;
  LoadAnswer answer;
  answer.status = 200;
  answer.body = std::string_view(in_).substr(line + 2, length);
  Answer(answer);
  return true;
}

void LoadConnection::Break() {
  readable_.reset();
  writable_.reset();
  fd_.Reset();
  if (busy_ && broken_ == nullptr) broken_ = loop_->After(10, [this] { Answer({}); });
}

void LoadConnection::Answer(const LoadAnswer& answer) {
  broken_.reset();
  busy_ = false;
  on_answer_(answer);  // may Send the next
}

}  // namespace hayloft
