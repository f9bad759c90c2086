#include "gateway/peer_address.h"

#include <algorithm>
#include <charconv>
#include <vector>

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

std::optional<std::array<uint8_t, 4>> ParseV4(std::string_view text) {
  std::array<uint8_t, 4> bytes{};
  for (size_t i = 0; i < bytes.size(); ++i) {
    const size_t dot = i + 1 < bytes.size() ? text.find('.') : text.size();
    if (dot == std::string_view::npos || dot == 0 || dot > 3) return std::nullopt;
    if (dot > 1 && text.front() == '0') return std::nullopt;  // octal to some
    const auto [end, error] = std::from_chars(text.data(), text.data() + dot, bytes[i]);
    if (error != std::errc() || end != text.data() + dot) return std::nullopt;
    text.remove_prefix(std::min(dot + 1, text.size()));
  }
  return bytes;
}

// Groups of four digits with colons between, the last two perhaps as IPv4: their bytes. nullopt
// when it is malformed or longer than an address.
std::optional<std::vector<uint8_t>> ParseGroups(std::string_view text) {
  std::vector<uint8_t> bytes;
  while (!text.empty()) {
    const size_t colon = std::min(text.find(':'), text.size());
    const std::string_view group = text.substr(0, colon);
    if (colon == text.size() && group.find('.') != std::string_view::npos) {
      const auto v4 = ParseV4(group);
      if (!v4) return std::nullopt;
      bytes.insert(bytes.end(), v4->begin(), v4->end());
    } else {
      uint16_t number = 0;
      const auto [end, error] =
          std::from_chars(group.data(), group.data() + group.size(), number, 16);
      if (group.empty() || group.size() > 4 || error != std::errc()) return std::nullopt;
      if (end != group.data() + group.size()) return std::nullopt;
      bytes.push_back(static_cast<uint8_t>(number >> 8));
      bytes.push_back(static_cast<uint8_t>(number & 0xff));
    }
    if (bytes.size() > 2 * kGroups || colon + 1 == text.size()) return std::nullopt;
    text.remove_prefix(std::min(colon + 1, text.size()));
  }
  return bytes;
}

std::optional<PeerAddress> ParseV6(std::string_view text) {
  const size_t gap = text.find("::");
  const bool short_form = gap != std::string_view::npos;
  const std::string_view behind = short_form ? text.substr(gap + 2) : "";
  const auto front = ParseGroups(text.substr(0, gap));
  const auto back = ParseGroups(behind);
  if (!front || !back) return std::nullopt;
  const size_t size = front->size() + back->size();
  PeerAddress peer;
  // "::" stands for one group at least.
  if (short_form ? size > peer.bytes.size() - 2 : size != peer.bytes.size()) return std::nullopt;
  // IPv4 stands at the end only.
  if (short_form && text.substr(0, gap).find('.') != std::string_view::npos) return std::nullopt;
  std::copy(front->begin(), front->end(), peer.bytes.begin());
  std::copy(back->rbegin(), back->rend(), peer.bytes.rbegin());
  return peer;
}

}  // namespace

std::optional<PeerAddress> PeerAddress::Parse(std::string_view text) {
  if (text.find(':') != std::string_view::npos) return ParseV6(text);
  const auto v4 = ParseV4(text);
  return v4 ? std::optional(OfV4(*v4)) : std::nullopt;
}

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
