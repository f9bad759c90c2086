#include "gateway/cors.h"

#include <algorithm>

#include "common/options.h"
#include "gateway/http_parser.h"

namespace hayloft {

namespace {

// Names that are echoed to a listed page.
constexpr size_t kFieldNamesBytesMax = 1'024;
constexpr std::string_view kExposed =
    "Access-Control-Expose-Headers: ETag, Content-Length, Content-Range, Content-Encoding, "
    "Content-Disposition, Accept-Ranges, Location, Retry-After, X-Cache, X-Request-Id, "
    "Server-Timing\r\n";
constexpr std::string_view kReadFields =
    "Range, If-Range, If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, "
    "X-Request-Id";
// Chromium keeps the outcome of a preflight for no longer.
constexpr std::string_view kMaxAge = "Access-Control-Max-Age: 7200\r\n";

bool IsNameChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_';
}

// A list of field names, and nothing that could end the line that it is echoed in.
bool IsFieldNames(std::string_view text) {
  return !text.empty() && text.size() <= kFieldNamesBytesMax &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return IsNameChar(c) || c == ',' || c == ' '; });
}

void AppendLine(std::string_view name, std::string_view value, std::string* out) {
  out->append(name).append(": ").append(value).append("\r\n");
}

}  // namespace

CorsPolicy::CorsPolicy(std::string_view origins, bool open_reads) {
  for (const std::string& each : SplitList(origins)) {
    std::string origin = LowerText(each);
    std::string lines = "Access-Control-Allow-Origin: " + origin + "\r\nVary: Origin\r\n";
    lines += kExposed;
    listed_.push_back({.origin = std::move(origin), .lines = std::move(lines)});
  }
  if (!open_reads) return;
  // Without credentials "*" means all, a file's own fields too; and it is in every answer.
  read_lines_ = "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: *\r\n";
  // A page that isolates itself (COEP) shows only what says so.
  AppendLine("Cross-Origin-Resource-Policy", "cross-origin", &read_lines_);
}

std::string_view CorsPolicy::WriteLines(std::string_view origin) const {
  for (const Listed& each : listed_) {
    if (EqualsNoCase(origin, each.origin)) return each.lines;
  }
  return {};
}

std::string CorsPolicy::PreflightLines(const Preflight& preflight) const {
  if (preflight.origin.empty() || preflight.method.empty()) return {};
  std::string lines(WriteLines(preflight.origin));
  if (!lines.empty()) {
    AppendLine("Access-Control-Allow-Methods", preflight.allow, &lines);
    const bool echo = IsFieldNames(preflight.fields);
    AppendLine("Access-Control-Allow-Headers", echo ? preflight.fields : kReadFields, &lines);
    return lines.append(kMaxAge);
  }
  // What is not allowed is not said: the browser then refuses for us.
  if (read_lines_.empty() || !HttpListHasToken(preflight.allow, "get")) return {};
  lines = "Access-Control-Allow-Origin: *\r\n";
  AppendLine("Access-Control-Allow-Methods", "GET, HEAD", &lines);
  AppendLine("Access-Control-Allow-Headers", kReadFields, &lines);
  return lines.append(kMaxAge);
}

}  // namespace hayloft
