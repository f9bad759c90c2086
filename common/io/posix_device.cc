#include "common/io/posix_device.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include "common/io/failpoint.h"

namespace hayloft {

namespace {

constexpr size_t kPartsMax = IOV_MAX;

Err ErrOf(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return Err::kNotFound;
    case EEXIST:
      return Err::kExists;
    case ENOSPC:
    case EDQUOT:
      return Err::kFull;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN:
      return Err::kBusy;
    case EROFS:
    case EBADF:  // a file that a read-only file system let us open for reading only
      return Err::kReadOnly;
    case EACCES:
    case EPERM:
      return Err::kConfig;
    case EINVAL:
    case ENAMETOOLONG:
      return Err::kInvalid;
    default:
      return Err::kIo;
  }
}

// Device's names; nothing that could lead out of the folder.
bool NameIsFine(std::string_view name) {
  const bool characters = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  });
  return characters && !name.empty() && name.size() <= NAME_MAX && name.front() != '.';
}

// A path of openat and friends: names are not terminated.
struct Name {
  std::array<char, NAME_MAX + 1> text{};
  explicit Name(std::string_view name) {
    ASSERT(NameIsFine(name));
    std::copy(name.begin(), name.end(), text.begin());
  }
  const char* c_str() const { return text.data(); }
};

Result<FileHandle> Opened(int fd) {
  if (fd < 0) return ErrOf(errno);
  (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);  // a hint; nothing is wrong without it
  return FileHandle{fd};
}

off_t Offset(uint64_t offset) {
  ASSERT(offset <= static_cast<uint64_t>(INT64_MAX));
  return static_cast<off_t>(offset);
}

}  // namespace

Result<std::unique_ptr<PosixDevice>> PosixDevice::OpenFolder(const std::string& path) {
  UniqueFd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return ErrOf(errno);
  return std::unique_ptr<PosixDevice>(new PosixDevice(std::move(folder)));
}

PosixDevice::~PosixDevice() = default;

