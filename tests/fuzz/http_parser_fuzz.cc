// libFuzzer target: the HTTP request parser and the chunked decoder on hostile bytes.
// covers: gateway/http_parser.cc
// covers: client/sniff.cc
//
// Beside "no crash" it asserts what the parser promises: the outcome does not depend on where the
// bytes were cut, and the views of a request lie inside the bytes.
#include <memory>
#include <string>

#include "client/sniff.h"
#include "common/check.h"
#include "gateway/conditions.h"
#include "gateway/http_date.h"
#include "gateway/http_parser.h"
#include "gateway/http_semantics.h"
#include "gateway/ranges.h"

namespace hayloft {
namespace {

void CheckInside(std::string_view bytes, std::string_view view) {
  if (view.empty() || view == "/") return;  // "/" may stand for an absent path
  ASSERT(view.data() >= bytes.data());
  ASSERT(view.data() + view.size() <= bytes.data() + bytes.size());
}

void UseRequest(std::string_view bytes, const HttpRequest& request) {
  CheckInside(bytes, request.path);
  CheckInside(bytes, request.query);
  for (const HttpHeader& header : request.headers()) {
    CheckInside(bytes, header.name);
    CheckInside(bytes, header.value);
    ASSERT(!HasControlByte(header.name));
  }
  const Conditions conditions = ParseConditions(request, "\"AAAAAAAAAAAAAAAAAA\"");
  (void)Evaluate(conditions, 784'111'777);
  (void)RangeAllowed(conditions, 784'111'777);
  for (const ByteRange& range : ResolveRanges(ParseRanges(request), 1000)) {
    ASSERT(range.end() <= 1000);
  }
}

void FuzzHead(std::string_view bytes, size_t cut) {
  static const auto request = std::make_unique<HttpRequest>();
  const HttpParsed whole = ParseHttpRequest(bytes, 0, request.get());
  if (whole.kind == HttpParsed::Kind::kRequest) {
    ASSERT(whole.head_bytes <= bytes.size());
    UseRequest(bytes, *request);
  }
  const HttpParsed front = ParseHttpRequest(bytes.substr(0, cut), 0, request.get());
  const bool more = front.kind == HttpParsed::Kind::kMore;
  const HttpParsed again = more ? ParseHttpRequest(bytes, cut, request.get()) : front;
  // A cut inside a line may delay a fault until the line ends, never change or drop it.
  const bool delayed = again.kind == HttpParsed::Kind::kMore && cut > 0;
  ASSERT(delayed || again.kind == whole.kind);
  ASSERT(delayed || again.fault.status == whole.fault.status);
  ASSERT(delayed || again.head_bytes == whole.head_bytes);
}

struct Decoded {
  std::string body;
  ChunkedDecoder::Step last = ChunkedDecoder::Step::kMore;
  uint16_t status = 0;
  friend bool operator==(const Decoded&, const Decoded&) = default;
};

Decoded Decode(std::string_view bytes, size_t step) {
  ChunkedDecoder decoder;
  Decoded decoded;
  while (!bytes.empty()) {
    std::string_view input = bytes.substr(0, step);
    bytes.remove_prefix(input.size());
    do {
      std::string_view data;
      decoded.last = decoder.Next(&input, &data);
      decoded.body += data;
    } while (decoded.last == ChunkedDecoder::Step::kData);
    if (decoded.last != ChunkedDecoder::Step::kMore) break;
  }
  decoded.status = decoder.fault().status;
  return decoded;
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  if (size == 0) return 0;
  const size_t cut = size_t{data[0]} * (size - 1) / 255;
  // A copy without a byte to spare, so that the sanitizer sees a read behind the end.
  const std::unique_ptr<char[]> exact(new char[size - 1]);
  std::copy(data + 1, data + size, exact.get());
  const std::string_view bytes(exact.get(), size - 1);
  FuzzHead(bytes, cut);
  ASSERT(Decode(bytes, size) == Decode(bytes, 1 + data[0] % 7));
  ASSERT(IsValidType(DecideType("", AsBytes(bytes))));
  const bool control = HasControlByte(bytes);
  ASSERT(!control || !IsValidType(bytes));
  if (!control) ASSERT(IsValidType(DecideType(bytes, AsBytes(bytes))));
  uint64_t seconds = 0;
  (void)ParseHttpDate(bytes, &seconds);
  return 0;
}
