// Small files of a process's own (records, options, secrets): read whole, replaced whole.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/io/unique_fd.h"
#include "common/result.h"

namespace hayloft {

// `why`, where there is one and it is not null, gets what the system says of a failure, for people.

// kNotFound, kTooLarge, or kIo.
Result<std::string> ReadWholeFile(const std::string& path, uint64_t size_bytes_max,
                                  std::string* why = nullptr);

// A reader finds the old text or the new one, also after a crash: a file beside it, synced, renamed
// over it, the folder synced. kFull, kReadOnly, or kIo; then the old one stands.
Err ReplaceFile(const std::string& path, std::string_view text, unsigned mode = 0644,
                std::string* why = nullptr);
// All of it, or kFull, kReadOnly, kIo with errno set; then a part may be written.
Err WriteAll(int fd, std::string_view text);
std::string ErrnoText(int number);  // "No such file or directory"

// Makes the folder and those above it. kOk when it is there already; kConfig when something else
// is.
Err MakeFolders(const std::string& path);
bool IsFolder(const std::string& path);
bool FileExists(const std::string& path);
bool IsSameFile(int fd, const std::string& path);
Result<std::vector<std::string>> ListFolder(const std::string& path);  // sorted, without . and ..
Err SyncFolder(const std::string& path);
// `path` made absolute from the current folder; "." and ".." are resolved where they exist.
std::string AbsolutePath(const std::string& path);

// An exclusive lock that ends with this object or its process. Nothing lies in the file; its holder
// may remove it.
class FileLock {
 public:
  // Waits for it.
  static Result<FileLock> Take(const std::string& path, std::string* why = nullptr);
  static Result<FileLock> TryTake(const std::string& path);  // kBusy when another has it
  // Whether somebody has it; false when there is no such file. Who calls TryTake at that moment may
  // be told kBusy.
  static Result<bool> IsTaken(const std::string& path);

 private:
  explicit FileLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace hayloft
