// The text of a JSON object, member by member: for answers, which are only written. What is not
// text, a number or a truth is appended as it is. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "gateway/http_semantics.h"

namespace hayloft {

class ObjectText {
 public:
  ObjectText() { text_.reserve(256); }  // what is told of an upload fits
  ObjectText& Text(std::string_view name, std::string_view value) {
    Name(name);
    AppendJsonString(value, &text_);
    return *this;
  }
  ObjectText& Number(std::string_view name, uint64_t value) {
    Name(name);
    AppendDecimal(value, &text_);
    return *this;
  }
  ObjectText& Flag(std::string_view name, bool value) {
    return Raw(name, value ? "true" : "false");
  }
  ObjectText& Raw(std::string_view name, std::string_view json) {
    Name(name);
    text_.append(json);
    return *this;
  }
  std::string End() { return text_.append(text_.empty() ? "{}" : "}"); }

 private:
  void Name(std::string_view name) {
    text_.append(text_.empty() ? "{" : ",");
    AppendJsonString(name, &text_);
    text_.push_back(':');
  }
  std::string text_;
};

}  // namespace hayloft
