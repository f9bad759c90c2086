// Finding the boundary is what costs: a form's files pass through here byte by byte. The delimiter
// is CRLF--boundary, and a boundary holds no CR, so no delimiter can begin inside of another one.
// memchr to the next CR and one comparison there is therefore all: no table, no step back, and a
// delimiter that was cut by the end of an input needs only the number of bytes that agreed.
#include "gateway/multipart.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/check.h"

namespace hayloft {

namespace {

using std::literals::string_view_literals::operator""sv;

constexpr std::string_view kFormData = "form-data";

bool IsBlank(char c) { return c == ' ' || c == '\t'; }

// bchars of RFC 2046 section 5.1.1, not ending in a space.
bool IsBoundary(std::string_view text) {
  if (text.empty() || text.size() > kBoundaryBytesMax || text.back() == ' ') return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           "'()+_,-./:=? "sv.find(c) != std::string_view::npos;
  });
}

// The ";name=value" behind a value of Content-Type or Content-Disposition, one after the other.
class Parameters {
 public:
  explicit Parameters(std::string_view text) : rest_(text) {}
  std::string_view name;   // as spelled
  std::string_view value;  // without quotes, with its backslashes
  bool malformed = false;

  // False at the end, or when the rest is malformed.
  bool Next() {
    rest_ = TrimBlanks(rest_);
    if (rest_.empty()) return false;
    malformed = true;  // until the parameter has been read
    if (!rest_.starts_with(';')) return false;
    rest_ = TrimBlanks(rest_.substr(1));
    if (rest_.empty()) return malformed = false;  // a last semicolon
    const size_t equals = rest_.find('=');
    if (equals == std::string_view::npos) return false;
    name = rest_.substr(0, equals);
    rest_.remove_prefix(equals + 1);
    if (!IsHttpToken(name) || !Value()) return false;
    malformed = false;
    return true;
  }

 private:
  bool Value() {
    if (!rest_.starts_with('"')) {
      value = rest_.substr(0, rest_.find_first_of("; \t\""));
      rest_.remove_prefix(value.size());
      return !value.empty();
    }
    for (size_t i = 1; i < rest_.size(); ++i) {
      if (rest_[i] == '"') {
        value = rest_.substr(1, i - 1);
        rest_.remove_prefix(i + 1);
        return true;
      }
      if (rest_[i] == '\\') ++i;
    }
    return false;
  }
  std::string_view rest_;
};

// A quoted-string's content without its backslashes (RFC 9110 section 5.6.4).
void Unquote(std::string_view value, std::string* out) {
  out->clear();
  for (size_t i = 0; i < value.size(); ++i) {
    if (value[i] == '\\' && i + 1 < value.size()) ++i;
    out->push_back(value[i]);
  }
}

bool HasControl(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    return (static_cast<uint8_t>(c) < 0x20 && c != '\t') || c == 0x7f;
  });
}

}  // namespace

bool IsMultipart(std::string_view content_type) {
  return StartsWithNoCase(content_type, "multipart/");
}

HttpFault ParseFormType(std::string_view content_type, std::string_view* boundary) {
  ASSERT(IsMultipart(content_type));
  const std::string_view subtype = content_type.substr(10, kFormData.size());
  const std::string_view rest = content_type.substr(10 + subtype.size());
  const bool ends = rest.empty() || rest.front() == ';' || IsBlank(rest.front());
  if (!EqualsNoCase(subtype, kFormData) || !ends) {
    return {415, "Of the multipart types only multipart/form-data is taken."};
  }
  bool found = false;
  Parameters parameters(rest);
  while (parameters.Next()) {
    if (!EqualsNoCase(parameters.name, "boundary")) continue;
    if (found) return {400, "The form's Content-Type names two boundaries."};
    found = true;
    *boundary = parameters.value;
  }
  if (parameters.malformed) return {400, "A parameter of the form's Content-Type is malformed."};
  if (!found) return {400, "The form's Content-Type names no boundary."};
  if (IsBoundary(*boundary)) return {};
  return {400, "The form's boundary is not 1 to 70 of the characters of RFC 2046."};
}

MultipartParser::MultipartParser(std::string_view boundary)
    : delimiter_("\r\n--" + std::string(boundary)) {
  ASSERT(IsBoundary(boundary));
}

bool MultipartParser::Fail(uint16_t status, const char* reason) {
  state_ = State::kFailed;
  fault_ = {status, reason};
  return false;
}

