#include "gateway/file_lines.h"

#include "client/file_fields.h"
#include "client/sniff.h"
#include "gateway/http_date.h"

namespace hayloft {

namespace {
constexpr std::string_view kSandbox = "default-src 'none'; style-src 'unsafe-inline'; sandbox";
}  // namespace

std::string_view TypeOf(const Metadata& metadata) {
  return IsValidType(metadata.content_type) ? metadata.content_type : kUnknownType;
}

void AddFileFields(const Metadata& metadata, ResponseHead* out) {
  for (const auto& [name, value] : metadata.fields) {
    if (IsSendable(name, value)) out->Add(name, value);
  }
  if (IsActiveType(TypeOf(metadata))) out->Add("Content-Security-Policy", kSandbox);
}

std::string WholeFileLines(const FileAddress& address, const NeedleHead& head,
                           std::string_view cache_control) {
  const Result<Metadata> metadata = ParseMetadata(head.metadata);
  if (head.header.encoding != static_cast<uint8_t>(Encoding::kIdentity) || !metadata.ok()) {
    return {};
  }
  const auto modified = FormatHttpDate(head.header.created_ms / 1'000);
  std::string lines;
  lines.reserve(512);
  ResponseHead out = ResponseHead::GoOn(&lines);
  out.Add("Content-Type", TypeOf(*metadata)).Add("Content-Length", head.header.raw_size);
  out.Add("ETag", "\"" + ToText(address) + "\"");
  out.Add("Last-Modified", {modified.data(), modified.size()});
  out.Add("Accept-Ranges", "bytes").Add("X-Cache", "hit").Add("Cache-Control", cache_control);
  AddFileFields(*metadata, &out);
  out.End();
  return lines;
}

}  // namespace hayloft
