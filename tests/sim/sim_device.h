// A disk's folder in memory that forgets what was not synced, the way disks do.
//
//   files:      what processes see now  |  per page, what the medium holds (if it differs)
//   directory:  what processes see now  |  what the medium holds
//
// Every change is also kept as an unsynced operation until a Sync of its file (or a SyncDir). At
// Crash the medium's image counts, and the mode chooses which unsynced operations reached it.
// Deterministic: the same seed and calls give the same bytes. Memory: only pages ever written, so
// a 64 MiB file that holds a few needles costs a few pages.
//
// A process' death and its next life:  [CutAtOperation ...] -> Crash(mode) -> Restart() -> Open...
// Between the cut and Restart every call answers kIo, and all handles are dead afterwards.
//
// Unlike the port's contract, not for concurrent use: a simulation has one thread.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/limits.h"
#include "common/ports.h"
#include "tests/sim/sim_power.h"
#include "tests/sim/sim_random.h"

namespace hayloft {

enum class CrashMode {
  kKill,       // kill -9: the process dies, the page cache lives; nothing is lost
  kClean,      // power cut: all that was not synced is lost
  kTorn,       // power cut: of each unsynced write any 512-byte sectors survive; of the directory's
               // changes the first few, in order (a journal)
  kReordered,  // power cut: any unsynced writes and directory changes survive, whole, in any order
};
inline constexpr CrashMode kPowerCuts[] = {CrashMode::kClean, CrashMode::kTorn,
                                           CrashMode::kReordered};

class SimDevice : public Device {
 public:
  static constexpr uint64_t kSectorBytes = 512;
  static constexpr uint64_t kDefaultBytes = uint64_t{16} << 30;

  // Borrows `power` when one is given, so that another port dies with this one; else has its own.
  explicit SimDevice(uint64_t seed, uint64_t total_bytes = kDefaultBytes,
                     SimPower* power = nullptr);

  // --- Device ---
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
  Err Lock() override;

  // --- Death ---
  // The n-th changing call from now (1: the next one) is the last that this process makes; it fails
  // and may have happened in part.
  void CrashAtOperation(uint64_t n) { power_->CutAtOperation(n); }
  bool dead() const { return power_->off(); }
  void Crash(CrashMode mode);
  void Restart();
  uint64_t operations() const { return power_->operations(); }
  // Bytes and directory changes that a clean power cut would take now.
  uint64_t UnsyncedBytes() const;
  size_t UnsyncedDirectoryChanges() const { return directory_changes_.size(); }

  // --- Faults of the medium. Each stays until it is taken back, the "next" ones once. ---
  void FailNextWrite(Err err = Err::kIo) { fail_write_ = err; }  // some sectors may be written
  // The unsynced bytes stay readable, and no later Sync makes them durable, though it answers kOk:
  // what ext4 does.
  // `after`: so many syncs more succeed.
  void FailNextSync(Err err = Err::kIo, uint64_t after = 0) {
    fail_sync_ = err;
    fail_sync_after_ = after;
  }
  struct Range {
    uint64_t begin = 0;
    uint64_t end = UINT64_MAX;
  };
  void FailReads(std::string_view name, Range range, Err err = Err::kIo);
  void HealReads() { bad_reads_.clear(); }
  void SetTotalBytes(uint64_t bytes) { total_bytes_ = bytes; }  // below what is used: full
  void SetReadOnly(bool on) { read_only_ = on; }                // every change answers kReadOnly
  // Sync answers kOk and does nothing: of everything, or of files whose names begin so.
  void SetLyingSync(bool on, std::string prefix = "") {
    lying_sync_ = on;
    lying_prefix_ = std::move(prefix);
  }
  bool lies() const { return lying_sync_; }
  void SetLockedByOther(bool on) { locked_by_other_ = on; }
  void SetUncachedPercent(uint64_t percent) { uncached_percent_ = percent; }  // ReadCached: kBusy

