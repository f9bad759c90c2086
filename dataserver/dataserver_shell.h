// The dataserver's hands: runs what the supervisor orders and tells it what happens.
//
//   DATA/dsps.json    which process serves which disk, and why a disk is not served; from it the
//                     next dataserver adopts the dsps that outlived this one; without it, those
//                     that it finds running for its disks
//   DATA/NAME.failed  this disk failed: its dsp is started read-only until an operator removes it
//
// Never makes or formats a disk's folder: one that is missing is a mount that failed. Processes are
// watched by polling at each tick: a child by waitpid, an adopted one by its entry in /proc.
// Threads: the loop's.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/io/cluster_file.h"
#include "common/io/files.h"
#include "common/io/http_client.h"
#include "common/io/loop.h"
#include "common/metrics.h"
#include "common/options.h"
#include "dataserver/supervisor.h"

namespace hayloft {

#define DATASERVER_OPTIONS(X)                                                                    \
  X(std::string, cluster_id, "", 32, 32, "32 hex digits; its dsps refuse other clusters' disks") \
  X(std::string, disks, "", 0, 65'536,                                                           \
    "folder of each disk, in `data` or absolute, with commas between")                           \
  X(std::string, dsp_listen, "", 0, 65'536, "IP:PORT of each disk's dsp, in the same order")     \
  X(std::string, dsp_admin_listen, "", 0, 65'536, "IP:PORT of each dsp's admin port")            \
  X(std::string, dsp_config, "", 0, 4096, "config file that the dsps are given")                 \
  X(std::string, dsp_log_dir, "", 0, 4096, "folder of the dsps' logs, if not `data`")            \
  X(std::string, cluster_file, "", 0, 4096, "cluster.json to keep the dsps' entries in")         \
  X(uint32_t, hang_ms, 10'000, 1'000, 600'000, "without progress of a dsp's loop or disk")

struct DataserverOptions {
  HAYLOFT_SERVER_ROLE_OPTIONS(DATASERVER_OPTIONS)
  std::string Fault() const;
};

class Dataserver {
 public:
  // Borrows both, which must outlive it.
  Dataserver(Loop* loop, const DataserverOptions* options);

  // kConfig with one line of cause in `why`; then nothing was started.
  Err Start(std::string* why);
  // Ends all dsps, then the loop.
  void Stop();
  // Starts again what was given up, and for writing what only reads, unless its disk is marked.
  void LookAgain();

  std::string NotReady() const;  // why it is not ready, or empty
  void PrintMetrics(MetricsText* out) const;

 private:
  struct Dsp {
    std::string name, folder, listen, admin_listen;
    ProcessId process;      // pid 0: none
    bool is_child = false;  // else adopted
    uint64_t probe_at_ms = 0;
    std::unique_ptr<HttpCall> probe;
  };

  void AdoptRunning();
  void Tick();
  void NoticeExits();
  void SendProbes();
  void Carry(const Supervisor::Orders& orders);
  void StartDsp(size_t number);
  void MarkFailed(size_t number);
  void Exited(size_t number, DspExit exit);
  void WriteRecords();
  std::string MarkPath(const Dsp& dsp) const;
  static ProcessId FindServer(const Dsp& dsp);
  std::vector<std::string> Arguments(size_t number) const;

  Loop* const loop_;
  const DataserverOptions& options_;
  std::vector<Dsp> dsps_;
  std::unique_ptr<Supervisor> supervisor_;
  std::unique_ptr<FileLock> lock_;  // one dataserver a folder
  Loop::Handle tick_;
};

}  // namespace hayloft
