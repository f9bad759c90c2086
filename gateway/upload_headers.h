// What the headers of an upload say of its file beside the type: digests of its bytes, and fields
// that are kept with it (client/file_fields.h). They stand in the head of a raw upload, and in the
// headers of a part of a form. What is asked of the whole request is in its head in any case. Pure.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>

#include "gateway/digests.h"
#include "gateway/http_parser.h"

namespace hayloft {

struct UploadHeaders {
  std::unique_ptr<ExpectedDigests> digests;   // null: none was sent
  std::map<std::string, std::string> fields;  // by names in lower case
};

// Whether a request's head has any of them: most have none, and need no second look. In the head
// of a form they would be of no file: refused there.
bool HasUploadHeaders(const HttpRequest& request);

// Takes those of one file. Status 0: fine. 400: one is malformed, there twice, or contradicts
// another. 431: the fields are too many or too long.
HttpFault TakeUploadHeaders(std::span<const HttpHeader> headers, UploadHeaders* out);

// How the files of a request are to be stored, with a directory.
struct UploadTerms {
  bool dedup = true;            // Hayloft-Dedup is not "no"
  std::string idempotency_key;  // Idempotency-Key; empty: none
};

// Status 400: one of them is malformed, or they contradict each other.
HttpFault TakeUploadTerms(const HttpRequest& request, UploadTerms* out);

}  // namespace hayloft
