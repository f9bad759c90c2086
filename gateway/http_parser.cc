// One pass, strictly from front to back, so that the first fault in the bytes decides whatever is
// behind it. Each line is scanned only up to its bound: a long line is found too long at the same
// byte whether it came at once or byte by byte.
#include "gateway/http_parser.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "common/check.h"

namespace hayloft {

namespace {

constexpr size_t kContentLengthDigitsMax = 18;  // stays below 2^63 without an overflow check
constexpr uint32_t kChunkSizeDigitsMax = 15;    // leading zeros count

struct CharTable {
  bool is[256] = {};
  constexpr bool operator[](char c) const { return is[static_cast<uint8_t>(c)]; }
};

constexpr CharTable MakeTable(std::string_view others) {
  CharTable table;
  for (int c = '0'; c <= '9'; ++c) table.is[c] = true;
  for (int c = 'a'; c <= 'z'; ++c) table.is[c] = table.is[c - 'a' + 'A'] = true;
  for (char c : others) table.is[static_cast<uint8_t>(c)] = true;
  return table;
}

constexpr CharTable kTokenChars = MakeTable("!#$%&'*+-.^_`|~");
constexpr CharTable kHostChars = MakeTable("-._~!$&'()*+,;=%");

constexpr CharTable MakeTargetTable() {
  CharTable table;
  for (int c = 0x21; c <= 0x7e; ++c) table.is[c] = c != '#';  // a fragment is never sent
  return table;
}
constexpr CharTable kTargetChars = MakeTargetTable();

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The first control byte or DEL in [begin, end), else end; eight bytes at a time.
const char* SkipText(const char* begin, const char* end) {
  constexpr uint64_t kOnes = ~uint64_t{0} / 255;
  for (; end - begin >= 8; begin += 8) {
    uint64_t word;
    std::memcpy(&word, begin, sizeof(word));
    const uint64_t control = (word - kOnes * 0x20) & ~word;
    const uint64_t del = ((word ^ (kOnes * 0x7f)) - kOnes) & ~(word ^ (kOnes * 0x7f));
    const uint64_t hits = (control | del) & (kOnes * 0x80);
    // A borrow can only spoil bytes above the lowest hit, so the lowest one is exact.
    if (hits != 0) return begin + std::countr_zero(hits) / 8;
  }
  while (begin < end && static_cast<uint8_t>(*begin) >= 0x20 && *begin != 0x7f) ++begin;
  return begin;
}

// In the order of HttpMethod.
constexpr std::string_view kMethodNames[] = {"GET",    "HEAD",    "POST", "PUT",
                                             "DELETE", "OPTIONS", "PATCH"};
static_assert(std::size(kMethodNames) == static_cast<size_t>(HttpMethod::kUnknown));

HttpMethod MethodOf(std::string_view name) {
  size_t method = 0;
  while (method < std::size(kMethodNames) && kMethodNames[method] != name) ++method;
  return static_cast<HttpMethod>(method);
}

HttpField FieldIf(std::string_view name, std::string_view lower, HttpField field) {
  return EqualsNoCase(name, lower) ? field : HttpField::kOther;
}

// By length first, so that most headers of a browser cost one jump.
HttpField FieldOf(std::string_view name) {
  if (StartsWithNoCase(name, "x-hayloft-")) return HttpField::kUserField;
  switch (name.size()) {
    case 4:
      return FieldIf(name, "host", HttpField::kHost);
    case 5:
      return FieldIf(name, "range", HttpField::kRange);
    case 6:
      if (EqualsNoCase(name, "digest")) return HttpField::kDigest;
      if (EqualsNoCase(name, "origin")) return HttpField::kOrigin;
      return FieldIf(name, "expect", HttpField::kExpect);
    case 7:
      return FieldIf(name, "referer", HttpField::kReferer);
    case 8:
      if (EqualsNoCase(name, "if-match")) return HttpField::kIfMatch;
      return FieldIf(name, "if-range", HttpField::kIfRange);
    case 9:
      return FieldIf(name, "cache-tag", HttpField::kCacheTag);
    case 10:
      if (EqualsNoCase(name, "hayloft-id")) return HttpField::kFileId;
      return FieldIf(name, "connection", HttpField::kConnection);
    case 11:
      if (EqualsNoCase(name, "content-md5")) return HttpField::kContentMd5;
      return FieldIf(name, "repr-digest", HttpField::kReprDigest);
    case 12:
      if (EqualsNoCase(name, "content-type")) return HttpField::kContentType;
      if (EqualsNoCase(name, "hayloft-sha1")) return HttpField::kSha1;
      return FieldIf(name, "x-request-id", HttpField::kRequestId);
    case 13:
      if (EqualsNoCase(name, "surrogate-key")) return HttpField::kSurrogateKey;
      if (EqualsNoCase(name, "authorization")) return HttpField::kAuthorization;
      if (EqualsNoCase(name, "hayloft-dedup")) return HttpField::kDedup;
      return FieldIf(name, "if-none-match", HttpField::kIfNoneMatch);
    case 14:
      if (EqualsNoCase(name, "content-digest")) return HttpField::kContentDigest;
      if (EqualsNoCase(name, "sec-fetch-site")) return HttpField::kSecFetchSite;
      return FieldIf(name, "content-length", HttpField::kContentLength);
    case 15:
      if (EqualsNoCase(name, "x-forwarded-for")) return HttpField::kForwardedFor;
      if (EqualsNoCase(name, "idempotency-key")) return HttpField::kIdempotencyKey;
      return FieldIf(name, "accept-encoding", HttpField::kAcceptEncoding);
    case 16:
      return FieldIf(name, "content-encoding", HttpField::kContentEncoding);
    case 17:
      if (EqualsNoCase(name, "if-modified-since")) return HttpField::kIfModifiedSince;
      return FieldIf(name, "transfer-encoding", HttpField::kTransferEncoding);
    case 18:
      return FieldIf(name, "hayloft-name-token", HttpField::kNameToken);
    case 19:
      return FieldIf(name, "if-unmodified-since", HttpField::kIfUnmodifiedSince);
    case 29:
      return FieldIf(name, "access-control-request-method", HttpField::kAccessMethod);
    case 30:
      return FieldIf(name, "access-control-request-headers", HttpField::kAccessFields);
    case 20:
      return FieldIf(name, "hayloft-delete-token", HttpField::kDeleteToken);
    default:
      return HttpField::kOther;
  }
}

// uri-host [ ":" port ] (RFC 9110 section 7.2), not empty.
bool IsValidHost(std::string_view host) {
  size_t at = 0;
  if (host.starts_with('[')) {
    at = host.find(']');
    if (at == std::string_view::npos || at < 3) return false;
    const std::string_view address = host.substr(1, at - 1);
    if (address.find_first_not_of("0123456789abcdefABCDEFvV:.") != std::string_view::npos) {
      return false;
    }
    ++at;
  } else {
    while (at < host.size() && kHostChars[host[at]]) ++at;
    if (at == 0) return false;
  }
  if (at == host.size()) return true;
  const std::string_view port = host.substr(at);
  return port.front() == ':' && port.size() <= 6 &&
         port.find_first_not_of("0123456789", 1) == std::string_view::npos;
}

class HeadParser {
 public:
  HeadParser(std::string_view bytes, HttpRequest* request)
      : begin_(bytes.data()),
        at_(begin_),
        end_(begin_ + std::min(bytes.size(), kHttpHeadBytesMax)),
        head_is_full_(bytes.size() >= kHttpHeadBytesMax),
        request_(request) {}

