#include "gateway/ranges.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "common/check.h"
#include "gateway/http_semantics.h"

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

std::optional<RangeSpec> ParseSpec(std::string_view text) {
  using Kind = RangeSpec::Kind;
  const size_t dash = text.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const std::optional<uint64_t> first = ParseNumber(text.substr(0, dash));
  const std::optional<uint64_t> last = ParseNumber(text.substr(dash + 1));
  if (dash == 0 && last) return RangeSpec{.kind = Kind::kSuffix, .suffix = *last};
  if (first && dash + 1 == text.size()) return RangeSpec{.kind = Kind::kFrom, .first = *first};
  if (!first || !last || *first > *last) return std::nullopt;
  return RangeSpec{.kind = Kind::kFromTo, .first = *first, .last = *last};
}

// Length 0: it can't be satisfied.
ByteRange Resolve(const RangeSpec& spec, uint64_t size) {
  if (spec.kind == RangeSpec::Kind::kSuffix) {
    const uint64_t length = std::min(spec.suffix, size);
    return {.offset = size - length, .length = length};
  }
  if (spec.first >= size) return {};
  const uint64_t to_end = size - spec.first;
  const bool open = spec.kind == RangeSpec::Kind::kFrom || spec.last - spec.first >= to_end;
  return {.offset = spec.first, .length = open ? to_end : spec.last - spec.first + 1};
}

struct Asked {
  ByteRange range;
  size_t place = 0;  // among those that were asked for
};

}  // namespace

std::vector<RangeSpec> ParseRanges(const HttpRequest& request) {
  constexpr std::string_view kUnit = "bytes=";
  if (request.Count(HttpField::kRange) != 1) return {};
  std::string_view value = request.Value(HttpField::kRange);
  if (!StartsWithNoCase(value, kUnit)) return {};
  value.remove_prefix(kUnit.size());
  if (value.starts_with(' ') || value.starts_with('\t')) return {};
  std::vector<RangeSpec> specs;
  while (!value.empty()) {
    const size_t comma = std::min(value.find(','), value.size());
    const std::string_view member = TrimBlanks(value.substr(0, comma));
    value.remove_prefix(std::min(comma + 1, value.size()));
    if (member.empty()) continue;  // RFC 9110 section 5.6.1.2
    const std::optional<RangeSpec> spec = ParseSpec(member);
    if (!spec || specs.size() == kRangesMax) return {};
    specs.push_back(*spec);
  }
  return specs;
}

void AppendContentRange(const ByteRange& range, uint64_t size, std::string* out) {
  ASSERT(range.length > 0);
  AppendDecimal(range.offset, &out->append("bytes "));
  AppendDecimal(range.end() - 1, &out->append("-"));
  AppendDecimal(size, &out->append("/"));
}

std::vector<ByteRange> ResolveRanges(std::span<const RangeSpec> specs, uint64_t size) {
  ASSERT(specs.size() <= kRangesMax);
  std::vector<Asked> asked;
  for (const RangeSpec& spec : specs) {
    const ByteRange range = Resolve(spec, size);
    if (range.length == 0) continue;
    ASSERT(range.length <= size);
    ASSERT(range.offset <= size - range.length);
    asked.push_back({.range = range, .place = asked.size()});
  }
  std::sort(asked.begin(), asked.end(),
            [](const Asked& a, const Asked& b) { return a.range.offset < b.range.offset; });
  std::vector<Asked> merged;
  for (const Asked& next : asked) {
    if (merged.empty() || next.range.offset > merged.back().range.end()) {
      merged.push_back(next);
      continue;
    }
    Asked& into = merged.back();
    into.range.length = std::max(into.range.end(), next.range.end()) - into.range.offset;
    into.place = std::min(into.place, next.place);
  }
  std::sort(merged.begin(), merged.end(),
            [](const Asked& a, const Asked& b) { return a.place < b.place; });
  std::vector<ByteRange> ranges;
  for (const Asked& each : merged) ranges.push_back(each.range);
  return ranges;
}

}  // namespace hayloft
