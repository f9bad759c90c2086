#include "gateway/content_disposition.h"

#include <algorithm>

#include "common/check.h"
#include "gateway/http_parser.h"
#include "gateway/http_semantics.h"

namespace hayloft {

namespace {

struct Row {
  std::string_view type;
  std::string_view extension;
};
constexpr Row kExtensions[] = {
    {"image/jpeg", ".jpg"},      {"image/png", ".png"},       {"image/webp", ".webp"},
    {"image/gif", ".gif"},       {"image/avif", ".avif"},     {"image/heic", ".heic"},
    {"image/svg+xml", ".svg"},   {"image/bmp", ".bmp"},       {"image/tiff", ".tif"},
    {"image/x-icon", ".ico"},    {"image/jxl", ".jxl"},       {"text/plain", ".txt"},
    {"text/html", ".html"},      {"text/css", ".css"},        {"text/csv", ".csv"},
    {"text/xml", ".xml"},        {"application/xml", ".xml"}, {"application/json", ".json"},
    {"application/pdf", ".pdf"}, {"application/zip", ".zip"}, {"application/gzip", ".gz"},
    {"video/mp4", ".mp4"},       {"video/webm", ".webm"},     {"audio/mpeg", ".mp3"},
    {"audio/ogg", ".ogg"},       {"text/javascript", ".js"},
};

uint32_t CodePoint(std::string_view sequence) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(sequence[i]); };
  if (sequence.size() == 1) return byte(0);
  uint32_t point = byte(0) & (0xffu >> (sequence.size() + 1));
  for (size_t i = 1; i < sequence.size(); ++i) point = point << 6 | (byte(i) & 0x3fu);
  return point;
}

bool IsForbidden(uint32_t point) {
  if (point < 0x20 || (point >= 0x7f && point < 0xa0)) return true;  // C0, DEL, C1
  if (point == '/' || point == '\\') return true;
  // Marks, embeddings, overrides and isolates of direction; line and paragraph separators.
  return point == 0x61c || (point >= 0x200e && point <= 0x200f) ||
         (point >= 0x2028 && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069);
}

// RFC 8187 section 3.2.1, attr-char.
bool IsAttrChar(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         std::string_view("!#$&+-.^_`|~").find(c) != std::string_view::npos;
}

// What all clients read alike in a quoted string: RFC 6266 appendix D warns of the others.
bool IsPlainChar(char c) { return c >= ' ' && c <= '~' && c != '"' && c != '%'; }

}  // namespace

bool IsSaveName(std::string_view name) {
  if (name.empty() || name.size() > kSaveNameBytesMax || name == "." || name == "..") return false;
  while (!name.empty()) {
    const size_t length = Utf8Length(name);
    if (length == 0 || IsForbidden(CodePoint(name.substr(0, length)))) return false;
    name.remove_prefix(length);
  }
  return true;
}

std::string AttachmentNamed(std::string_view name) {
  ASSERT(IsSaveName(name));
  std::string plain;
  std::string encoded;
  for (std::string_view rest = name; !rest.empty();) {
    const std::string_view sequence = rest.substr(0, Utf8Length(rest));
    plain.push_back(IsPlainChar(sequence[0]) ? sequence[0] : '_');
    for (char c : sequence) {
      if (IsAttrChar(c)) {
        encoded.push_back(c);
        continue;
      }
      constexpr std::string_view kDigits = "0123456789ABCDEF";
      encoded.push_back('%');
      encoded.push_back(kDigits[static_cast<uint8_t>(c) >> 4]);
      encoded.push_back(kDigits[static_cast<uint8_t>(c) & 15]);
    }
    rest.remove_prefix(sequence.size());
  }
  std::string value = "attachment; filename=\"" + plain + "\"";
  if (plain != name) value += "; filename*=UTF-8''" + encoded;
  return value;
}

std::string_view ExtensionOf(std::string_view content_type) {
  std::string_view type = content_type.substr(0, content_type.find(';'));
  while (type.ends_with(' ')) type.remove_suffix(1);
  for (const Row& row : kExtensions) {
    if (EqualsNoCase(type, row.type)) return row.extension;
  }
  return {};
}

}  // namespace hayloft
