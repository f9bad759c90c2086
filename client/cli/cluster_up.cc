// Bringing a cluster up, step by step; each step leaves what it made, so that the next `up` goes on
// from there.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>

#include "client/cli/await.h"
#include "client/cli/cluster.h"
#include "client/cli/samples.h"
#include "client/cli/session.h"
#include "common/codec.h"
#include "common/io/cluster_file.h"
#include "common/io/files.h"
#include "common/io/json.h"
#include "common/io/process.h"
#include "common/io/system_clock.h"
#include "common/io/system_random.h"

namespace hayloft {

namespace {

constexpr uint64_t kReadyMs = 60'000;
constexpr uint64_t kPollMs = 50;
constexpr uint32_t kStatusMs = 1'000;
constexpr uint64_t kRecordsBytesMax = 4 << 20;
constexpr size_t kLogTailBytes = 64 << 10;

std::string RandomHex(size_t bytes) {
  std::string random(bytes, '\0');
  SystemRandom source;
  source.Fill({reinterpret_cast<uint8_t*>(random.data()), random.size()});
  return ToHex(AsBytes(random));
}

// What a process said last, for the person who wonders why it does not run.
std::string LastLine(const std::string& log) {
  const Result<std::string> text = ReadWholeFile(log, uint64_t{1} << 30);
  if (!text.ok()) return "nothing in " + log;
  std::string_view tail = *text;
  if (tail.size() > kLogTailBytes) tail.remove_prefix(tail.size() - kLogTailBytes);
  while (!tail.empty() && tail.back() == '\n') tail.remove_suffix(1);
  const size_t start = tail.rfind('\n');
  return std::string(start == std::string_view::npos ? tail : tail.substr(start + 1));
}

// One member, for trying it out: a cluster that matters has three, on machines of their own.
std::vector<std::string> EtcdArguments(const PlannedProcess& process, const std::string& token) {
  const std::string client = "http://" + process.listen;
  const std::string peer = "http://" + process.admin;
  return {"/usr/bin/etcd",
          "--name=" + process.name,
          "--data-dir=" + process.data,
          "--listen-client-urls=" + client,
          "--advertise-client-urls=" + client,
          "--listen-peer-urls=" + peer,
          "--initial-advertise-peer-urls=" + peer,
          "--initial-cluster=" + process.name + "=" + peer,
          "--initial-cluster-token=" + token};
}

void AddDirectory(const ClusterState& state, std::vector<std::string>* argv) {
  for (const std::string& nodes : state.DirectoryLists()) argv->push_back("--directory=" + nodes);
}

class Starter {
 public:
  explicit Starter(const ClusterUpOptions& options) : options_(options) {}
  int Run();

 private:
  bool StartAll(const std::string& lock_path);
  bool LoadOrCreate();
  bool CheckSettings();
  bool KeepSettings();
  bool MakeStores();
  bool MakeStore(const PlannedProcess& process);
  bool StartMissing();
  bool Start(const PlannedProcess& process);
  bool HoldsStore(const PlannedProcess& process) const;
  bool PeerHasStore(const PlannedProcess& process) const;
  void AddPairArguments(const PlannedProcess& process, std::vector<std::string>* argv) const;
  bool WaitUntilReady();
  bool Ready(std::string* waiting_for);
  void ReadRetired(const PlannedProcess& dataserver);
  void SayWhatIsUp();
  std::vector<std::string> Arguments(const PlannedProcess& process,
                                     const std::string& config) const;
  std::string ConfigPath() const { return state_.Path("cluster.conf"); }
  bool RoleRuns(const std::string& role) const;

  static bool Fail(const std::string& text) { return Complain(text), false; }

