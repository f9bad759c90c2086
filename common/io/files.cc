#include "common/io/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

namespace hayloft {

namespace {

Err ErrOfErrno(int number) {
  switch (number) {
    case ENOENT:
    case ENOTDIR:
      return Err::kNotFound;
    case ENOSPC:
    case EDQUOT:
      return Err::kFull;
    case EROFS:
      return Err::kReadOnly;
    case EACCES:
    case EPERM:
      return Err::kConfig;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return Err::kBusy;
    default:
      return Err::kIo;
  }
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// The failure that errno tells of.
Err Failure(std::string* why) {
  const int number = errno;
  if (why != nullptr) *why = ErrnoText(number);
  return ErrOfErrno(number);
}

Result<UniqueFd> LockFile(const std::string& path, int how, std::string* why) {
  for (;;) {
    UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!fd.valid()) return Failure(why);
    while (flock(fd.get(), how) != 0) {
      if (errno == EWOULDBLOCK) return Err::kBusy;
      if (errno != EINTR) return Failure(why);
    }
    if (IsSameFile(fd.get(), path)) return fd;  // else who had it before us removed it
  }
}

}  // namespace

std::string ErrnoText(int number) { return std::generic_category().message(number); }

Err WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t wrote = write(fd, text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return ErrOfErrno(errno);
    text.remove_prefix(static_cast<size_t>(wrote));
  }
  return Err::kOk;
}

Result<std::string> ReadWholeFile(const std::string& path, uint64_t size_bytes_max,
                                  std::string* why) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return Failure(why);
  std::string text;
  char part[16384];  // not by st_size: files of /proc say 0
  for (;;) {
    const ssize_t got = read(fd.get(), part, sizeof(part));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Failure(why);
    if (got == 0) return text;
    text.append(part, static_cast<size_t>(got));
    if (text.size() <= size_bytes_max) continue;
    if (why != nullptr) *why = "larger than " + std::to_string(size_bytes_max) + " bytes";
    return Err::kTooLarge;
  }
}

Err ReplaceFile(const std::string& path, std::string_view text, unsigned mode, std::string* why) {
  const std::string beside = path + ".new";
  const UniqueFd fd(open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd.valid() || WriteAll(fd.get(), text) != Err::kOk || fsync(fd.get()) != 0 ||
      rename(beside.c_str(), path.c_str()) != 0 || SyncFolder(FolderOf(path)) != Err::kOk) {
    return Failure(why);
  }
  return Err::kOk;
}

Err MakeFolders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  return IsFolder(path) ? Err::kOk : Err::kConfig;
}

bool IsFolder(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

bool FileExists(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0;
}

bool IsSameFile(int fd, const std::string& path) {
  struct stat one {
  }, other{};
  return fstat(fd, &one) == 0 && stat(path.c_str(), &other) == 0 && one.st_dev == other.st_dev &&
         one.st_ino == other.st_ino;
}

Result<std::vector<std::string>> ListFolder(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(path, error), end; !error && it != end;
       it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) return ErrOfErrno(error.value());
  std::sort(names.begin(), names.end());
  return names;
}

Err SyncFolder(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || fsync(fd.get()) != 0) return ErrOfErrno(errno);
  return Err::kOk;
}

std::string AbsolutePath(const std::string& path) {
  std::error_code error;
  const std::filesystem::path full = std::filesystem::weakly_canonical(path, error);
  if (error || full.empty()) return std::filesystem::absolute(path).string();
  std::string text = full.string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text.front() == '/' ? text : std::filesystem::absolute(text).string();
}

Result<FileLock> FileLock::Take(const std::string& path, std::string* why) {
  TRY_ASSIGN(UniqueFd fd, LockFile(path, LOCK_EX, why));
  return FileLock(std::move(fd));
}

Result<bool> FileLock::IsTaken(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid() && errno == ENOENT) return false;
  if (!fd.valid()) return ErrOfErrno(errno);
  // Shared, so that two who ask don't take each other for the holder.
  while (flock(fd.get(), LOCK_SH | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return true;
    if (errno != EINTR) return ErrOfErrno(errno);
  }
  return false;
}

Result<FileLock> FileLock::TryTake(const std::string& path) {
  TRY_ASSIGN(UniqueFd fd, LockFile(path, LOCK_EX | LOCK_NB, /*why=*/nullptr));
  return FileLock(std::move(fd));
}

}  // namespace hayloft
