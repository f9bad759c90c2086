// What `put --manifest` writes and `get`, `rm --manifest` read: one line for each stored file,
//
//   path TAB id TAB token
//
// with tab, newline and backslash of a path as \t, \n and \\. Lines are appended and synced in
// batches after their upload was acknowledged, so that a put that was killed goes on behind them;
// what was acknowledged but not written down is uploaded again.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/io/unique_fd.h"
#include "common/result.h"

namespace hayloft {

struct ManifestLine {
  std::string path;
  std::string id;
  std::string token;
  friend bool operator==(const ManifestLine&, const ManifestLine&) = default;
};

std::string FormatManifestLine(const ManifestLine& line);  // with its newline
// `text` without its newline. kCorrupt when it is no such line.
Result<ManifestLine> ParseManifestLine(std::string_view text);

// All whole lines; a last one without newline was torn by a crash and is left out. kNotFound.
Result<std::vector<ManifestLine>> ReadManifest(const std::string& path);

class ManifestWriter {
 public:
  // Opens or makes the file and cuts a torn last line off.
  static Result<ManifestWriter> Open(const std::string& path);
  // On disk after the next Sync.
  void Add(const ManifestLine& line);
  Err Sync();
  size_t unsynced() const { return unsynced_; }

 private:
  explicit ManifestWriter(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
  std::string pending_;
  size_t unsynced_ = 0;
};

}  // namespace hayloft
