// The files that hold keys: a line a key, "ID SECRET", with '#' before comments.
//
//   signing keys   ID SECRET    hex (an even number of digits) or base64 (either alphabet, with or
//                               without padding) of 16 to 256 bytes
//   upload keys    NAME SHA256  64 hex digits: of the text of the key, which is kept nowhere
//
// A plain SHA-256 is enough for upload keys, and a slow hash would be wrong: `hayloft key` makes
// them of 256 random bits, so there is nothing to guess that a slow hash would slow down, and each
// upload would pay for it. Do not put the hash of a password there. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/codec.h"
#include "common/signed_url.h"

namespace hayloft {

inline constexpr size_t kKeysMax = 1'000;  // of one file
inline constexpr size_t kSigningSecretBytesMin = 16;
inline constexpr size_t kSigningSecretBytesMax = 256;
inline constexpr uint64_t kKeyFileBytesMax = 1 << 20;
inline constexpr size_t kUploadKeyRandomBytes = 32;

struct UploadKey {
  std::string name;  // 1 to 64 of A-Z a-z 0-9 . _ -
  Sha256 hash{};
};

// kConfig with "line N: cause" in `why`, which never quotes the line. At least one key.
Result<std::vector<SigningKey>> ParseSigningKeys(std::string_view text, std::string* why);
Result<std::vector<UploadKey>> ParseUploadKeys(std::string_view text, std::string* why);

// The text of an upload key made of these random bytes: "hlk_" and 43 characters. The beginning is
// for people and for programs that look for secrets where none belong.
std::string UploadKeyText(const std::array<uint8_t, kUploadKeyRandomBytes>& random);
// The lines of the files for new keys, each with its newline. REQUIRES: IsKeyId(name).
std::string UploadKeyLine(std::string_view name, std::string_view key_text);
std::string SigningKeyLine(std::string_view id, Bytes secret);
// The key whose hash this is, or null. Looks at all of them, each in constant time.
const UploadKey* FindUploadKey(const std::vector<UploadKey>& keys, std::string_view text);

}  // namespace hayloft
