#include "common/key_file.h"

#include <algorithm>

#include "common/text.h"

namespace hayloft {

namespace {

constexpr std::string_view kBlanks = " \t\r";

bool IsHex(std::string_view text) {
  return text.size() % 2 == 0 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
         });
}

// The bytes that the text stands for; empty when it is neither hex nor base64.
std::string DecodedSecret(std::string_view text) {
  if (text.empty() || text.size() > 2 * kSigningSecretBytesMax) return {};
  std::string url(text);
  while (url.ends_with('=')) url.pop_back();
  std::replace(url.begin(), url.end(), '+', '-');
  std::replace(url.begin(), url.end(), '/', '_');
  const bool hex = IsHex(text);
  std::string bytes(hex ? text.size() / 2 : url.size() * 3 / 4, '\0');
  const MutableBytes out(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size());
  const bool sound = hex ? FromHex(text, out) : FromBase64Url(url, out);
  return sound ? bytes : std::string();
}

// Calls take(id, rest) for each line that holds a key; it returns the cause when it cannot take it.
template <typename Take>
Err EachLine(std::string_view text, std::string* why, const Take& take) {
  std::vector<std::string_view> ids;
  for (size_t number = 1; !text.empty(); ++number) {
    const std::string_view whole = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), whole.size() + 1));
    const std::string_view line = TrimBlanks(whole, kBlanks);
    if (line.empty() || line.front() == '#') continue;
    const size_t gap = std::min(line.find_first_of(" \t"), line.size());
    const std::string_view id = line.substr(0, gap);
    const char* fault = nullptr;
    if (!IsKeyId(id)) fault = "a key's name has 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'";
    if (std::find(ids.begin(), ids.end(), id) != ids.end()) fault = "the name is there already";
    if (ids.size() == kKeysMax) fault = "more than 1000 keys";
    if (fault == nullptr) fault = take(id, TrimBlanks(line.substr(gap), kBlanks));
    if (fault != nullptr) {
      *why = "line " + std::to_string(number) + ": " + fault;
      return Err::kConfig;
    }
    ids.push_back(id);
  }
  if (!ids.empty()) return Err::kOk;
  *why = "there is no key in it";
  return Err::kConfig;
}

}  // namespace

Result<std::vector<SigningKey>> ParseSigningKeys(std::string_view text, std::string* why) {
  std::vector<SigningKey> keys;
  TRY(EachLine(text, why, [&keys](std::string_view id, std::string_view rest) -> const char* {
    std::string secret = DecodedSecret(rest);
    if (secret.size() < kSigningSecretBytesMin || secret.size() > kSigningSecretBytesMax) {
      return "the secret is not hex or base64 of 16 to 256 bytes";
    }
    keys.push_back({.id = std::string(id), .secret = std::move(secret)});
    return nullptr;
  }));
  return keys;
}

Result<std::vector<UploadKey>> ParseUploadKeys(std::string_view text, std::string* why) {
  std::vector<UploadKey> keys;
  TRY(EachLine(text, why, [&keys](std::string_view id, std::string_view rest) -> const char* {
    UploadKey key{.name = std::string(id), .hash = {}};
    if (!FromHex(rest, key.hash)) return "behind the name belongs a SHA-256, 64 hex digits";
    keys.push_back(std::move(key));
    return nullptr;
  }));
  return keys;
}

std::string UploadKeyText(const std::array<uint8_t, kUploadKeyRandomBytes>& random) {
  return "hlk_" + ToBase64Url(random);
}

std::string UploadKeyLine(std::string_view name, std::string_view key_text) {
  ASSERT(IsKeyId(name));
  return std::string(name) + " " + ToHex(Sha256Of(AsBytes(key_text))) + "\n";
}

std::string SigningKeyLine(std::string_view id, Bytes secret) {
  ASSERT(IsKeyId(id));
  return std::string(id) + " " + ToBase64Url(secret) + "\n";
}

const UploadKey* FindUploadKey(const std::vector<UploadKey>& keys, std::string_view text) {
  const Sha256 hash = Sha256Of(AsBytes(text));
  const UploadKey* found = nullptr;
  for (const UploadKey& key : keys) {
    if (EqualInConstantTime(key.hash, hash)) found = &key;
  }
  return found;
}

}  // namespace hayloft
