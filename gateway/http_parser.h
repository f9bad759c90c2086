// A strict HTTP/1.1 request parser (RFC 9110, 9112): bytes in; out comes a request, "more", or an
// error with its status.
//
// Nothing is allocated, copied or called back: a request's views point into the bytes given. What
// RFC 9112 leaves to a server's leniency is refused, because two parsers in a row that are lenient
// in different ways are how requests are smuggled: bare LF, obs-fold, a space before a colon,
// Content-Length twice or beside Transfer-Encoding, anything but exactly "chunked". After an error
// the connection must be closed: nobody knows where the next request begins. Pure.
//
// The outcome depends on the bytes only, not on how they were cut on the way.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "common/text.h"

namespace hayloft {

inline constexpr size_t kHttpLineBytesMax = 8 << 10;   // request line (414), one header line (431)
inline constexpr size_t kHttpHeadBytesMax = 32 << 10;  // request line and all headers (431)
inline constexpr size_t kHttpHeadersMax = 100;         // 431
inline constexpr size_t kChunkExtensionBytesMax = 4 << 10;  // of one body, all chunks together
inline constexpr size_t kChunkTrailerBytesMax = 8 << 10;    // 431

// The methods that some resource of some server like this one has; a wrong one is 405. All others
// are kUnknown (501).
enum class HttpMethod : uint8_t { kGet, kHead, kPost, kPut, kDelete, kOptions, kPatch, kUnknown };

// Header fields that the gateway acts upon; all others are kOther.
enum class HttpField : uint8_t {
  kOther,
  kHost,
  kContentLength,
  kTransferEncoding,
  kConnection,
  kExpect,
  kContentType,
  kContentEncoding,
  kIfMatch,
  kIfNoneMatch,
  kIfModifiedSince,
  kIfUnmodifiedSince,
  kIfRange,
  kRange,
  kDeleteToken,  // Hayloft-Delete-Token
  kRequestId,    // X-Request-Id
  kOrigin,
  kSecFetchSite,
  kAcceptEncoding,
  kReferer,
  kForwardedFor,  // X-Forwarded-For
  kAccessMethod,  // Access-Control-Request-Method
  kAccessFields,  // Access-Control-Request-Headers
  kAuthorization,
  kContentMd5,
  kDigest,
  kContentDigest,
  kReprDigest,
  kSurrogateKey,
  kCacheTag,
  kUserField,  // X-Hayloft-...
  kSha1,       // Hayloft-SHA1
  kDedup,      // Hayloft-Dedup
  kIdempotencyKey,
  kNameToken,  // Hayloft-Name-Token
  kFileId,     // Hayloft-Id
  kCount,
};

struct HttpHeader {
  std::string_view name;   // as the client spelled it
  std::string_view value;  // without white space around it; no control byte but TAB
  HttpField field = HttpField::kOther;
};

// 4 KiB, so it is made once and parsed into many times.
struct HttpRequest {
  HttpMethod method = HttpMethod::kUnknown;
  uint8_t minor_version = 1;  // of HTTP/1.x; a higher one than 1 is read as 1
  bool keep_alive = false;    // HTTP/1.1 without "Connection: close"
  bool chunked = false;
  bool has_content_length = false;
  bool expect_continue = false;
  uint64_t content_length = 0;  // below 10^18; not yet compared with any bound of ours
  std::string_view path;        // of the target, never empty; "*" only with OPTIONS
  std::string_view query;       // behind the '?', which is not part of either

  std::span<const HttpHeader> headers() const { return {header_table.data(), header_count}; }
  // The value of the first such header, empty when there is none.
  std::string_view Value(HttpField field) const;
  uint32_t Count(HttpField field) const { return field_counts[static_cast<size_t>(field)]; }
  bool HasBody() const { return chunked || content_length > 0; }

  std::array<HttpHeader, kHttpHeadersMax> header_table;
  size_t header_count = 0;
  std::array<uint8_t, static_cast<size_t>(HttpField::kCount)> field_counts{};
};

// Why a message was refused. `reason` is one sentence for the client, a constant.
struct HttpFault {
  uint16_t status = 0;
  const char* reason = nullptr;
  const char* code = nullptr;  // snake_case; null: the status's own
};

struct HttpParsed {
  enum class Kind : uint8_t { kRequest, kMore, kError };
  Kind kind = Kind::kMore;
  size_t head_bytes = 0;  // kRequest: the body, or the next request, begins there
  HttpFault fault;        // kError: 400, 414, 417, 431 or 505
};

// Parses the request at the front of `bytes`. `previous_size` is bytes.size() of the last call for
// the same request that returned kMore, else 0: it saves parsing again while no line has ended.
// `*request` is meaningful only after kRequest, and as long as `bytes` stay where they are.
HttpParsed ParseHttpRequest(std::string_view bytes, size_t previous_size, HttpRequest* request);

// Takes a chunked body apart (RFC 9112 section 7.1) as it arrives. Extensions and trailers are
// checked, bounded and dropped.
class ChunkedDecoder {
 public:
  enum class Step : uint8_t {
    kData,   // *data is a piece of the body; call again
    kMore,   // all input is used up
    kDone,   // the body has ended; what is left of the input belongs to the next request
    kError,  // fault() says why; the connection must be closed
  };
  // Takes bytes from the front of *input; *data points into it.
  Step Next(std::string_view* input, std::string_view* data);
  const HttpFault& fault() const { return fault_; }

 private:
  enum class State : uint8_t {
    kSize,
    kExtension,
    kSizeLf,
    kData,
    kDataCr,
    kDataLf,
    kTrailerStart,
    kTrailerName,
    kTrailerValue,
    kTrailerLf,
    kEndLf,
    kDone,
    kFailed,
  };
  Step Fail(uint16_t status, const char* reason);
  Step OnByte(char c);
  Step OnSizeByte(char c);
  Step OnTrailerByte(char c);

  State state_ = State::kSize;
  uint32_t size_digits_ = 0;
  uint64_t chunk_left_ = 0;
  size_t extension_bytes_ = 0;
  size_t trailer_bytes_ = 0;
  HttpFault fault_;
};

// Which field of those that the gateway acts upon has this name. REQUIRES: IsHttpToken(name).
HttpField HttpFieldOf(std::string_view name);
// "GET"; empty for kUnknown.
std::string_view HttpMethodName(HttpMethod method);
// True when the comma-separated list `value` holds `token` (lower case), compared without case.
bool HttpListHasToken(std::string_view value, std::string_view token);
// token of RFC 9110 section 5.6.2: what a header's name is made of. Not empty.
bool IsHttpToken(std::string_view text);

}  // namespace hayloft
