// A Device that is a folder of the file system.
//
// Reads and writes go through the page cache; POSIX_FADV_RANDOM on every file keeps the kernel from
// reading ahead of an image (without it a cold read cost 1.4 times its bytes).
// On a file system that is mounted read-only, files open for reading and writes answer kReadOnly.
#pragma once

#include <atomic>

#include <memory>
#include <string>

#include "common/io/unique_fd.h"
#include "common/ports.h"

namespace hayloft {

class PosixDevice : public Device {
 public:
  // kNotFound when there is no such folder; it is never made here.
  static Result<std::unique_ptr<PosixDevice>> OpenFolder(const std::string& path);
  ~PosixDevice() override;

  Result<FileHandle> Create(std::string_view name) override;
  Result<FileHandle> Open(std::string_view name) override;
  void Close(FileHandle file) override;
  Result<uint64_t> Size(FileHandle file) override;
  Err Read(FileHandle file, uint64_t offset, MutableBytes out) override;
  Err ReadCached(FileHandle file, uint64_t offset, MutableBytes out) override;
  Err Write(FileHandle file, uint64_t offset, std::span<const Bytes> parts) override;
  Err Sync(FileHandle file) override;
  Err Allocate(FileHandle file, uint64_t size_bytes) override;
  Err Truncate(FileHandle file, uint64_t size_bytes) override;
  Err Rename(std::string_view from, std::string_view to) override;
  Err Remove(std::string_view name) override;
  Err SyncDir() override;
  Result<std::vector<FileInfo>> List() override;
  Result<SpaceInfo> Space() override;
  Err Lock() override;  // on the file LOCK

  // Calls that came back from the disk: whether it makes progress.
  uint64_t operations() const { return operations_.load(std::memory_order_relaxed); }

 private:
  explicit PosixDevice(UniqueFd folder) : folder_(std::move(folder)) {}

  UniqueFd folder_;
  UniqueFd lock_;
  std::atomic<uint64_t> operations_ = 0;
};

}  // namespace hayloft
