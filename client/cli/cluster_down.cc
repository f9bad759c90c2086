#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "client/cli/cluster.h"
#include "client/cli/command.h"
#include "common/io/cluster_file.h"
#include "common/io/files.h"
#include "common/io/json.h"
#include "common/io/system_clock.h"

namespace hayloft {

namespace {

using Entries = std::vector<ProcessEntry>;

// A dataserver gives its dsps 10 s. Together below 30 s, one of each role may hang.
constexpr uint64_t kGatewayMs = 7'000;
constexpr uint64_t kDirectoryMs = 4'000;
constexpr uint64_t kDataserverMs = 12'000;
constexpr uint64_t kOthersMs = 6'000;
constexpr uint64_t kEtcdMs = 5'000;
constexpr uint64_t kNoMoreMs = 3'000;  // of it, after a gateway was told twice
constexpr uint64_t kKilledMs = 3'000;  // a killed process may still have to leave the kernel
constexpr timespec kPollPause{.tv_sec = 0, .tv_nsec = 10'000'000};

bool AnyRuns(const Entries& entries) {
  return std::any_of(entries.begin(), entries.end(),
                     [](const ProcessEntry& entry) { return IsRunning(entry.id); });
}

bool WaitUntilGone(const Entries& entries, uint64_t patience_ms) {
  const uint64_t end_ms = SystemMonotonicMs() + patience_ms;
  while (AnyRuns(entries)) {
    if (SystemMonotonicMs() >= end_ms) return false;
    nanosleep(&kPollPause, nullptr);
  }
  return true;
}

// Asks, waits, kills. A stopped process takes SIGTERM only when it goes on; if it was stopped it
// may hang, so that it is not woken before its time is over.
bool End(const Entries& entries, uint64_t patience_ms) {
  for (const ProcessEntry& entry : entries) (void)Signal(entry.id, SIGTERM);  // gone is fine
  if (WaitUntilGone(entries, patience_ms - kNoMoreMs)) return true;
  for (const ProcessEntry& entry : entries) {  // drains no longer
    if (entry.role == "gateway") (void)Signal(entry.id, SIGTERM);
  }
  if (WaitUntilGone(entries, kNoMoreMs)) return true;
  for (const ProcessEntry& entry : entries) {
    if (!IsRunning(entry.id)) continue;
    std::fprintf(stderr, "hayloft: %s did not stop in %d s and is killed\n", entry.name.c_str(),
                 static_cast<int>(patience_ms / 1000));
    (void)Signal(entry.id, SIGCONT);
    (void)Signal(entry.id, SIGKILL);
  }
  return WaitUntilGone(entries, kKilledMs);
}

Entries WithRole(const Entries& all, std::initializer_list<const char*> roles) {
  Entries found;
  for (const ProcessEntry& entry : all) {
    const auto is_it = [&](const char* role) { return entry.role == role; };
    if (std::any_of(roles.begin(), roles.end(), is_it)) found.push_back(entry);
  }
  return found;
}

void PrintNoProcesses() {
  std::printf("%s", Json().Set("processes", Json::Array()).Dump(/*pretty=*/true).c_str());
}

}  // namespace

int ClusterDown(const std::string& dir, bool json) {
  const std::string folder = AbsolutePath(dir);
  const ClusterFile file(folder + "/cluster.json");
  // A folder that is none of ours gets no lock file either.
  if (!FileExists(folder + "/options.json") && !FileExists(folder + "/cluster.json")) {
    (void)Complain("there is no cluster in " + folder);
    if (json) PrintNoProcesses();
    return kExitFine;
  }
  std::string why;
  const Result<FileLock> lock = FileLock::Take(folder + "/up.lock", &why);
  if (!lock.ok()) return Complain("cannot lock " + folder + "/up.lock: " + why);
  Result<Entries> entries = file.Read();
  if (!entries.ok()) return Complain(DamagedClusterFile(folder));
  // Gateways first, so that no upload meets a dsp that is gone; then directories, which finish
  // deletes on dsps; dataservers before dsps, because they would start them again. They end their
  // own: what is left after them was orphaned.
  bool all_gone = End(WithRole(*entries, {"gateway"}), kGatewayMs);
  all_gone = End(WithRole(*entries, {"directory"}), kDirectoryMs) && all_gone;
  all_gone = End(WithRole(*entries, {"dataserver"}), kDataserverMs) && all_gone;
  entries = file.Read();
  if (!entries.ok()) return 1;
  all_gone = End(WithRole(*entries, {"dsp", "nameserver"}), kOthersMs) && all_gone;
  // Last: a nameserver gives its lease back.
  all_gone = End(WithRole(*entries, {"etcd"}), kEtcdMs) && all_gone;
  if (!all_gone || file.Change([](Entries* all) { all->clear(); }) != Err::kOk) {
    return Complain("not everything could be stopped, see " + folder + "/cluster.json");
  }
  if (json) {
    PrintNoProcesses();
  } else {
    std::printf("stopped; the data stays in %s\n", folder.c_str());
  }
  return 0;
}

int ClusterStatus(const std::string& dir, bool json) {
  const Result<ClusterState> state = LoadClusterState(dir);
  if (!state.ok()) {
    return Complain("there is no cluster in " + dir);
  }
  const Result<Entries> entries = ClusterFile(state->Path("cluster.json")).Read();
  if (!entries.ok()) return 1;
  Json list{Json::Array()};
  bool all_run = true;
  for (const PlannedProcess& planned : state->Plan()) {
    const ProcessEntry* entry = FindEntry(*entries, planned.name);
    const bool runs = entry != nullptr && IsRunning(entry->id);
    all_run = all_run && runs;
    Json line;
    line.Set("name", planned.name).Set("role", planned.role).Set("running", runs);
    line.Set("pid", runs ? entry->id.pid : 0).Set("address", planned.listen);
    list.Add(line);
    if (json) continue;
    std::printf("%-16s %-8s pid %-8d %s\n", planned.name.c_str(), runs ? "running" : "stopped",
                runs ? entry->id.pid : 0, planned.listen.c_str());
  }
  if (json) std::printf("%s", Json().Set("processes", list).Dump(/*pretty=*/true).c_str());
  return all_run ? 0 : 1;
}

}  // namespace hayloft
