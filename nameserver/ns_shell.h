// What the nameserver's process has of its own, beside a node of a pair (common/ha/ha_shell.h): its
// options, its rows, its metrics.
//
// Threads: as HaProcess says.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/ha/ha_shell.h"
#include "nameserver/ns_server.h"
#include "nameserver/ns_store.h"

namespace hayloft {

// X(type, name, default, min, max, help)
#define NAMESERVER_CONFIG(X)                                                              \
  X(uint32_t, rebuild_dsps, 0, 0, 10'000,                                                 \
    "with --rebuild: so many dsps hold all that there is; 0: not known")                  \
  X(bool, end_rebuild, false, 0, 1,                                                       \
    "end a rebuild without the dsps that have not reported: what only they hold is gone") \
  X(uint32_t, copies, 1, 1, 5, "with --init or --rebuild: replicas of each block")        \
  X(uint32_t, min_copies, 0, 0, 5,                                                        \
    "with --init or --rebuild: with fewer there are no uploads; 0: 2, or 1 of 1 copy")    \
  X(uint32_t, suspect_after_ms, 3'000, 500, 600'000,                                      \
    "silence after which a dsp's open blocks are closed")                                 \
  X(uint32_t, down_after_ms, 600'000, 500, 86'400'000,                                    \
    "silence after which a dsp is given up until it comes back")                          \
  X(uint32_t, open_blocks_per_dsp, 2, 1, 64, "blocks that take appends on each dsp")

struct NsOwnConfig {
  HAYLOFT_OPTIONS(NAMESERVER_CONFIG)
};
struct NsConfig : HaConfig, NsOwnConfig {
  OptionRows Rows() { return Joined(HaConfig::Rows(), NsOwnConfig::Rows()); }
  std::string Fault() const;  // relations between options; empty: fine
};

class NsShell : public HaProcess {
 public:
  // Borrows `config`.
  explicit NsShell(const NsConfig& config) : config_(config) {}

  Err InitRows(Kv* kv, std::string_view node, bool joining) override;
  Err LoadRows(Kv* kv) override;
  Err ApplyRows(const std::vector<pb::HaRecord>& records) override;
  uint64_t applied() const override { return store_ == nullptr ? 0 : store_->applied(); }

  Err MakeServer(RoleOptions role, RoleDisk disk, Kv* kv, Random* random,
                 std::string* why) override;
  LevelDbOptions store_options() const override { return {}; }
  HaServer* server() override { return server_.get(); }
  void OnReloaded() override { server_->OnReloaded(std::move(loaded_)); }
  std::string CoordinatorKey() const override { return "nameserver"; }
  std::vector<std::string> Pair() const override { return SplitList(config_.nameservers); }
  bool Answers(Now now) const override { return server_->Answers(now); }
  void PrintMetrics(Now now, MetricsText* out) const override;

 private:
  const NsConfig& config_;
  std::unique_ptr<NsStore> store_;
  NsState loaded_;
  std::unique_ptr<NsServer> server_;
};

}  // namespace hayloft
