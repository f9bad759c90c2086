#include "client/cli/sources.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

#include "common/io/files.h"

namespace hayloft {

namespace {

namespace fs = std::filesystem;

// `name` is `folder` as the files in it are to be told: empty, or with a slash at its end.
void Collect(const fs::path& folder, const std::string& name, Sources* found) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string own_name = name + it->path().filename().string();
    std::error_code gone;  // it was removed meanwhile: then it is nothing
    if (it->is_symlink(gone)) continue;
    if (it->is_directory(gone)) {
      Collect(it->path(), own_name + "/", found);
    } else if (it->is_regular_file(gone)) {
      found->files.push_back({.name = own_name, .path = it->path().string()});
    }
  }
  if (error) found->unreadable.push_back(folder.string() + ": " + error.message());
}

}  // namespace

Sources FindFiles(const std::vector<std::string>& arguments) {
  Sources found;
  found.folders.push_back(AbsolutePath("."));
  for (const std::string& argument : arguments) {
    found.files.push_back({.name = argument, .path = argument == "-" ? "/dev/stdin" : argument});
  }
  return found;
}

Sources FindInFolders(const std::vector<std::string>& folders) {
  Sources found;
  for (const std::string& folder : folders) {
    const auto first = static_cast<std::ptrdiff_t>(found.files.size());
    found.folders.push_back(AbsolutePath(folder));
    Collect(folder, "", &found);
    std::sort(found.files.begin() + first, found.files.end(),
              [](const Source& a, const Source& b) { return a.name < b.name; });
  }
  return found;
}

std::string NameHeldTwice(const std::vector<Source>& files) {
  std::set<std::string_view> names;
  for (const Source& file : files) {
    if (!names.insert(file.name).second) return file.name;
  }
  return {};
}

}  // namespace hayloft
