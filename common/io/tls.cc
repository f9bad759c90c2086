#include "common/io/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "common/check.h"
#include "common/io/server_start.h"

namespace hayloft {

namespace {

constexpr size_t kRecordBytesMax = 16 << 10;  // RFC 8446 section 5.1
constexpr char kCiphers12[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
constexpr char kGroups[] = "X25519:P-256:P-384";
constexpr long kTicketSeconds = 3'600;  // a stolen ticket key is worth no more than that
constexpr std::string_view kAlpn = "\x08http/1.1";
constexpr std::string_view kSessionContext = "hayloft-gateway";

const uint8_t* Unsigned(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

// A client that names protocols, but none that we speak, is told so (RFC 7301 section 3.2).
int ChooseProtocol(SSL*, const unsigned char** out, unsigned char* out_size,
                   const unsigned char* in, unsigned in_size, void*) {
  unsigned char* chosen = nullptr;
  const int found = SSL_select_next_proto(&chosen, out_size, Unsigned(kAlpn),
                                          static_cast<unsigned>(kAlpn.size()), in, in_size);
  if (found != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

// Without this OpenSSL would ask for the passphrase of a key on the terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

std::string LastError() {
  const unsigned long code = ERR_peek_last_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  ERR_clear_error();
  return reason == nullptr ? "unknown" : reason;
}

bool Configure(SSL_CTX* context) {
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  // Idle connections hold no record buffers; a write that found the socket full may be repeated
  // from another address, and takes what the socket takes.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);  // tickets need none
  SSL_CTX_set_timeout(context, kTicketSeconds);
  SSL_CTX_set_default_passwd_cb(context, NoPassphrase);
  SSL_CTX_set_alpn_select_cb(context, ChooseProtocol, nullptr);
  return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
         SSL_CTX_set_cipher_list(context, kCiphers12) == 1 &&
         SSL_CTX_set1_groups_list(context, kGroups) == 1 &&
         SSL_CTX_set_num_tickets(context, 1) == 1 &&
         SSL_CTX_set_session_id_context(context, Unsigned(kSessionContext),
                                        static_cast<unsigned>(kSessionContext.size())) == 1;
}

int64_t ExpiryOf(SSL_CTX* context) {
  const X509* certificate = SSL_CTX_get0_certificate(context);
  tm end{};
  if (certificate == nullptr || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1) {
    return 0;
  }
  return timegm(&end);
}

}  // namespace

// --- one connection

void TlsStream::Free::operator()(ssl_st* ssl) const { SSL_free(ssl); }

ssize_t TlsStream::Read(MutableBytes into) {
  ASSERT(!into.empty());
  ERR_clear_error();  // what another connection of this thread left there
  size_t count = 0;
  const int result = SSL_read_ex(ssl_.get(), into.data(), into.size(), &count);
  return result == 1 ? static_cast<ssize_t>(count) : Failed(result);
}

// The end of one piece and the beginning of the next leave in one record: a short answer is one
// record, and one packet.
ssize_t TlsStream::Write(Bytes first, Bytes second) {
  static thread_local std::array<uint8_t, kRecordBytesMax> record;
  Bytes bytes = first.empty() ? second : first;
  if (!first.empty() && !second.empty() && first.size() < record.size()) {
    const size_t more = std::min(second.size(), record.size() - first.size());
    std::memcpy(record.data(), first.data(), first.size());
    std::memcpy(record.data() + first.size(), second.data(), more);
    bytes = {record.data(), first.size() + more};
  }
  ERR_clear_error();
  size_t count = 0;
  const int result =
      SSL_write_ex(ssl_.get(), bytes.data(), std::min(bytes.size(), kRecordBytesMax), &count);
  if (result == 1) return static_cast<ssize_t>(count);
  const ssize_t failed = Failed(result);
  // Behind the handshake a write never waits for the peer; it would wait for ever here.
  if (errno == EAGAIN && SSL_want_read(ssl_.get())) errno = EPROTO;
  return failed;
}

ssize_t TlsStream::Failed(int result) {
  const int system_error = errno;
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
      errno = EAGAIN;
      return -1;
    case SSL_ERROR_ZERO_RETURN:
      return 0;
    case SSL_ERROR_SYSCALL:
      failed_ = true;
      errno = system_error == 0 || system_error == EAGAIN ? EPROTO : system_error;
      return -1;
    default:
      failed_ = true;
      spoke_http_ = ERR_GET_REASON(ERR_peek_error()) == SSL_R_HTTP_REQUEST;
      ERR_clear_error();
      errno = EPROTO;
      return -1;
  }
}

void TlsStream::SendEnd() {
  if (failed_ || !handshake_done()) return;
  ERR_clear_error();
  (void)SSL_shutdown(ssl_.get());  // a full socket, or a peer that is gone, does without
  ERR_clear_error();
}

bool TlsStream::handshake_done() const { return SSL_is_init_finished(ssl_.get()) == 1; }
bool TlsStream::resumed() const { return SSL_session_reused(ssl_.get()) == 1; }
bool TlsStream::wants_write() const { return SSL_want_write(ssl_.get()); }
size_t TlsStream::pending() const { return static_cast<size_t>(SSL_pending(ssl_.get())); }
std::string_view TlsStream::version() const { return SSL_get_version(ssl_.get()); }

// --- what they share

void TlsContext::Free::operator()(ssl_ctx_st* context) const { SSL_CTX_free(context); }

Err TlsContext::Load(const Files& files, std::string* why) {
  struct stat info {};
  if (::stat(files.key.c_str(), &info) != 0) {
    *why = "tls_key: cannot read " + files.key;
    return Err::kConfig;
  }
  if (IsOpenToOthers(files.key, info.st_mode)) {
    *why = "tls_key: " + files.key + " is open to other users; chmod 600";
    return Err::kConfig;
  }
  ERR_clear_error();
  std::unique_ptr<ssl_ctx_st, Free> fresh(SSL_CTX_new(TLS_server_method()));
  ASSERT(fresh != nullptr && Configure(fresh.get()));
  if (SSL_CTX_use_certificate_chain_file(fresh.get(), files.certificate.c_str()) != 1) {
    *why = "tls_certificate: cannot use " + files.certificate + ": " + LastError();
    return Err::kConfig;
  }
  if (SSL_CTX_use_PrivateKey_file(fresh.get(), files.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(fresh.get()) != 1) {
    *why = "tls_key: cannot use " + files.key + ": " + LastError();
    return Err::kConfig;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  expires_s_ = ExpiryOf(fresh.get());
  context_ = std::move(fresh);  // connections hold on to the one they began with
  return Err::kOk;
}

std::unique_ptr<TlsStream> TlsContext::Accept(int fd) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ASSERT(context_ != nullptr);
  SSL* ssl = SSL_new(context_.get());
  if (ssl == nullptr) return nullptr;
  std::unique_ptr<TlsStream> stream(new TlsStream(ssl));
  if (SSL_set_fd(ssl, fd) != 1) return nullptr;
  SSL_set_accept_state(ssl);
  return stream;
}

int64_t TlsContext::expires_s() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return expires_s_;
}

}  // namespace hayloft
