#include "gateway/peer_address.h"

#include <algorithm>
#include <charconv>

namespace hayloft {

namespace {

constexpr size_t kV4Offset = 12;  // behind ::ffff:
constexpr size_t kPrefixBytes = 8;
constexpr size_t kGroups = 8;

uint32_t Group(const std::array<uint8_t, 16>& bytes, size_t i) {
  return static_cast<uint32_t>(bytes[2 * i] << 8 | bytes[2 * i + 1]);
}

void AppendNumber(uint32_t number, int base, std::string* out) {
  char text[8];
  const std::to_chars_result end = std::to_chars(text, text + sizeof(text), number, base);
  out->append(text, end.ptr);
}

struct ZeroRun {
  size_t begin = kGroups;
  size_t length = 1;  // one group alone is not shortened
};

// The first of the longest runs of zero groups: it becomes "::".
ZeroRun LongestZeroRun(const std::array<uint8_t, 16>& bytes) {
  ZeroRun longest;
  for (size_t i = 0, length = 0; i < kGroups; ++i) {
    length = Group(bytes, i) == 0 ? length + 1 : 0;
    if (length > longest.length) longest = {.begin = i + 1 - length, .length = length};
  }
  return longest;
}

}  // namespace

PeerAddress PeerAddress::OfV4(const std::array<uint8_t, 4>& v4) {
  PeerAddress peer;
  peer.bytes[10] = peer.bytes[11] = 0xff;
  std::copy(v4.begin(), v4.end(), peer.bytes.begin() + kV4Offset);
  return peer;
}

bool PeerAddress::IsV4() const {
  return bytes[10] == 0xff && bytes[11] == 0xff &&
         std::all_of(bytes.begin(), bytes.begin() + 10, [](uint8_t byte) { return byte == 0; });
}

PeerAddress PeerAddress::LimitKey() const {
  if (IsV4()) return *this;
  PeerAddress prefix;
  std::copy_n(bytes.begin(), kPrefixBytes, prefix.bytes.begin());
  return prefix;
}

std::string PeerAddress::Text() const {
  if (*this == PeerAddress()) return "-";
  std::string text;
  if (IsV4()) {
    for (size_t i = kV4Offset; i < bytes.size(); ++i) {
      if (i > kV4Offset) text.push_back('.');
      AppendNumber(bytes[i], 10, &text);
    }
    return text;
  }
  const ZeroRun zeros = LongestZeroRun(bytes);
  for (size_t i = 0; i < kGroups; ++i) {
    if (i == zeros.begin) {
      text.append("::");
      i += zeros.length - 1;
      continue;
    }
    if (!text.empty() && text.back() != ':') text.push_back(':');
    AppendNumber(Group(bytes, i), 16, &text);
  }
  return text;
}

}  // namespace hayloft
