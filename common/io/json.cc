#include "common/io/json.h"

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace hayloft {

namespace {

constexpr int kDepthMax = 64;

Result<Json> FromNlohmann(const nlohmann::ordered_json& from, int depth) {
  if (depth > kDepthMax) return Err::kTooLarge;
  switch (from.type()) {
    case nlohmann::json::value_t::boolean:
      return Json(from.get<bool>());
    case nlohmann::json::value_t::number_integer:
    case nlohmann::json::value_t::number_unsigned:
      return Json(from.get<int64_t>());
    case nlohmann::json::value_t::number_float:
      return Json(from.get<double>());
    case nlohmann::json::value_t::string:
      return Json(from.get<std::string>());
    case nlohmann::json::value_t::array: {
      Json::Array array;
      for (const auto& element : from) {
        TRY_ASSIGN(Json value, FromNlohmann(element, depth + 1));
        array.push_back(std::move(value));
      }
      return Json(std::move(array));
    }
    case nlohmann::json::value_t::object: {
      Json::Object object;
      for (const auto& [name, member] : from.items()) {
        TRY_ASSIGN(Json value, FromNlohmann(member, depth + 1));
        object.emplace_back(name, std::move(value));
      }
      return Json(std::move(object));
    }
    case nlohmann::json::value_t::null:
      return Json();
    case nlohmann::json::value_t::binary:
    case nlohmann::json::value_t::discarded:
      return Err::kCorrupt;
  }
  return Err::kCorrupt;
}

// Bytes of the UTF-8 character at the front of `text`, 0 when there is none: a byte out of place, a
// longer form than needed, half of a surrogate pair, or above U+10FFFF.
size_t Utf8Length(std::string_view text) {
  const auto byte = [text](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (first < 0xc2 || first > 0xf4) return 0;
  const unsigned least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (byte(1) < least || byte(1) > most) return 0;
  for (size_t i = 2; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  return length;
}

// File names are any bytes: what is not UTF-8 becomes U+FFFD, byte by byte.
void DumpText(std::string_view text, std::string* out) {
  out->push_back('"');
  for (size_t i = 0, length = 1; i < text.size(); i += length) {
    length = Utf8Length(text.substr(i));
    const char c = text[i];
    if (length == 0) {
      length = 1;
      *out += "\xef\xbf\xbd";
    } else if (c == '"' || c == '\\') {
      out->push_back('\\');
      out->push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[7];
      std::snprintf(escaped, sizeof(escaped), "\\u%04x", static_cast<unsigned>(c));
      *out += escaped;
    } else {
      out->append(text.substr(i, length));
    }
  }
  out->push_back('"');
}

void NewLine(int indent, std::string* out) {
  if (indent >= 0) out->append(1, '\n').append(static_cast<size_t>(indent) * 2, ' ');
}

}  // namespace

Result<Json> Json::Parse(std::string_view text) {
  const auto parsed =
      nlohmann::ordered_json::parse(text, /*callback=*/nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return Err::kCorrupt;
  return FromNlohmann(parsed, 0);
}

std::string Json::Dump(bool pretty) const {
  std::string out;
  DumpTo(&out, pretty ? 0 : -1);
  if (pretty) out.push_back('\n');
  return out;
}

// `indent` is the level of this value, negative for no line breaks at all. The innermost objects of
// a list stay on one line: a list of processes or dsps then reads as a table.
void Json::DumpTo(std::string* out, int indent) const {
  const int inner = indent < 0 ? -1 : indent + 1;
  if (is_null()) {
    *out += "null";
  } else if (const auto* truth = std::get_if<bool>(&value_)) {
    *out += *truth ? "true" : "false";
  } else if (const auto* whole = std::get_if<int64_t>(&value_)) {
    *out += std::to_string(*whole);
  } else if (const auto* real = std::get_if<double>(&value_)) {
    char digits[32];
    std::snprintf(digits, sizeof(digits), "%.12g", std::isfinite(*real) ? *real : 0.0);
    *out += digits;
  } else if (const auto* text = std::get_if<std::string>(&value_)) {
    DumpText(*text, out);
  } else if (const auto* array = std::get_if<Array>(&value_)) {
    out->push_back('[');
    for (size_t i = 0; i < array->size(); ++i) {
      if (i > 0) *out += ",";
      NewLine(inner, out);
      (*array)[i].DumpTo(out, (*array)[i].is_object() ? -1 : inner);
    }
    if (!array->empty()) NewLine(indent, out);
    out->push_back(']');
  } else if (const auto* object = std::get_if<Object>(&value_)) {
    out->push_back('{');
    for (size_t i = 0; i < object->size(); ++i) {
      if (i > 0) *out += ",";
      NewLine(inner, out);
      DumpText((*object)[i].first, out);
      *out += indent < 0 ? ":" : ": ";
      (*object)[i].second.DumpTo(out, inner);
    }
    if (!object->empty()) NewLine(indent, out);
    out->push_back('}');
  }
}

bool Json::boolean() const {
  const auto* value = std::get_if<bool>(&value_);
  return value != nullptr && *value;
}

int64_t Json::number() const {
  const auto* value = std::get_if<int64_t>(&value_);
  return value == nullptr ? 0 : *value;
}

const std::string& Json::text() const {
  static const std::string kNone;
  const auto* value = std::get_if<std::string>(&value_);
  return value == nullptr ? kNone : *value;
}

const Json::Array& Json::array() const {
  static const Array kNone;
  const auto* value = std::get_if<Array>(&value_);
  return value == nullptr ? kNone : *value;
}

const Json::Object& Json::object() const {
  static const Object kNone;
  const auto* value = std::get_if<Object>(&value_);
  return value == nullptr ? kNone : *value;
}

const Json* Json::Find(std::string_view name) const {
  for (const auto& [member, value] : object()) {
    if (member == name) return &value;
  }
  return nullptr;
}

const Json& Json::operator[](std::string_view name) const {
  static const Json kNull;
  const Json* found = Find(name);
  return found == nullptr ? kNull : *found;
}

Json& Json::Set(std::string_view name, Json value) {
  if (is_null()) value_ = Object();
  ASSERT(is_object());
  if (const Json* found = Find(name)) {
    *const_cast<Json*>(found) = std::move(value);
  } else {
    std::get<Object>(value_).emplace_back(std::string(name), std::move(value));
  }
  return *this;
}

void Json::Add(Json value) {
  if (is_null()) value_ = Array();
  ASSERT(std::holds_alternative<Array>(value_));
  std::get<Array>(value_).push_back(std::move(value));
}

}  // namespace hayloft
