// What names a stored file: (block id, file id), and its 18 characters in a URL.
//
//   13 bytes, big-endian:   | block id, 5 | sequence, 3 | cookie, 5 |      as base64url: 18
//   characters,
//                                                                          the last 4 bits are zero
//
// The sequence counts 0, 1, 2... in its block; the cookie is random, so that a URL cannot be
// guessed. Pure; no allocation except in ToText.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hayloft {

// A file id as it is stored: 24 bits of sequence above 40 bits of cookie.
struct FileId {
  uint64_t value = 0;
  uint32_t sequence() const { return static_cast<uint32_t>(value >> 40); }
  uint64_t cookie() const { return value & ((uint64_t{1} << 40) - 1); }
  static FileId Of(uint32_t sequence, uint64_t cookie);  // REQUIRES: both within their bits
  friend bool operator==(FileId, FileId) = default;
  friend auto operator<=>(FileId, FileId) = default;
};

struct FileAddress {
  uint64_t block_id = 0;  // at most kBlockIdMax
  FileId file_id;
  friend bool operator==(const FileAddress&, const FileAddress&) = default;
  friend auto operator<=>(const FileAddress&, const FileAddress&) = default;
};

inline constexpr size_t kAddressTextLength = 18;

std::string ToText(const FileAddress& address);
// Exactly 18 characters of the base64url alphabet with zero spare bits; anything else is nullopt.
std::optional<FileAddress> ParseFileAddress(std::string_view text);
// Why `text` is none, as half a sentence for people. REQUIRES: !ParseFileAddress(text).
std::string_view WhyNoFileAddress(std::string_view text);

}  // namespace hayloft
