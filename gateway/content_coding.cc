#include "gateway/content_coding.h"

#include <algorithm>
#include <optional>

namespace hayloft {

namespace {

constexpr uint32_t kMostWeight = 1'000;  // q=1

// "0.5" is 500 (RFC 9110 section 12.4.2); what is malformed is not wanted: 0.
uint32_t ParseWeight(std::string_view text) {
  if (text.empty() || text.size() > 5 || (text[0] != '0' && text[0] != '1')) return 0;
  if (text.size() > 1 && text[1] != '.') return 0;
  uint32_t weight = static_cast<uint32_t>(text[0] - '0') * kMostWeight;
  uint32_t unit = kMostWeight / 10;
  for (char c : text.substr(std::min<size_t>(2, text.size()))) {
    if (c < '0' || c > '9') return 0;
    weight += static_cast<uint32_t>(c - '0') * unit;
    unit /= 10;
  }
  return weight <= kMostWeight ? weight : 0;
}

// Of one member of the list: "zstd", "zstd;q=0.5".
uint32_t WeightOf(std::string_view parameters) {
  if (parameters.empty()) return kMostWeight;
  parameters = TrimBlanks(parameters.substr(1));
  if (!EqualsNoCase(parameters.substr(0, 2), "q=")) return 0;
  return ParseWeight(parameters.substr(2));
}

struct Weights {
  std::optional<uint32_t> zstd;
  std::optional<uint32_t> identity;
  std::optional<uint32_t> any;
};

void Note(std::string_view member, Weights* weights) {
  const size_t semicolon = std::min(member.find(';'), member.size());
  const std::string_view coding = TrimBlanks(member.substr(0, semicolon));
  const uint32_t weight = WeightOf(member.substr(semicolon));
  std::optional<uint32_t>* of = nullptr;
  if (EqualsNoCase(coding, "zstd")) of = &weights->zstd;
  if (EqualsNoCase(coding, "identity")) of = &weights->identity;
  if (coding == "*") of = &weights->any;
  // Said twice: the less is what both allow.
  if (of != nullptr) *of = std::min(of->value_or(kMostWeight), weight);
}

}  // namespace

bool PrefersZstd(const HttpRequest& request) {
  if (request.Count(HttpField::kAcceptEncoding) == 0) return false;
  Weights weights;
  for (const HttpHeader& header : request.headers()) {
    if (header.field != HttpField::kAcceptEncoding) continue;
    std::string_view list = header.value;
    while (!list.empty()) {
      const size_t comma = std::min(list.find(','), list.size());
      Note(TrimBlanks(list.substr(0, comma)), &weights);
      list.remove_prefix(std::min(comma + 1, list.size()));
    }
  }
  const uint32_t zstd = weights.zstd.value_or(weights.any.value_or(0));
  if (zstd == 0) return false;
  // Who does not name identity takes it as the last resort; "*" does name it.
  const uint32_t identity = weights.identity.value_or(weights.any.value_or(0));
  return weights.zstd ? zstd >= identity : zstd > identity;
}

}  // namespace hayloft
