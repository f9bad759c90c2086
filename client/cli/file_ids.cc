#include "client/cli/file_ids.h"

#include <string_view>

#include "client/cli/command.h"
#include "client/cli/manifest.h"

namespace hayloft {

namespace {

std::optional<FileAddress> AddressOf(std::string_view text) {
  text.remove_prefix(text.rfind('/') + 1);  // 0 when there is none
  return ParseFileAddress(text.substr(0, text.find('.')));
}

}  // namespace

std::optional<std::vector<FileToken>> CollectFiles(const std::vector<std::string>& ids,
                                                   const std::string& token,
                                                   const std::string& manifest) {
  std::vector<FileToken> files;
  const auto add = [&](const std::string& id, const std::string& own_token,
                       const std::string& path) {
    const std::optional<FileAddress> address = AddressOf(id);
    if (address.has_value()) files.push_back({*address, own_token, path});
    return address.has_value() || (Complain(id + " is no id: it has 18 characters"), false);
  };
  for (const std::string& id : ids) {
    if (!add(id, token, "")) return std::nullopt;
  }
  if (manifest.empty()) return files;
  std::string why;
  const Result<Manifest> read = ReadManifest(manifest, &why);
  if (!read.ok()) {
    return Complain("cannot read the manifest " + manifest + ": " + why), std::nullopt;
  }
  for (const ManifestLine& line : read->lines) {
    if (!add(line.id, line.token, line.path)) return std::nullopt;
  }
  return files;
}

}  // namespace hayloft
