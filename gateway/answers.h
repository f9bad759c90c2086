// The JSON bodies of the gateway's answers (DESIGN.md section 9). Pure.
#pragma once

#include <string>
#include <string_view>

#include "client/client_types.h"
#include "common/needle.h"
#include "gateway/http_parser.h"

namespace hayloft {

// The snake_case code of an answer that tells of `fault`.
std::string_view FaultCode(const HttpFault& fault);

struct UploadAnswer {
  std::string_view id;
  uint64_t size = 0;
  std::string_view sha1_hex;
  std::string_view content_type;
  std::string_view delete_token;
};
std::string UploadJson(const UploadAnswer& upload);  // without a newline

// kCorrupt when the head that the dsp sent cannot be read.
Result<std::string> FileJson(std::string_view id, const StatDone& stat);

std::string UndeleteJson(std::string_view id);

}  // namespace hayloft
