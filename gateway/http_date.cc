#include "gateway/http_date.h"

#include <optional>

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

}  // namespace hayloft
