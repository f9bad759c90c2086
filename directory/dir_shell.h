// What the process of a directory shard's node has of its own, beside a node of a pair
// (common/ha/ha_shell.h): its options, its rows, its metrics.
//
// Threads: as HaProcess says; the core reads the rows on the loop's thread while the log's thread
// writes them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/ha/ha_shell.h"
#include "directory/dir_core.h"
#include "directory/dir_store.h"

namespace hayloft {

// X(type, name, default, min, max, help)
#define DIRECTORY_CONFIG(X)                                                              \
  X(std::vector<std::string>, directory, {}, 0, 256,                                     \
    "IP:PORT of a shard's nodes, with a comma between; once for each shard, in order")   \
  X(uint64_t, cache_bytes, 32 << 20, 1 << 20, uint64_t{1} << 40, "rows kept in memory")  \
  X(std::string, purge_url, "", 0, 4096,                                                 \
    "http://IP:PORT/PATH with {id} that a CDN is told at of deleted files")              \
  X(std::string, purge_method, "PURGE", 1, 16, "how: PURGE, or POST with a JSON body")   \
  X(std::string, purge_host, "", 0, 255, "field Host of these requests, if not IP:PORT") \
  X(std::string, purge_file_url, "", 0, 4096,                                            \
    "of POST: the \"url\" that it tells, with {id}; if not /{id}")                       \
  X(uint32_t, purge_delay_ms, 1'200, 0, 600'000,                                         \
    "from a delete to the purge: until no gateway's cache serves the file")              \
  X(uint32_t, purge_timeout_ms, 5'000, 100, 60'000, "for one purge to be answered")

struct DirOwnConfig {
  HAYLOFT_OPTIONS(DIRECTORY_CONFIG)
};
struct DirConfig : HaConfig, DirOwnConfig {
  OptionRows Rows() { return Joined(HaConfig::Rows(), DirOwnConfig::Rows()); }
  std::string Fault() const;  // relations between options; empty: fine
  // Which shard's node it is: that in whose list it stands; 0 if there are no lists.
  std::optional<uint32_t> Shard() const;
  uint32_t Shards() const;
  PurgeOptions Purge() const;
};

// How a shard has its rows: many small ones, read one by one in no order.
LevelDbOptions DirLevelDbOptions(uint64_t cache_bytes);

class DirShell : public HaProcess {
 public:
  // Borrows `config`.
  explicit DirShell(const DirConfig& config) : config_(config) {}

  Err InitRows(Kv* kv, std::string_view node, bool joining) override;
  Err LoadRows(Kv* kv) override;
  Err ApplyRows(const std::vector<pb::HaRecord>& records) override;
  uint64_t applied() const override { return store_ == nullptr ? 0 : store_->applied(); }

  Err MakeServer(RoleOptions role, RoleDisk disk, Kv* kv, Random* random,
                 std::string* why) override;
  LevelDbOptions store_options() const override { return DirLevelDbOptions(config_.cache_bytes); }
  HaServer* server() override { return server_.get(); }
  void OnReloaded() override { core_->OnReloaded(std::move(loaded_)); }
  std::string CoordinatorKey() const override;
  std::vector<std::string> Pair() const override;
  bool Answers(Now now) const override;
  void PrintMetrics(Now now, MetricsText* out) const override;

 private:
  const DirConfig& config_;
  std::unique_ptr<DirStore> store_;
  DirState loaded_;
  std::unique_ptr<DirCore> core_;
  std::unique_ptr<HaServer> server_;
};

}  // namespace hayloft
