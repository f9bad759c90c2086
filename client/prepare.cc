#include "client/prepare.h"

#include <algorithm>

#include "client/file_fields.h"
#include "common/text.h"

namespace hayloft {

namespace {

// A frame of zstd for less is not worth its header and a decoder's start.
constexpr size_t kCompressBytesMin = 256;
// A compressed file is decoded whole for each range of it, on a loop that others wait for: 1 MiB
// costs 2 ms, 32 MiB cost 50 ms and as much memory for every reader.
constexpr size_t kCompressBytesMax = 1 << 20;

bool IsHeaderValue(std::string_view text) {
  if (text.empty() || text.front() == ' ' || text.back() == ' ') return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

// A field that HTTP would carry, and cannot.
bool IsUnfit(const std::pair<const std::string, std::string>& field) {
  return IsHttpFieldName(field.first) && !IsSendable(field.first, field.second);
}

}  // namespace

bool IsCompressible(std::string_view content_type) {
  std::string type = LowerText(content_type.substr(0, content_type.find(';')));
  while (!type.empty() && type.back() == ' ') type.pop_back();
  if (type.starts_with("text/")) return true;
  if (type.ends_with("+xml") || type.ends_with("+json")) return true;  // image/svg+xml
  constexpr std::string_view kTypes[] = {"application/json",
                                         "application/xml",
                                         "application/javascript",
                                         "application/octet-stream",
                                         "image/bmp",
                                         "image/x-ms-bmp",
                                         "image/tiff",
                                         "image/x-icon",
                                         "image/vnd.microsoft.icon"};
  return std::find(std::begin(kTypes), std::end(kTypes), type) != std::end(kTypes);
}

Result<PutRequest> PreparePut(Upload&& upload) {
  if (upload.raw.empty() || !IsHeaderValue(upload.content_type)) return Err::kInvalid;
  if (upload.raw.size() > kFileBytesMax) return Err::kTooLarge;
  if (std::any_of(upload.fields.begin(), upload.fields.end(), IsUnfit)) return Err::kInvalid;
  size_t metadata_bytes = upload.content_type.size();
  for (const auto& [name, value] : upload.fields) metadata_bytes += name.size() + value.size();
  if (metadata_bytes > kMetadataBytesMax) return Err::kTooLarge;

  const bool compressible = IsCompressible(upload.content_type);
  PutRequest put;
  put.metadata = EncodeMetadata({.content_type = std::move(upload.content_type),
                                 .sha1 = upload.sha1,
                                 .sha256 = upload.sha256,
                                 .nonce = upload.nonce,
                                 .fields = std::move(upload.fields)});
  if (put.metadata.size() > kMetadataBytesMax) return Err::kTooLarge;
  put.raw_size = static_cast<uint32_t>(upload.raw.size());
  put.timeout_ms = upload.timeout_ms;
  const bool fits =
      upload.raw.size() >= kCompressBytesMin && upload.raw.size() <= kCompressBytesMax;
  if (compressible && fits) {
    put.stored = CompressIfWorthIt(upload.raw.bytes());
  }
  if (!put.stored.empty()) {
    put.encoding = Encoding::kZstd;
  } else {
    put.stored = std::move(upload.raw);
  }
  return put;
}

}  // namespace hayloft
