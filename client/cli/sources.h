// The local files that `put` is to store, as its arguments name them.
#pragma once

#include <string>
#include <vector>

namespace hayloft {

struct Source {
  std::string name;  // as the user is told
  std::string path;  // to read from
};

struct Sources {
  std::vector<Source> files;
  std::vector<std::string> folders;     // absolute; what the names are relative to
  std::vector<std::string> unreadable;  // "FOLDER: cause"; the rest is in `files` all the same
};

// The arguments themselves, "-" being standard input. They are relative to the current folder.
Sources FindFiles(const std::vector<std::string>& arguments);

// The regular files in the folders, each in the order of its names, so that two runs do the same;
// links are left out, as they may lead out of the folder or to a file that is there already.
Sources FindInFolders(const std::vector<std::string>& folders);

// A name that two of the files have, empty when there is none.
std::string NameHeldTwice(const std::vector<Source>& files);

}  // namespace hayloft
