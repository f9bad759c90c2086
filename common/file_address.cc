#include "common/file_address.h"

#include <algorithm>
#include <array>

#include "common/check.h"
#include "common/limits.h"

namespace hayloft {

namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";  // RFC 4648 section 5

constexpr std::array<int8_t, 256> MakeDecodeTable() {
  std::array<int8_t, 256> table{};
  for (int8_t& entry : table) entry = -1;
  for (size_t i = 0; i < kAlphabet.size(); ++i) {
    table[static_cast<uint8_t>(kAlphabet[i])] = static_cast<int8_t>(i);
  }
  return table;
}
constexpr std::array<int8_t, 256> kDecode = MakeDecodeTable();

// The address is 104 bits; as text 108, the 4 spare ones at the end.
constexpr int kSpareBits = 4;

}  // namespace

FileId FileId::Of(uint32_t sequence, uint64_t cookie) {
  ASSERT(sequence <= kSequenceMax);
  ASSERT(cookie <= kCookieMax);
  return FileId{(uint64_t{sequence} << 40) | cookie};
}

std::string ToText(const FileAddress& address) {
  ASSERT(address.block_id <= kBlockIdMax);
  using Wide = unsigned __int128;
  Wide bits = (static_cast<Wide>(address.block_id) << 64 | address.file_id.value) << kSpareBits;
  std::string text(kAddressTextLength, 'A');
  for (size_t i = kAddressTextLength; i-- > 0;) {
    text[i] = kAlphabet[static_cast<size_t>(bits & 63)];
    bits >>= 6;
  }
  ASSERT(bits == 0);
  return text;
}

std::optional<FileAddress> ParseFileAddress(std::string_view text) {
  if (text.size() != kAddressTextLength) return std::nullopt;
  unsigned __int128 bits = 0;
  for (char c : text) {
    const int8_t digit = kDecode[static_cast<uint8_t>(c)];
    if (digit < 0) return std::nullopt;
    bits = bits << 6 | static_cast<unsigned>(digit);
  }
  if ((bits & ((1u << kSpareBits) - 1)) != 0)
    return std::nullopt;  // a second text for the same file
  bits >>= kSpareBits;
  return FileAddress{.block_id = static_cast<uint64_t>(bits >> 64),
                     .file_id = FileId{static_cast<uint64_t>(bits)}};
}

std::string_view WhyNoFileAddress(std::string_view text) {
  ASSERT(!ParseFileAddress(text));
  if (text.size() != kAddressTextLength) return "an id has 18 characters";
  const bool foreign = std::any_of(text.begin(), text.end(),
                                   [](char c) { return kDecode[static_cast<uint8_t>(c)] < 0; });
  if (foreign) return "an id has only letters, digits, '-' and '_'";
  return "an id ends in A, Q, g or w";  // the digits whose spare bits are zero
}

}  // namespace hayloft
