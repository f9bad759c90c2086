// libFuzzer target: the parser of multipart/form-data on hostile bytes.
// covers: gateway/multipart.cc
//
// Beside "no crash" it asserts what the parser promises: the same outcome wherever the bytes are
// cut, pieces that point into what was given, and data that holds no delimiter.
#include <algorithm>
#include <memory>
#include <string>

#include "common/check.h"
#include "gateway/multipart.h"

namespace hayloft {
namespace {

constexpr std::string_view kBoundaries[] = {"b", "AaB03x", "-", "--", "=_?"};

struct Outcome {
  std::string said;  // parts, their data, ends
  size_t parts = 0;
  uint16_t status = 0;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

void NotePart(const FormPart& part, Outcome* outcome) {
  ++outcome->parts;
  outcome->said.append("\x01").append(part.name).append("\x02").append(part.content_type);
  outcome->said += part.is_file ? 'f' : '-';
  outcome->said += part.unnamed ? 'u' : '-';
  for (const HttpHeader& header : part.headers) {
    ASSERT(IsHttpToken(header.name));
    outcome->said.append(header.name).append(header.value);
  }
}

// The bytes in two pieces, or, with a step, in many.
Outcome Parse(std::string_view boundary, std::string_view bytes, size_t first, size_t step) {
  MultipartParser parser(boundary);
  Outcome outcome;
  const std::string delimiter = "\r\n--" + std::string(boundary);
  std::string part_data;
  for (size_t at = 0; at < bytes.size();) {
    const size_t size = std::min(at == 0 ? first : step, bytes.size() - at);
    std::string_view input = bytes.substr(at, size);
    at += size;
    std::string_view data;
    MultipartParser::Step next;
    while ((next = parser.Next(&input, &data)) != MultipartParser::Step::kMore) {
      if (next == MultipartParser::Step::kError) break;
      if (next == MultipartParser::Step::kPart) {
        NotePart(parser.part(), &outcome);
        part_data.clear();
      } else if (next == MultipartParser::Step::kData) {
        ASSERT(!data.empty());
        part_data += data;
      } else {
        ASSERT(part_data.find(delimiter) == std::string::npos);
        outcome.said += part_data + "\x03";
      }
    }
    if (next == MultipartParser::Step::kError) break;
    ASSERT(input.empty());
  }
  ASSERT(outcome.parts <= kPartsMax);
  if (!parser.End()) outcome.status = parser.fault().status;
  return outcome;
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  if (size < 2) return 0;
  // A copy without a byte to spare, so that the sanitizer sees a read behind the end.
  const std::unique_ptr<char[]> exact(new char[size - 2]);
  std::copy(data + 2, data + size, exact.get());
  const std::string_view bytes(exact.get(), size - 2);
  const std::string_view boundary = kBoundaries[data[0] % std::size(kBoundaries)];
  const Outcome whole = Parse(boundary, bytes, bytes.size(), 1);
  // Long ones in more than single bytes: a run in single ones costs what a hundred short inputs do.
  const size_t step = bytes.size() <= 256 ? 1 : 1 + data[1] % 31;
  ASSERT(Parse(boundary, bytes, 1, step) == whole);
  ASSERT(Parse(boundary, bytes, 1 + size_t{data[1]} * bytes.size() / 256, bytes.size()) == whole);
  std::string_view named;
  if (IsMultipart(bytes) && ParseFormType(bytes, &named).status == 0) {
    ASSERT(!named.empty());
    ASSERT(named.size() <= kBoundaryBytesMax);
    (void)Parse(named, bytes, 1, bytes.size());
  }
  return 0;
}
