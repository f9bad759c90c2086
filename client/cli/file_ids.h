// The files that a command is about: ids on its line, or the lines of a manifest.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/file_address.h"

namespace hayloft {

struct FileToken {
  FileAddress address;
  std::string token;  // delete token, if one was given
  std::string path;   // of a manifest's line
};

// nullopt, with a complaint on stderr, when an id is none or the manifest cannot be read. An id may
// stand as in a URL: with a slash before it or an extension behind it.
std::optional<std::vector<FileToken>> CollectFiles(const std::vector<std::string>& ids,
                                                   const std::string& token,
                                                   const std::string& manifest);

}  // namespace hayloft