MultipartParser::Step MultipartParser::Next(std::string_view* input, std::string_view* data) {
  while (state_ != State::kFailed) {
    // A boundary's line was whole, so the part before it is.
    const bool behind_line = state_ == State::kHead || state_ == State::kClosed;
    if (in_part_ && behind_line) {
      in_part_ = false;
      return Step::kPartEnd;
    }
    if (input->empty()) return Step::kMore;
    switch (state_) {
      case State::kPreamble:
        skipped_bytes_ += TakeToBoundary(input).size();
        if (skipped_bytes_ > kPreambleBytesMax) Fail(400, "The form's first boundary is missing.");
        break;
      case State::kData:
        *data = TakeToBoundary(input);
        if (!data->empty()) return Step::kData;
        break;
      case State::kHead:
        if (TakeHead(input)) return Step::kPart;
        break;
      default:
        OnLineByte(input->front());
        input->remove_prefix(1);
        break;
    }
  }
  return Step::kError;
}

bool MultipartParser::End() {
  if (state_ == State::kFailed) return false;
  if (state_ == State::kClosed || state_ == State::kEpilogue) return true;
  return Fail(400, "The form ends before its last boundary.");
}

// Takes up to and with the next delimiter, or all. Returns what is none of it.
std::string_view MultipartParser::TakeToBoundary(std::string_view* input) {
  if (matched_ > 0) return TakeHeld(input);
  const std::string_view all = *input;
  size_t at = 0;
  while (true) {
    const void* cr = std::memchr(all.data() + at, '\r', all.size() - at);
    if (cr == nullptr) {
      input->remove_prefix(all.size());
      return all;
    }
    at = static_cast<size_t>(static_cast<const char*>(cr) - all.data());
    if (at + 1 < all.size() && all[at + 1] != '\n') {  // most of those in an image: no call
      ++at;
      continue;
    }
    const std::string_view candidate = all.substr(at, delimiter_.size());
    if (std::memcmp(candidate.data(), delimiter_.data(), candidate.size()) == 0) {
      input->remove_prefix(at + candidate.size());
      const bool whole = candidate.size() == delimiter_.size();
      matched_ = whole ? 0 : candidate.size();
      if (whole) state_ = State::kBoundary;
      return all.substr(0, at);
    }
    ++at;
  }
}

// Goes on with a delimiter of which the inputs before held the start. When it is none, what was
// held back is data: no delimiter can begin inside of it.
std::string_view MultipartParser::TakeHeld(std::string_view* input) {
  const std::string_view wanted = std::string_view(delimiter_).substr(matched_);
  const size_t count = std::min(wanted.size(), input->size());
  if (input->substr(0, count) != wanted.substr(0, count)) {
    const size_t held = std::exchange(matched_, 0);
    const size_t implied = std::exchange(implied_crlf_, false) ? 2 : 0;
    return std::string_view(delimiter_).substr(implied, held - implied);
  }
  input->remove_prefix(count);
  matched_ += count;
  if (matched_ < delimiter_.size()) return {};
  matched_ = 0;
  const bool implied = std::exchange(implied_crlf_, false);
  if (implied && in_part_) {
    Fail(400, "A part's data begins with the boundary.");
  } else {
    state_ = State::kBoundary;
  }
  return {};
}

// One byte of what is between two boundaries' lines and the parts.
void MultipartParser::OnLineByte(char c) {
  switch (state_) {
    case State::kBoundary:
      skipped_bytes_ = 0;
      if (c == '-') {
        state_ = State::kBoundaryDash;
        return;
      }
      state_ = State::kPadding;
      return OnPadding(c);
    case State::kBoundaryDash:
      if (c != '-') {
        Fail(400, "A line of the form begins with the boundary and goes on.");
        return;
      }
      state_ = State::kClosed;
      return;
    case State::kPadding:
      return OnPadding(c);
    case State::kPaddingLf:
      if (c != '\n') {
        Fail(400, "A boundary's line does not end in CRLF.");
        return;
      }
      return BeginPart();
    default:
      return OnClosedByte(c);
  }
}

void MultipartParser::OnPadding(char c) {
  if (c == '\r') {
    state_ = State::kPaddingLf;
  } else if (!IsBlank(c)) {
    Fail(400, "A line of the form begins with the boundary and goes on.");
  } else if (++skipped_bytes_ > kBoundaryPaddingBytesMax) {
    Fail(400, "There are too many blanks behind a boundary.");
  }
}

void MultipartParser::OnClosedByte(char c) {
  if (++skipped_bytes_ > kEpilogueBytesMax) {
    Fail(400, "There are more than 1,024 bytes behind the form's last boundary.");
  } else if (state_ == State::kClosed && c == '\r') {
    state_ = State::kClosedLf;
  } else if (state_ == State::kClosedLf && c == '\n') {
    state_ = State::kEpilogue;
  } else if (state_ == State::kClosedLf || (state_ == State::kClosed && !IsBlank(c))) {
    Fail(400, "The form goes on behind its last boundary.");
  }
}

void MultipartParser::BeginPart() {
  head_.clear();
  state_ = State::kHead;
}

