#include "client/cli/file_ids.h"

#include <string_view>

#include "client/cli/command.h"
#include "client/cli/manifest.h"

namespace hayloft {

namespace {

// The id in what may be a URL.
std::string_view IdIn(std::string_view text) {
  text.remove_prefix(text.rfind('/') + 1);  // 0 when there is none
  return text.substr(0, text.find('.'));
}

}  // namespace

std::optional<std::vector<FileToken>> CollectFiles(const std::vector<std::string>& ids,
                                                   const std::string& token,
                                                   const std::string& manifest) {
  std::vector<FileToken> files;
  const auto add = [&](const std::string& id, const std::string& own_token,
                       const std::string& path) {
    const std::optional<FileAddress> address = ParseFileAddress(IdIn(id));
    if (!address) {
      return Complain(id + " is no id: " + std::string(WhyNoFileAddress(IdIn(id)))), false;
    }
    files.push_back({*address, own_token, path});
    return true;
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
