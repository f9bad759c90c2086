#include "gateway/http_semantics.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "common/check.h"

namespace hayloft {

namespace {

struct StatusRow {
  int status;
  std::string_view text;
  std::string_view code;
};
constexpr StatusRow kStatusRows[] = {
    {200, "OK", "ok"},
    {201, "Created", "created"},
    {204, "No Content", "no_content"},
    {206, "Partial Content", "partial_content"},
    {304, "Not Modified", "not_modified"},
    {400, "Bad Request", "bad_request"},
    {401, "Unauthorized", "unauthorized"},
    {403, "Forbidden", "forbidden"},
    {404, "Not Found", "not_found"},
    {405, "Method Not Allowed", "method_not_allowed"},
    {408, "Request Timeout", "request_timeout"},
    {409, "Conflict", "conflict"},
    {410, "Gone", "gone"},
    {411, "Length Required", "length_required"},
    {412, "Precondition Failed", "precondition_failed"},
    {413, "Content Too Large", "too_large"},
    {414, "URI Too Long", "uri_too_long"},
    {415, "Unsupported Media Type", "unsupported_media_type"},
    {416, "Range Not Satisfiable", "range_not_satisfiable"},
    {417, "Expectation Failed", "expectation_failed"},
    {421, "Misdirected Request", "misdirected_request"},
    {429, "Too Many Requests", "rate_limited"},
    {431, "Request Header Fields Too Large", "headers_too_large"},
    {500, "Internal Server Error", "internal"},
    {501, "Not Implemented", "not_implemented"},
    {503, "Service Unavailable", "unavailable"},
    {505, "HTTP Version Not Supported", "http_version_not_supported"},
    {507, "Insufficient Storage", "full"},
};

const StatusRow& RowOf(int status) {
  for (const StatusRow& row : kStatusRows) {
    if (row.status == status) return row;
  }
  ASSERT(!"a status that the gateway sends has a row");
  return kStatusRows[0];
}

}  // namespace

size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const uint8_t second = byte(1);
  if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f)) return 0;
  if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) return 0;
  return length;
}

std::string_view StatusText(int status) { return RowOf(status).text; }
std::string_view StatusCodeName(int status) { return RowOf(status).code; }

ResponseHead::ResponseHead(std::string* out, int status) : out_(out) {
  out_->append("HTTP/1.1 ");
  AppendDecimal(static_cast<uint64_t>(status), out_);
  out_->append(" ").append(StatusText(status)).append("\r\n");
}

ResponseHead& ResponseHead::Add(std::string_view name, std::string_view value) {
  out_->append(name).append(": ").append(value).append("\r\n");
  return *this;
}

ResponseHead& ResponseHead::Add(std::string_view name, uint64_t value) {
  out_->append(name).append(": ");
  AppendDecimal(value, out_);
  out_->append("\r\n");
  return *this;
}

void ResponseHead::End() { out_->append("\r\n"); }

void AppendDecimal(uint64_t value, std::string* out) {
  char digits[20];
  const auto result = std::to_chars(digits, digits + sizeof(digits), value);
  out->append(digits, result.ptr);
}

void AppendJsonString(std::string_view text, std::string* out) {
  const auto stays = [](char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; };
  out->push_back('"');
  while (!text.empty()) {
    const auto end = std::find_if_not(text.begin(), text.end(), stays);
    out->append(text.begin(), end);
    text.remove_prefix(static_cast<size_t>(end - text.begin()));
    if (text.empty()) break;
    const char c = text.front();
    const size_t length = Utf8Length(text);
    if (length == 0) {
      out->append("\\ufffd");
    } else if (static_cast<uint8_t>(c) < 0x20 || c == 0x7f) {
      char escaped[7];
      std::snprintf(escaped, sizeof(escaped), "\\u%04x", static_cast<unsigned>(c));
      out->append(escaped);
    } else {
      if (c == '"' || c == '\\') out->push_back('\\');
      out->append(text.substr(0, length));
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  out->push_back('"');
}

std::string ErrorJson(std::string_view code, std::string_view message) {
  std::string json = "{\"error\":";
  AppendJsonString(code, &json);
  json.append(",\"message\":");
  AppendJsonString(message, &json);
  json.append("}\n");
  return json;
}

}  // namespace hayloft
