// How a function says that it failed: one table of errors for the whole project, Err, Result<T>,
// TRY.
//
// The number travels in every reply frame and is never reused. "retry" says whether the same
// request may succeed elsewhere or later; it does not say when. The HTTP status is what the gateway
// answers.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <variant>

#include "common/check.h"

namespace hayloft {

// X(name, wire number, may retry, HTTP status, meaning)
#define HAYLOFT_ERRORS(X)                                                                    \
  X(kOk, 0, false, 200, "fine")                                                              \
  X(kInvalid, 1, false, 400, "the request is malformed or contradicts itself")               \
  X(kNotFound, 2, false, 404, "no such file, or the cookie in its id is wrong")              \
  X(kGone, 3, false, 410, "the file was deleted; it can be undeleted within the trash time") \
  X(kTooLarge, 4, false, 413, "larger than the bound that applies")                          \
  X(kCorrupt, 5, true, 503, "stored or received bytes do not match their checksum")          \
  X(kIo, 6, true, 503, "the disk failed to read or write")                                   \
  X(kBusy, 7, true, 503, "a queue or a memory bound is reached; try again later")            \
  X(kTimeout, 8, true, 503, "no answer within the deadline")                                 \
  X(kUnavailable, 9, true, 503, "the peer cannot be reached, or the connection broke")       \
  X(kClosed, 10, true, 503, "the block takes no more appends; use another one")              \
  X(kFull, 11, true, 507, "no disk space left for this")                                     \
  X(kStaleEpoch, 12, true, 503, "the epoch or incarnation in the request is out of date")    \
  X(kNotActive, 13, true, 503, "this nameserver is not the active one")                      \
  X(kDenied, 14, false, 403, "the token, key or signature is wrong")                         \
  X(kUnauthorized, 15, false, 401, "a token or key is needed and none was given")            \
  X(kInternal, 16, false, 500, "a bug in Hayloft; the log of the process has more")          \
  X(kUnsupported, 17, false, 501, "not known to this version")                               \
  X(kExists, 18, false, 409, "it exists already")                                            \
  X(kNoBlock, 19, true, 503, "no writable block: too few dataservers are up")                \
  X(kNotServing, 20, true, 503, "this dsp does not serve the block at the moment")           \
  X(kRange, 21, false, 416, "the range lies outside the file")                               \
  X(kLost, 22, true, 503, "the file is known, but no intact copy of it can be read now")     \
  X(kReadOnly, 23, true, 503, "the disk is failed or read-only; it takes no writes")         \
  X(kCancelled, 24, true, 503, "the operation was given up because its owner went away")     \
  X(kConfig, 25, false, 500, "an option, a file or a folder is not what this process needs")

enum class [[nodiscard]] Err : uint16_t{
#define X(name, number, retry, http, meaning) name = number,
    HAYLOFT_ERRORS(X)
#undef X
};

std::string_view ErrName(Err err);     // "not_found": the code in logs, JSON and exit messages
std::string_view ErrMeaning(Err err);  // the table's sentence
bool ErrMayRetry(Err err);
int ErrHttpStatus(Err err);
// The error of a wire number; kInternal for a number this version does not know.
Err ErrFromWire(uint16_t number);

// A value or an Err that is not kOk. Reading the value of a failed result is a bug and asserted.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(Err err) : state_(err) { ASSERT(err != Err::kOk); }  // NOLINT: implicit on purpose
  Result(T value) : state_(std::move(value)) {}               // NOLINT: implicit on purpose
  bool ok() const { return std::holds_alternative<T>(state_); }
  Err err() const { return ok() ? Err::kOk : std::get<Err>(state_); }
  T& value() & {
    ASSERT(ok());
    return std::get<T>(state_);
  }
  const T& value() const& {
    ASSERT(ok());
    return std::get<T>(state_);
  }
  T&& value() && {
    ASSERT(ok());
    return std::get<T>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::variant<Err, T> state_;
};

}  // namespace hayloft

// TRY(expr): returns from the enclosing function when expr, an Err, is not kOk.
#define TRY(expr)                                                          \
  do {                                                                     \
    if (::hayloft::Err try_err = (expr); try_err != ::hayloft::Err::kOk) { \
      return try_err;                                                      \
    }                                                                      \
  } while (false)

// TRY_ASSIGN(declaration, expr): the same for a Result, whose value goes into the declaration.
#define TRY_ASSIGN(declaration, expr) \
  TRY_ASSIGN_2(declaration, expr, TRY_CONCAT(try_result_, __LINE__))
#define TRY_ASSIGN_2(declaration, expr, result) \
  auto result = (expr);                         \
  if (!result.ok()) return result.err();        \
  declaration = std::move(result).value()
#define TRY_CONCAT(a, b) TRY_CONCAT_2(a, b)
#define TRY_CONCAT_2(a, b) a##b
