// libFuzzer target: the query of a URL: a value, its decoding, the parameters of signed URLs.
// covers: gateway/query.cc
// covers: common/signed_url.cc
//
// The promise: what a naive reading finds. Parameters that are taken can be signed again, mean the
// same then, and fit nothing else than what was signed.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "common/check.h"
#include "common/signed_url.h"
#include "gateway/query.h"

namespace hayloft {
namespace {

std::vector<std::string> Split(std::string_view query) {
  std::vector<std::string> parameters(1);
  for (char c : query) {
    if (c == '&') {
      parameters.emplace_back();
    } else {
      parameters.back() += c;
    }
  }
  return parameters;
}

void CheckValue(std::string_view query, const std::vector<std::string>& parameters) {
  const std::string name = "download";
  const auto is_it = [&](const std::string& one) {
    return one == name || one.starts_with(name + "=");
  };
  const auto first = std::find_if(parameters.begin(), parameters.end(), is_it);
  const std::optional<std::string_view> value = QueryValue(query, name);
  ASSERT(value.has_value() == (first != parameters.end()));
  if (value) ASSERT(*value == first->substr(std::min(name.size() + 1, first->size())));
}

void CheckDecoding(std::string_view text, size_t bytes_max) {
  std::string naive;
  bool malformed = false;
  const auto is_hex = [&](size_t at) {
    return at < text.size() &&
           std::string_view("0123456789abcdefABCDEF").find(text[at]) != text.npos;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      malformed |= !is_hex(i + 1) || !is_hex(i + 2);
      if (malformed) break;
      const std::string digits(text.substr(i + 1, 2));
      naive += static_cast<char>(std::strtoul(digits.c_str(), nullptr, 16));
      i += 2;
    } else {
      naive += text[i] == '+' ? ' ' : text[i];
    }
  }
  const std::optional<std::string> decoded = DecodeQueryValue(text, bytes_max);
  ASSERT(!decoded || *decoded == naive);
  ASSERT(decoded.has_value() == (!malformed && naive.size() <= bytes_max));
}

bool SameParameters(const SignedParameters& a, const SignedParameters& b) {
  return a.key_id == b.key_id && a.expires_s == b.expires_s && a.limit_bytes == b.limit_bytes &&
         a.type == b.type && a.nonce == b.nonce && a.limit_text == b.limit_text &&
         a.expires_text == b.expires_text;
}

void CheckSigned(std::string_view query, std::vector<std::string> parameters) {
  const SignedParameters found = FindSignedParameters(query);
  const auto ours = [](const std::string& one) { return one.starts_with(kSignedParameterPrefix); };
  const auto count = std::count_if(parameters.begin(), parameters.end(), ours);
  ASSERT(found.present == (count > 0));
  if (!found.present || found.malformed) return;
  ASSERT(count >= 3 && count <= 6);  // each once
  // Their order means nothing, nor do others between them.
  std::reverse(parameters.begin(), parameters.end());
  std::string turned;
  for (const std::string& one : parameters) turned += one + "&x=y&";
  const SignedParameters again = FindSignedParameters(turned);
  ASSERT(!again.malformed && again.mac == found.mac && SameParameters(again, found));

  const SigningKey key{.id = std::string(found.key_id), .secret = "0123456789abcdef"};
  UrlGrant grant{.method = "GET",
                 .path = "/AAAAAAAAAAAAAAAAAA",
                 .expires_s = found.expires_s,
                 .limit_bytes = found.limit_bytes,
                 .type = found.type,
                 .nonce = found.nonce};
  const Result<std::string> signed_query = SignedQuery(key, grant);
  ASSERT(signed_query.ok());
  const SignedParameters mine = FindSignedParameters(*signed_query);
  ASSERT(mine.present && !mine.malformed && SameParameters(mine, found));
  ASSERT(SignatureFits(key, {.method = "GET", .path = grant.path}, mine));
  ASSERT(!SignatureFits(key, {.method = "POST", .path = grant.path}, mine));
  ASSERT(!SignatureFits(key, {.method = "GET", .path = "/AAAAAAAAAAAAAAAAAB"}, mine));
  ASSERT(!SignatureFits(key, {.method = "GET", .path = grant.path}, found));
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  if (size < 1) return 0;
  // A copy without a byte to spare, so that the sanitizer sees a read behind the end.
  const std::unique_ptr<char[]> exact(new char[size - 1]);
  std::copy(data + 1, data + size, exact.get());
  const std::string_view query(exact.get(), size - 1);
  const std::vector<std::string> parameters = Split(query);
  CheckValue(query, parameters);
  CheckDecoding(query, data[0]);
  CheckSigned(query, parameters);
  return 0;
}
