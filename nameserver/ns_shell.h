// The nameserver's process around its core: a loop that decides, a thread that waits for the log.
//
//   loop:  requests, decisions, replies, commands
//   log:   one thread: all records that wait as one synced batch; the coordinator's record
//
// While the log's disk hangs nothing leaves the core (its gate), so that to everybody else this
// nameserver is as dead as it is (FAULTS F65). A write that failed ends the process.
//
// Threads: all members belong to the loop's thread but store and coordinator, which are the log
// thread's once the loop runs. Ownership: owns everything but the loop.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/ha/claim.h"
#include "common/io/admin_http.h"
#include "common/io/leveldb_kv.h"
#include "common/io/loop.h"
#include "common/io/posix_device.h"
#include "common/io/rpc_client.h"
#include "common/io/rpc_server.h"
#include "common/io/system_random.h"
#include "common/io/worker.h"
#include "common/options.h"
#include "nameserver/ns_core.h"
#include "nameserver/ns_store.h"

namespace hayloft {

// X(type, name, default, min, max, help)
#define NAMESERVER_CONFIG(X)                                                                      \
  X(std::string, cluster_id, "", 0, 32, "the cluster's id, 32 hex digits")                        \
  X(bool, init, false, 0, 1, "make the store of a new cluster in an empty folder, and exit")      \
  X(bool, rebuild, false, 0, 1, "start in an empty folder from what the dsps of the cluster say") \
  X(uint32_t, rebuild_dsps, 0, 0, 10'000,                                                         \
    "with --rebuild: so many dsps hold all that there is; 0: not known")                          \
  X(bool, end_rebuild, false, 0, 1,                                                               \
    "end a rebuild without the dsps that have not reported: what only they hold is gone")         \
  X(bool, force_promote, false, 0, 1,                                                             \
    "start with a store that may be older than the cluster (a restored backup)")                  \
  X(uint32_t, copies, 1, 1, 5, "with --init or --rebuild: replicas of each block")                \
  X(uint32_t, min_copies, 0, 0, 5,                                                                \
    "with --init or --rebuild: with fewer there are no uploads; 0: 2, or 1 of 1 copy")            \
  X(uint32_t, suspect_after_ms, 3'000, 500, 600'000,                                              \
    "silence after which a dsp's open blocks are closed")                                         \
  X(uint32_t, down_after_ms, 600'000, 500, 86'400'000,                                            \
    "silence after which a dsp is given up until it comes back")                                  \
  X(uint32_t, open_blocks_per_dsp, 2, 1, 64, "blocks that take appends on each dsp")              \
  X(std::string, coordinator_dir, "", 0, 4096, "folder of the lease record, if not in `data`")

struct NsConfig {
  HAYLOFT_SERVER_ROLE_OPTIONS(NAMESERVER_CONFIG)
  std::string Fault() const;  // relations between options; empty: fine
};

#define NS_METRICS(X)                                        \
  X(Counter, requests_total, "requests answered")            \
  X(Counter, log_batches_total, "synced batches of the log") \
  X(Counter, log_records_total, "records in them")           \
  X(Histogram, log_sync_ms, "milliseconds from a batch to its sync")
struct NsMetrics {
  HAYLOFT_METRICS("hayloft_nameserver_", NS_METRICS)
};

class NsShell {
 public:
  NsShell(Loop* loop, NsConfig config);
  ~NsShell();
  NsShell(const NsShell&) = delete;  // threads and callbacks hold its address
  NsShell& operator=(const NsShell&) = delete;

  // Makes an empty store. kConfig with one line of cause in `why`; then nothing was written.
  static Err Init(const NsConfig& config, std::string* why);

  // Listens, loads the store and wins the role. kConfig with one line of cause in `why`.
  Err Start(std::string* why);
  // What the process exits with once the loop has ended.
  int exit_code() const { return exit_code_; }

 private:
  Err Listen(std::string* why);
  Err OpenStore(NsState* state, std::string* why);
  Err WinRole(const NsState& state, bool forced, uint64_t* epoch, std::string* why);
  Result<uint64_t> Claim(const LeaseClaim& claim);
  Err Renew(uint64_t log_position);
  void Take(NsOutbox* outbox);
  void WriteLog();
  void OnLogWritten(Err err, uint64_t index);
  void RaiseEpoch(uint64_t above);
  void End(int exit_code, const char* why, Err err);
  std::string WhyNotReady() const;
  void PrintMetrics(MetricsText* out) const;

  Loop* const loop_;
  const NsConfig config_;
  std::string cluster_key_;
  SystemRandom random_;
  std::unique_ptr<LevelDbKv> kv_;
  std::unique_ptr<NsStore> store_;
  std::unique_ptr<PosixDevice> lease_folder_;
  std::unique_ptr<Coordinator> coordinator_;
  pb::LeaseRecord lease_;       // as last committed; the log's thread's once that runs, like
  uint64_t lease_version_ = 0;  // its version
  std::unique_ptr<NsCore> core_;
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<RpcClient> client_;
  std::unique_ptr<AdminHttp> admin_;
  NsMetrics metrics_;
  std::vector<pb::LogRecord> waiting_;  // for the next batch
  bool writing_ = false;
  uint64_t writing_since_ms_ = 0;
  uint64_t written_index_ = 0;  // last record on the disk; the log's thread's once that runs
  uint64_t renewed_ms_ = 0;
  Loop::Handle tick_;
  int exit_code_ = 0;
  std::unique_ptr<WorkerThread> log_;  // last: its tasks use what is above
};

}  // namespace hayloft
