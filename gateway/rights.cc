#include "gateway/rights.h"

#include <algorithm>

namespace hayloft {

namespace {

using Kind = RightsVerdict::Kind;

constexpr std::string_view kBearer = "bearer";

bool NeedsRights(Route::Kind kind) {
  switch (kind) {
    case Route::Kind::kUpload:
    case Route::Kind::kRead:
    case Route::Kind::kDescribe:
    case Route::Kind::kDelete:
    case Route::Kind::kUndelete:
    case Route::Kind::kReadName:
    case Route::Kind::kPutName:
    case Route::Kind::kDeleteName:
    case Route::Kind::kListNames:
    case Route::Kind::kWarm:
      return true;
    case Route::Kind::kError:
    case Route::Kind::kHealth:
    case Route::Kind::kReady:
    case Route::Kind::kPage:  // these show nothing of any file
    case Route::Kind::kStatus:
    case Route::Kind::kOptions:
      return false;
  }
  ASSERT(!"a route has a known kind");
  return true;
}

// The token of "Bearer TOKEN"; nullopt when it is of another scheme, or nothing.
std::optional<std::string_view> BearerToken(std::string_view authorization) {
  const size_t gap = authorization.find(' ');
  if (!EqualsNoCase(authorization.substr(0, gap), kBearer)) return std::nullopt;
  if (gap == std::string_view::npos) return std::string_view();
  return TrimBlanks(authorization.substr(gap));
}

// A URL for GET is one for HEAD.
std::string_view SignedMethod(HttpMethod method) {
  return HttpMethodName(method == HttpMethod::kHead ? HttpMethod::kGet : method);
}

}  // namespace

RightsVerdict Rights::Check(const RightsRequest& request) const {
  if (!NeedsRights(request.kind)) return {};
  if (!keys_.signing.empty() && !request.query.empty()) {
    const SignedParameters url = FindSignedParameters(request.query);
    if (url.present) return CheckUrl(request, url);
  }
  const Route route{.kind = request.kind, .status = 200};
  if (route.stores() || request.kind == Route::Kind::kListNames ||
      request.kind == Route::Kind::kWarm) {
    return CheckKey(request.authorization);
  }
  // Its token does as well, which is checked elsewhere.
  if (request.kind == Route::Kind::kDeleteName && BearerToken(request.authorization)) {
    return CheckKey(request.authorization);
  }
  if (!keys_.signed_reads) return {};
  if (request.kind == Route::Kind::kDescribe) return CheckKey(request.authorization);
  if (route.sends_file()) return {.kind = Kind::kNoUrl};
  return {};
}

RightsVerdict Rights::CheckUrl(const RightsRequest& request, const SignedParameters& url) const {
  const RightsVerdict wrong{.kind = Kind::kWrongUrl};
  if (url.malformed) return wrong;
  const auto key = std::find_if(keys_.signing.begin(), keys_.signing.end(),
                                [&url](const SigningKey& each) { return each.id == url.key_id; });
  if (key == keys_.signing.end()) return wrong;
  const SignedRequest what{.method = SignedMethod(request.method), .path = request.path};
  if (!SignatureFits(*key, what, url)) return wrong;
  RightsVerdict verdict{.key_name = key->id, .honoured_until_s = url.expires_s + keys_.skew_s};
  if (request.now_s >= verdict.honoured_until_s) {
    verdict.kind = Kind::kExpired;
    return verdict;
  }
  const uint64_t left_s = url.expires_s - std::min(url.expires_s, request.now_s);
  if (!url.nonce.empty()) {
    // A read changes nothing, and caches repeat it as they like: nobody could count on "once".
    const bool reads = !Route{.kind = request.kind, .status = 200}.writes();
    // Nonces are remembered while their URLs live. The signer's clock may be ahead of ours.
    if (reads || left_s > kUrlNonceLifeMaxS + kClockSkewSecondsMax) {
      verdict.kind = Kind::kWrongUrl;
      return verdict;
    }
  }
  verdict.seconds_left = left_s;
  verdict.body_bytes_max = url.limit_bytes;
  verdict.type = url.type;
  verdict.nonce = url.nonce;
  return verdict;
}

RightsVerdict Rights::CheckKey(std::string_view authorization) const {
  const std::optional<std::string_view> token = BearerToken(authorization);
  if (!token) return {.kind = Kind::kNoKey};
  const UploadKey* key = FindUploadKey(keys_.upload, *token);
  if (key == nullptr) return {.kind = Kind::kWrongKey};
  return {.key_name = key->name};
}

bool TypeFits(std::string_view wanted, std::string_view type) {
  const std::string_view essence = TrimBlanks(type.substr(0, type.find(';')));
  const std::string lower = LowerText(wanted);
  if (!lower.ends_with("/*")) return EqualsNoCase(essence, lower);
  return StartsWithNoCase(essence, std::string_view(lower).substr(0, lower.size() - 1));
}

}  // namespace hayloft
