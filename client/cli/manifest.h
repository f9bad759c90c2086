// What `put --manifest` writes and `get`, `rm --manifest` read. First the folders that the paths
// are relative to, so that another folder's files are not taken for stored, then a line for each
// stored file:
//
//   # FOLDER
//   path TAB id TAB token
//
// with tab, newline and backslash of a path as \t, \n and \\; a line with a tab is never a comment.
// Each line is written as soon as its upload was acknowledged, so that a put that was killed goes
// on behind it; what was acknowledged but not written down is uploaded again.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/io/unique_fd.h"
#include "common/result.h"

namespace hayloft {

struct ManifestLine {
  std::string path;
  std::string id;
  std::string token;  // may be empty
  friend bool operator==(const ManifestLine&, const ManifestLine&) = default;
};

struct Manifest {
  std::vector<std::string> folders;  // absolute; none in one that `put` did not write
  std::vector<ManifestLine> lines;
};

std::string FormatManifestLine(const ManifestLine& line);  // with its newline
// `text` without its newline; the token and its tab may be absent. kCorrupt when it is no such
// line.
Result<ManifestLine> ParseManifestLine(std::string_view text);
// A last line without newline counts: editors leave it out. kCorrupt with its number in `why`.
Result<Manifest> ParseManifest(std::string_view text, std::string* why);
// The same for a file; also kNotFound and what else may befall a file, with the cause in `why`.
Result<Manifest> ReadManifest(const std::string& path, std::string* why);

class ManifestWriter {
 public:
  // Opens or makes the manifest of `folders`; what it has already goes to `stored`. A last line
  // without newline was torn by a crash and is cut off. kConfig with the cause in `why`, and the
  // file as it was, when it is none or that of other folders.
  static Result<ManifestWriter> Open(const std::string& path,
                                     const std::vector<std::string>& folders,
                                     std::vector<ManifestLine>* stored, std::string* why);
  // Outlives this process when it returns, the system after the next Sync.
  Err Add(const ManifestLine& line);
  Err Sync();
  size_t unsynced() const { return unsynced_; }
  bool IsFile(const std::string& path) const;  // the manifest itself, by whatever name

 private:
  explicit ManifestWriter(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
  size_t unsynced_ = 0;
};

}  // namespace hayloft
