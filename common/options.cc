#include "common/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "common/log.h"

namespace hayloft {

namespace {

constexpr std::array<std::string_view, 5> kRoles = {"nameserver", "dataserver", "dsp", "directory",
                                                    "gateway"};

Err Fail(std::string cause, std::string* why) {
  *why = std::move(cause);
  return Err::kInvalid;
}

std::string Range(const OptionRow& row) {
  return std::to_string(row.min) + " to " + std::to_string(row.max);
}

Err ParseNumber(const OptionRow& row, std::string_view value, uint64_t* number, std::string* why) {
  const char* end = value.data() + value.size();
  const auto [rest, error] = std::from_chars(value.data(), end, *number);
  if (value.empty() || error != std::errc{} || rest != end) {
    return Fail("a number is wanted, " + Range(row), why);
  }
  if (*number < row.min || *number > row.max) return Fail("must be " + Range(row), why);
  return Err::kOk;
}

Err ParseFlag(std::string_view value, bool* flag, std::string* why) {
  *flag = value == "true" || value == "1" || value == "on";
  if (*flag || value == "false" || value == "0" || value == "off") return Err::kOk;
  return Fail("true or false is wanted", why);
}

Err CheckText(std::string_view value, std::string* why) {
  const bool control = std::any_of(value.begin(), value.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  if (control) return Fail("holds a control character", why);
  return Err::kOk;
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

Err ApplyConfigLine(const OptionRows& rows, std::string_view role, std::string_view line,
                    std::string* why) {
  const size_t equals = line.find('=');
  if (equals == std::string_view::npos) return Fail("not of the form role.name = value", why);
  const std::string_view key = Trim(line.substr(0, equals));
  const size_t dot = key.find('.');
  if (dot == std::string_view::npos) return Fail("not of the form role.name = value", why);
  const std::string_view line_role = key.substr(0, dot);
  if (std::find(kRoles.begin(), kRoles.end(), line_role) == kRoles.end()) {
    return Fail("unknown role \"" + LogText(line_role) + "\"", why);
  }
  if (line_role != role) return Err::kOk;
  const OptionRow* row = FindOption(rows, key.substr(dot + 1));
  if (row == nullptr) return Fail("unknown option \"" + LogText(key) + "\"", why);
  std::string cause;
  if (SetOption(*row, Trim(line.substr(equals + 1)), &cause) == Err::kOk) return Err::kOk;
  return Fail(std::string(key) + ": " + cause, why);
}

}  // namespace

Err SetOption(const OptionRow& row, std::string_view value, std::string* why) {
  if (auto* const* flag = std::get_if<bool*>(&row.field)) return ParseFlag(value, *flag, why);
  if (auto* const* text = std::get_if<std::string*>(&row.field)) {
    TRY(CheckText(value, why));
    if (value.size() < row.min || value.size() > row.max) {
      return Fail("must have " + Range(row) + " characters", why);
    }
    **text = value;
    return Err::kOk;
  }
  if (auto* const* list = std::get_if<std::vector<std::string>*>(&row.field)) {
    TRY(CheckText(value, why));
    if ((*list)->size() >= row.max) return Fail("given too often", why);
    (*list)->emplace_back(value);
    return Err::kOk;
  }
  uint64_t number = 0;
  TRY(ParseNumber(row, value, &number, why));
  if (auto* const* wide = std::get_if<uint64_t*>(&row.field)) {
    **wide = number;
    return Err::kOk;
  }
  ASSERT(row.max <= std::numeric_limits<uint32_t>::max());
  const auto small = static_cast<uint32_t>(number);
  if (auto* const* maybe = std::get_if<std::optional<uint32_t>*>(&row.field)) {
    **maybe = small;
  } else {
    *std::get<uint32_t*>(row.field) = small;
  }
  return Err::kOk;
}

std::string OptionText(const OptionRow& row) {
  if (const auto* number = std::get_if<uint32_t*>(&row.field)) return std::to_string(**number);
  if (const auto* number = std::get_if<uint64_t*>(&row.field)) return std::to_string(**number);
  if (const auto* number = std::get_if<std::optional<uint32_t>*>(&row.field)) {
    return (*number)->has_value() ? std::to_string(***number) : "";
  }
  if (const auto* flag = std::get_if<bool*>(&row.field)) return **flag ? "true" : "false";
  if (const auto* text = std::get_if<std::string*>(&row.field)) return **text;
  std::string joined;
  for (const std::string& entry : *std::get<std::vector<std::string>*>(row.field)) {
    joined += (joined.empty() ? "" : ",") + entry;
  }
  return joined;
}

const OptionRow* FindOption(const OptionRows& rows, std::string_view name) {
  for (const OptionRow& row : rows) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

Err ApplyConfigText(const OptionRows& rows, std::string_view role, std::string_view text,
                    std::string* why) {
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = Trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.front() == '#') continue;
    std::string cause;
    if (ApplyConfigLine(rows, role, line, &cause) != Err::kOk) {
      *why = "line " + std::to_string(number) + ": " + cause;
      return Err::kConfig;
    }
  }
  return Err::kOk;
}

std::vector<std::string> SplitList(std::string_view text) {
  std::vector<std::string> entries;
  while (!text.empty()) {
    const size_t end = std::min(text.find(','), text.size());
    const std::string_view entry = Trim(text.substr(0, end));
    if (!entry.empty()) entries.emplace_back(entry);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return entries;
}

std::vector<std::vector<std::string>> SplitLists(const std::vector<std::string>& texts) {
  std::vector<std::vector<std::string>> lists;
  for (const std::string& text : texts) lists.push_back(SplitList(text));
  return lists;
}

}  // namespace hayloft
