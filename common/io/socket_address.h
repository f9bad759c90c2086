// "IP:PORT" (IPv6: "[IP]:PORT") as a socket address, and the sockets made from one.
#pragma once

#include <sys/socket.h>

#include <string>
#include <string_view>

#include "common/io/unique_fd.h"
#include "common/result.h"

namespace hayloft {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  bool loopback = false;  // only this machine can reach it
};

// Numbers only, no names: a name service must not decide who gets an image. kInvalid otherwise.
Result<SocketAddress> ParseSocketAddress(std::string_view text);
std::string SocketAddressText(const SocketAddress& address);
// The abstract Unix socket beside a loopback TCP port: a quarter cheaper for an image of 16 KiB.
SocketAddress UnixAddressOf(std::string_view text);

// A bound, listening, non-blocking socket. kExists: the port is in use; kInvalid: not an address of
// this machine; kBusy: no descriptors; kIo: anything else.
struct ListenOptions {
  bool reuse_port = false;  // several loops accept on one port
  int backlog = 1024;
};
Result<UniqueFd> ListenOn(const SocketAddress& address, const ListenOptions& options);
// The address that a socket is really bound to (port 0 asks for any).
SocketAddress BoundAddress(int fd);

// Starts a non-blocking connect. kUnavailable when it fails at once, kBusy without descriptors.
Result<UniqueFd> StartConnect(const SocketAddress& address);
// What became of it: kOk or kUnavailable. REQUIRES: the socket became writable.
Err FinishConnect(int fd);
// No delays, and an end for a peer that vanished without a word (keepalive 5 s + 3 x 2 s, and 10 s
// for unacknowledged bytes). No effect on Unix sockets.
void TuneSocket(int fd);

}  // namespace hayloft
