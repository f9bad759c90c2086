#include "common/result.h"

namespace hayloft {

namespace {

struct ErrRow {
  std::string_view enumerator;
  bool may_retry;
  int http_status;
  std::string_view meaning;
};

constexpr ErrRow kRows[] = {
#define X(name, number, retry, http, meaning) {#name, retry, http, meaning},
    HAYLOFT_ERRORS(X)
#undef X
};

// The table is indexed by wire number, so the numbers must be dense and in order.
constexpr bool NumbersAreDense() {
  uint16_t expected = 0;
#define X(name, number, retry, http, meaning) \
  if ((number) != expected++) return false;
  HAYLOFT_ERRORS(X)
#undef X
  return true;
}
static_assert(NumbersAreDense());

// "kNotFound" -> "not_found", once for each row at program start.
struct SnakeName {
  char text[32] = {};
  uint8_t length = 0;
};

constexpr SnakeName ToSnake(std::string_view enumerator) {
  SnakeName name;
  for (char c : enumerator.substr(1)) {
    const bool upper = c >= 'A' && c <= 'Z';
    if (upper && name.length > 0) name.text[name.length++] = '_';
    name.text[name.length++] = upper ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return name;
}

constexpr SnakeName kNames[] = {
#define X(name, number, retry, http, meaning) ToSnake(#name),
    HAYLOFT_ERRORS(X)
#undef X
};

const ErrRow& Row(Err err) {
  const auto index = static_cast<size_t>(err);
  ASSERT(index < std::size(kRows));
  return kRows[index];
}

}  // namespace

std::string_view ErrName(Err err) {
  const auto index = static_cast<size_t>(err);
  ASSERT(index < std::size(kNames));
  return {kNames[index].text, kNames[index].length};
}

std::string_view ErrMeaning(Err err) { return Row(err).meaning; }
bool ErrMayRetry(Err err) { return Row(err).may_retry; }
int ErrHttpStatus(Err err) { return Row(err).http_status; }

Err ErrFromWire(uint16_t number) {
  return number < std::size(kRows) ? static_cast<Err>(number) : Err::kInternal;
}

}  // namespace hayloft
