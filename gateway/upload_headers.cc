#include "gateway/upload_headers.h"

#include <algorithm>

#include "client/file_fields.h"
#include "common/content.h"

namespace hayloft {

namespace {

HttpFault TakeDigest(const HttpHeader& header, UploadHeaders* out) {
  if (out->digests == nullptr) out->digests = std::make_unique<ExpectedDigests>();
  if (out->digests->Add(header.field, header.value)) return {};
  return {400, "A digest of the file is malformed, or contradicts another one."};
}

const char* Reason(FieldFault fault) {
  switch (fault) {
    case FieldFault::kNone:
      return nullptr;
    case FieldFault::kReserved:
      return "A field of the file has a name that is kept for Hayloft itself.";
    case FieldFault::kName:
      return "The name of a field is X-Hayloft- and up to 54 characters of RFC 9110's tokens.";
    case FieldFault::kValue:
      return "The value of a field may hold visible ASCII and spaces only; encode what else it is.";
    case FieldFault::kTag:
      return "A tag of Surrogate-Key or Cache-Tag is longer than 1,024 bytes.";
  }
  return nullptr;
}

HttpFault TakeField(const HttpHeader& header, UploadHeaders* out) {
  std::string name = LowerText(header.name);
  if (const char* reason = Reason(CheckHttpField(name, header.value))) return {400, reason};
  size_t bytes = name.size() + header.value.size();
  for (const auto& [other, value] : out->fields) bytes += other.size() + value.size();
  if (bytes > kHttpFieldsBytesMax || out->fields.size() == kHttpFieldsMax) {
    return {431, "The fields of a file are more than 32, or longer than 6 KiB together."};
  }
  const bool is_new = out->fields.emplace(std::move(name), header.value).second;
  return is_new ? HttpFault() : HttpFault{400, "A field of the file is there twice."};
}

bool IsFileField(HttpField field) {
  return field == HttpField::kSurrogateKey || field == HttpField::kCacheTag ||
         field == HttpField::kUserField;
}

}  // namespace

bool HasUploadHeaders(const HttpRequest& request) {
  const auto headers = request.headers();
  return std::any_of(headers.begin(), headers.end(), [](const HttpHeader& header) {
    return IsDigestField(header.field) || IsFileField(header.field);
  });
}

HttpFault TakeUploadHeaders(std::span<const HttpHeader> headers, UploadHeaders* out) {
  for (const HttpHeader& header : headers) {
    HttpFault fault;
    if (IsDigestField(header.field)) fault = TakeDigest(header, out);
    if (IsFileField(header.field)) fault = TakeField(header, out);
    if (fault.status != 0) return fault;
  }
  return {};
}

HttpFault TakeUploadTerms(const HttpRequest& request, UploadTerms* out) {
  *out = UploadTerms();
  if (request.Count(HttpField::kDedup) > 0) {
    const std::string_view value = request.Value(HttpField::kDedup);
    out->dedup = !EqualsNoCase(value, "no");
    if (out->dedup && !EqualsNoCase(value, "yes")) {
      return {400, "Hayloft-Dedup is yes or no."};
    }
  }
  if (request.Count(HttpField::kIdempotencyKey) == 0) return {};
  out->idempotency_key = request.Value(HttpField::kIdempotencyKey);
  if (!IsIdempotencyKey(out->idempotency_key)) {
    return {400, "An Idempotency-Key has 16 to 128 visible characters of ASCII."};
  }
  if (!out->dedup) {
    return {400, "An Idempotency-Key needs a look-up, and Hayloft-Dedup: no forbids it."};
  }
  return {};
}

}  // namespace hayloft
