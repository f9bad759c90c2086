#include "gateway/upload_headers.h"

#include <algorithm>

namespace hayloft {

namespace {

constexpr HttpField kUploadFields[] = {HttpField::kContentMd5, HttpField::kDigest,
                                       HttpField::kContentDigest, HttpField::kReprDigest};

HttpFault TakeDigest(const HttpHeader& header, UploadHeaders* out) {
  if (out->digests == nullptr) out->digests = std::make_unique<ExpectedDigests>();
  if (out->digests->Add(header.field, header.value)) return {};
  return {400, "A digest of the file is malformed, or contradicts another one."};
}

}  // namespace

bool HasUploadHeaders(const HttpRequest& request) {
  return std::any_of(std::begin(kUploadFields), std::end(kUploadFields),
                     [&](HttpField field) { return request.Count(field) > 0; });
}

HttpFault TakeUploadHeaders(std::span<const HttpHeader> headers, UploadHeaders* out) {
  for (const HttpHeader& header : headers) {
    if (!IsDigestField(header.field)) continue;
    const HttpFault fault = TakeDigest(header, out);
    if (fault.status != 0) return fault;
  }
  return {};
}

}  // namespace hayloft