  // --- Hands on the medium, for tests. The file must exist. ---
  void FlipBit(std::string_view name, uint64_t offset, uint32_t bit = 0);
  void SetBytes(std::string_view name, uint64_t offset, Bytes bytes);  // extends the file
  std::string FileImage(std::string_view name) const;                  // as processes see it
  bool Exists(std::string_view name) const { return directory_.contains(std::string(name)); }
  uint64_t reads() const { return reads_; }
  uint64_t syncs() const { return syncs_; }
  size_t open_files() const { return handles_.size(); }

 private:
  using Page = std::array<uint8_t, kPageBytes>;
  using PagePtr = std::unique_ptr<Page>;  // null: a hole, all zeros
  struct Change {                         // one unsynced change of a file
    uint64_t offset = 0;
    std::string bytes = {};  // of a write
    bool resize = false;
    uint64_t size = 0;  // of the file after this change
  };
  struct Inode {
    std::vector<PagePtr> pages;  // as processes see it
    uint64_t size = 0;
    uint64_t allocated = 0;              // charged whether written or not
    uint64_t charged = 0;                // its part of used_bytes_
    uint64_t synced_size = 0;            // what the medium holds
    std::map<uint64_t, PagePtr> synced;  // what the medium holds, where that differs from `pages`
    std::set<uint64_t> lost;             // of those, pages that a failed Sync gave up
    std::vector<Change> changes;         // unsynced, oldest first
  };
  struct DirectoryChange {
    std::string from;  // removed, if it still names the inode; empty: create
    std::string to;    // names the inode from now on; empty: remove
    uint64_t inode = 0;
  };
  using Directory = std::map<std::string, uint64_t, std::less<>>;

  Err CheckAlive() const;  // what every call asks first
  Err TakeSyncFault();
  bool LiesAbout(const Inode* inode) const;
  Err CheckWritable() const;  // what every changing call asks first
  Inode* Find(FileHandle file);
  Inode* Find(std::string_view name) const;
  Err CopyOut(const Inode& inode, uint64_t offset, MutableBytes out) const;
  uint64_t NewPages(const Inode& inode, Range range) const;
  void Store(Inode* inode, uint64_t offset, Bytes bytes);
  void StoreSomeSectors(Inode* inode, uint64_t offset, Bytes bytes);
  Err Resize(FileHandle file, uint64_t size_bytes, bool allocate);
  void SetSize(Inode* inode, uint64_t size_bytes);
  void KeepSynced(Inode* inode, uint64_t page);
  void Recharge(Inode* inode);
  bool ChangeDirectory(DirectoryChange change);
  static void Apply(const DirectoryChange& change, Directory* directory);
  void CrashDirectory(CrashMode mode);
  void CrashInode(Inode* inode, CrashMode mode);
  void Survive(Inode* inode, const Change& change, CrashMode mode);
  void DropUnreferenced();

  SimRandom random_;
  SimPower own_power_;
  SimPower* power_;
  uint64_t total_bytes_;
  uint64_t used_bytes_ = 0;
  std::map<uint64_t, std::unique_ptr<Inode>> inodes_;
  uint64_t next_inode_ = 1;
  std::map<int32_t, uint64_t> handles_;
  int32_t next_handle_ = 1;
  int32_t first_handle_of_life_ = 1;
  Directory directory_;         // as processes see it
  Directory synced_directory_;  // as the medium has it
  std::vector<DirectoryChange> directory_changes_;

  struct BadRead {
    uint64_t inode;
    Range range;
    Err err;
  };
  std::vector<BadRead> bad_reads_;
  Err fail_write_ = Err::kOk;
  Err fail_sync_ = Err::kOk;
  uint64_t fail_sync_after_ = 0;
  bool read_only_ = false;
  bool lying_sync_ = false;
  std::string lying_prefix_;
  bool locked_ = false;
  bool locked_by_other_ = false;
  uint64_t uncached_percent_ = 0;
  uint64_t reads_ = 0;
  uint64_t syncs_ = 0;
};

}  // namespace hayloft
