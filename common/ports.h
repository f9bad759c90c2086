// The only doors of a core to the outside: a disk's folder, an ordered key-value store, time,
// randomness.
//
// Production implements them in common/io/, the simulator in tests/sim/. All calls are synchronous;
// who must not block calls them from a thread of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/le.h"
#include "common/result.h"

namespace hayloft {

// An open file of a Device. Plain number: cheap to copy, meaningless after Close.
struct FileHandle {
  int32_t number = -1;
  bool valid() const { return number >= 0; }
  friend bool operator==(FileHandle, FileHandle) = default;
};

struct FileInfo {
  std::string name;
  uint64_t size_bytes = 0;
};

struct SpaceInfo {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;  // what an unprivileged writer may still take
};

// One flat folder on one disk. Names hold [a-z0-9._-] only and no '/'.
//
// Durability: Write survives a crash only after a Sync of the same file that began after it and
// returned kOk. Create, Rename and Remove survive only after a SyncDir. A Sync that failed says
// nothing about what is on the disk and is never repeated (ext4 answers success the second time,
// with the data gone). Errors: kIo (the medium), kFull (ENOSPC, EDQUOT: not a failure of the disk),
// kNotFound, kExists, kBusy (EMFILE, ENFILE, ENOMEM), kReadOnly (EROFS), kCorrupt (a file shorter
// than asked). Threads: safe for concurrent calls on different files, and for concurrent Reads of
// one file.
class Device {
 public:
  virtual ~Device() = default;
  virtual Result<FileHandle> Create(std::string_view name) = 0;  // kExists if it is there
  virtual Result<FileHandle> Open(std::string_view name) = 0;    // for reading and writing
  virtual void Close(FileHandle file) = 0;
  virtual Result<uint64_t> Size(FileHandle file) = 0;
  // Fills all of `out`, or fails; a read across the end of the file is kCorrupt.
  virtual Err Read(FileHandle file, uint64_t offset, MutableBytes out) = 0;
  // Like Read, but answers kBusy at once when the bytes are not in memory already, and has then
  // made the disk begin with them: the Read that follows only waits.
  virtual Err ReadCached(FileHandle file, uint64_t offset, MutableBytes out) = 0;
  // Writes the parts one after the other from `offset` on. After an error any subset may be on the
  // disk.
  virtual Err Write(FileHandle file, uint64_t offset, std::span<const Bytes> parts) = 0;
  virtual Err Sync(FileHandle file) = 0;  // fdatasync: data and size
  // Reserves blocks so that writes below `size_bytes` cannot meet a full disk; extends the file.
  virtual Err Allocate(FileHandle file, uint64_t size_bytes) = 0;
  virtual Err Truncate(FileHandle file, uint64_t size_bytes) = 0;
  virtual Err Rename(std::string_view from, std::string_view to) = 0;  // replaces `to`
  virtual Err Remove(std::string_view name) = 0;
  virtual Err SyncDir() = 0;
  virtual Result<std::vector<FileInfo>> List() = 0;  // sorted by name
  virtual Result<SpaceInfo> Space() = 0;
  // Held until the Device is destroyed or the process dies; kExists when another process has it.
  virtual Err Lock() = 0;
};

// An ordered map of byte strings. Threads: safe for concurrent use.
// Errors: kIo, kFull, kCorrupt (damage was found: quarantine and rebuild, never repair in place).
class Kv {
 public:
  struct Change {
    std::string key;
    std::string value;
    bool remove = false;
  };
  virtual ~Kv() = default;
  virtual Result<std::string> Get(std::string_view key) = 0;  // kNotFound
  // All changes or none. With `sync`, durable when it returns, together with every earlier write.
  virtual Err Write(std::span<const Change> changes, bool sync) = 0;
  using Visit = std::function<bool(std::string_view key, std::string_view value)>;
  // Calls `visit` for each key from this one on, in byte order, until it returns false.
  virtual Err ScanFrom(std::string_view first, const Visit& visit) = 0;
  // The same for all keys with this prefix.
  Err Scan(std::string_view prefix, const Visit& visit) {
    return ScanFrom(prefix, [&](std::string_view key, std::string_view value) {
      return key.starts_with(prefix) && visit(key, value);
    });
  }
};

class Clock {
 public:
  virtual ~Clock() = default;
  virtual uint64_t MonotonicMs() = 0;  // for every duration and deadline
  virtual uint64_t WallMs() = 0;       // for people, and for the trash time; may jump
};

class Random {
 public:
  virtual ~Random() = default;
  virtual void Fill(MutableBytes out) = 0;  // cryptographically strong in production
  uint64_t Next64() {
    le64 value;
    Fill({reinterpret_cast<uint8_t*>(&value), sizeof(value)});
    return value;
  }
  // Uniform enough for jitter and choice: 0 <= result < bound. REQUIRES: bound > 0.
  uint64_t Below(uint64_t bound) {
    ASSERT(bound > 0);
    return Next64() % bound;
  }
};

}  // namespace hayloft
