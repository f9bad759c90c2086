// libFuzzer target: a Range header against a file, and the body that several ranges make.
// covers: gateway/ranges.cc
// covers: gateway/byteranges.cc
//
// The promise: exactly the bytes that a naive reading of the header asks for, each once, in at most
// 16 ranges of which none touches another, in the order in which they were asked for; a body of the
// length that was said before, whatever is read at a time.
#include <algorithm>
#include <cstdlib>
#include <optional>
#include <vector>

#include "common/check.h"
#include "gateway/byteranges.h"
#include "tests/fuzz/fuzzed_get.h"

namespace hayloft {
namespace {

using Marks = std::vector<size_t>;  // of each byte, the first range that asks for it
constexpr size_t kUnasked = SIZE_MAX;

std::vector<std::string> Split(std::string_view text) {
  std::vector<std::string> members(1);
  for (char c : text) {
    if (c == ',') {
      members.emplace_back();
    } else {
      members.back() += c;
    }
  }
  return members;
}

// Saturates, as strtoull does.
std::optional<uint64_t> Number(const std::string& digits) {
  for (char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
  }
  if (digits.empty()) return std::nullopt;
  return std::strtoull(digits.c_str(), nullptr, 10);
}

// nullopt: the whole file.
std::optional<Marks> NaiveRanges(std::string_view value, uint64_t size) {
  std::string unit(value.substr(0, 6));
  for (char& c : unit) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  if (unit != "bytes=") return std::nullopt;
  const std::string_view set = value.substr(6);
  if (!set.empty() && (set[0] == ' ' || set[0] == '\t')) return std::nullopt;
  Marks marks(size, kUnasked);
  size_t count = 0;
  for (std::string member : Split(set)) {
    while (!member.empty() && (member.back() == ' ' || member.back() == '\t')) member.pop_back();
    while (!member.empty() && (member[0] == ' ' || member[0] == '\t')) member.erase(0, 1);
    if (member.empty()) continue;
    if (++count > kRangesMax) return std::nullopt;
    const size_t dash = member.find('-');
    if (dash == std::string::npos) return std::nullopt;
    const std::optional<uint64_t> low = Number(member.substr(0, dash));
    const std::optional<uint64_t> high = Number(member.substr(dash + 1));
    const bool suffix = dash == 0;
    const bool open = dash + 1 == member.size();
    if ((suffix && !high) || (!suffix && !low) || (!suffix && !open && !high)) return std::nullopt;
    if (low && high && *low > *high) return std::nullopt;
    for (uint64_t i = 0; i < size; ++i) {
      const bool asked = suffix ? size - i <= *high : i >= *low && (open || i <= *high);
      if (asked && marks[i] == kUnasked) marks[i] = count;
    }
  }
  if (count == 0) return std::nullopt;
  return marks;
}

void CheckRanges(const std::vector<ByteRange>& ranges, const Marks& wanted) {
  ASSERT(ranges.size() <= kRangesMax);
  Marks got(wanted.size(), kUnasked);
  size_t last_place = 0;
  for (const ByteRange& range : ranges) {
    ASSERT(range.length > 0);
    ASSERT(range.end() <= wanted.size());
    size_t place = kUnasked;
    for (uint64_t i = range.offset; i < range.end(); ++i) {
      ASSERT(got[i] == kUnasked);
      got[i] = wanted[i];
      place = std::min(place, wanted[i]);
    }
    ASSERT(range.offset == 0 || wanted[range.offset - 1] == kUnasked);
    ASSERT(range.end() == wanted.size() || wanted[range.end()] == kUnasked);
    ASSERT(place > last_place);
    last_place = place;
  }
  ASSERT(got == wanted);
}

std::string ReadBody(const std::vector<ByteRange>& ranges, const std::string& file,
                     uint64_t bytes_max) {
  ByterangesBody body({.id = "AAAAAAAAAAAAAAAAAA", .type = "image/png", .size = file.size()},
                      ranges);
  const uint64_t length = body.Length();
  std::string sent;
  while (!body.done()) {
    const ByteRange read = body.NextRead(bytes_max);
    ASSERT(read.length > 0);
    ASSERT(read.length <= bytes_max);
    const Bytes bytes = AsBytes(file).subspan(read.offset, read.length);
    ASSERT(!body.Take(read, bytes.first(bytes.size() - 1)).ok());
    const Result<Buffer> piece = body.Take(read, bytes);
    ASSERT(piece.ok());
    ASSERT(!piece->empty());
    sent += AsText(piece->bytes());
  }
  ASSERT(sent.size() == length);
  return sent;
}

std::string NaiveBody(const std::vector<ByteRange>& ranges, const std::string& file) {
  const std::string line = "--hayloft-AAAAAAAAAAAAAAAAAA";
  std::string body;
  for (const ByteRange& range : ranges) {
    body += line + "\r\nContent-Type: image/png\r\nContent-Range: bytes " +
            std::to_string(range.offset) + "-" + std::to_string(range.end() - 1) + "/" +
            std::to_string(file.size()) + "\r\n\r\n" + file.substr(range.offset, range.length) +
            "\r\n";
  }
  return body + line + "--\r\n";
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  if (size < 2) return 0;
  const uint64_t file_bytes = 1 + data[0];
  FuzzedGet get;
  if (!get.Add("Range", AsText(Bytes(data + 2, size - 2)))) return 0;
  const HttpRequest* request = get.Parse();
  if (request == nullptr) return 0;
  const std::vector<RangeSpec> specs = ParseRanges(*request);
  const std::optional<Marks> wanted = NaiveRanges(request->Value(HttpField::kRange), file_bytes);
  ASSERT(specs.empty() == !wanted.has_value());
  if (!wanted) return 0;
  const std::vector<ByteRange> ranges = ResolveRanges(specs, file_bytes);
  CheckRanges(ranges, *wanted);
  if (ranges.empty()) return 0;
  std::string file(file_bytes, '\0');
  for (size_t i = 0; i < file.size(); ++i) file[i] = static_cast<char>(i * 7);
  ASSERT(ReadBody(ranges, file, 1 + data[1]) == NaiveBody(ranges, file));
  return 0;
}
