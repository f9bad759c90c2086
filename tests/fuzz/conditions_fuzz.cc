// libFuzzer target: If-Match, If-None-Match, If-Range and the dates, several of each, as lists.
// covers: gateway/conditions.cc
// covers: gateway/http_date.cc
//
// The promise: the verdict of RFC 9110 section 13.2.2, step by step, over entity tags that are read
// here in another way; and a date that is written as it was read.
#include <algorithm>
#include <optional>
#include <vector>

#include "common/check.h"
#include "common/le.h"
#include "gateway/conditions.h"
#include "gateway/http_date.h"
#include "tests/fuzz/fuzzed_get.h"

namespace hayloft {
namespace {

constexpr std::string_view kTag = "\"AAAAAAAAAAAAAAAAAA\"";
constexpr uint64_t kModifiedS = 784'111'777;  // Sun, 06 Nov 1994 08:49:37 GMT
constexpr std::string_view kNames[] = {"If-Match", "If-None-Match",     "If-Range",
                                       "Range",    "If-Modified-Since", "If-Unmodified-Since"};

struct Tag {
  bool weak = false;
  std::string opaque;  // with its quotes
};

// One automaton over the characters; a list ends at its first fault.
std::vector<Tag> TagsIn(std::string_view list) {
  enum class At { kBefore, kWeak, kOpaque, kBehind } at = At::kBefore;
  std::vector<Tag> tags;
  Tag tag;
  for (char c : list) {
    const bool blank = c == ' ' || c == '\t';
    switch (at) {
      case At::kBefore:
        if (blank || c == ',') break;
        tag = {.weak = c == 'W', .opaque = c == '"' ? "\"" : ""};
        if (c != 'W' && c != '"') return tags;
        at = c == 'W' ? At::kWeak : At::kOpaque;
        break;
      case At::kWeak:  // "/", then a quote
        tag.opaque += c;
        if (tag.opaque != "/" && tag.opaque != "/\"") return tags;
        if (c != '"') break;
        tag.opaque = "\"";
        at = At::kOpaque;
        break;
      case At::kOpaque:
        tag.opaque += c;
        if (c != '"') break;
        tags.push_back(tag);
        at = At::kBehind;
        break;
      case At::kBehind:
        if (!blank && c != ',') return tags;
        if (c == ',') at = At::kBefore;
        break;
    }
  }
  return tags;
}

bool Holds(const HttpRequest& request, HttpField field, bool weak_too) {
  for (const HttpHeader& header : request.headers()) {
    if (header.field != field) continue;
    if (header.value == "*") return true;
    for (const Tag& tag : TagsIn(header.value)) {
      if (tag.opaque == kTag && (weak_too || !tag.weak)) return true;
    }
  }
  return false;
}

std::optional<uint64_t> DateOf(const HttpRequest& request, HttpField field) {
  uint64_t seconds = 0;
  if (request.Count(field) != 1) return std::nullopt;
  const std::string_view value = request.Value(field);
  if (!ParseHttpDate(value, &seconds)) return std::nullopt;
  // The one form that is written is also read as it was.
  const auto text = FormatHttpDate(seconds);
  const std::string_view written(text.data(), text.size());
  uint64_t again = 0;
  ASSERT(ParseHttpDate(written, &again));
  ASSERT(again == seconds);
  return seconds;
}

Verdict NaiveVerdict(const HttpRequest& request) {
  using Field = HttpField;
  if (request.Count(Field::kIfMatch) > 0) {  // step 1
    if (!Holds(request, Field::kIfMatch, /*weak_too=*/false)) return Verdict::kFailed;
  } else if (const auto since = DateOf(request, Field::kIfUnmodifiedSince)) {  // step 2
    if (kModifiedS > *since) return Verdict::kFailed;
  }
  if (request.Count(Field::kIfNoneMatch) > 0) {  // step 3
    if (Holds(request, Field::kIfNoneMatch, /*weak_too=*/true)) return Verdict::kNotModified;
  } else if (const auto since = DateOf(request, Field::kIfModifiedSince)) {  // step 4
    if (kModifiedS <= *since) return Verdict::kNotModified;
  }
  return Verdict::kProceed;
}

bool NaiveRangeAllowed(const HttpRequest& request) {  // step 5
  const size_t count = request.Count(HttpField::kIfRange);
  if (count == 0) return true;
  if (count > 1) return false;
  return request.Value(HttpField::kIfRange) == kTag ||
         DateOf(request, HttpField::kIfRange) == kModifiedS;
}

}  // namespace
}  // namespace hayloft

// Lines, of each the first byte chooses the field.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  FuzzedGet get;
  for (std::string_view rest = AsText(Bytes(data, size)); !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.empty()) continue;
    const size_t name = static_cast<uint8_t>(line[0]) % std::size(kNames);
    if (!get.Add(kNames[name], line.substr(1))) return 0;
  }
  const HttpRequest* request = get.Parse();
  if (request == nullptr) return 0;
  const Conditions conditions = ParseConditions(*request, kTag);
  ASSERT(Evaluate(conditions, kModifiedS) == NaiveVerdict(*request));
  ASSERT(RangeAllowed(conditions, kModifiedS) == NaiveRangeAllowed(*request));
  return 0;
}
