// The proofs that two processes give each other at the start of a connection: both know the
// cluster key. The two labels differ, so that neither side's proof can be sent back as its own.
#pragma once

#include <string>
#include <string_view>

#include "common/codec.h"

namespace hayloft {

inline constexpr size_t kHandshakeNonceBytes = 16;
inline constexpr size_t kClusterKeyBytesMin = 32;

inline std::string HandshakeMac(std::string_view key, std::string_view label,
                                std::string_view first_nonce, std::string_view second_nonce) {
  const std::array<Bytes, 3> parts{AsBytes(label), AsBytes(first_nonce), AsBytes(second_nonce)};
  const Sha256 mac = HmacSha256(AsBytes(key), parts);
  return std::string(AsText(mac));
}
inline std::string ServerMac(std::string_view key, std::string_view client_nonce,
                             std::string_view server_nonce) {
  return HandshakeMac(key, "hayloft server", client_nonce, server_nonce);
}
inline std::string ClientMac(std::string_view key, std::string_view server_nonce,
                             std::string_view client_nonce) {
  return HandshakeMac(key, "hayloft client", server_nonce, client_nonce);
}

}  // namespace hayloft