  const ClusterUpOptions& options_;
  ClusterState state_;
  std::map<std::string, std::string> old_set_;
  std::vector<PlannedProcess> plan_;
  std::vector<std::pair<std::string, ProcessId>> running_;    // when we started what was missing
  std::vector<std::pair<std::string, std::string>> retired_;  // dsps that take no writes, and why
  // Pairs of which a node was started with --rebuild: one has a store, or makes it. They are not
  // looked into any more, as each is open in one process only.
  std::set<std::string> stored_;
  bool shard_is_empty_ = false;  // of the directory: it was started with --rebuild
  std::unique_ptr<Session> session_;
};

int Starter::Run() {
  const std::string dir = AbsolutePath(options_.cluster.dir);
  state_.dir = dir;
  const std::string lock_path = state_.Path("up.lock");
  const bool had_folder = IsFolder(dir);
  if (MakeFolders(dir) != Err::kOk) return Complain("cannot make the folder " + dir);
  if (!StartAll(lock_path)) {
    if (!had_folder) (void)rmdir(dir.c_str());  // it is not empty if anything was done
    return kExitFailed;
  }
  // Waiting changes nothing, so that a `down` need not wait with us.
  if (!WaitUntilReady()) return kExitFailed;
  SayWhatIsUp();
  // Samples come and go over plain HTTP and without a key.
  const bool open = !state_.set.contains("gateway.tls_certificate") &&
                    !state_.set.contains("gateway.upload_keys") &&
                    !state_.set.contains("gateway.signing_keys");
  if (!options_.samples || !open) return kExitFine;
  const Result<FileLock> lock = FileLock::Take(lock_path);  // two of us would upload them twice
  return lock.ok() && UploadSamples(session_->loop(), state_) ? kExitFine : kExitFailed;
}

// All that changes the folder, under its lock. Before the settings are kept nothing of it stays.
bool Starter::StartAll(const std::string& lock_path) {
  std::string why;
  const Result<FileLock> lock = FileLock::Take(lock_path, &why);
  if (!lock.ok()) return Fail("cannot lock " + lock_path + ": " + why);
  if (!LoadOrCreate() || !CheckSettings()) {
    (void)unlink((ConfigPath() + ".trial").c_str());  // it may not be there
    // Nor this one; should it stay all the same, an empty file is in the way of nothing.
    if (!FileExists(state_.Path("options.json"))) (void)unlink(lock_path.c_str());
    return false;
  }
  return KeepSettings() && MakeStores() && StartMissing();
}

bool Starter::LoadOrCreate() {
  Result<ClusterState> stored = LoadClusterState(options_.cluster.dir);
  const bool is_new = stored.err() == Err::kNotFound;
  if (!is_new && !stored.ok()) return Fail("options.json is damaged or cannot be read");
  if (!is_new) state_ = std::move(stored).value();
  // Before the ports: those that run have theirs.
  const std::string dir = AbsolutePath(options_.cluster.dir);
  if (!ClusterFile(dir + "/cluster.json").Read().ok()) return Fail(DamagedClusterFile(dir));
  old_set_ = state_.set;
  if (is_new) state_.cluster_id = RandomHex(16);
  const bool gateway_runs = RoleRuns("gateway");
  const bool had_directory = state_.directory_shards != 0;
  // Nothing rests on the gateways' ports, other than on those of dsps: they may move.
  if (!gateway_runs) state_.port = options_.cluster.port.value_or(state_.port);
  std::string complaint = ApplyOptions(options_.cluster, !is_new, &state_);
  if (!complaint.empty()) return Fail(complaint);
  const bool gets_directory = !is_new && !had_directory && state_.directory_shards != 0;
  if (gets_directory && gateway_runs) {
    return Fail(
        "--directory-shards: the gateways that run would not know of it; `hayloft cluster "
        "down` first");
  }
  if (!gateway_runs) complaint = GatewayPortFault(state_);
  if (!complaint.empty()) return Fail(complaint);
  if (!ChoosePorts(&state_)) return Fail("no free port is left");
  plan_ = state_.Plan();
  return true;
}

// Before anything is stored each role is asked whether it would take its options, which touches
// nothing.
bool Starter::CheckSettings() {
  if (state_.coordinator == "etcd" && !FileExists("/usr/bin/etcd")) {
    return Fail("--coordinator etcd: /usr/bin/etcd is not there (Debian: etcd-server)");
  }
  for (const auto& [name, value] : state_.set) {
    const auto old = old_set_.find(name);
    const bool changed = old == old_set_.end() || old->second != value;
    if (changed && RoleRuns(name.substr(0, name.find('.')))) {
      return Fail("--set " + name + "=" + value + " comes too late: what it is for runs already");
    }
  }
  std::string config = "# Written by `hayloft cluster up --set ROLE.OPTION=VALUE`.\n";
  for (const auto& [name, value] : state_.set) config += name + " = " + value + "\n";
  const std::string trial = ConfigPath() + ".trial";
  if (ReplaceFile(trial, config) != Err::kOk) return Fail("cannot write " + trial);
  std::string last_role;
  for (const PlannedProcess& process : plan_) {
    if (state_.set == old_set_ || process.role == last_role || process.role == "etcd") continue;
    last_role = process.role;
    std::vector<std::string> argv = Arguments(process, trial);
    argv.push_back("--check-config");
    if (RunToEnd(argv) != 0) {
      return Fail(process.role + " does not take its options; nothing was done");
    }
  }
  return true;
}

bool Starter::KeepSettings() {
  if (MakeFolders(state_.Path("log")) != Err::kOk) return Fail("cannot make " + state_.Path("log"));
  if (!FileExists(state_.Path("secret")) &&
      ReplaceFile(state_.Path("secret"), RandomHex(32) + "\n", 0600) != Err::kOk) {
    return Fail("cannot write " + state_.Path("secret"));
  }
  const std::string trial = ConfigPath() + ".trial";
  const bool stored =
      std::rename(trial.c_str(), ConfigPath().c_str()) == 0 && SaveClusterState(state_) == Err::kOk;
  return stored || Fail("cannot write options.json");
}

bool Starter::RoleRuns(const std::string& role) const {
  const auto entries = ClusterFile(state_.Path("cluster.json")).Read();
  return entries.ok() && std::any_of(entries->begin(), entries->end(), [&](const auto& entry) {
           return entry.role == role && IsRunning(entry.id);
         });
}

bool Starter::MakeStores() {
  // While there was one nameserver, the record of who is active lay in its folder.
  const std::string old_record = state_.Path("nameserver-1/coordinator");
  const std::string record = state_.Path("coordinator");
  if (IsFolder(old_record) && !IsFolder(record) &&
      std::rename(old_record.c_str(), record.c_str()) != 0) {
    return Fail("cannot move " + old_record + " to " + record);
  }
  for (const PlannedProcess& process : plan_) {
    if (process.role == "gateway" || process.role == "dataserver" || process.role == "etcd") {
      if (MakeFolders(process.data) != Err::kOk) return Fail("cannot make " + process.data);
    } else if (!state_.formatted.contains(process.name)) {
      if (!MakeStore(process)) return false;
    }
  }
  return true;
}

// Makes a store beside its place and moves it there whole. That it was made is written down for
// ever: a folder that is missing or empty later is a mount that failed, and is never made again.
bool Starter::MakeStore(const PlannedProcess& process) {
  const auto listed = ListFolder(process.data);
  const bool in_place = listed.ok();  // perhaps a mount point, which cannot be moved over
  if (!in_place || listed->empty()) {
    const std::string folder = in_place ? process.data : process.data + ".new";
    if (!in_place && FileExists(folder)) (void)RunToEnd({"/bin/rm", "-rf", folder});  // half made
    if (MakeFolders(folder) != Err::kOk) return Fail("cannot make " + folder);
    std::vector<std::string> argv = {OwnBinaryFolder() + "/hayloft-" + process.role,
                                     process.role == "dsp" ? "--format" : "--init",
                                     "--data=" + folder, "--cluster-id=" + state_.cluster_id,
                                     "--config=" + ConfigPath()};
    if (process.role == "nameserver") argv.push_back("--copies=" + std::to_string(state_.copies));
    if (process.role == "directory") {
      argv.push_back("--listen=" + process.listen);  // which shard's it is
      AddDirectory(state_, &argv);
    }
    if (process.role == "nameserver" || process.role == "directory") {
      const bool first = process.name == process.Pair() + "-1";
      if (!first || PeerHasStore(process)) argv.push_back("--join");
    }
    if (RunToEnd(argv) != 0) return Fail("could not make the store of " + process.name);
    if (!in_place && std::rename(folder.c_str(), process.data.c_str()) != 0) {
      return Fail("cannot move " + folder + " to its place");
    }
  }
  state_.formatted.insert(process.name);
  if (SaveClusterState(state_) != Err::kOk) return Fail("cannot write options.json");
  return true;
}

std::vector<std::string> Starter::Arguments(const PlannedProcess& process,
                                            const std::string& config) const {
  if (process.role == "etcd") return EtcdArguments(process, state_.cluster_id);
  std::vector<std::string> argv = {OwnBinaryFolder() + "/hayloft-" + process.role,
                                   "--name=" + process.name,
                                   "--listen=" + process.listen,
                                   "--admin-listen=" + process.admin,
                                   "--data=" + process.data,
                                   "--nameservers=" + state_.NameserverList(),
                                   "--cluster-key-file=" + state_.Path("secret"),
                                   "--log-file=" + state_.LogPath(process.name),
                                   "--config=" + config};
  if (process.role == "gateway" && !state_.set.contains("gateway.pages")) {
    argv.push_back("--pages=all");  // it listens on this machine only
  }
  const auto cache = state_.set.find("gateway.cache_bytes");
  const bool keeps = cache == state_.set.end() || cache->second != "0";
  if (process.role == "gateway" && state_.gateways > 1 && keeps) {
    argv.push_back("--tier-listen=127.0.0.1:" + std::to_string(state_.ports.at(process.name)));
  }
  if (process.role == "dsp" || process.role == "directory") {
    argv.push_back("--cluster-id=" + state_.cluster_id);
  }
  if (process.role == "nameserver") argv.push_back("--copies=" + std::to_string(state_.copies));
  if (process.role == "nameserver" || process.role == "directory") AddPairArguments(process, &argv);
  if (process.role == "directory" || process.role == "gateway") AddDirectory(state_, &argv);
  if (process.role == "dataserver") {
    std::string disks, listens, admins;
    for (const PlannedProcess& dsp : plan_) {
      if (dsp.parent != process.name) continue;
      const char* comma = disks.empty() ? "" : ",";
      disks += comma + dsp.data.substr(process.data.size() + 1);
      listens += comma + dsp.listen;
      admins += comma + dsp.admin;
    }
    // Each dataserver stands for a machine of its own.
    for (const std::string& argument :
         {"--disks=" + disks, "--dsp-listen=" + listens, "--dsp-admin-listen=" + admins,
          "--dsp-config=" + config, "--dsp-log-dir=" + state_.Path("log"),
          "--cluster-file=" + state_.Path("cluster.json"), "--cluster-id=" + state_.cluster_id,
          "--machine=machine" + process.name.substr(process.name.rfind('-'))}) {
      argv.push_back(argument);
    }
  }
  return argv;
}

// Who of a pair is active stands in a record of its own for each pair.
void Starter::AddPairArguments(const PlannedProcess& process,
                               std::vector<std::string>* argv) const {
  if (plan_.front().role == "etcd") {
    argv->push_back("--etcd=http://" + plan_.front().listen);
    return;
  }
  const std::string folder = state_.Path("coordinator");
  argv->push_back("--coordinator-dir=" + folder +
                  (process.role == "nameserver" ? "" : "/" + process.Pair()));
}

bool Starter::StartMissing() {
  const Result<std::vector<ProcessEntry>> entries = ClusterFile(state_.Path("cluster.json")).Read();
  if (!entries.ok()) return Fail(DamagedClusterFile(state_.dir));
  for (const PlannedProcess& process : plan_) {
    if (process.role == "dsp") continue;  // its dataserver's business
    const ProcessEntry* entry = FindEntry(*entries, process.name);
    if (entry == nullptr || !IsRunning(entry->id)) {
      if (!Start(process)) return false;
      continue;
    }
    running_.emplace_back(process.name, entry->id);
    if (process.role == "dataserver") {
      (void)Signal(entry->id, SIGUSR1);  // look again at disks that were given up
    }
  }
  return true;
}

bool Starter::Start(const PlannedProcess& process) {
  std::vector<std::string> argv = Arguments(process, ConfigPath());
  const auto held = ListFolder(process.data);
  const bool empty = !held.ok() || held->empty();
  // Also where there is something: a rebuild that was cut short, a part of a snapshot. A sound
  // store is used as it is.
  const bool nameserver = process.role == "nameserver";
  const bool of_pair = nameserver || process.role == "directory";
  if (of_pair && (empty || options_.rebuild)) {
    if (!options_.rebuild) {
      return Fail("the folder " + process.data + " is missing or empty; if it is lost for good, " +
                  "`hayloft cluster up --rebuild` makes a new one from what the dsps have");
    }
    const bool peer_has = PeerHasStore(process);
    const bool lost = !peer_has && !HoldsStore(process);
    if (!empty && lost) {
      // What it was about to take from the other one is lost with that.
      const std::string store = process.data + "/leveldb";
      if (RunToEnd({"/bin/rm", "-rf", store}) != 0) return Fail("cannot remove " + store);
    }
    if (MakeFolders(process.data) != Err::kOk) return Fail("cannot make " + process.data);
    // One of two comes back from the other, which has all of it.
    if (empty && peer_has) {
      state_.formatted.erase(process.name);
      if (!MakeStore(process)) return false;
    } else if (nameserver || lost) {  // a directory's damaged store would be made anew by it
      argv.push_back("--rebuild");
      shard_is_empty_ |= !nameserver;
      if (nameserver) {
        argv.push_back("--cluster-id=" + state_.cluster_id);
        argv.push_back("--rebuild-dsps=" + std::to_string(state_.dataservers * state_.disks));
      }
    }
    stored_.insert(process.Pair());
  }
  const auto record = [&](const ProcessId& id) {
    return ClusterFile(state_.Path("cluster.json"))
        .Put({.name = process.name,
              .role = process.role,
              .id = id,
              .address = process.listen,
              .http = process.role == "gateway" ? process.listen : process.admin,
              .data = process.data,
              .parent = ""});
  };
  const Result<ProcessId> id = Spawn(argv, state_.LogPath(process.name), record);
  if (!id.ok()) return Fail("cannot start " + process.name + ": " + Describe(id.err()));
  running_.emplace_back(process.name, *id);
  return true;
}

// Also one that is damaged, or in use: it says so itself when it is started.
bool Starter::HoldsStore(const PlannedProcess& process) const {
  const auto held = ListFolder(process.data);
  if (!held.ok() || held->empty()) return false;
  return RunToEnd({OwnBinaryFolder() + "/hayloft-" + process.role, "--check-store",
                   "--data=" + process.data}) != kExitFailed;
}

bool Starter::PeerHasStore(const PlannedProcess& process) const {
  if (stored_.contains(process.Pair())) return true;
  return std::any_of(plan_.begin(), plan_.end(), [&](const PlannedProcess& other) {
    return other.Pair() == process.Pair() && other.name != process.name && HoldsStore(other);
  });
}

// Each step asks one question less; the last one is answered when a write would succeed.
bool Starter::WaitUntilReady() {
  CommandOptions common;
  common.dir = state_.dir;
  session_ = Session::Open(common);
  if (session_ == nullptr) return false;
  const uint64_t end_ms = SystemMonotonicMs() + kReadyMs;
  std::string waiting_for = "the first answer";
  while (!Ready(&waiting_for)) {
    for (const auto& [name, id] : running_) {
      if (IsRunning(id)) continue;
      return Fail(name + " ended: " + LastLine(state_.LogPath(name)));
    }
    if (SystemMonotonicMs() >= end_ms) {
      return Fail("the cluster is not ready after " + std::to_string(kReadyMs / 1000) +
                  " s; waiting for " + waiting_for);
    }
    AwaitTime(session_->loop(), kPollMs);
  }
  return true;
}

bool Starter::Ready(std::string* waiting_for) {
  retired_.clear();
  size_t dsps = 0;
  for (const PlannedProcess& process : plan_) {
    *waiting_for = process.name;
    if (process.role == "dataserver") {
      const HttpAnswer answer =
          AwaitHttp(session_->loop(), {.address = process.admin, .path = "/readyz"});
      if (answer.status != 200) return false;
      ReadRetired(process);
    }
    if (process.role == "dsp") ++dsps;
  }
  *waiting_for = "a dsp: all were given up; see the log of each";
  if (dsps == retired_.size()) return false;
  *waiting_for = "the nameserver to hear of all dsps";
  const StatusDone status = Await<StatusDone>(
      session_->loop(), [&](auto done) { session_->client()->Status(kStatusMs, done); });
  size_t up = 0;
  bool in_sync = true;  // a standby is a while after it was started
  bool reported = false;
  bool writable = false;
  for (const NameserverStatus& nameserver : status.nameservers) {
    in_sync = in_sync && nameserver.err == Err::kOk && nameserver.status.in_sync();
    if (nameserver.err != Err::kOk || nameserver.status.role() != "active") continue;
    reported = nameserver.status.dsps_reported() + retired_.size() >= dsps;
    writable = nameserver.status.writable() && reported;
    for (const pb::DspStatus& dsp : nameserver.status.dsps()) up += dsp.state() == "up";
  }
  if (state_.dataservers < state_.MinCopies()) writable = reported;  // it never will be
  if (!writable || up + retired_.size() < dsps) return false;
  *waiting_for = "both nameservers to be in sync";
  if (!in_sync) return false;
  for (const PlannedProcess& process : plan_) {
    *waiting_for = process.name;
    // Its own port may speak HTTPS.
    const HttpCallRequest request{.address = process.admin, .path = "/readyz"};
    if (process.role != "gateway" && process.role != "directory") continue;
    // Where there can be no uploads a gateway says so, and serves reads.
    const int code = AwaitHttp(session_->loop(), request).status;
    const bool excused = process.role == "gateway" && state_.dataservers < state_.MinCopies();
    if (code != 200 && !(code == 503 && excused)) return false;
  }
  return true;
}

// A disk that failed or that refuses to be served keeps nobody else from working.
void Starter::ReadRetired(const PlannedProcess& dataserver) {
  const auto text = ReadWholeFile(dataserver.data + "/dsps.json", kRecordsBytesMax);
  const Result<Json> json = text.ok() ? Json::Parse(*text) : Result<Json>(text.err());
  if (!json.ok()) return;
  for (const Json& dsp : (*json)["dsps"].array()) {
    const bool read_only = dsp["state"].text() == "read_only";
    if (!read_only && dsp["state"].text() != "retired") continue;
    const std::string how = read_only ? "served read-only" : "not served";
    retired_.emplace_back(dsp["name"].text(), how + " (" + dsp["reason"].text() + ")");
  }
}

void Starter::SayWhatIsUp() {
  for (const auto& [name, reason] : retired_) {
    (void)Fail(name + " is " + reason + ": " + LastLine(state_.LogPath(name)));
  }
  if (options_.json) {
    const auto text = ReadWholeFile(state_.Path("cluster.json"), kRecordsBytesMax);
    std::printf("%s", text.ok() ? text->c_str() : "");
    return;
  }
  for (const std::string& line : state_.Remarks()) std::printf("%s\n", line.c_str());
  const char* scheme = state_.set.contains("gateway.tls_certificate") ? "https" : "http";
  std::printf(
      "up: %u nameservers, %u dataservers of %u disks, gateway on %s://127.0.0.1:%u/, in %s\n",
      state_.nameservers, state_.dataservers, state_.disks, scheme, state_.port,
      state_.dir.c_str());
  if (shard_is_empty_) {
    std::printf(
        "the directory begins empty: `hayloft fsck --directory --adopt` makes its records "
        "from the images\n");
  }
}

}  // namespace

int ClusterUp(const ClusterUpOptions& options) { return Starter(options).Run(); }

}  // namespace hayloft
