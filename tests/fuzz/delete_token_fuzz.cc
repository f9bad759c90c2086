// libFuzzer target: a delete token, out of a header.
// covers: common/delete_token.cc
//
// Promise: only the token that was made for this file is accepted, with its nonce.
#include "common/check.h"
#include "common/delete_token.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  const ClusterKey key{.number = 1, .bytes = std::string(32, 'k')};
  const FileAddress address{.block_id = 5, .file_id = FileId::Of(3, 9)};
  const std::string text(AsText({data, size}));
  const std::optional<Nonce> nonce = CheckDeleteToken(key, address, text);
  if (nonce.has_value()) ASSERT(MakeDeleteToken(key, address, *nonce) == text);
  if (size < 17) return 0;
  Nonce made;
  std::copy(data, data + 16, made.begin());
  std::string token = MakeDeleteToken(key, address, made);
  ASSERT(CheckDeleteToken(key, address, token) == made);
  token[data[16] % token.size()] ^= static_cast<char>(size > 17 ? data[17] | 1 : 1);
  ASSERT(!CheckDeleteToken(key, address, token).has_value());
  return 0;
}
