#include "common/io/socket_address.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>

#include "common/check.h"

namespace hayloft {

namespace {

constexpr std::string_view kUnixPrefix = "hayloft-";
constexpr int kUnixSendBytes = 1 << 20;  // the system may grant less

Err SocketErr(int error) {
  switch (error) {
    case EADDRINUSE:
      return Err::kExists;
    case EADDRNOTAVAIL:
    case EACCES:
      return Err::kInvalid;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
      return Err::kBusy;
    default:
      return Err::kIo;
  }
}

bool IsUnixSocket(int fd) {
  int domain = 0;
  socklen_t size = sizeof(domain);
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

bool ParsePort(std::string_view text, uint16_t* port) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *port);
  return !text.empty() && error == std::errc{} && end == text.data() + text.size();
}

const sockaddr* Generic(const SocketAddress& address) {
  return reinterpret_cast<const sockaddr*>(&address.storage);
}

}  // namespace

Result<SocketAddress> ParseSocketAddress(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return Err::kInvalid;
  uint16_t port = 0;
  if (!ParsePort(text.substr(colon + 1), &port)) return Err::kInvalid;
  std::string host(text.substr(0, colon));
  SocketAddress address;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
    if (inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) != 1) return Err::kInvalid;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.length = sizeof(*v6);
    address.loopback = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    return address;
  }
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  if (inet_pton(AF_INET, host.c_str(), &v4->sin_addr) != 1) return Err::kInvalid;
  v4->sin_family = AF_INET;
  v4->sin_port = htons(port);
  address.length = sizeof(*v4);
  address.loopback = (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
  return address;
}

std::string SocketAddressText(const SocketAddress& address) {
  char host[INET6_ADDRSTRLEN] = {};
  if (address.storage.ss_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address.storage);
    inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
    return "[" + std::string(host) + "]:" + std::to_string(ntohs(v6->sin6_port));
  }
  if (address.storage.ss_family != AF_INET) return "unix";
  const auto* v4 = reinterpret_cast<const sockaddr_in*>(&address.storage);
  inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
  return std::string(host) + ":" + std::to_string(ntohs(v4->sin_port));
}

SocketAddress UnixAddressOf(std::string_view text) {
  SocketAddress address;
  auto* local = reinterpret_cast<sockaddr_un*>(&address.storage);
  const size_t name_size = kUnixPrefix.size() + text.size();
  ASSERT(name_size + 1 <= sizeof(local->sun_path));
  local->sun_family = AF_UNIX;  // sun_path[0] stays zero: an abstract name, no file to clean up
  std::memcpy(local->sun_path + 1, kUnixPrefix.data(), kUnixPrefix.size());
  std::memcpy(local->sun_path + 1 + kUnixPrefix.size(), text.data(), text.size());
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name_size);
  address.loopback = true;
  return address;
}

Result<UniqueFd> ListenOn(const SocketAddress& address, const ListenOptions& options) {
  UniqueFd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return SocketErr(errno);
  const int on = 1;
  // Restarted servers keep their ports although old connections linger.
  (void)setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (options.reuse_port && setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) {
    return SocketErr(errno);
  }
  if (::bind(fd.get(), Generic(address), address.length) != 0) return SocketErr(errno);
  if (::listen(fd.get(), options.backlog) != 0) return SocketErr(errno);
  return fd;
}

SocketAddress BoundAddress(int fd) {
  SocketAddress address;
  address.length = sizeof(address.storage);
  const int code = getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length);
  ASSERT(code == 0);
  return address;
}

Result<UniqueFd> StartConnect(const SocketAddress& address) {
  UniqueFd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Err::kBusy;
  if (::connect(fd.get(), Generic(address), address.length) != 0 && errno != EINPROGRESS) {
    return Err::kUnavailable;
  }
  return fd;
}

Err FinishConnect(int fd) {
  int error = 0;
  socklen_t size = sizeof(error);
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return Err::kUnavailable;
  return error == 0 ? Err::kOk : Err::kUnavailable;
}

void TuneSocket(int fd) {
  // Every result is ignored on purpose: a Unix socket knows none of TCP's and needs none.
  const auto set = [fd](int level, int option, int value) {
    (void)setsockopt(fd, level, option, &value, sizeof(value));
  };
  if (IsUnixSocket(fd)) {
    // A commit on its way to a secondary in one piece. Half of it would wake both sides for more.
    return set(SOL_SOCKET, SO_SNDBUF, kUnixSendBytes);
  }
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 5);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 2);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 10'000);
}

}  // namespace hayloft
