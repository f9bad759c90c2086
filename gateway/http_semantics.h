// What HTTP says about an answer (RFC 9110): its status, its head, the JSON of an error. Pure;
// appends to strings that the caller reuses.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hayloft {

std::string_view StatusText(int status);  // "Not Found"

// Appends a response head to `out`, field by field. Values must hold no control byte: they are
// constants, numbers, or were checked when they were stored.
class ResponseHead {
 public:
  ResponseHead(std::string* out, int status);
  // More fields of a head that was begun elsewhere.
  static ResponseHead GoOn(std::string* out) { return ResponseHead(out); }
  ResponseHead& Add(std::string_view name, std::string_view value);
  ResponseHead& Add(std::string_view name, uint64_t value);
  void End();  // the empty line

 private:
  explicit ResponseHead(std::string* out) : out_(out) {}

  std::string* out_;
};

// The length of the UTF-8 sequence at the front of `text`, which is not empty; 0 when it is none
// (RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF).
size_t Utf8Length(std::string_view text);
void AppendDecimal(uint64_t value, std::string* out);
// A JSON string with its quotes. Bytes that are no UTF-8 become U+FFFD, so the result is always
// valid JSON.
void AppendJsonString(std::string_view text, std::string* out);
// {"error":"<code>","message":"<message>"} and a newline.
std::string ErrorJson(std::string_view code, std::string_view message);
// The snake_case code of an error that only HTTP knows: 405 -> "method_not_allowed".
std::string_view StatusCodeName(int status);

}  // namespace hayloft
