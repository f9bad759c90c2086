// From the bytes of an upload to the put that stores them. Pure.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "client/client_types.h"
#include "common/codec.h"
#include "common/delete_token.h"
#include "common/result.h"

namespace hayloft {

struct Upload {
  Buffer raw;
  std::string content_type;  // visible ASCII and single spaces: goes into a header line as it is
  std::map<std::string, std::string> fields;
  Nonce nonce{};  // random; the delete token rests on it
  Sha1 sha1{};    // of `raw`
  Sha256 sha256{};
  uint32_t timeout_ms = 10'000;
};

// True for types that aren't compressed already. Parameters and case of the type don't matter.
bool IsCompressible(std::string_view content_type);

// kInvalid: empty, or a content type or a field that could forge a header line (FAULTS S12).
// kTooLarge: over kFileBytesMax, or the metadata over its bound. Compresses where that pays.
Result<PutRequest> PreparePut(Upload&& upload);

}  // namespace hayloft
