// TLS on a server's sockets, by OpenSSL. Nothing else of Hayloft knows OpenSSL's SSL.
//
// TLS 1.2 and 1.3 with forward secrecy and authenticated encryption only; ALPN "http/1.1"; sessions
// are resumed by tickets, so that the server keeps none; no renegotiation, compression or early
// data. A stream reads and writes like a non-blocking socket, the handshake included.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "common/buffer.h"
#include "common/result.h"

struct ssl_ctx_st;
struct ssl_st;

namespace hayloft {

// The server's side of one connection. Threads: one at a time. Ownership: borrows the descriptor.
class TlsStream {
 public:
  // Like recv: bytes, 0 after the peer's close_notify, or -1 with errno: EAGAIN (see wants_write),
  // EPROTO for what is no TLS, or ends without close_notify, ECONNRESET.
  ssize_t Read(MutableBytes into);
  // Like writev, of at most one record: -1 with EAGAIN when the socket is full. Then the same bytes
  // must be given again; more may follow them.
  ssize_t Write(Bytes first, Bytes second);
  // close_notify, if there is room for it: the peer knows then that nothing was cut off.
  void SendEnd();

  bool handshake_done() const;
  bool resumed() const;
  bool wants_write() const;  // Read gave EAGAIN, and goes on when the socket takes bytes
  size_t pending() const;    // bytes that Read would give without asking the socket
  bool spoke_http() const { return spoke_http_; }  // instead of a handshake
  std::string_view version() const;                // "TLSv1.3", a constant

 private:
  friend class TlsContext;
  struct Free {
    void operator()(ssl_st* ssl) const;
  };
  explicit TlsStream(ssl_st* ssl) : ssl_(ssl) {}
  ssize_t Failed(int result);

  std::unique_ptr<ssl_st, Free> ssl_;
  bool spoke_http_ = false;
  bool failed_ = false;  // OpenSSL forbids further calls
};

// What the connections of a port share: certificate and key, replaced while they go on.
// Threads: any.
class TlsContext {
 public:
  struct Files {
    std::string certificate;  // PEM: the server's, then those between it and the root
    std::string key;          // PEM, without a passphrase, closed to other users
  };
  // Takes the files for all later connections. kConfig with one line of cause in `why`; then the
  // former ones stay. New ticket keys too: sessions from before are not resumed.
  Err Load(const Files& files, std::string* why);
  // Null without memory. REQUIRES: a Load that returned kOk.
  std::unique_ptr<TlsStream> Accept(int fd);
  // When the certificate ends, in seconds since 1970.
  int64_t expires_s() const;

 private:
  struct Free {
    void operator()(ssl_ctx_st* context) const;
  };
  mutable std::mutex mutex_;  // taken once a connection
  std::unique_ptr<ssl_ctx_st, Free> context_;
  int64_t expires_s_ = 0;
};

}  // namespace hayloft
