#include "client/file_fields.h"

#include <algorithm>

#include "common/check.h"

namespace hayloft {

namespace {

// What a gateway may want to say itself one day, of the file or of its answer.
constexpr std::string_view kReserved[] = {
    "block",  "cache",   "cluster",   "content-type", "created", "delete-token", "deleted",
    "dsp",    "expires", "id",        "key",          "replica", "request-id",   "sha1",
    "sha256", "size",    "signature", "token",        "version"};

bool IsLowerTokenChar(char c) {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || kOthers.find(c) != kOthers.npos;
}

bool IsTagList(std::string_view name) { return name == "surrogate-key" || name == "cache-tag"; }

bool HoldsLongTag(std::string_view list, char separator) {
  while (!list.empty()) {
    const size_t end = std::min(list.find(separator), list.size());
    if (end > kCacheTagBytesMax) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

}  // namespace

bool IsHttpFieldName(std::string_view name) {
  return name.starts_with(kUserFieldPrefix) || IsTagList(name);
}

FieldFault CheckHttpField(std::string_view name, std::string_view value) {
  ASSERT(IsHttpFieldName(name));
  if (!IsTagList(name)) {
    const std::string_view own = name.substr(kUserFieldPrefix.size());
    if (own.empty() || name.size() > kHttpFieldNameBytesMax) return FieldFault::kName;
    if (!std::all_of(own.begin(), own.end(), IsLowerTokenChar)) return FieldFault::kName;
    const auto* end = std::end(kReserved);
    if (std::find(std::begin(kReserved), end, own) != end) return FieldFault::kReserved;
  }
  const auto fits = [](char c) { return c >= ' ' && c <= '~'; };
  if (!std::all_of(value.begin(), value.end(), fits)) return FieldFault::kValue;
  if (value.starts_with(' ') || value.ends_with(' ')) return FieldFault::kValue;
  const bool tags = IsTagList(name);
  if (tags && HoldsLongTag(value, name == "cache-tag" ? ',' : ' ')) return FieldFault::kTag;
  return FieldFault::kNone;
}

bool IsSendable(std::string_view name, std::string_view value) {
  return IsHttpFieldName(name) && CheckHttpField(name, value) == FieldFault::kNone;
}

}  // namespace hayloft
