#include "gateway/http_semantics.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "common/check.h"

namespace hayloft {

namespace {

constexpr std::string_view kDays = "SunMonTueWedThuFriSat";
constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
constexpr uint64_t kDaySeconds = 86'400;

struct Civil {
  int64_t year = 1970;
  uint32_t month = 1;  // 1 to 12
  uint32_t day = 1;    // 1 to 31
};

// Days since 1970-01-01 and back, on the proleptic Gregorian calendar. Years begin in March here,
// so that the leap day is a year's last and no month needs a special case.
int64_t DaysOf(const Civil& civil) {
  const int64_t year = civil.year - (civil.month <= 2 ? 1 : 0);
  const int64_t era = (year >= 0 ? year : year - 399) / 400;
  const int64_t year_of_era = year - era * 400;
  const int64_t month = (civil.month + 9) % 12;
  const int64_t day_of_year = (153 * month + 2) / 5 + civil.day - 1;
  return era * 146'097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
         719'468;
}

Civil CivilOf(uint64_t days_since_1970) {
  const uint64_t days = days_since_1970 + 719'468;
  const uint64_t day_of_era = days % 146'097;
  const uint64_t year_of_era =
      (day_of_era - day_of_era / 1'460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
  const uint64_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const uint64_t month = (5 * day_of_year + 2) / 153;
  Civil civil;
  civil.day = static_cast<uint32_t>(day_of_year - (153 * month + 2) / 5 + 1);
  civil.month = static_cast<uint32_t>(month < 10 ? month + 3 : month - 9);
  civil.year = static_cast<int64_t>(year_of_era + days / 146'097 * 400) + (civil.month <= 2);
  return civil;
}

void PutDigits(uint64_t value, size_t count, char* out) {
  for (size_t i = count; i-- > 0; value /= 10) out[i] = static_cast<char>('0' + value % 10);
}

// Reads a date by a pattern: 'd' a digit (or a space, as asctime's first day digit), 'm' a letter
// of the month's name, '?' a letter of any weekday's name, anything else itself.
class DatePattern {
 public:
  DatePattern(std::string_view pattern, std::string_view text) : pattern_(pattern), text_(text) {}

  bool Matches() const {
    if (pattern_.size() != text_.size()) return false;
    for (size_t i = 0; i < text_.size(); ++i) {
      const char c = text_[i];
      const bool digit = c >= '0' && c <= '9';
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      const char p = pattern_[i];
      const bool fits = p == '?' || p == 'M'                                       ? letter
                        : p == 'D' || p == 'Y' || p == 'h' || p == 'm' || p == 's' ? digit
                        : p == '_' ? digit || c == ' '
                                   : c == p;
      if (!fits) return false;
    }
    return true;
  }
  // The digits under the letter; a space counts as zero.
  uint32_t Number(std::string_view letters) const {
    uint32_t value = 0;
    for (size_t i = 0; i < text_.size(); ++i) {
      if (letters.find(pattern_[i]) == std::string_view::npos) continue;
      value = value * 10 + (text_[i] == ' ' ? 0 : static_cast<uint32_t>(text_[i] - '0'));
    }
    return value;
  }
  std::string_view Month() const { return text_.substr(pattern_.find('M'), 3); }

 private:
  std::string_view pattern_;
  std::string_view text_;
};

std::optional<uint64_t> DateOf(const DatePattern& date, bool two_digit_year) {
  const size_t month = kMonths.find(date.Month());
  if (month == std::string_view::npos || month % 3 != 0) return std::nullopt;
  Civil civil{.year = date.Number("Y"),
              .month = static_cast<uint32_t>(month / 3 + 1),
              .day = date.Number("D_")};
  // RFC 9110 wants the past for a year that seems over 50 years ahead; files are younger than 1970.
  if (two_digit_year) civil.year += civil.year < 70 ? 2000 : 1900;
  const uint32_t hour = date.Number("h");
  const uint32_t minute = date.Number("m");
  const uint32_t second = date.Number("s");
  if (civil.year < 1970 || civil.day == 0 || hour > 23 || minute > 59 || second > 60) {
    return std::nullopt;
  }
  const int64_t days = DaysOf(civil);
  const Civil back = CivilOf(static_cast<uint64_t>(days));
  if (back.month != civil.month || back.day != civil.day) return std::nullopt;  // 31 April
  return static_cast<uint64_t>(days) * kDaySeconds + hour * 3'600 + minute * 60 + second;
}

std::string_view SkipBlanks(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  return first == std::string_view::npos ? std::string_view() : text.substr(first);
}

// Whether one field value, a list of entity tags or "*", holds `etag`. With `weak` a W/ is ignored
// (RFC 9110 section 8.8.3.2). A list is read up to its first fault.
bool TagListHolds(std::string_view list, std::string_view etag, bool weak) {
  if (list == "*") return true;
  while (true) {
    list = SkipBlanks(list);
    while (list.starts_with(',')) list = SkipBlanks(list.substr(1));
    const bool is_weak = list.starts_with("W/");
    if (is_weak) list.remove_prefix(2);
    if (!list.starts_with('"')) return false;
    const size_t close = list.find('"', 1);
    if (close == std::string_view::npos) return false;
    if (list.substr(0, close + 1) == etag && (weak || !is_weak)) return true;
    list = SkipBlanks(list.substr(close + 1));
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

// Decimal digits only; a number too large for any file counts as the largest.
std::optional<uint64_t> ParseNumber(std::string_view text) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string_view::npos) {
    return std::nullopt;
  }
  uint64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() ? value : UINT64_MAX;
}

struct StatusRow {
  int status;
  std::string_view text;
  std::string_view code;
};
constexpr StatusRow kStatusRows[] = {
    {200, "OK", "ok"},
    {201, "Created", "created"},
    {204, "No Content", "no_content"},
    {206, "Partial Content", "partial_content"},
    {304, "Not Modified", "not_modified"},
    {400, "Bad Request", "bad_request"},
    {401, "Unauthorized", "unauthorized"},
    {403, "Forbidden", "forbidden"},
    {404, "Not Found", "not_found"},
    {405, "Method Not Allowed", "method_not_allowed"},
    {408, "Request Timeout", "request_timeout"},
    {409, "Conflict", "conflict"},
    {410, "Gone", "gone"},
    {411, "Length Required", "length_required"},
    {412, "Precondition Failed", "precondition_failed"},
    {413, "Content Too Large", "too_large"},
    {414, "URI Too Long", "uri_too_long"},
    {415, "Unsupported Media Type", "unsupported_media_type"},
    {416, "Range Not Satisfiable", "range_not_satisfiable"},
    {417, "Expectation Failed", "expectation_failed"},
    {429, "Too Many Requests", "too_many_requests"},
    {431, "Request Header Fields Too Large", "headers_too_large"},
    {500, "Internal Server Error", "internal"},
    {501, "Not Implemented", "not_implemented"},
    {503, "Service Unavailable", "unavailable"},
    {505, "HTTP Version Not Supported", "http_version_not_supported"},
    {507, "Insufficient Storage", "full"},
};

const StatusRow& RowOf(int status) {
  for (const StatusRow& row : kStatusRows) {
    if (row.status == status) return row;
  }
  ASSERT(!"a status that the gateway sends has a row");
  return kStatusRows[0];
}

// The length of the UTF-8 sequence at the front of `text`; 0 when it is none (RFC 3629: no
// overlong form, no surrogate, nothing above U+10FFFF).
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const uint8_t second = byte(1);
  if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f)) return 0;
  if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) return 0;
  return length;
}

}  // namespace