  HttpParsed Run() {
    Reset();
    if (!SkipEmptyLine() || !RequestLine()) return parsed_;
    while (HeaderLine()) {
    }
    return parsed_;
  }

 private:
  void Reset() {
    request_->keep_alive = request_->chunked = false;
    request_->has_content_length = request_->expect_continue = false;
    request_->content_length = 0;
    request_->header_count = 0;
    request_->field_counts.fill(0);
  }

  // Each of these ends the parse and returns false for its caller to return.
  bool Fail(uint16_t status, const char* reason) {
    parsed_.kind = HttpParsed::Kind::kError;
    parsed_.fault = {status, reason};
    return false;
  }
  bool BadRequest(const char* reason) { return Fail(400, reason); }
  // The scan met line_end_ without a decision: a bound, or only the end of what has come so far.
  bool OutOfBytes() {
    if (line_end_ < end_) {
      if (request_line_) return Fail(414, "The request line is longer than 8 KiB.");
      return Fail(431, "A header line is longer than 8 KiB.");
    }
    if (head_is_full_) return Fail(431, "The headers are longer than 32 KiB.");
    parsed_.kind = HttpParsed::Kind::kMore;
    return false;
  }

  void StartLine() {
    line_begin_ = at_;
    // The line's bytes and its CRLF. One byte more exists beyond a bound that was passed.
    line_end_ = end_ - at_ > kLineRoom ? at_ + kLineRoom : end_;
  }

