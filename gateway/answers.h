// The JSON bodies of the gateway's answers (DESIGN.md section 9). Pure.
#pragma once

#include <string>
#include <string_view>

#include "client/client_types.h"
#include "common/needle.h"
#include "gateway/http_parser.h"
#include "gateway/names.h"
#include "gateway/url_templates.h"

namespace hayloft {

// The snake_case code of an answer that tells of `fault`.
std::string_view FaultCode(const HttpFault& fault);

// What a client is told of `err`: a whole sentence, in words of what he asked for.
std::string ErrSentence(Err err);

struct UploadAnswer {
  std::string_view id;
  std::string url;
  uint64_t size = 0;
  std::string_view sha1_hex;
  std::string_view content_type;
  bool duplicate = false;
  std::string_view delete_token;
};
std::string UploadJson(const UploadAnswer& upload);  // without a newline

struct NameAnswer {
  std::string_view name;
  UploadAnswer file;  // its delete token is nobody's: the name holds the reference
  std::string token;
};
std::string NameJson(const NameAnswer& answer);
std::string NamesJson(const NamesPage& page, const UrlTemplates& urls);

// kCorrupt when the head that the dsp sent cannot be read.
Result<std::string> FileJson(std::string_view id, const StatDone& stat);

std::string UndeleteJson(std::string_view id);

}  // namespace hayloft
