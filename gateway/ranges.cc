#include "gateway/ranges.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "common/check.h"

namespace hayloft {

namespace {

// Decimal digits only; a number too large for any file counts as the largest.
std::optional<uint64_t> ParseNumber(std::string_view text) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string_view::npos) {
    return std::nullopt;
  }
  uint64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() ? value : UINT64_MAX;
}

}  // namespace

RangeSpec ParseRange(const HttpRequest& request) {
  constexpr std::string_view kUnit = "bytes=";
  RangeSpec spec;
  if (request.Count(HttpField::kRange) != 1) return spec;
  std::string_view value = request.Value(HttpField::kRange);
  if (!EqualsNoCase(value.substr(0, kUnit.size()), kUnit)) return spec;
  value.remove_prefix(kUnit.size());
  const size_t dash = value.find('-');
  if (dash == std::string_view::npos) return spec;
  const std::optional<uint64_t> first = ParseNumber(value.substr(0, dash));
  const std::optional<uint64_t> last = ParseNumber(value.substr(dash + 1));
  const bool open = dash + 1 == value.size();
  if (dash == 0 && last) {
    spec = {.kind = RangeSpec::Kind::kSuffix, .suffix = *last};
  } else if (first && open) {
    spec = {.kind = RangeSpec::Kind::kFrom, .first = *first};
  } else if (first && last && *first <= *last) {
    spec = {.kind = RangeSpec::Kind::kFromTo, .first = *first, .last = *last};
  }
  return spec;
}

ByteRange ResolveRange(const RangeSpec& spec, uint64_t size) {
  ByteRange range;
  switch (spec.kind) {
    case RangeSpec::Kind::kSuffix:
      range.length = std::min(spec.suffix, size);
      range.offset = size - range.length;
      break;
    case RangeSpec::Kind::kFrom:
    case RangeSpec::Kind::kFromTo: {
      if (spec.first >= size) return range;
      const uint64_t to_end = size - spec.first;
      const bool open = spec.kind == RangeSpec::Kind::kFrom || spec.last - spec.first >= to_end;
      range.offset = spec.first;
      range.length = open ? to_end : spec.last - spec.first + 1;
      break;
    }
    case RangeSpec::Kind::kWhole:
      ASSERT(!"only a range can be resolved");
  }
  range.satisfiable = range.length > 0;
  ASSERT(range.offset + range.length <= size);
  return range;
}

}  // namespace hayloft
