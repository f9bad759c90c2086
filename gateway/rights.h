// Who may do what here: upload keys (as bearer tokens, RFC 6750) and signed URLs
// (common/signed_url.h).
//
//   request                  needs, once there are keys of any kind      else
//   POST /v1/files           an upload key, or a URL signed for POST     401
//   DELETE, undelete         its file's delete token, as ever: that is   401
//                            checked elsewhere, and no key replaces it
//   GET, HEAD of a file      with signed_reads a URL signed for GET      403
//   GET, HEAD of its JSON    with signed_reads either of the two         401
//   PUT of a name            as POST: who has either writes over what is there, too      401
//   DELETE of a name         either, or else the name's token, checked elsewhere         401
//   GET, HEAD of a name      as of a file                                                403
//   the list of names        either                                                      401
//   health, pages, OPTIONS   nothing; nor does what is not there
//
// Once there are signing keys, a request with any "hl-" parameter is judged by its URL alone: one
// that is malformed, not ours or for something else is 403, one that has expired 410. The signature
// is looked at first, so that only who had a true URL learns that it has expired.
//
// Immutable: a reload makes another one. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/key_file.h"
#include "gateway/gateway_options.h"
#include "gateway/routes.h"

namespace hayloft {

struct RightsKeys {
  std::vector<SigningKey> signing{};
  std::vector<UploadKey> upload{};
  bool signed_reads = false;
  uint64_t skew_s = 0;  // URLs hold for so much longer; at most kClockSkewSecondsMax
};

// Views of the caller's.
struct RightsRequest {
  Route::Kind kind = Route::Kind::kError;
  HttpMethod method = HttpMethod::kUnknown;
  std::string_view path{};   // as in the request line
  std::string_view query{};  // likewise
  std::string_view authorization{};
  uint64_t now_s = 0;  // since 1970
};

struct RightsVerdict {
  enum class Kind : uint8_t {
    kAllowed,
    kNoKey,     // 401
    kNoUrl,     // 403
    kWrongKey,  // 403
    kWrongUrl,  // 403
    kExpired,   // 410
  };
  Kind kind = Kind::kAllowed;
  std::string_view key_name{};  // once it is proven; of the keys, or empty. No secret.
  // Of a signed URL that allows the request; `type` and `nonce` are views of its query.
  std::optional<uint64_t> seconds_left{};
  std::optional<uint64_t> body_bytes_max{};
  std::string_view type{};   // what each file that is uploaded must be; empty: anything
  std::string_view nonce{};  // the URL is for once; empty: for any number of times
  uint64_t honoured_until_s = 0;

  bool allowed() const { return kind == Kind::kAllowed; }
};

class Rights {
 public:
  explicit Rights(RightsKeys keys) : keys_(std::move(keys)) {}
  RightsVerdict Check(const RightsRequest& request) const;
  const RightsKeys& keys() const { return keys_; }

 private:
  RightsVerdict CheckUrl(const RightsRequest& request, const SignedParameters& url) const;
  RightsVerdict CheckKey(std::string_view authorization) const;

  const RightsKeys keys_;
};

// Whether a media type, parameters and all, is what a URL asks for: "image/png", or "image/*".
bool TypeFits(std::string_view wanted, std::string_view type);

}  // namespace hayloft
