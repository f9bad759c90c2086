#include "gateway/access_log.h"

#include <algorithm>
#include <array>

#include "gateway/http_date.h"
#include "gateway/http_semantics.h"

namespace hayloft {

namespace {

constexpr size_t kNameBytesMax = 32;
// Parameters whose values are for people. A new one is no secret only when it stands here.
constexpr std::array<std::string_view, 1> kOpenParameters = {"download"};

bool IsPlainName(std::string_view name) {
  return !name.empty() && name.size() <= kNameBytesMax &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  c == '-' || c == '_';
         });
}

std::string_view MethodName(HttpMethod method) {
  return method == HttpMethod::kUnknown ? "OTHER" : HttpMethodName(method);
}

std::string Cut(std::string text, size_t bytes_max) {
  if (text.size() > bytes_max) text.replace(bytes_max, std::string::npos, "...");
  return text;
}

// A whole URL, of another site perhaps: its query may be somebody's secret as well. So may what
// stands before the host.
std::string RedactUrl(std::string_view url) {
  const size_t fragment = std::min(url.find('#'), url.size());
  const size_t query = std::min(url.find('?'), fragment);
  std::string text(url.substr(0, query));
  if (const size_t at = text.find('@'); at != std::string::npos) text.replace(0, at, "*");
  if (query < fragment) {
    text.push_back('?');
    text += RedactQuery(url.substr(query + 1, fragment - query - 1));
  }
  return text;
}

void AppendSafe(std::string_view text, std::string* out) {
  static constexpr char kDigits[] = "0123456789abcdef";
  for (const char c : text) {
    if (c >= ' ' && c < 0x7f && c != '"' && c != '\\') {
      out->push_back(c);
      continue;
    }
    const auto byte = static_cast<uint8_t>(c);
    out->append("\\x").append({kDigits[byte >> 4], kDigits[byte & 15]});
  }
}

// A field between spaces: what is absent is "-".
void AppendWord(std::string_view text, std::string* out) {
  out->push_back(' ');
  if (text.empty()) {
    out->push_back('-');
    return;
  }
  AppendSafe(text, out);
}

void AppendQuoted(std::string_view text, std::string* out) {
  out->append(" \"");
  if (text.empty()) out->push_back('-');
  AppendSafe(text, out);
  out->push_back('"');
}

void AppendNumber(uint64_t number, std::string* out) {
  out->push_back(' ');
  AppendDecimal(number, out);
}

// "29/Nov/2026:03:06:15 +0000"
void AppendLogTime(uint64_t wall_ms, std::string* out) {
  const auto date = FormatHttpDate(wall_ms / 1'000);  // "Sun, 29 Nov 2026 03:06:15 GMT"
  const std::string_view text(date.data(), date.size());
  out->append(text.substr(5, 2)).append("/").append(text.substr(8, 3)).append("/");
  out->append(text.substr(12, 4)).append(":").append(text.substr(17, 8)).append(" +0000");
}

std::string RequestLine(const AccessRecord& record) {
  if (record.method.empty()) return {};
  return record.method + " " + record.target +
         (record.minor_version == 0 ? " HTTP/1.0" : " HTTP/1.1");
}

void AppendCombined(const AccessRecord& record, std::string* out) {
  out->append(record.peer.Text()).append(" -");
  AppendWord(record.user, out);
  out->append(" [");
  AppendLogTime(record.wall_ms, out);
  out->push_back(']');
  AppendQuoted(RequestLine(record), out);
  AppendNumber(static_cast<uint64_t>(record.status), out);
  AppendNumber(record.sent_bytes, out);
  AppendQuoted(record.referer, out);
  AppendQuoted(record.user_agent, out);
  AppendNumber(record.whole_us, out);
  AppendNumber(record.first_byte_us, out);
  AppendWord(record.request_id, out);
  AppendWord(record.dsp, out);
  AppendWord(record.cache, out);
  AppendWord(record.tls_version, out);
  AppendWord(record.broken ? "broken" : "", out);
}

class JsonLine {
 public:
  explicit JsonLine(std::string* out) : out_(out) {}
  // Absent fields are left out.
  JsonLine& Text(std::string_view name, std::string_view value) {
    if (value.empty()) return *this;
    std::string safe;
    AppendSafe(value, &safe);
    Name(name);
    AppendJsonString(safe, out_);
    return *this;
  }
  JsonLine& Number(std::string_view name, uint64_t value) {
    Name(name);
    AppendDecimal(value, out_);
    return *this;
  }

 private:
  void Name(std::string_view name) {
    out_->append(first_ ? "{\"" : ",\"").append(name).append("\":");
    first_ = false;
  }
  std::string* out_;
  bool first_ = true;
};

void AppendJson(const AccessRecord& record, std::string* out) {
  JsonLine line(out);
  line.Text("time", FormatTimestamp(record.wall_ms))
      .Text("client", record.peer.Text())
      .Text("user", record.user)
      .Text("method", record.method)
      .Text("target", record.target);
  if (!record.method.empty()) line.Text("protocol", record.minor_version == 0 ? "1.0" : "1.1");
  line.Number("status", static_cast<uint64_t>(record.status))
      .Number("sent_bytes", record.sent_bytes)
      .Text("referer", record.referer)
      .Text("user_agent", record.user_agent)
      .Number("us", record.whole_us)
      .Number("first_byte_us", record.first_byte_us)
      .Text("request_id", record.request_id)
      .Text("dsp", record.dsp)
      .Text("cache", record.cache)
      .Text("tls", record.tls_version);
  if (record.broken) line.Text("end", "broken");
  out->push_back('}');
}

}  // namespace

std::string RedactQuery(std::string_view query) {
  std::string text;
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view parameter = query.substr(0, end);
    const size_t equals = parameter.find('=');
    const std::string_view name = parameter.substr(0, equals);
    if (!text.empty()) text.push_back('&');
    if (equals == std::string_view::npos || !IsPlainName(name)) {
      text.append(parameter.empty() ? "" : "*");  // a secret may stand alone
    } else {
      const bool open =
          std::find(kOpenParameters.begin(), kOpenParameters.end(), name) != kOpenParameters.end();
      text.append(name).append("=").append(open ? parameter.substr(equals + 1) : "*");
    }
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return text;
}

void NoteRequest(const HttpRequest& request, AccessRecord* record) {
  record->method = MethodName(request.method);
  record->minor_version = request.minor_version;
  std::string target(request.path);
  if (!request.query.empty()) target += "?" + RedactQuery(request.query);
  record->target = Cut(std::move(target), kAccessTargetBytesMax);
  for (const HttpHeader& header : request.headers()) {
    if (EqualsNoCase(header.name, "user-agent")) {
      record->user_agent = Cut(std::string(header.value), kAccessFieldBytesMax);
    } else if (header.field == HttpField::kReferer) {
      record->referer = Cut(RedactUrl(header.value), kAccessFieldBytesMax);
    }
  }
}

void AppendAccessLine(const AccessRecord& record, AccessFormat format, std::string* out) {
  if (format == AccessFormat::kCombined) {
    AppendCombined(record, out);
  } else {
    AppendJson(record, out);
  }
  out->push_back('\n');
}

}  // namespace hayloft
