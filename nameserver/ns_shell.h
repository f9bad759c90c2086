// The nameserver's process around its server: a loop that decides, two threads that wait.
//
//   loop:         requests, decisions, replies, commands, the peer
//   log:          one thread: each batch of records synced, rows of what was committed, snapshots
//   coordinator:  one thread: reads and transactions
//
// While the log's disk hangs nothing leaves the core (its gate) and no lease is renewed, so that to
// everybody else this nameserver is as dead as it is (FAULTS F65). A write that failed ends the
// process.
//
// Threads: all members belong to the loop's thread but stores and coordinator, which are their
// threads' once the loop runs. Ownership: owns everything but the loop.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/ha/coordinator.h"
#include "common/ha/ha_store.h"
#include "common/io/admin_http.h"
#include "common/io/leveldb_kv.h"
#include "common/io/loop.h"
#include "common/io/posix_device.h"
#include "common/io/rpc_client.h"
#include "common/io/rpc_server.h"
#include "common/io/system_random.h"
#include "common/io/worker.h"
#include "common/options.h"
#include "nameserver/ns_server.h"
#include "nameserver/ns_store.h"

namespace hayloft {

inline constexpr int kExitRoleLost = 75;  // EX_TEMPFAIL: another one may be active; it may follow

// X(type, name, default, min, max, help)
#define NAMESERVER_CONFIG(X)                                                                       \
  X(std::string, cluster_id, "", 0, 32, "the cluster's id, 32 hex digits")                         \
  X(bool, init, false, 0, 1, "make the store of a new cluster in an empty folder, and exit")       \
  X(bool, rebuild, false, 0, 1, "start in an empty folder from what the dsps of the cluster say")  \
  X(uint32_t, rebuild_dsps, 0, 0, 10'000,                                                          \
    "with --rebuild: so many dsps hold all that there is; 0: not known")                           \
  X(bool, end_rebuild, false, 0, 1,                                                                \
    "end a rebuild without the dsps that have not reported: what only they hold is gone")          \
  X(bool, force_promote, false, 0, 1,                                                              \
    "become the active one with this store, although others may know of more")                     \
  X(bool, join, false, 0, 1, "with --init: a node that follows another one, and has nothing yet")  \
  X(bool, strict, false, 0, 1, "of two: nothing is acknowledged while that is not in sync")        \
  X(uint32_t, lease_ms, 3'000, 1'000, 60'000, "how long a silent active holds its role")           \
  X(std::string, promote_hook, "", 0, 4096,                                                        \
    "program that is run with the epoch once it has become active")                                \
  X(uint32_t, copies, 1, 1, 5, "with --init or --rebuild: replicas of each block")                 \
  X(uint32_t, min_copies, 0, 0, 5,                                                                 \
    "with --init or --rebuild: with fewer there are no uploads; 0: 2, or 1 of 1 copy")             \
  X(uint32_t, suspect_after_ms, 3'000, 500, 600'000,                                               \
    "silence after which a dsp's open blocks are closed")                                          \
  X(uint32_t, down_after_ms, 600'000, 500, 86'400'000,                                             \
    "silence after which a dsp is given up until it comes back")                                   \
  X(uint32_t, open_blocks_per_dsp, 2, 1, 64, "blocks that take appends on each dsp")               \
  X(std::string, coordinator_dir, "", 0, 4096,                                                     \
    "of one machine: folder of the record of who is active, if not in `data`")                     \
  X(std::string, etcd, "", 0, 4096, "URLs of etcd, with commas between: the record is kept there") \
  X(std::string, etcd_prefix, "", 0, 255, "of its keys, if not /hayloft/CLUSTER_ID/nameserver")    \
  X(std::string, etcd_ca_file, "", 0, 4096, "who signed its certificates, if not the system's")    \
  X(std::string, etcd_cert_file, "", 0, 4096, "our own certificate")                               \
  X(std::string, etcd_key_file, "", 0, 4096, "its key")                                            \
  X(std::string, etcd_user, "", 0, 255, "who we are to it, by password")                           \
  X(std::string, etcd_password_file, "", 0, 4096, "file with the password")

struct NsConfig {
  HAYLOFT_SERVER_ROLE_OPTIONS(NAMESERVER_CONFIG)
  std::string Fault() const;  // relations between options; empty: fine
  const std::string& Address() const { return advertise.empty() ? listen : advertise; }
  std::string Peer() const;  // the other one of `nameservers`; empty: there is none
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

  // Listens, loads the store and begins to follow or to lead. kConfig with one line of cause in
  // `why`.
  Err Start(std::string* why);
  // The loop ends soon; before that the standby takes over, if there is one.
  void Stop();
  // It was active and is not any more: to begin anew at once, whatever hangs. May return if it
  // can't.
  void OnRoleLost(std::function<void()> begin_anew) { on_role_lost_ = std::move(begin_anew); }
  // What the process exits with once the loop has ended.
  int exit_code() const { return exit_code_; }

 private:
  Err Listen(std::string* why);
  Err OpenStore(NsState* state, RoleDisk* disk, std::string* why);
  Err LoadStore(NsState* state, RoleDisk* disk);
  Err OpenCoordinator(const NsState& state, std::string* why);
  Err OpenLeaseFile(std::string* why);
  // Runs a call of the server and does what it wants.
  template <typename Call>
  void Run(Call&& call);
  void Take(ServerOutbox* out);
  void WriteLog(RoleWrite write);
  void Apply(std::vector<pb::LogRecord> records);
  void ReadLog(uint64_t from);
  void ReadSnapshot(std::string after);
  void Reload();
  void Ask(CoordinatorCall call);
  // On the log's thread, in order; what it posts runs on the loop, if the task went well.
  void OnLogThread(std::function<Err()> task, std::function<void()> then);
  void RunHook(uint64_t epoch);
  void End(int exit_code, const std::string& why, Err err);
  bool LogHangs() const;
  std::string WhyNotReady() const;
  void PrintMetrics(MetricsText* out) const;

  Loop* const loop_;
  const NsConfig config_;
  std::string cluster_key_;
  SystemRandom random_;
  std::unique_ptr<LevelDbKv> kv_;
  std::unique_ptr<NsStore> store_;
  std::unique_ptr<HaStore> log_store_;
  std::unique_ptr<PosixDevice> lease_folder_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<NsServer> node_;
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<RpcClient> client_;
  std::unique_ptr<AdminHttp> admin_;
  NsMetrics metrics_;
  bool writing_ = false;
  bool asking_ = false;  // the coordinator
  uint64_t writing_since_ms_ = 0;

  bool stopping_ = false;
  Loop::Handle tick_;
  Loop::Handle stop_;
  int exit_code_ = 0;
  std::function<void()> on_role_lost_;
  // Last: their tasks use what is above.
  std::unique_ptr<WorkerThread> log_;
  std::unique_ptr<WorkerThread> coordinator_thread_;
};

}  // namespace hayloft
