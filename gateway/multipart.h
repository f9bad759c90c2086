// A strict parser of multipart/form-data (RFC 7578, on RFC 2046 section 5.1): bytes in as they
// arrive; out come parts, their headers and pieces of their data.
//
//   preamble --boundary CRLF headers CRLF data CRLF--boundary CRLF ... CRLF--boundary-- epilogue
//
// The data is not copied: its pieces point into the input, or, when the start of a boundary that
// ended an input proves to be none, into the parser's own copy of the boundary. A boundary begins
// with the only CR in it, so that the search never looks at a byte twice: it is linear whatever the
// bytes are. What two parsers could read in different ways is refused: a boundary line with
// something behind the boundary, a header line that is folded or ends without CRLF, a parameter
// twice.
//
// The outcome depends on the bytes only, not on how they were cut on the way. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "gateway/http_parser.h"

namespace hayloft {

inline constexpr size_t kBoundaryBytesMax = 70;         // RFC 2046 section 5.1.1
inline constexpr size_t kPartHeadBytesMax = 8 << 10;    // 431
inline constexpr size_t kPartHeadersMax = 32;           // 431
inline constexpr size_t kPartsMax = 1'000;              // 413
inline constexpr size_t kPreambleBytesMax = 1 << 10;    // 400
inline constexpr size_t kEpilogueBytesMax = 1 << 10;    // 400
inline constexpr size_t kBoundaryPaddingBytesMax = 64;  // blanks behind a boundary; 400

// True for any multipart/... type.
bool IsMultipart(std::string_view content_type);
// Takes the boundary out of a request's Content-Type; it points into that. Status 0: fine. 415: a
// multipart type other than form-data. 400: no boundary, two, or a malformed one.
HttpFault ParseFormType(std::string_view content_type, std::string_view* boundary);

struct FormPart {
  std::string_view name;  // of the form's field, without its quotes
  bool is_file = false;   // it has a filename
  bool unnamed = false;   // an empty one: what a browser sends for a file input without a choice
  std::string_view content_type;        // empty: none
  std::span<const HttpHeader> headers;  // all, in order
};

class MultipartParser {
 public:
  enum class Step : uint8_t {
    kPart,     // part() is the next one
    kData,     // *data is a piece of it; call again
    kPartEnd,  // it is whole
    kMore,     // all input is used up
    kError,    // fault() says why; nothing more comes
  };

  // REQUIRES: ParseFormType gave `boundary`.
  explicit MultipartParser(std::string_view boundary);
  MultipartParser(const MultipartParser&) = delete;  // its views would point into the other one

  // Takes bytes from the front of *input. *data is valid until the next call.
  Step Next(std::string_view* input, std::string_view* data);
  // All input has been given. False when the last boundary has not come; fault() says so.
  bool End();

  const FormPart& part() const { return part_; }     // from kPart to the next call
  const HttpFault& fault() const { return fault_; }  // 400, 413, 415 or 431

 private:
  enum class State : uint8_t {
    kPreamble,
    kBoundary,  // the boundary was there: what follows on its line?
    kBoundaryDash,
    kPadding,
    kPaddingLf,
    kHead,
    kData,
    kClosed,
    kClosedLf,
    kEpilogue,
    kFailed,
  };

  bool Fail(uint16_t status, const char* reason);
  std::string_view TakeToBoundary(std::string_view* input);
  std::string_view TakeHeld(std::string_view* input);
  void OnLineByte(char c);
  void OnPadding(char c);
  void OnClosedByte(char c);
  void BeginPart();
  bool TakeHead(std::string_view* input);
  bool ParseHead();
  bool HeaderLine(std::string_view line);
  bool KnownHeader(const HttpHeader& header);
  bool Disposition(std::string_view value);

  const std::string delimiter_;  // CRLF, two dashes, boundary
  State state_ = State::kPreamble;
  // Of the delimiter, by bytes already taken. Where a line begins anyhow its CRLF is implied.
  size_t matched_ = 2;
  bool implied_crlf_ = true;
  bool in_part_ = false;
  size_t skipped_bytes_ = 0;  // of the preamble, of padding or of the epilogue
  size_t parts_ = 0;
  std::string head_;  // of the current part, as far as it has come
  std::string name_;
  std::array<HttpHeader, kPartHeadersMax> headers_;
  size_t header_count_ = 0;
  bool has_disposition_ = false;
  bool has_type_ = false;
  FormPart part_;
  HttpFault fault_;
};

}  // namespace hayloft