std::array<char, kHttpDateLength> FormatHttpDate(uint64_t seconds) {
  std::array<char, kHttpDateLength> text;
  constexpr std::string_view kShape = "Day, 00 Mon 0000 00:00:00 GMT";
  static_assert(kShape.size() == kHttpDateLength);
  kShape.copy(text.data(), kShape.size());
  const uint64_t days = seconds / kDaySeconds;
  const uint64_t second_of_day = seconds % kDaySeconds;
  const Civil civil = CivilOf(days);
  ASSERT(civil.year < 10'000);
  kDays.copy(&text[0], 3, (days + 4) % 7 * 3);  // 1970-01-01 was a Thursday
  PutDigits(civil.day, 2, &text[5]);
  kMonths.copy(&text[8], 3, (civil.month - 1) * 3);
  PutDigits(static_cast<uint64_t>(civil.year), 4, &text[12]);
  PutDigits(second_of_day / 3'600, 2, &text[17]);
  PutDigits(second_of_day / 60 % 60, 2, &text[20]);
  PutDigits(second_of_day % 60, 2, &text[23]);
  return text;
}

bool ParseHttpDate(std::string_view text, uint64_t* seconds) {
  // RFC 850's weekday has six to nine letters: only what follows its comma counts.
  const size_t comma = text.find(',');
  std::optional<uint64_t> date;
  if (comma == 3) {
    const DatePattern imf("???, DD MMM YYYY hh:mm:ss GMT", text);
    if (imf.Matches()) date = DateOf(imf, false);
  } else if (comma != std::string_view::npos && comma >= 6 && comma <= 9) {
    const DatePattern rfc850(", DD-MMM-YY hh:mm:ss GMT", text.substr(comma));
    if (rfc850.Matches()) date = DateOf(rfc850, true);
  } else {
    const DatePattern asctime("??? MMM _D hh:mm:ss YYYY", text);
    if (asctime.Matches()) date = DateOf(asctime, false);
  }
  if (!date) return false;
  *seconds = *date;
  return true;
}

std::string FormatTimestamp(uint64_t wall_ms) {
  const Civil civil = CivilOf(wall_ms / 1'000 / kDaySeconds);
  const uint64_t second_of_day = wall_ms / 1'000 % kDaySeconds;
  std::string text = "0000-00-00T00:00:00.000Z";
  PutDigits(static_cast<uint64_t>(civil.year), 4, &text[0]);
  PutDigits(civil.month, 2, &text[5]);
  PutDigits(civil.day, 2, &text[8]);
  PutDigits(second_of_day / 3'600, 2, &text[11]);
  PutDigits(second_of_day / 60 % 60, 2, &text[14]);
  PutDigits(second_of_day % 60, 2, &text[17]);
  PutDigits(wall_ms % 1'000, 3, &text[20]);
  return text;
}

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

std::string_view StatusText(int status) { return RowOf(status).text; }
std::string_view StatusCodeName(int status) { return RowOf(status).code; }

ResponseHead::ResponseHead(std::string* out, int status) : out_(out) {
  out_->append("HTTP/1.1 ");
  AppendDecimal(static_cast<uint64_t>(status), out_);
  out_->append(" ").append(StatusText(status)).append("\r\n");
}

ResponseHead& ResponseHead::Add(std::string_view name, std::string_view value) {
  out_->append(name).append(": ").append(value).append("\r\n");
  return *this;
}

ResponseHead& ResponseHead::Add(std::string_view name, uint64_t value) {
  out_->append(name).append(": ");
  AppendDecimal(value, out_);
  out_->append("\r\n");
  return *this;
}

void ResponseHead::End() { out_->append("\r\n"); }

void AppendDecimal(uint64_t value, std::string* out) {
  char digits[20];
  const auto result = std::to_chars(digits, digits + sizeof(digits), value);
  out->append(digits, result.ptr);
}

void AppendJsonString(std::string_view text, std::string* out) {
  out->push_back('"');
  while (!text.empty()) {
    const char c = text.front();
    const size_t length = Utf8Length(text);
    if (length == 0) {
      out->append("\\ufffd");
    } else if (static_cast<uint8_t>(c) < 0x20 || c == 0x7f) {
      char escaped[7];
      std::snprintf(escaped, sizeof(escaped), "\\u%04x", static_cast<unsigned>(c));
      out->append(escaped);
    } else {
      if (c == '"' || c == '\\') out->push_back('\\');
      out->append(text.substr(0, length));
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  out->push_back('"');
}

std::string ErrorJson(std::string_view code, std::string_view message) {
  std::string json = "{\"error\":";
  AppendJsonString(code, &json);
  json.append(",\"message\":");
  AppendJsonString(message, &json);
  json.append("}\n");
  return json;
}

}  // namespace hayloft
