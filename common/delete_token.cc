#include "common/delete_token.h"

#include <algorithm>
#include <cstring>

#include "common/codec.h"

namespace hayloft {

namespace {

struct TokenBytes {
  uint8_t key_number;
  uint8_t nonce[16];
  uint8_t mac[32];
};
static_assert(sizeof(TokenBytes) == 49);
static_assert((sizeof(TokenBytes) * 8 + 5) / 6 == kDeleteTokenLength);

// `what` begins with the token's purpose, so that none is taken for one of another kind.
Sha256 TokenMac(const ClusterKey& key, std::string_view what, const Nonce& nonce) {
  const Bytes parts[] = {AsBytes(what), nonce};
  return HmacSha256(AsBytes(key.bytes), parts);
}

std::string FileText(const FileAddress& address) { return "hayloft delete" + ToText(address); }
std::string NameText(std::string_view name) { return "hayloft name" + std::string(name); }

std::string MakeToken(const ClusterKey& key, std::string_view what, const Nonce& nonce) {
  ASSERT(!key.bytes.empty());
  TokenBytes token{.key_number = key.number, .nonce = {}, .mac = {}};
  const Sha256 mac = TokenMac(key, what, nonce);
  std::copy(nonce.begin(), nonce.end(), token.nonce);
  std::copy(mac.begin(), mac.end(), token.mac);
  return ToBase64Url(StructBytes(token));
}

std::optional<Nonce> CheckToken(const ClusterKey& key, std::string_view what,
                                std::string_view text) {
  TokenBytes token{};
  if (!FromBase64Url(text, {reinterpret_cast<uint8_t*>(&token), sizeof(token)}))
    return std::nullopt;
  Nonce nonce;
  std::copy(std::begin(token.nonce), std::end(token.nonce), nonce.begin());
  const bool equal = EqualInConstantTime(TokenMac(key, what, nonce), token.mac);
  if (!equal || token.key_number != key.number) return std::nullopt;
  return nonce;
}

}  // namespace

std::string MakeDeleteToken(const ClusterKey& key, const FileAddress& address, const Nonce& nonce) {
  return MakeToken(key, FileText(address), nonce);
}

std::optional<Nonce> CheckDeleteToken(const ClusterKey& key, const FileAddress& address,
                                      std::string_view text) {
  return CheckToken(key, FileText(address), text);
}

std::string MakeNameToken(const ClusterKey& key, std::string_view name, const Nonce& nonce) {
  return MakeToken(key, NameText(name), nonce);
}

bool CheckNameToken(const ClusterKey& key, std::string_view name, const Nonce& nonce,
                    std::string_view token) {
  return CheckToken(key, NameText(name), token) == nonce;
}

}  // namespace hayloft
