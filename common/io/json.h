// A JSON value, for files, status answers and reports: off the hot path.
//
// Objects keep the order in which members were set, so that what is written reads as it was meant.
// Reading is forgiving (an absent or differently typed member reads as its zero), because what is
// read may come from another version; who must know uses Find.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/result.h"

namespace hayloft {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;

  Json() = default;                                              // null
  Json(bool value) : value_(value) {}                            // NOLINT: implicit on purpose
  Json(int value) : value_(static_cast<int64_t>(value)) {}       // NOLINT
  Json(int64_t value) : value_(value) {}                         // NOLINT
  Json(uint32_t value) : value_(static_cast<int64_t>(value)) {}  // NOLINT
  Json(uint64_t value) : value_(static_cast<int64_t>(value)) {}  // NOLINT: counts fit
  Json(double value) : value_(value) {}                          // NOLINT
  Json(std::string value) : value_(std::move(value)) {}          // NOLINT
  Json(std::string_view value) : value_(std::string(value)) {}   // NOLINT
  Json(const char* value) : value_(std::string(value)) {}        // NOLINT
  Json(Array value) : value_(std::move(value)) {}                // NOLINT
  Json(Object value) : value_(std::move(value)) {}               // NOLINT

  // kCorrupt when `text` is not exactly one JSON value; kTooLarge when it nests too deeply.
  static Result<Json> Parse(std::string_view text);
  // On one line, or with two spaces of indent a level and a newline at the end.
  std::string Dump(bool pretty = false) const;

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }

  // Zero of the type when the value is of another type.
  bool boolean() const;
  int64_t number() const;
  const std::string& text() const;
  const Array& array() const;
  const Object& object() const;

  // Members of an object; null when there is none of this name.
  const Json* Find(std::string_view name) const;
  const Json& operator[](std::string_view name) const;
  // Makes an object of a null; replaces a member of the same name. Returns *this.
  Json& Set(std::string_view name, Json value);
  // Makes an array of a null.
  void Add(Json value);

  friend bool operator==(const Json&, const Json&) = default;

 private:
  void DumpTo(std::string* out, int indent) const;

  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

}  // namespace hayloft