// Collects a part's headers; true when they are whole, and sound.
bool MultipartParser::TakeHead(std::string_view* input) {
  if (parts_ == kPartsMax) return Fail(413, "The form has more than 1,000 parts.");
  while (!input->empty()) {
    const size_t lf = input->find('\n');
    const size_t count = lf == std::string_view::npos ? input->size() : lf + 1;
    if (count > kPartHeadBytesMax - head_.size()) {
      return Fail(431, "The headers of a part are longer than 8 KiB.");
    }
    head_.append(input->substr(0, count));
    input->remove_prefix(count);
    if (lf == std::string_view::npos) return false;
    const std::string_view head(head_);
    if (!head.ends_with("\r\n")) return Fail(400, "A part's header line ends without CRLF.");
    if (head == "\r\n" || head.ends_with("\r\n\r\n")) return ParseHead();
  }
  return false;
}

bool MultipartParser::ParseHead() {
  header_count_ = 0;
  has_disposition_ = has_type_ = false;
  part_ = FormPart();
  std::string_view rest = head_;
  rest.remove_suffix(2);
  while (!rest.empty()) {
    const size_t end = rest.find("\r\n");
    ASSERT(end != std::string_view::npos);
    if (!HeaderLine(rest.substr(0, end))) return false;
    rest.remove_prefix(end + 2);
  }
  if (!has_disposition_) return Fail(400, "A part of the form has no Content-Disposition.");
  part_.headers = std::span(headers_).first(header_count_);
  ++parts_;
  in_part_ = true;
  state_ = State::kData;
  // Some parsers take a boundary right behind the headers for the end of an empty part, some for
  // data, with all that follows it.
  matched_ = 2;
  implied_crlf_ = true;
  return true;
}

bool MultipartParser::HeaderLine(std::string_view line) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || !IsHttpToken(line.substr(0, colon))) {
    return Fail(400, "A part's header name is empty, folded, malformed or followed by a space.");
  }
  const std::string_view value = line.substr(colon + 1);
  if (HasControl(value)) return Fail(400, "A part's header holds a control byte.");
  if (header_count_ == kPartHeadersMax) return Fail(431, "A part has more than 32 headers.");
  HttpHeader& header = headers_[header_count_++];
  const std::string_view name = line.substr(0, colon);
  header = {.name = name, .value = TrimBlanks(value), .field = HttpFieldOf(name)};
  return KnownHeader(header);
}

bool MultipartParser::KnownHeader(const HttpHeader& header) {
  if (EqualsNoCase(header.name, "content-disposition")) {
    if (has_disposition_) return Fail(400, "A part has two Content-Dispositions.");
    has_disposition_ = true;
    return Disposition(header.value);
  }
  if (EqualsNoCase(header.name, "content-type")) {
    if (has_type_) return Fail(400, "A part has two Content-Types.");
    has_type_ = true;
    part_.content_type = header.value;
    return true;
  }
  if (EqualsNoCase(header.name, "content-transfer-encoding")) {
    for (const std::string_view plain : {"binary"sv, "8bit"sv, "7bit"sv}) {
      if (EqualsNoCase(header.value, plain)) return true;
    }
    return Fail(415, "The parts of a form are taken as they are, without a transfer encoding.");
  }
  const bool encoding = EqualsNoCase(header.name, "content-encoding");
  if (!encoding || EqualsNoCase(header.value, "identity")) return true;
  return Fail(415, "Files are taken as they are, without a Content-Encoding.");
}

// RFC 7578 section 4.2. filename* must not be sent, and is, beside or instead of filename.
bool MultipartParser::Disposition(std::string_view value) {
  if (!StartsWithNoCase(value, kFormData)) {
    return Fail(400, "A part's Content-Disposition is not form-data.");
  }
  bool has_name = false, has_filename = false, has_long_filename = false;
  Parameters parameters(value.substr(kFormData.size()));
  while (parameters.Next()) {
    bool* seen = nullptr;
    if (EqualsNoCase(parameters.name, "name")) {
      seen = &has_name;
      Unquote(parameters.value, &name_);
    } else if (EqualsNoCase(parameters.name, "filename")) {
      seen = &has_filename;
      part_.unnamed = parameters.value.empty();
    } else if (EqualsNoCase(parameters.name, "filename*")) {
      seen = &has_long_filename;
    }
    if (seen == nullptr) continue;
    if (*seen) return Fail(400, "A part's Content-Disposition has a parameter twice.");
    *seen = true;
  }
  if (parameters.malformed) return Fail(400, "A part's Content-Disposition is malformed.");
  if (!has_name) return Fail(400, "A part's Content-Disposition has no name.");
  part_.name = name_;
  part_.is_file = has_filename || has_long_filename;
  part_.unnamed &= !has_long_filename;
  return true;
}

}  // namespace hayloft