  // Takes "\r\n". A lone CR or LF never ends a line.
  bool EndLine() {
    if (at_ == line_end_) return OutOfBytes();
    if (*at_ != '\r') return BadRequest("A line holds a control byte or ends without CRLF.");
    if (at_ + 1 == line_end_) return OutOfBytes();
    if (at_[1] != '\n') return BadRequest("A carriage return stands alone.");
    at_ += 2;
    return true;
  }

  // One empty line before a request is let pass (RFC 9112 section 2.2): old clients send it.
  bool SkipEmptyLine() {
    StartLine();
    if (at_ == end_) return OutOfBytes();
    return *at_ != '\r' || EndLine();
  }

  bool RequestLine() {
    StartLine();
    request_line_ = true;
    while (at_ < line_end_ && kTokenChars[*at_]) ++at_;
    if (at_ == line_end_) return OutOfBytes();
    if (*at_ != ' ' || at_ == line_begin_) return BadRequest("The method is malformed.");
    request_->method = MethodOf({line_begin_, at_});
    const char* target = ++at_;
    while (at_ < line_end_ && kTargetChars[*at_]) ++at_;
    if (at_ == line_end_) return OutOfBytes();
    if (*at_ != ' ' || at_ == target) return BadRequest("The request target is malformed.");
    const std::string_view target_text(target, at_);
    ++at_;
    if (!Version() || !EndLine()) return false;
    request_line_ = false;
    return Target(target_text);
  }

