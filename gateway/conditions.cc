#include "gateway/conditions.h"

#include "gateway/http_date.h"

namespace hayloft {

namespace {

// Whether one field value, a list of entity tags or "*", holds `etag`. With `weak` a W/ is ignored
// (RFC 9110 section 8.8.3.2). A list is read up to its first fault.
bool TagListHolds(std::string_view list, std::string_view etag, bool weak) {
  if (list == "*") return true;
  while (true) {
    list = TrimBlanks(list);
    while (list.starts_with(',')) list = TrimBlanks(list.substr(1));
    const bool is_weak = list.starts_with("W/");
    if (is_weak) list.remove_prefix(2);
    if (!list.starts_with('"')) return false;
    const size_t close = list.find('"', 1);
    if (close == std::string_view::npos) return false;
    if (list.substr(0, close + 1) == etag && (weak || !is_weak)) return true;
    list = TrimBlanks(list.substr(close + 1));
    if (!list.starts_with(',')) return false;
  }
}

Conditions::Tag TagOf(const HttpRequest& request, HttpField field, std::string_view etag) {
  if (request.Count(field) == 0) return Conditions::Tag::kAbsent;
  const bool weak = field == HttpField::kIfNoneMatch;
  for (const HttpHeader& header : request.headers()) {
    if (header.field == field && TagListHolds(header.value, etag, weak)) {
      return Conditions::Tag::kMatches;
    }
  }
  return Conditions::Tag::kDiffers;
}

std::optional<uint64_t> DateIn(const HttpRequest& request, HttpField field) {
  uint64_t seconds = 0;
  if (request.Count(field) != 1) return std::nullopt;
  if (!ParseHttpDate(request.Value(field), &seconds)) return std::nullopt;
  return seconds;
}

}  // namespace

Conditions ParseConditions(const HttpRequest& request, std::string_view etag) {
  Conditions conditions;
  conditions.if_match = TagOf(request, HttpField::kIfMatch, etag);
  conditions.if_none_match = TagOf(request, HttpField::kIfNoneMatch, etag);
  conditions.if_unmodified_since = DateIn(request, HttpField::kIfUnmodifiedSince);
  conditions.if_modified_since = DateIn(request, HttpField::kIfModifiedSince);
  if (request.Count(HttpField::kIfRange) > 0) {
    // One strong tag or one date; a date that cannot be read differs from all.
    const bool same =
        request.Count(HttpField::kIfRange) == 1 && request.Value(HttpField::kIfRange) == etag;
    conditions.if_range = same ? Conditions::Tag::kMatches : Conditions::Tag::kDiffers;
    conditions.if_range_date = DateIn(request, HttpField::kIfRange);
  }
  return conditions;
}

Verdict Evaluate(const Conditions& conditions, uint64_t last_modified_s) {
  using Tag = Conditions::Tag;
  if (conditions.if_match == Tag::kDiffers) return Verdict::kFailed;
  if (conditions.if_match == Tag::kAbsent && conditions.if_unmodified_since &&
      last_modified_s > *conditions.if_unmodified_since) {
    return Verdict::kFailed;
  }
  // A date is not looked at beside a tag: a peer's wrong order gave wrong 304s.
  if (conditions.if_none_match == Tag::kMatches) return Verdict::kNotModified;
  if (conditions.if_none_match == Tag::kAbsent && conditions.if_modified_since &&
      last_modified_s <= *conditions.if_modified_since) {
    return Verdict::kNotModified;
  }
  return Verdict::kProceed;
}

bool RangeAllowed(const Conditions& conditions, uint64_t last_modified_s) {
  if (conditions.if_range != Conditions::Tag::kDiffers) return true;
  return conditions.if_range_date && *conditions.if_range_date == last_modified_s;
}

}  // namespace hayloft
