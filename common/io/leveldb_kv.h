// A Kv in LevelDB: every checksum is checked on every read; damage is answered, never repaired.
//
// LevelDB's own repair can return values that were never written, so a damaged store is set aside
// whole, under a name that people find, and built again by whoever owns it. What was written since
// the last orderly close lies in LevelDB's log; damage to the length of a record there cannot be
// told from the torn end of a crash, and the store opens with all that was written before it.
#pragma once

#include <atomic>
#include <memory>
#include <shared_mutex>
#include <string>

#include "common/ports.h"

namespace leveldb {
class Cache;
class DB;
class FilterPolicy;
}  // namespace leveldb

namespace hayloft {

struct LevelDbOptions {
  uint64_t cache_bytes = 8 << 20;
  uint64_t write_buffer_bytes = 4 << 20;
  int open_files_max = 64;
  uint64_t file_bytes = 2 << 20;  // of a table, about
  uint64_t block_bytes = 4096;    // of a table: what a read of one row reads and checks
  bool compress = true;           // rows of hashes only cost time
  // Reads all of the store when it is opened. For stores whose damage must be known at the start.
  bool read_all = true;
  // Writes all of it anew when it is closed, so that damage of the log shows at the next start. Not
  // for a store that nothing rests on and that may be large: a stop has 10 s.
  bool settle_at_close = true;
};

class LevelDbKv : public Kv {
 public:
  // Makes the store if the folder is absent or empty. kCorrupt: damage; kBusy: another process has
  // it; kIo, kFull.
  static Result<std::unique_ptr<LevelDbKv>> Open(const std::string& path,
                                                 const LevelDbOptions& options = {});
  struct Opened {
    std::unique_ptr<LevelDbKv> kv;
    std::string set_aside;  // where the damaged store lies now; empty: it was sound
  };
  // A damaged store is renamed to PATH.damaged-1 (-2, ...) and an empty one opened in its place.
  static Result<Opened> OpenOrQuarantine(const std::string& path,
                                         const LevelDbOptions& options = {});
  // Moves the store to such a name, and says which. Whoever has it open goes on with what is open,
  // and must end soon.
  static Result<std::string> SetAside(const std::string& path);
  // The last store that was moved there; empty: none.
  static std::string LastSetAside(const std::string& path);
  ~LevelDbKv() override;

  // Any call was answered kCorrupt.
  bool damaged() const { return damaged_; }

  Result<std::string> Get(std::string_view key) override;
  Err Write(std::span<const Change> changes, bool sync) override;
  Err ScanFrom(std::string_view first, const Visit& visit) override;

 private:
  LevelDbKv(std::string path, const LevelDbOptions& options);
  Err OpenStore();
  Err CheckAll();
  Err OpenAfterFull();  // REQUIRES: mutex_ is held exclusively
  Err Noted(Err err);   // the same, and notes damage

  const std::string path_;
  const LevelDbOptions options_;
  std::unique_ptr<leveldb::Cache> cache_;
  std::unique_ptr<const leveldb::FilterPolicy> filter_;
  std::shared_mutex mutex_;          // exclusive only to open the store again
  std::unique_ptr<leveldb::DB> db_;  // null only when opening it again failed
  bool was_full_ = false;            // under mutex_
  std::atomic<bool> damaged_{false};
};

}  // namespace hayloft
