// The dsp's process around its core: a loop that decides, threads that wait for the disk.
//
//   loop:        requests, decisions, replies, and reads that the page cache answers
//   commit:      one thread, what somebody waits for, in order
//   background:  one thread, sealing and filling the pool
//   readers:     a few threads, for reads that the page cache does not answer: the loop's attempt
//                has made the kernel begin them, so that one thread waits for many
//
// Threads: all members belong to the loop's thread but the device and the store, which are safe
// for all. Ownership: owns everything but the loop.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "common/io/admin_http.h"
#include "common/io/leveldb_kv.h"
#include "common/io/loop.h"
#include "common/io/posix_device.h"
#include "common/io/rpc_client.h"
#include "common/io/rpc_server.h"
#include "common/io/system_random.h"
#include "common/io/unique_fd.h"
#include "common/io/worker.h"
#include "common/options.h"
#include "dataserver/dsp/dsp_core.h"

namespace hayloft {

// X(type, name, default, min, max, help)
#define DSP_CONFIG(X)                                                                             \
  X(std::string, cluster_id, "", 32, 32,                                                          \
    "the cluster's id, 32 hex digits; another one's disk is refused")                             \
  X(bool, format, false, 0, 1, "make an empty folder a disk of this cluster, and exit")           \
  X(uint64_t, block_bytes, kBlockBytes, kBlockBytesMin, kBlockBytesMax,                           \
    "with --format and --rebuild-superblock: size of each block file")                            \
  X(bool, clear_failed, false, 0, 1, "take a failed disk's mark off, and exit")                   \
  X(bool, rebuild_superblock, false, 0, 1, "make a superblock where both are damaged, and exit")  \
  X(std::string, disk_id, "", 0, 32, "with --rebuild-superblock: its 32 hex digits")              \
  X(bool, read_only, false, 0, 1, "serve a disk that has failed, and write nothing to it")        \
  X(uint32_t, readers, 4, 1, 256, "threads that wait for reads of what is not in the page cache") \
  X(uint32_t, pool_files, 2, 0, 64, "block files written beforehand")                             \
  X(uint32_t, replica_timeout_ms, 2'000, 10, 60'000, "for a secondary's part of an append")       \
  X(uint64_t, append_queue_bytes, 64 << 20, 1 << 20, uint64_t{1} << 40,                           \
    "bytes of uploads waiting for the disk; beyond it they are refused as busy")                  \
  X(uint32_t, sealed_files, 8192, 16, 1 << 20,                                                    \
    "files of sealed blocks kept open between reads, at most half of what the system allows")     \
  X(uint32_t, trash_hours, 168, 1, 87'600, "hours in which a deleted file can be undeleted")      \
  X(uint32_t, reserve_percent, 1, 0, 50,                                                          \
    "of the disk, besides two blocks: kept free for deletes and compaction")                      \
  X(uint32_t, full_percent, 95, 1, 100, "of the disk in use; from here on it gets no new blocks")

struct DspConfig {
  HAYLOFT_SERVER_ROLE_OPTIONS(DSP_CONFIG)
  std::string Fault() const;  // relations between options; empty: fine
};

class DspShell {
 public:
  DspShell(Loop* loop, DspConfig config);
  ~DspShell();
  DspShell(const DspShell&) = delete;  // threads and callbacks hold its address
  DspShell& operator=(const DspShell&) = delete;

  // Makes the folder a disk. kConfig with one line of cause in `why`; then nothing was written.
  static Err Format(const DspConfig& config, std::string* why);

  // Takes the mark of a failure off. Makes a superblock where both are damaged. Likewise.
  static Err ClearFailedMark(const DspConfig& config, std::string* why);
  static Err Rebuild(const DspConfig& config, std::string* why);

  // Listens and takes the disk, then recovers it while the loop runs. kConfig with one line of
  // cause in `why`.
  Err Start(std::string* why);
  // No more work is taken; ends the loop when what was taken is done. For SIGTERM.
  void Stop();
  // What the process exits with once the loop has ended: 0, or kExitDisk when the disk failed.
  int exit_code() const { return exit_code_; }
  // Why it ended by itself before it served, or was refused; empty: it did not.
  const std::string& why() const { return why_; }
  // A thread is in the middle of the recovery, which may take long and may be ended at any point.
  bool recovering() const { return phase_ == Phase::kRecovering; }

 private:
  enum class Phase : uint8_t { kAsking, kRecovering, kServing };
  struct RunningJob {
    IoJob job;
    JobDone done;
    uint64_t begun_ms = 0;
  };
  struct RunningRead {
    ReadJob job;
    ReadDone done;
    uint64_t begun_ms = 0;
  };

  static Result<std::unique_ptr<PosixDevice>> OpenForTool(const DspConfig& config,
                                                          std::string* why);
  Err OpenDisk(std::string* why);
  void Ask();
  void OnCallDone(CallDone&& done);
  void TickStart();
  void Recover();
  void OnRecovered(Err err);
  void Fail(int exit_code, std::string why);
  void OpenFastStart();
  DspOptions CoreOptions() const;
  void OnRequest(RpcRequest&& request);
  void Take(DspOutbox* out);
  void EndTurn();
  void StartJob(IoJob job);
  void RunJobs();
  void OnJobDone(uint64_t id);
  void StartRead(ReadJob job);
  void OnReadDone(uint64_t id);
  void Tick();
  void RefreshSpace();
  uint64_t DiskIdleMs();
  void EndIfIdle();
  void PrintMetrics(MetricsText* out);

  Loop* const loop_;
  const DspConfig config_;
  std::string cluster_key_;
  Phase phase_ = Phase::kAsking;
  std::string why_;
  UniqueFd machine_name_;  // taken for this disk's id
  Id16 disk_id_{};         // these three as the superblock was found
  uint64_t next_incarnation_ = 0;
  uint64_t promised_epoch_ = 0;
  uint64_t asked_ = 0;  // nameservers that have not answered yet
  Err refusal_ = Err::kOk;
  uint64_t ask_at_ms_ = 0;
  uint64_t ask_until_ms_ = 0;
  uint64_t recovery_operations_ = 0;
  uint64_t recovery_progress_ms_ = 0;
  SystemRandom random_;
  std::unique_ptr<PosixDevice> device_;
  std::unique_ptr<Kv> kv_;
  std::unique_ptr<DspCore> core_;
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<RpcClient> client_;
  std::unique_ptr<AdminHttp> admin_;
  Loop::Handle tick_;
  std::unordered_map<uint64_t, std::unique_ptr<RunningJob>> jobs_;
  std::vector<RunningJob*> jobs_to_run_;
  Loop::TurnEnd end_turn_, run_jobs_;
  std::unordered_map<uint64_t, std::unique_ptr<RunningRead>> reads_;
  uint64_t next_read_id_ = 1;
  SpaceInfo space_;
  bool space_asked_ = false;
  uint64_t commit_progress_ms_ = 0;  // when a job of the commit lane last finished
  uint64_t read_progress_ms_ = 0;    // when a read that waited for the disk last finished
  uint64_t cached_reads_ = 0;
  uint64_t blocking_reads_ = 0;
  bool stopping_ = false;
  int exit_code_ = 0;
  // Last, so that they are gone first: their tasks use what is above.
  std::unique_ptr<WorkerPool> readers_;
  std::unique_ptr<WorkerThread> background_;
  std::unique_ptr<WorkerThread> commit_;
};

}  // namespace hayloft
