// The process of one node of a pair around its HaServer: a loop that decides, two threads that
// wait.
//
//   loop:         requests, decisions, replies, calls, the peer
//   log:          one thread: each batch of records synced, rows of what was committed, snapshots
//   coordinator:  one thread: reads and transactions
//
// While the log's disk hangs nothing leaves the core (its gate) and no lease is renewed, so that to
// everybody else this node is as dead as it is (FAULTS F65). A write that failed ends the process.
//
// What a service has of its own (its rows, its server, its metrics) it gives as a HaProcess.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/ha/coordinator.h"
#include "common/ha/ha_server.h"
#include "common/ha/ha_store.h"
#include "common/io/admin_http.h"
#include "common/io/leveldb_kv.h"
#include "common/io/loop.h"
#include "common/io/posix_device.h"
#include "common/io/rpc_client.h"
#include "common/io/rpc_server.h"
#include "common/io/system_random.h"
#include "common/io/web_client.h"
#include "common/io/worker.h"
#include "common/options.h"

namespace hayloft {

inline constexpr int kExitRoleLost = 75;  // EX_TEMPFAIL: another one may be active; it may follow

// X(type, name, default, min, max, help)
#define HAYLOFT_HA_OPTIONS(X)                                                                      \
  X(std::string, cluster_id, "", 0, 32, "the cluster's id, 32 hex digits")                         \
  X(bool, init, false, 0, 1, "make the store of a new cluster in an empty folder, and exit")       \
  X(bool, rebuild, false, 0, 1, "start in an empty folder from what the dsps of the cluster say")  \
  X(bool, force_promote, false, 0, 1,                                                              \
    "become the active one with this store, although others may know of more")                     \
  X(bool, check_store, false, 0, 1,                                                                \
    "exit with 0 if `data` holds a store, with 1 if no more than a part of a snapshot")            \
  X(bool, join, false, 0, 1, "with --init: a node that follows another one, and has nothing yet")  \
  X(bool, strict, false, 0, 1, "of two: nothing is acknowledged while that is not in sync")        \
  X(uint32_t, lease_ms, 3'000, 1'000, 60'000, "how long a silent active holds its role")           \
  X(std::string, promote_hook, "", 0, 4096,                                                        \
    "program that is run with the epoch once it has become active")                                \
  X(std::string, coordinator_dir, "", 0, 4096,                                                     \
    "of one machine: folder of the record of who is active, if not in `data`")                     \
  X(std::string, etcd, "", 0, 4096, "URLs of etcd, with commas between: the record is kept there") \
  X(std::string, etcd_prefix, "", 0, 255, "of its keys, if not /hayloft/CLUSTER_ID/ROLE")          \
  X(std::string, etcd_ca_file, "", 0, 4096, "who signed its certificates, if not the system's")    \
  X(std::string, etcd_cert_file, "", 0, 4096, "our own certificate")                               \
  X(std::string, etcd_key_file, "", 0, 4096, "its key")                                            \
  X(std::string, etcd_user, "", 0, 255, "who we are to it, by password")                           \
  X(std::string, etcd_password_file, "", 0, 4096, "file with the password")

struct HaConfig {
  HAYLOFT_SERVER_ROLE_OPTIONS(HAYLOFT_HA_OPTIONS)
  const std::string& Address() const { return advertise.empty() ? listen : advertise; }
  // Relations between options; empty: fine. `pair`: addresses of the nodes, this one's too if there
  // are two; `option` is where they stand.
  std::string Fault(const std::vector<std::string>& pair, std::string_view option) const;
  // The other node's address; empty: there is none.
  std::string PeerOf(const std::vector<std::string>& pair) const;
  Result<std::string> ClusterId() const;  // 16 bytes; kInvalid
};

// What a service's process has of its own. Borrowed by its HaShell, which must be gone before it.
class HaProcess {
 public:
  virtual ~HaProcess() = default;

  // --- On the log's thread, once there is one ---
  // Makes the rows of a new store. kExists: it holds some already.
  virtual Err InitRows(Kv* kv, std::string_view node, bool joining) = 0;
  // Reads the state of the rows of this Kv. kNotFound: there are none; kUnsupported: of a newer
  // version; kCorrupt.
  virtual Err LoadRows(Kv* kv) = 0;
  virtual Err ApplyRows(const std::vector<pb::HaRecord>& records) = 0;
  virtual uint64_t applied() const = 0;

  // --- On the loop's thread ---
  // Once, with the state that LoadRows read; it read none if a snapshot was cut short. kConfig with
  // one line of cause in `why`.
  virtual Err MakeServer(RoleOptions role, RoleDisk disk, Kv* kv, Random* random,
                         std::string* why) = 0;
  virtual HaServer* server() = 0;  // null before MakeServer
  virtual void OnReloaded() = 0;   // LoadRows was called after a snapshot
  virtual LevelDbOptions store_options() const = 0;
  virtual std::string CoordinatorKey() const = 0;  // which record it is: "nameserver"
  virtual std::vector<std::string> Pair() const = 0;
  virtual bool Answers(Now now) const = 0;  // as the active one
  virtual void PrintMetrics(Now now, MetricsText* out) const = 0;
};

struct HaShellOptions {
  std::string_view role;  // "nameserver"
  // A damaged store is moved aside, and the node has all of it again from the other one. Else, and
  // of a lone node, an operator has to say what becomes of it.
  bool replace_damaged = false;
};

class HaShell {
 public:
  // Borrows all but the options; `config` must not change any more.
  HaShell(Loop* loop, const HaConfig& config, HaShellOptions options, HaProcess* process);
  ~HaShell();
  HaShell(const HaShell&) = delete;  // threads and callbacks hold its address
  HaShell& operator=(const HaShell&) = delete;

  // Makes an empty store; `joining`: of a node that is to follow the other one. kConfig with one
  // line of cause in `why`; then nothing was written.
  static Err Init(const HaConfig& config, HaProcess* process, bool joining, std::string* why);

  // Whether there is anything in the folder that a cluster could go on from: neither a part of a
  // snapshot nor a node that was made to follow, and has followed nobody yet. Of a store that does
  // not run; the error is that of reading it.
  static Result<bool> HoldsStore(const HaConfig& config, HaProcess* process);

  // Listens, loads the store and begins to follow or to lead. kConfig with one line of cause in
  // `why`.
  Err Start(std::string* why);
  // The loop ends soon; before that the standby takes over, if there is one.
  void Stop();
  // --- Once the loop has ended, and what it had answered has left ---
  int exit_code() const { return exit_code_; }
  // It was active and is not any more, or its store was moved aside: to begin anew at once.
  bool begins_anew() const { return begins_anew_; }
  // It ended by itself while a thread waited for a disk or for the coordinator, either of which may
  // hang. The destructor waits for both.
  bool may_hang() const { return tick_ == nullptr && (writing_ || asking_); }

 private:
  Err Listen(std::string* why);
  Err OpenStore(RoleDisk* disk, std::string* why);
  Err ReplaceDamaged(std::string* why);
  Err LoadStore(RoleDisk* disk);
  Err OpenCoordinator(const std::string& cluster_id, std::string* why);
  Err OpenLeaseFile(std::string* why);
  void Connect();
  // Runs a call of the server and does what it wants.
  template <typename Call>
  void Run(Call&& call);
  void Take(HaOutbox* out);
  void WriteLog(RoleWrite write);
  void Apply(std::vector<pb::HaRecord> records);
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
  const HaConfig& config_;
  const HaShellOptions options_;
  HaProcess* const process_;
  std::string cluster_key_;
  SystemRandom random_;
  std::unique_ptr<LevelDbKv> kv_;
  std::unique_ptr<HaStore> log_store_;
  std::unique_ptr<PosixDevice> lease_folder_;
  std::unique_ptr<Coordinator> coordinator_;
  HaServer* node_ = nullptr;  // the process's; null: not started yet
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<RpcClient> client_;
  std::unique_ptr<WebClient> web_;
  std::unique_ptr<AdminHttp> admin_;
  Counter requests_total_;
  Counter log_batches_total_;
  Counter log_records_total_;
  Histogram log_sync_ms_;
  bool writing_ = false;
  bool asking_ = false;  // the coordinator
  uint64_t writing_since_ms_ = 0;

  bool stopping_ = false;
  Loop::Handle tick_;
  Loop::Handle stop_;
  int exit_code_ = 0;
  bool begins_anew_ = false;
  // Last: their tasks use what is above.
  std::unique_ptr<WorkerThread> log_;
  std::unique_ptr<WorkerThread> coordinator_thread_;
};

// The main of such a server, from its command line to its exit code. What an operator says of one
// start (`once`: names of options, beside --force-promote and --rebuild) does not hold when the
// process begins anew.
int RunHaServer(const Program& program, const HaConfig& config, const HaShellOptions& options,
                HaProcess* process, std::vector<std::string> once, int argc, char** argv);

}  // namespace hayloft
