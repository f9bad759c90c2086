// The delete token, and the token of a name. The delete token: what an uploader gets with each
// upload and must show to delete or undelete it.
//
//   base64url of | key number, 1 | nonce, 16 | HMAC-SHA256(cluster key, "hayloft delete" id nonce),
//   32 |
//
// 66 characters. Nothing is stored for it: whoever has the cluster key can check one. Pure.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "common/file_address.h"
#include "common/le.h"

namespace hayloft {

using Nonce = std::array<uint8_t, 16>;

struct ClusterKey {
  uint8_t number = 1;  // so that keys can be rotated
  std::string bytes;   // at least 32
};

inline constexpr size_t kDeleteTokenLength = 66;

std::string MakeDeleteToken(const ClusterKey& key, const FileAddress& address, const Nonce& nonce);
// The token's nonce if it was made with this key for this file; compares in constant time.
std::optional<Nonce> CheckDeleteToken(const ClusterKey& key, const FileAddress& address,
                                      std::string_view token);

// Of a name: what its creator gets and must show to write it over or to delete it. The same with
// HMAC-SHA256(cluster key, "hayloft name" name nonce), `nonce` being the name's own.
std::string MakeNameToken(const ClusterKey& key, std::string_view name, const Nonce& nonce);
bool CheckNameToken(const ClusterKey& key, std::string_view name, const Nonce& nonce,
                    std::string_view token);

}  // namespace hayloft
