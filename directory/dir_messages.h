// Names of files and nonces as messages and rows have them. Pure.
#pragma once

#include <algorithm>
#include <optional>
#include <string>

#include "common/delete_token.h"
#include "common/file_address.h"
#include "common/limits.h"
#include "common/proto/hayloft.pb.h"

namespace hayloft {

inline void FillFile(const FileAddress& file, pb::FileName* name) {
  name->set_block_id(file.block_id);
  name->set_file_id(file.file_id.value);
}

inline std::optional<FileAddress> FileFrom(const pb::FileName& name) {
  if (name.block_id() == 0 || name.block_id() > kBlockIdMax) return std::nullopt;
  return FileAddress{name.block_id(), FileId{name.file_id()}};
}

inline std::optional<Nonce> NonceFrom(const std::string& bytes) {
  Nonce nonce;
  if (bytes.size() != nonce.size()) return std::nullopt;
  std::copy(bytes.begin(), bytes.end(), nonce.begin());
  return nonce;
}

}  // namespace hayloft
