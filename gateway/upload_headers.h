// What the headers of an upload say of its file beside the type: digests of its bytes. They stand
// in the head of a raw upload, and in the headers of a part of a form. Pure.
#pragma once

#include <memory>
#include <span>

#include "gateway/digests.h"
#include "gateway/http_parser.h"

namespace hayloft {

struct UploadHeaders {
  std::unique_ptr<ExpectedDigests> digests;  // null: none was sent
};

// Whether a request's head has any of them: most have none, and need no second look. In the head
// of a form they would be of no file: refused there.
bool HasUploadHeaders(const HttpRequest& request);

// Takes those of one file. Status 0: fine. 400: one is malformed, or contradicts another.
HttpFault TakeUploadHeaders(std::span<const HttpHeader> headers, UploadHeaders* out);

}  // namespace hayloft