  bool Version() {
    constexpr std::string_view kShape = "HTTP/d.d";
    const char* version = at_;
    for (char expected : kShape) {
      if (at_ == line_end_) return OutOfBytes();
      if (expected == 'd' ? !IsDigit(*at_) : *at_ != expected) {
        return BadRequest("The HTTP version is malformed.");
      }
      ++at_;
    }
    if (version[5] != '1') return Fail(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.");
    request_->minor_version = version[7] == '0' ? 0 : 1;
    request_->keep_alive = request_->minor_version == 1;
    return true;
  }

  bool Target(std::string_view target) {
    bool absolute = false;
    for (std::string_view scheme : {"http://", "https://"}) {  // absolute-form, from a proxy
      if (!StartsWithNoCase(target, scheme)) continue;
      const size_t authority_end = target.find_first_of("/?", scheme.size());
      if (!IsValidHost(target.substr(scheme.size(), authority_end - scheme.size()))) {
        return BadRequest("The request target names no valid host.");
      }
      absolute = true;
      target = authority_end == std::string_view::npos ? "/" : target.substr(authority_end);
      break;
    }
    const size_t question = target.find('?');
    request_->path = target.substr(0, question);
    request_->query =
        question == std::string_view::npos ? std::string_view() : target.substr(question + 1);
    if (request_->path.empty() && absolute) request_->path = "/";
    const bool asterisk = target == "*" && request_->method == HttpMethod::kOptions;
    if (!request_->path.starts_with('/') && !asterisk) {
      return BadRequest("The request target is not a path.");
    }
    return true;
  }

  // One header, or the empty line that ends the head. False when the parse has ended.
  bool HeaderLine() {
    StartLine();
    if (at_ < line_end_ && *at_ == '\r') {
      if (EndLine()) Finish();
      return false;
    }
    while (at_ < line_end_ && kTokenChars[*at_]) ++at_;
    if (at_ == line_end_) return OutOfBytes();
    if (*at_ != ':' || at_ == line_begin_) {
      return BadRequest("A header name is empty, folded, malformed or followed by a space.");
    }
    const std::string_view name(line_begin_, at_);
    const char* value = ++at_;
    while (true) {
      at_ = SkipText(at_, line_end_);
      if (at_ == line_end_ || *at_ != '\t') break;
      ++at_;
    }
    const char* value_end = at_;
    if (!EndLine()) return false;
    if (request_->header_count == kHttpHeadersMax) return Fail(431, "More than 100 headers.");
    HttpHeader& header = request_->header_table[request_->header_count++];
    header.name = name;
    header.value = TrimBlanks({value, value_end});
    header.field = FieldOf(name);
    return header.field == HttpField::kOther || Known(header);
  }

  bool Known(const HttpHeader& header) {
    const uint32_t count = ++request_->field_counts[static_cast<size_t>(header.field)];
    switch (header.field) {
      case HttpField::kHost:
        if (count > 1) return BadRequest("More than one Host header.");
        return IsValidHost(header.value) || BadRequest("The Host header is malformed.");
      case HttpField::kContentLength:
        if (count > 1) return BadRequest("More than one Content-Length header.");
        return ContentLength(header.value);
      case HttpField::kTransferEncoding:
        if (count > 1) return BadRequest("More than one Transfer-Encoding header.");
        request_->chunked = EqualsNoCase(header.value, "chunked");
        return request_->chunked || BadRequest("Transfer-Encoding may only be \"chunked\".");
      case HttpField::kConnection:
        if (HttpListHasToken(header.value, "close")) request_->keep_alive = false;
        return true;
      case HttpField::kExpect:
        // HTTP/1.0 has no interim answers, so an expectation there means nothing.
        request_->expect_continue = request_->minor_version == 1;
        return EqualsNoCase(header.value, "100-continue") ||
               Fail(417, "The only known expectation is \"100-continue\".");
      case HttpField::kContentType:
        return count == 1 || BadRequest("More than one Content-Type header.");
      case HttpField::kDeleteToken:
        return count == 1 || BadRequest("More than one Hayloft-Delete-Token header.");
      case HttpField::kIdempotencyKey:
        return count == 1 || BadRequest("More than one Idempotency-Key header.");
      case HttpField::kNameToken:
        return count == 1 || BadRequest("More than one Hayloft-Name-Token header.");
      case HttpField::kFileId:
        return count == 1 || BadRequest("More than one Hayloft-Id header.");
      case HttpField::kDedup:
        return count == 1 || BadRequest("More than one Hayloft-Dedup header.");
      case HttpField::kAuthorization:
        return count == 1 || BadRequest("More than one Authorization header.");
      default:
        return true;
    }
  }

  bool ContentLength(std::string_view value) {
    if (value.empty() || value.size() > kContentLengthDigitsMax) {
      return BadRequest("Content-Length is empty or far too large.");
    }
    uint64_t length = 0;
    for (char c : value) {
      if (!IsDigit(c)) return BadRequest("Content-Length is not a plain decimal number.");
      length = length * 10 + static_cast<uint64_t>(c - '0');
    }
    request_->content_length = length;
    request_->has_content_length = true;
    return true;
  }

  // What only the whole head shows.
  void Finish() {
    ASSERT(at_ <= end_);
    if (request_->minor_version == 1 && request_->Count(HttpField::kHost) == 0) {
      BadRequest("HTTP/1.1 needs a Host header.");
    } else if (request_->chunked && request_->has_content_length) {
      BadRequest("Content-Length and Transfer-Encoding exclude each other.");
    } else if (request_->chunked && request_->minor_version == 0) {
      BadRequest("HTTP/1.0 has no Transfer-Encoding.");
    } else {
      parsed_.kind = HttpParsed::Kind::kRequest;
      parsed_.head_bytes = static_cast<size_t>(at_ - begin_);
    }
  }

  static constexpr ptrdiff_t kLineRoom = kHttpLineBytesMax + 2;

  const char* const begin_;
  const char* at_;
  const char* const end_;
  const bool head_is_full_;
  const char* line_begin_ = nullptr;
  const char* line_end_ = nullptr;  // at most where the line's bound lies
  bool request_line_ = false;
  HttpRequest* const request_;
  HttpParsed parsed_;
};

// Since the last call no line has ended and no bound was met: the answer is still "more".
bool StillMore(std::string_view bytes, size_t previous_size) {
  if (previous_size == 0 || bytes.size() >= kHttpHeadBytesMax) return false;
  ASSERT(previous_size <= bytes.size());
  if (bytes.find('\n', previous_size) != std::string_view::npos) return false;
  const size_t last_lf = bytes.rfind('\n');
  const size_t line = last_lf == std::string_view::npos ? 0 : last_lf + 1;
  return bytes.size() - line <= kHttpLineBytesMax;
}

}  // namespace

std::string_view HttpRequest::Value(HttpField field) const {
  if (Count(field) == 0) return {};
  for (const HttpHeader& header : headers()) {
    if (header.field == field) return header.value;
  }
  ASSERT(!"a counted header is in the table");
  return {};
}

HttpParsed ParseHttpRequest(std::string_view bytes, size_t previous_size, HttpRequest* request) {
  if (StillMore(bytes, previous_size)) return {};
  return HeadParser(bytes, request).Run();
}

ChunkedDecoder::Step ChunkedDecoder::Fail(uint16_t status, const char* reason) {
  state_ = State::kFailed;
  fault_ = {status, reason};
  return Step::kError;
}

ChunkedDecoder::Step ChunkedDecoder::Next(std::string_view* input, std::string_view* data) {
  if (state_ == State::kFailed) return Step::kError;
  while (state_ != State::kDone) {
    if (input->empty()) return Step::kMore;
    if (state_ == State::kData) {
      ASSERT(chunk_left_ > 0);
      *data = input->substr(0, chunk_left_);
      input->remove_prefix(data->size());
      chunk_left_ -= data->size();
      if (chunk_left_ == 0) state_ = State::kDataCr;
      return Step::kData;
    }
    const char c = input->front();
    input->remove_prefix(1);
    if (OnByte(c) == Step::kError) return Step::kError;
  }
  return Step::kDone;
}

ChunkedDecoder::Step ChunkedDecoder::OnByte(char c) {
  switch (state_) {
    case State::kSize:
    case State::kExtension:
      return OnSizeByte(c);
    case State::kSizeLf:
      if (c != '\n') return Fail(400, "A chunk's size line does not end in CRLF.");
      size_digits_ = 0;
      state_ = chunk_left_ > 0 ? State::kData : State::kTrailerStart;
      return Step::kMore;
    case State::kDataCr:
      if (c != '\r') return Fail(400, "A chunk is longer than its size.");
      state_ = State::kDataLf;
      return Step::kMore;
    case State::kDataLf:
      if (c != '\n') return Fail(400, "A chunk does not end in CRLF.");
      state_ = State::kSize;
      return Step::kMore;
    case State::kEndLf:
      if (c != '\n') return Fail(400, "The chunked body does not end in CRLF.");
      state_ = State::kDone;
      return Step::kMore;
    default:
      return OnTrailerByte(c);
  }
}

ChunkedDecoder::Step ChunkedDecoder::OnSizeByte(char c) {
  if (c == '\r' && size_digits_ > 0) {
    state_ = State::kSizeLf;
    return Step::kMore;
  }
  if (state_ == State::kExtension) {
    if (++extension_bytes_ > kChunkExtensionBytesMax)
      return Fail(400, "Chunk extensions too long.");
    const bool text = static_cast<uint8_t>(c) >= 0x20 && c != 0x7f;
    return text || c == '\t' ? Step::kMore : Fail(400, "A chunk extension holds a control byte.");
  }
  if (c == ';' && size_digits_ > 0) {
    state_ = State::kExtension;
    return Step::kMore;
  }
  const char lower = static_cast<char>(c | 0x20);
  const bool letter = lower >= 'a' && lower <= 'f';
  if (!IsDigit(c) && !letter) return Fail(400, "A chunk's size is not a hexadecimal number.");
  if (++size_digits_ > kChunkSizeDigitsMax) return Fail(400, "A chunk's size has too many digits.");
  const int digit = letter ? lower - 'a' + 10 : c - '0';
  chunk_left_ = chunk_left_ << 4 | static_cast<uint64_t>(digit);
  return Step::kMore;
}

ChunkedDecoder::Step ChunkedDecoder::OnTrailerByte(char c) {
  if (++trailer_bytes_ > kChunkTrailerBytesMax) return Fail(431, "The trailers are too long.");
  switch (state_) {
    case State::kTrailerStart:
      if (c == '\r') {
        state_ = State::kEndLf;
        return Step::kMore;
      }
      if (!kTokenChars[c]) return Fail(400, "A trailer's name is malformed.");
      state_ = State::kTrailerName;
      return Step::kMore;
    case State::kTrailerName:
      if (c == ':') {
        state_ = State::kTrailerValue;
        return Step::kMore;
      }
      return kTokenChars[c] ? Step::kMore : Fail(400, "A trailer's name is malformed.");
    case State::kTrailerValue:
      if (c == '\r') {
        state_ = State::kTrailerLf;
        return Step::kMore;
      }
      if (c == '\t' || (static_cast<uint8_t>(c) >= 0x20 && c != 0x7f)) return Step::kMore;
      return Fail(400, "A trailer holds a control byte.");
    case State::kTrailerLf:
      if (c != '\n') return Fail(400, "A trailer does not end in CRLF.");
      state_ = State::kTrailerStart;
      return Step::kMore;
    default:
      ASSERT(!"the decoder is in a state that takes single bytes");
      return Step::kError;
  }
}

HttpField HttpFieldOf(std::string_view name) { return FieldOf(name); }

std::string_view HttpMethodName(HttpMethod method) {
  return method == HttpMethod::kUnknown ? "" : kMethodNames[static_cast<size_t>(method)];
}

bool IsHttpToken(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return kTokenChars[c]; });
}

bool HttpListHasToken(std::string_view value, std::string_view token) {
  while (!value.empty()) {
    const size_t comma = std::min(value.find(','), value.size());
    if (EqualsNoCase(TrimBlanks(value.substr(0, comma)), token)) return true;
    value.remove_prefix(std::min(comma + 1, value.size()));
  }
  return false;
}

}  // namespace hayloft
