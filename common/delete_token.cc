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

Sha256 TokenMac(const ClusterKey& key, const FileAddress& address, const Nonce& nonce) {
  const std::string id = ToText(address);
  const Bytes parts[] = {AsBytes("hayloft delete"), AsBytes(id), nonce};
  return HmacSha256(AsBytes(key.bytes), parts);
}

}  // namespace

std::string MakeDeleteToken(const ClusterKey& key, const FileAddress& address, const Nonce& nonce) {
  ASSERT(!key.bytes.empty());
  TokenBytes token{.key_number = key.number, .nonce = {}, .mac = {}};
  const Sha256 mac = TokenMac(key, address, nonce);
  std::copy(nonce.begin(), nonce.end(), token.nonce);
  std::copy(mac.begin(), mac.end(), token.mac);
  return ToBase64Url(StructBytes(token));
}

std::optional<Nonce> CheckDeleteToken(const ClusterKey& key, const FileAddress& address,
                                      std::string_view text) {
  TokenBytes token{};
  if (!FromBase64Url(text, {reinterpret_cast<uint8_t*>(&token), sizeof(token)}))
    return std::nullopt;
  Nonce nonce;
  std::copy(std::begin(token.nonce), std::end(token.nonce), nonce.begin());
  const Sha256 mac = TokenMac(key, address, nonce);
  const bool equal = EqualInConstantTime(mac, token.mac);
  if (!equal || token.key_number != key.number) return std::nullopt;
  return nonce;
}

}  // namespace hayloft
