// What our HTTP parser and another one, Debian's http-parser 2.9, make of the same bytes.
//
// Requests are smuggled where two parsers in a row disagree: on where a request ends, or on what it
// is. So where both take the bytes as requests, everything that matters must be the same: method,
// target, headers, framing, body, and where the next request begins. Where they disagree about
// taking them, we must be the one that refuses, but for what Excused() lists.
//
// Debian's library is built without its strict mode: it takes, for instance, spaces in a header's
// name. That makes it the better opponent.
#pragma once

#include <http_parser.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/check.h"
#include "gateway/http_parser.h"

namespace hayloft {

// The other parser's view of one message.
struct OtherMessage {
  std::string target;
  std::vector<std::pair<std::string, std::string>> headers;  // trailers are not among them
  std::string body;
  bool head_is_done = false;
  bool is_done = false;
  bool name_is_open = false;
  bool chunked = false;
  bool keep_alive = false;
  uint64_t content_length = 0;  // 0 without one
  uint8_t method = 0;
  size_t bytes = 0;
  http_errno err = HPE_OK;
};

inline OtherMessage* MessageOf(http_parser* parser) {
  return static_cast<OtherMessage*>(parser->data);
}

inline int OnOtherName(http_parser* parser, const char* at, size_t size) {
  OtherMessage* message = MessageOf(parser);
  if (message->head_is_done) return 0;  // a trailer
  if (!message->name_is_open) message->headers.emplace_back();
  message->name_is_open = true;
  message->headers.back().first.append(at, size);
  return 0;
}

inline int OnOtherValue(http_parser* parser, const char* at, size_t size) {
  OtherMessage* message = MessageOf(parser);
  if (message->head_is_done) return 0;
  message->name_is_open = false;
  message->headers.back().second.append(at, size);
  return 0;
}

inline int OnOtherHead(http_parser* parser) {
  OtherMessage* message = MessageOf(parser);
  message->head_is_done = true;
  message->chunked = (parser->flags & F_CHUNKED) != 0;
  message->keep_alive = http_should_keep_alive(parser) != 0;
  message->content_length = (parser->flags & F_CONTENTLENGTH) != 0 ? parser->content_length : 0;
  message->method = static_cast<uint8_t>(parser->method);
  return 0;
}

inline int OnOtherEnd(http_parser* parser) {
  MessageOf(parser)->is_done = true;
  http_parser_pause(parser, 1);
  return 0;
}

inline const http_parser_settings& OtherSettings() {
  static const http_parser_settings settings = [] {
    http_parser_settings made;
    http_parser_settings_init(&made);
    made.on_url = [](http_parser* parser, const char* at, size_t size) {
      MessageOf(parser)->target.append(at, size);
      return 0;
    };
    made.on_header_field = OnOtherName;
    made.on_header_value = OnOtherValue;
    made.on_headers_complete = OnOtherHead;
    made.on_body = [](http_parser* parser, const char* at, size_t size) {
      MessageOf(parser)->body.append(at, size);
      return 0;
    };
    made.on_message_complete = OnOtherEnd;
    return made;
  }();
  return settings;
}

inline OtherMessage ParseByOther(std::string_view bytes) {
  OtherMessage message;
  http_parser parser;
  http_parser_init(&parser, HTTP_REQUEST);
  parser.data = &message;
  message.bytes = http_parser_execute(&parser, &OtherSettings(), bytes.data(), bytes.size());
  message.err = HTTP_PARSER_ERRNO(&parser);
  if (message.err == HPE_PAUSED) message.err = HPE_OK;
  return message;
}

// The same by ours. `request` points into the bytes.
struct OurMessage {
  const HttpRequest* request = nullptr;
  bool refused = false;
  bool head_is_done = false;
  bool is_done = false;
  std::string body;
  size_t bytes = 0;
};

inline void DecodeBody(std::string_view rest, OurMessage* message) {
  const size_t before = rest.size();
  if (!message->request->chunked) {
    const uint64_t length = message->request->content_length;
    message->body = rest.substr(0, length);
    message->is_done = message->body.size() == length;
    message->bytes += message->body.size();
    return;
  }
  ChunkedDecoder decoder;
  std::string_view data;
  ChunkedDecoder::Step step;
  while ((step = decoder.Next(&rest, &data)) == ChunkedDecoder::Step::kData) message->body += data;
  message->refused = step == ChunkedDecoder::Step::kError;
  message->is_done = step == ChunkedDecoder::Step::kDone;
  message->bytes += before - rest.size();
}

inline OurMessage ParseByUs(std::string_view bytes) {
  static const auto request = std::make_unique<HttpRequest>();
  OurMessage message;
  const HttpParsed parsed = ParseHttpRequest(bytes, 0, request.get());
  message.refused = parsed.kind == HttpParsed::Kind::kError;
  message.head_is_done = parsed.kind == HttpParsed::Kind::kRequest;
  if (!message.head_is_done) return message;
  message.request = request.get();
  message.bytes = parsed.head_bytes;
  DecodeBody(bytes.substr(parsed.head_bytes), &message);
  return message;
}

// RFC 9110 section 5.5: the blanks around a value are no part of it; the other one keeps those
// behind it.
inline std::string_view WithoutBlanks(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  return text;
}

// Path and query as they stand in the request, without the authority of an absolute target.
inline std::string TargetOf(const OtherMessage& other) {
  const std::string& target = other.target;
  if (target.starts_with('/') || target == "*") return target;
  const size_t authority = target.find("://");
  if (authority == std::string::npos) return target;
  const size_t path = target.find_first_of("/?", authority + 3);
  if (path == std::string::npos) return "/";
  return target[path] == '?' ? "/" + target.substr(path) : target.substr(path);
}

inline bool IsTargetSame(const HttpRequest& ours, const OtherMessage& other) {
  std::string mine(ours.path);
  std::string theirs = TargetOf(other);
  // An empty query is none.
  if (!theirs.empty() && theirs.find('?') == theirs.size() - 1) theirs.pop_back();
  if (!ours.query.empty()) mine.append("?").append(ours.query);
  return mine == theirs;
}

inline const char* HeadDifference(const HttpRequest& ours, const OtherMessage& other) {
  const std::string_view method = http_method_str(static_cast<http_method>(other.method));
  if (ours.method == HttpMethod::kUnknown) {
    for (const HttpMethod known :
         {HttpMethod::kGet, HttpMethod::kHead, HttpMethod::kPost, HttpMethod::kPut,
          HttpMethod::kDelete, HttpMethod::kOptions, HttpMethod::kPatch}) {
      if (HttpMethodName(known) == method) return "a method that we should know";
    }
  } else if (HttpMethodName(ours.method) != method) {
    return "the method";
  }
  if (!IsTargetSame(ours, other)) return "the target";
  if (ours.headers().size() != other.headers.size()) return "the number of headers";
  for (size_t i = 0; i < other.headers.size(); ++i) {
    if (ours.headers()[i].name != other.headers[i].first) return "a header's name";
    if (ours.headers()[i].value != WithoutBlanks(other.headers[i].second))
      return "a header's value";
  }
  if (ours.chunked != other.chunked) return "whether the body is chunked";
  if (!ours.chunked && ours.content_length != other.content_length) return "the length";
  // To end one that the other keeps does no harm: of HTTP/1.0 we keep none, and the other does not
  // see the "close" behind an empty element (", close", RFC 9110 section 5.6.1.2).
  if (ours.keep_alive && !other.keep_alive) return "whether the connection is kept";
  return nullptr;
}

// It takes any header whose name begins with "Transfer-Encoding" for that one at first, and goes on
// to miss an encoding. A field's name is the whole token (RFC 9110 section 5.1).
inline bool HasLongerEncodingName(const HttpRequest& ours) {
  constexpr std::string_view kName = "transfer-encoding";
  for (const HttpHeader& header : ours.headers()) {
    const bool longer = header.name.size() > kName.size();
    if (longer && EqualsNoCase(header.name.substr(0, kName.size()), kName)) return true;
  }
  return false;
}

// It knows only spaces behind a length; a TAB is optional white space too (RFC 9110 section 5.6.3).
inline bool HasTabBehindLength(const HttpRequest& ours) {
  const std::string_view length = ours.Value(HttpField::kContentLength);
  const char* behind = length.data() + length.size();
  if (length.empty()) return false;
  while (*behind == ' ') ++behind;  // the line ends with CRLF
  return *behind == '\t';
}

// Where the other one may refuse what we take:
inline bool Excused(const OurMessage& ours, const OtherMessage& other) {
  switch (other.err) {
    // A method that it does not know. A method is any token (RFC 9110 section 9.1), and one that a
    // server does not know is answered with 501; we do so, and end the connection if there is a
    // body.
    case HPE_INVALID_METHOD:
      return ours.request->method == HttpMethod::kUnknown;
    // CONNECT with a path: the same.
    case HPE_INVALID_URL:
      return ours.request->method == HttpMethod::kUnknown;
    // It reads trailers as if they were headers and may dislike a length there. A recipient
    // ignores such a field (RFC 9110 section 6.5.1); we drop all trailers.
    case HPE_INVALID_CONTENT_LENGTH:
      if (HasTabBehindLength(*ours.request)) return true;
      [[fallthrough]];
    case HPE_UNEXPECTED_CONTENT_LENGTH:
    case HPE_INVALID_TRANSFER_ENCODING:
      return (other.head_is_done && ours.request->chunked) || HasLongerEncodingName(*ours.request);
    default:
      return false;
  }
}

// What differs in the first message of `bytes`, or null; `*used`: where the next one begins, 0 when
// there is none.
inline const char* MessageDifference(std::string_view bytes, size_t* used) {
  *used = 0;
  const OurMessage ours = ParseByUs(bytes);
  const OtherMessage other = ParseByOther(bytes);
  if (ours.refused) return nullptr;
  if (!ours.head_is_done) return other.head_is_done ? "it needs no more for the head" : nullptr;
  // A tunnel has no body (RFC 9110 section 9.3.6). We have none: 501, and the end of the connection
  // if a body is announced.
  const bool tunnel = other.method == HTTP_CONNECT && other.head_is_done;
  if (tunnel) return ours.request->method == HttpMethod::kUnknown ? nullptr : "CONNECT";
  if (other.err != HPE_OK) return Excused(ours, other) ? nullptr : http_errno_name(other.err);
  if (!other.head_is_done) return "it needs more for the head";
  if (const char* what = HeadDifference(*ours.request, other)) return what;
  if (ours.is_done != other.is_done) return "whether the body is whole";
  if (ours.body != other.body) return "the body";
  if (!ours.is_done) return nullptr;
  if (ours.bytes != other.bytes) return "where the next request begins";
  if (ours.request->keep_alive) *used = ours.bytes;
  return nullptr;
}

// What differs in a connection's bytes, or null: all messages that are pipelined in them.
inline const char* ParserDifference(std::string_view bytes) {
  size_t used = 0;
  do {
    if (const char* what = MessageDifference(bytes, &used)) return what;
    bytes.remove_prefix(used);
  } while (used > 0);
  return nullptr;
}

}  // namespace hayloft