Result<FileHandle> PosixDevice::Create(std::string_view name) {
  const int fd = ::openat(folder_.get(), Name(name).c_str(),
                          O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
  FAILPOINT("device_create_after");
  return Opened(fd);
}

Result<FileHandle> PosixDevice::Open(std::string_view name) {
  int fd = ::openat(folder_.get(), Name(name).c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 && errno == EROFS) {
    fd = ::openat(folder_.get(), Name(name).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  }
  operations_.fetch_add(1, std::memory_order_relaxed);
  return Opened(fd);
}

void PosixDevice::Close(FileHandle file) {
  ASSERT(file.valid());
  (void)::close(file.number);  // what matters was synced before
}

Result<uint64_t> PosixDevice::Size(FileHandle file) {
  struct stat info {};
  if (::fstat(file.number, &info) != 0) return ErrOf(errno);
  return static_cast<uint64_t>(info.st_size);
}

Err PosixDevice::Read(FileHandle file, uint64_t offset, MutableBytes out) {
  ASSERT(file.valid());
  while (!out.empty()) {
    const ssize_t got = ::pread(file.number, out.data(), out.size(), Offset(offset));
    operations_.fetch_add(1, std::memory_order_relaxed);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrOf(errno);
    if (got == 0) return Err::kCorrupt;  // the file ends before what was written to it
    out = out.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return Err::kOk;
}

Err PosixDevice::ReadCached(FileHandle file, uint64_t offset, MutableBytes out) {
  ASSERT(file.valid());
  const iovec part{out.data(), out.size()};
  const ssize_t got = ::preadv2(file.number, &part, 1, Offset(offset), RWF_NOWAIT);
  if (got >= 0) {
    // A part is in memory, or the file ends here: Read finds out which.
    return static_cast<size_t>(got) == out.size() ? Err::kOk : Err::kBusy;
  }
  if (errno == EAGAIN || errno == EINTR) return Err::kBusy;  // the kernel has begun to read it
  if (errno == EOPNOTSUPP) {  // this file system cannot tell, and is asked to begin
    (void)posix_fadvise(file.number, Offset(offset), static_cast<off_t>(out.size()),
                        POSIX_FADV_WILLNEED);
    return Err::kBusy;
  }
  return ErrOf(errno);
}

Err PosixDevice::Write(FileHandle file, uint64_t offset, std::span<const Bytes> parts) {
  ASSERT(file.valid());
  FAILPOINT("device_write_before");
  size_t skip = 0;  // bytes of parts[0] that are written
  while (!parts.empty()) {
    if (skip == parts[0].size()) {
      parts = parts.subspan(1);
      skip = 0;
      continue;
    }
    std::array<iovec, kPartsMax> vector;
    const size_t count = std::min(parts.size(), kPartsMax);
    for (size_t i = 0; i < count; ++i) {
      vector[i] = {const_cast<uint8_t*>(parts[i].data()), parts[i].size()};
    }
    vector[0] = {const_cast<uint8_t*>(parts[0].data()) + skip, parts[0].size() - skip};
    const ssize_t wrote =
        ::pwritev(file.number, vector.data(), static_cast<int>(count), Offset(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return ErrOf(errno);
    if (wrote == 0) return Err::kIo;
    offset += static_cast<uint64_t>(wrote);
    skip += static_cast<size_t>(wrote);
    while (!parts.empty() && skip >= parts[0].size()) {
      skip -= parts[0].size();
      parts = parts.subspan(1);
    }
  }
  FAILPOINT("device_write_after");
  return Err::kOk;
}

Err PosixDevice::Sync(FileHandle file) {
  ASSERT(file.valid());
  FAILPOINT("device_sync_before");
  if (::fdatasync(file.number) != 0) return ErrOf(errno);  // never repeated, whatever it was
  operations_.fetch_add(1, std::memory_order_relaxed);
  FAILPOINT("device_sync_after");
  return Err::kOk;
}

Err PosixDevice::Allocate(FileHandle file, uint64_t size_bytes) {
  ASSERT(file.valid());
  ASSERT(size_bytes > 0);
  int code = 0;
  do {
    code = ::fallocate(file.number, 0, 0, Offset(size_bytes));
  } while (code != 0 && errno == EINTR);
  return code == 0 ? Err::kOk : ErrOf(errno);
}

Err PosixDevice::Truncate(FileHandle file, uint64_t size_bytes) {
  ASSERT(file.valid());
  return ::ftruncate(file.number, Offset(size_bytes)) == 0 ? Err::kOk : ErrOf(errno);
}

Err PosixDevice::Rename(std::string_view from, std::string_view to) {
  FAILPOINT("device_rename_before");
  if (::renameat(folder_.get(), Name(from).c_str(), folder_.get(), Name(to).c_str()) != 0) {
    return ErrOf(errno);
  }
  FAILPOINT("device_rename_after");
  return Err::kOk;
}

Err PosixDevice::Remove(std::string_view name) {
  if (::unlinkat(folder_.get(), Name(name).c_str(), 0) != 0) return ErrOf(errno);
  FAILPOINT("device_remove_after");
  return Err::kOk;
}

Err PosixDevice::SyncDir() {
  FAILPOINT("device_sync_dir_before");
  if (::fsync(folder_.get()) != 0) return ErrOf(errno);
  FAILPOINT("device_sync_dir_after");
  return Err::kOk;
}

Result<std::vector<FileInfo>> PosixDevice::List() {
  // A descriptor of its own: a directory stream moves the offset of the one that it is given.
  UniqueFd fd(::openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return ErrOf(errno);
  struct DirClose {
    void operator()(DIR* folder) const { ::closedir(folder); }
  };
  const std::unique_ptr<DIR, DirClose> folder(::fdopendir(fd.get()));
  if (folder == nullptr) return ErrOf(errno);
  (void)fd.Release();  // the stream's now
  std::vector<FileInfo> files;
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(folder.get());
    if (entry == nullptr && errno != 0) return ErrOf(errno);
    if (entry == nullptr) break;
    struct stat info {};
    const int code = ::fstatat(folder_.get(), entry->d_name, &info, AT_SYMLINK_NOFOLLOW);
    if (code != 0 && errno != ENOENT) return ErrOf(errno);
    if (code != 0 || !S_ISREG(info.st_mode)) continue;
    files.push_back({entry->d_name, static_cast<uint64_t>(info.st_size)});
  }
  std::sort(files.begin(), files.end(),
            [](const FileInfo& a, const FileInfo& b) { return a.name < b.name; });
  return files;
}

Result<SpaceInfo> PosixDevice::Space() {
  struct statvfs info {};
  if (::fstatvfs(folder_.get(), &info) != 0) return ErrOf(errno);
  return SpaceInfo{.total_bytes = uint64_t{info.f_blocks} * info.f_frsize,
                   .free_bytes = uint64_t{info.f_bavail} * info.f_frsize};
}

Err PosixDevice::Lock() {
  ASSERT(!lock_.valid());
  UniqueFd fd(::openat(folder_.get(), "LOCK", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd.valid() && errno == EROFS) {
    fd.Reset(::openat(folder_.get(), "LOCK", O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  }
  if (!fd.valid()) return ErrOf(errno);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return errno == EWOULDBLOCK ? Err::kExists : ErrOf(errno);
  }
  lock_ = std::move(fd);
  return Err::kOk;
}

}  // namespace hayloft
