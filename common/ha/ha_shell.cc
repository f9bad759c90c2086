#include "common/ha/ha_shell.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "common/check.h"
#include "common/codec.h"
#include "common/ha/etcd_coordinator.h"
#include "common/ha/lease_file.h"
#include "common/io/failpoint.h"
#include "common/io/files.h"
#include "common/io/log_sink.h"
#include "common/io/process.h"
#include "common/io/server_start.h"
#include "common/io/system_clock.h"
#include "common/log.h"
#include "common/version.h"

namespace hayloft {

namespace {

constexpr uint64_t kTickMs = 50;
constexpr uint64_t kHandOverMsMax = 3'000;
constexpr size_t kLogQueueMax = 100'000;  // batches of rows that may wait for a slow disk

constexpr char kStoreFolder[] = "leveldb";
constexpr char kCoordinatorFolder[] = "coordinator";

// Read anew for each event, not once a turn: whoever is stopped within a turn must not answer what
// came meanwhile by a lease that lived before.
Now ReadClock() { return {.mono_ms = SystemMonotonicMs(), .wall_ms = SystemWallMs()}; }

std::string StorePath(const HaConfig& config) { return config.data + "/" + kStoreFolder; }

bool HasStore(const HaConfig& config) { return FileExists(StorePath(config) + "/CURRENT"); }

Err Refuse(std::string* why, std::string cause) {
  *why = std::move(cause);
  return Err::kConfig;
}

}  // namespace

// --- Options ---

std::string HaConfig::Fault(const std::vector<std::string>& pair, std::string_view option) const {
  const std::string where(option);
  if (data.empty()) return "data: which folder?";
  if (init && rebuild) return "init and rebuild exclude each other";
  if ((init || rebuild) && !ClusterId().ok()) return "cluster_id: 32 hex digits are needed";
  if (join && !init) return "join: with --init only";
  if (pair.size() > 2) return where + ": two at most";
  const bool named = std::find(pair.begin(), pair.end(), Address()) != pair.end();
  if (pair.size() == 2 && !named) return "advertise: which of `" + where + "` is this one?";
  const bool runs = !init && !check_store;
  if (strict && runs && PeerOf(pair).empty()) {
    return "strict: a second one in `" + where + "` is needed";
  }
  if (pair.size() == 2 && runs && etcd.empty() && coordinator_dir.empty()) {
    return "two of `" + where + "` need etcd, or a coordinator_dir that both have";
  }
  if (!etcd.empty() && !coordinator_dir.empty()) {
    return "etcd and coordinator_dir exclude each other";
  }
  return "";
}

std::string HaConfig::PeerOf(const std::vector<std::string>& pair) const {
  const auto other = std::find_if(pair.begin(), pair.end(),
                                  [&](const std::string& one) { return one != Address(); });
  return pair.size() == 2 && other != pair.end() ? *other : "";
}

Result<std::string> HaConfig::ClusterId() const {
  std::string id(kNodeIdBytes, '\0');
  if (!FromHex(cluster_id, {reinterpret_cast<uint8_t*>(id.data()), id.size()})) {
    return Err::kInvalid;
  }
  return id;
}

// --- Start ---

HaShell::HaShell(Loop* loop, const HaConfig& config, HaShellOptions options, HaProcess* process)
    : loop_(loop), config_(config), options_(std::move(options)), process_(process) {}

HaShell::~HaShell() {
  coordinator_thread_.reset();
  log_.reset();
}

Err HaShell::Init(const HaConfig& config, HaProcess* process, bool joining, std::string* why) {
  if (MakeFolders(config.data) != Err::kOk) return Refuse(why, "cannot make " + config.data);
  const Result<std::vector<std::string>> files = ListFolder(config.data);
  if (!files.ok()) return Refuse(why, "cannot read " + config.data);
  // A store without a row is one whose making was cut short: it is made now. What was damaged and
  // moved aside stays for whoever wants to look at it.
  const bool replaces = !LevelDbKv::LastSetAside(StorePath(config)).empty();
  const bool empty = std::all_of(files->begin(), files->end(), [&](const std::string& name) {
    return name == kStoreFolder || (replaces && name == kCoordinatorFolder) ||
           (replaces && name.starts_with(kStoreFolder + std::string(".damaged-")));
  });
  if (!empty) return Refuse(why, config.data + " is not empty");
  Result<std::unique_ptr<LevelDbKv>> kv = LevelDbKv::Open(StorePath(config));
  if (!kv.ok()) return Refuse(why, "cannot make a store in " + config.data);
  SystemRandom random;
  std::string node(kNodeIdBytes, '\0');
  random.Fill({reinterpret_cast<uint8_t*>(node.data()), node.size()});
  FAILPOINT("ha_init_before_head");
  const Err err = process->InitRows(kv->get(), node, joining);
  if (err == Err::kExists) return Refuse(why, config.data + " is not empty");
  if (err != Err::kOk) {
    return Refuse(why, "cannot write to " + config.data + ": " + std::string(ErrMeaning(err)));
  }
  if (SyncFolder(config.data) != Err::kOk) return Refuse(why, "cannot sync " + config.data);
  return Err::kOk;
}

Result<bool> HaShell::HoldsStore(const HaConfig& config, HaProcess* process) {
  if (!HasStore(config)) return false;
  TRY_ASSIGN(const std::unique_ptr<LevelDbKv> kv,
             LevelDbKv::Open(StorePath(config), process->store_options()));
  const Result<pb::HaHead> head = HaStore::ReadHead(kv.get());
  if (head.ok() && head->installing()) return false;
  TRY(process->LoadRows(kv.get()));
  TRY_ASSIGN(const RoleDisk disk, HaStore(kv.get()).Load(process->applied()));
  return disk.log.last() > 0;
}

Err HaShell::Start(std::string* why) {
  Result<std::string> key = ReadClusterKey(config_.cluster_key_file, why);
  if (!key.ok()) return key.err();
  cluster_key_ = std::move(key).value();
  TRY(Listen(why));  // a port in use is met before anything is touched
  if (config_.rebuild) {
    // A rebuild that was begun goes on, and an operator may say so again.
    const Err err = Init(config_, process_, /*joining=*/false, why);
    if (err != Err::kOk && !HasStore(config_)) return err;
  }
  RoleDisk disk{.head = {}, .log = LogTail(pb::HaPoint())};
  TRY(OpenStore(&disk, why));
  const std::string cluster_id = disk.head.service_id();
  TRY(OpenCoordinator(cluster_id, why));
  const uint64_t applied = disk.applied;
  RoleOptions role;
  role.node = disk.head.node();
  role.address = config_.Address();
  role.peer = config_.PeerOf(process_->Pair());
  role.lease_ms = config_.lease_ms;
  role.strict = config_.strict;
  role.force = config_.force_promote || (config_.rebuild && applied == 0);
  TRY(process_->MakeServer(std::move(role), std::move(disk), kv_.get(), &random_, why));
  node_ = process_->server();
  log_ = std::make_unique<WorkerThread>("ha-log", kLogQueueMax);
  coordinator_thread_ = std::make_unique<WorkerThread>("ha-coordinator", 4);
  Connect();
  Run([&](HaOutbox* out) { node_->OnApplied(applied, ReadClock(), out); });
  Run([&](HaOutbox* out) { node_->Start(ReadClock(), out); });
  return Err::kOk;
}

void HaShell::Connect() {
  client_ = std::make_unique<RpcClient>(
      loop_, RpcClientOptions{.role = std::string(options_.role), .cluster_key = cluster_key_});
  client_->OnDone([this](CallDone&& done) {
    Run([&](HaOutbox* out) { node_->OnCallDone(std::move(done), ReadClock(), out); });
  });
  web_ = std::make_unique<WebClient>(loop_, [this](CallDone&& done) {
    Run([&](HaOutbox* out) { node_->OnCallDone(std::move(done), ReadClock(), out); });
  });
  server_->OnRequest([this](RpcRequest&& request) {
    Run([&](HaOutbox* out) { node_->OnRequest(std::move(request), ReadClock(), out); });
  });
  tick_ = loop_->Every(kTickMs, [this] {
    Run([&](HaOutbox* out) { node_->OnTick(ReadClock(), out); });
    if (stopping_ && !node_->role().handing_over()) loop_->Stop();  // nobody takes over
  });
}

Err HaShell::Listen(std::string* why) {
  server_ = std::make_unique<RpcServer>(
      loop_, RpcServerOptions{.listen = config_.listen, .cluster_key = cluster_key_});
  TRY(server_->Listen(why));
  if (config_.admin_listen.empty()) return Err::kOk;
  admin_ = std::make_unique<AdminHttp>(loop_, config_.admin_listen);
  admin_->OnReady([this] { return WhyNotReady(); });
  admin_->OnMetrics([this](MetricsText* out) { PrintMetrics(out); });
  return admin_->Listen(why);
}

// A folder without a store is a mount that failed, or a mistake: it is never made one unasked.
Err HaShell::OpenStore(RoleDisk* disk, std::string* why) {
  const auto held = ListFolder(StorePath(config_));
  const bool lost_its_head = options_.replace_damaged && held.ok() && !held->empty();
  const bool set_aside = !LevelDbKv::LastSetAside(StorePath(config_)).empty();
  if (!HasStore(config_) && !lost_its_head && set_aside) TRY(ReplaceDamaged(why));
  if (!HasStore(config_) && !lost_its_head) {
    return Refuse(why, config_.data +
                           " holds no store (not mounted? --init makes a new cluster's, "
                           "--rebuild starts from what the dsps say)");
  }
  Err err = LoadStore(disk);
  if (err == Err::kCorrupt && options_.replace_damaged) {
    kv_.reset();
    if (!LevelDbKv::SetAside(StorePath(config_)).ok()) {
      return Refuse(why, "cannot move the damaged store in " + config_.data + " aside");
    }
    TRY(ReplaceDamaged(why));
    err = LoadStore(disk);
  }
  if (err == Err::kBusy) return Refuse(why, config_.data + " is in use by another process");
  if (err == Err::kNotFound) {
    return Refuse(why, "the making of the store in " + config_.data +
                           " was cut short; --rebuild finishes it from what the dsps say");
  }
  if (err == Err::kUnsupported) {
    return Refuse(why, "the store in " + config_.data +
                           " was written by another version, and this one does not read it");
  }
  if (err != Err::kOk) {
    const std::string_view advice =
        err == Err::kCorrupt ? "; move the folder away and start with --rebuild" : "";
    return Refuse(why, "the store in " + config_.data + ": " + std::string(ErrMeaning(err)) +
                           std::string(advice));
  }
  const Result<std::string> wanted = config_.ClusterId();
  const bool own =
      config_.cluster_id.empty() || (wanted.ok() && *wanted == disk->head.service_id());
  return own ? Err::kOk : Refuse(why, config_.data + " belongs to another cluster");
}

// In place of what was moved aside: a node that has nothing yet, and follows the other one.
Err HaShell::ReplaceDamaged(std::string* why) {
  const std::string damaged = LevelDbKv::LastSetAside(StorePath(config_));
  if (config_.PeerOf(process_->Pair()).empty() && !config_.rebuild) {
    return Refuse(why, "the store was damaged and lies in " + damaged +
                           "; --rebuild starts from what the dsps say");
  }
  if (!config_.ClusterId().ok()) return Refuse(why, "cluster_id: 32 hex digits are needed");
  LOG_WARN("store_replaced", "damaged=%s action=%s", LogText(damaged).c_str(),
           config_.rebuild ? "rebuild" : "follow");
  return Init(config_, process_, /*joining=*/!config_.rebuild, why);
}

Err HaShell::LoadStore(RoleDisk* disk) {
  TRY_ASSIGN(kv_, LevelDbKv::Open(StorePath(config_), process_->store_options()));
  log_store_ = std::make_unique<HaStore>(kv_.get());
  const Result<pb::HaHead> head = HaStore::ReadHead(kv_.get());
  // Rows of a snapshot that was cut short mean nothing.
  if (!head.ok() || !head->installing()) TRY(process_->LoadRows(kv_.get()));
  TRY_ASSIGN(*disk, log_store_->Load(process_->applied()));
  return Err::kOk;
}

Err HaShell::OpenCoordinator(const std::string& cluster_id, std::string* why) {
  if (config_.etcd.empty()) return OpenLeaseFile(why);
  EtcdOptions options;
  options.endpoints = SplitList(config_.etcd);
  options.prefix = config_.etcd_prefix;
  if (options.prefix.empty()) {
    options.prefix = "/hayloft/" + ToHex(AsBytes(cluster_id)) + "/" + process_->CoordinatorKey();
  }
  options.lease_ms = config_.lease_ms;
  options.ca_file = config_.etcd_ca_file;
  options.cert_file = config_.etcd_cert_file;
  options.key_file = config_.etcd_key_file;
  options.user = config_.etcd_user;
  options.password_file = config_.etcd_password_file;
  coordinator_ = std::make_unique<EtcdCoordinator>(std::move(options), &random_);
  return Err::kOk;
}

Err HaShell::OpenLeaseFile(std::string* why) {
  const std::string folder = config_.coordinator_dir.empty()
                                 ? config_.data + "/" + kCoordinatorFolder
                                 : config_.coordinator_dir;
  if (MakeFolders(folder) != Err::kOk) return Refuse(why, "cannot make " + folder);
  Result<std::unique_ptr<PosixDevice>> device = PosixDevice::OpenFolder(folder);
  if (!device.ok()) return Refuse(why, "cannot open " + folder);
  lease_folder_ = std::move(device).value();
  coordinator_ =
      std::make_unique<LeaseFile>(LeaseFileOptions{.folder = folder, .lease_ms = config_.lease_ms},
                                  lease_folder_.get(), &random_);
  return Err::kOk;
}

// --- The loop ---

template <typename Call>
void HaShell::Run(Call&& call) {
  HaOutbox out;
  call(&out);
  Take(&out);
}

// Rows are queued before the batch that follows them, so that a snapshot's removes them all.
void HaShell::Take(HaOutbox* out) {
  for (RpcReply& reply : out->replies) server_->Reply(std::move(reply));
  requests_total_.Add(out->replies.size());
  for (RpcCall& call : out->calls) client_->Call(std::move(call));
  for (WebCall& call : out->web_calls) web_->Call(std::move(call));
  if (!out->apply.empty()) Apply(std::move(out->apply));
  if (out->reload) Reload();  // before what is written behind it
  if (out->write.has_value()) WriteLog(std::move(*out->write));
  if (out->coordinator.has_value()) Ask(std::move(*out->coordinator));
  if (out->read_from != 0) ReadLog(out->read_from);
  if (out->snapshot_after.has_value()) ReadSnapshot(std::move(*out->snapshot_after));
  if (out->promoted_epoch != 0) RunHook(out->promoted_epoch);
  if (out->exit.empty()) return;
  const int role_lost = stopping_ ? 0 : kExitRoleLost;
  End(out->exit_err == Err::kNotActive ? role_lost : kExitDisk, out->exit, out->exit_err);
}

void HaShell::OnLogThread(std::function<Err()> task, std::function<void()> then) {
  const bool queued = log_->Run([this, task = std::move(task), then = std::move(then)] {
    const Err err = task();
    loop_->Post([this, err, then] {
      if (err != Err::kOk) return End(kExitDisk, "the log cannot be written or read", err);
      if (then) then();
    });
  });
  if (!queued) End(kExitDisk, "the log's disk is too slow", Err::kBusy);
}

void HaShell::WriteLog(RoleWrite write) {
  writing_ = true;
  writing_since_ms_ = ReadClock().mono_ms;
  const size_t records = write.records.size();
  OnLogThread(
      [this, write = std::make_shared<const RoleWrite>(std::move(write))] {
        FAILPOINT("ha_log_append_before");
        const Err err = log_store_->Write(*write);
        FAILPOINT("ha_log_append_after");
        return err;
      },
      [this, records] {
        writing_ = false;
        log_batches_total_.Add();
        log_records_total_.Add(records);
        log_sync_ms_.Observe(ReadClock().mono_ms - writing_since_ms_);
        Run([&](HaOutbox* out) { node_->OnWritten(ReadClock(), out); });
      });
}

void HaShell::Apply(std::vector<pb::HaRecord> records) {
  const uint64_t last = records.back().index();
  OnLogThread(
      [this, records = std::make_shared<const std::vector<pb::HaRecord>>(std::move(records))] {
        TRY(process_->ApplyRows(*records));
        FAILPOINT("ha_apply_after");
        return log_store_->Truncate(process_->applied());
      },
      [this, last] { Run([&](HaOutbox* out) { node_->OnApplied(last, ReadClock(), out); }); });
}

void HaShell::ReadLog(uint64_t from) {
  auto records = std::make_shared<std::vector<pb::HaRecord>>();
  OnLogThread(
      [this, from, records] {
        TRY_ASSIGN(*records, log_store_->Read(from));
        return Err::kOk;
      },
      [this, records] {
        Run([&](HaOutbox* out) { node_->OnRecordsRead(std::move(*records), ReadClock(), out); });
      });
}

void HaShell::ReadSnapshot(std::string after) {
  auto part = std::make_shared<RoleCore::SnapshotPart>();
  OnLogThread(
      [this, part, after = std::move(after)] {
        TRY_ASSIGN(*part, log_store_->ReadSnapshot(after, process_->applied()));
        return Err::kOk;
      },
      [this, part] {
        Run([&](HaOutbox* out) { node_->OnSnapshotRead(std::move(*part), ReadClock(), out); });
      });
}

// The rows of another node are here: nothing else is under way on the log's thread, and nothing is
// applied until the next batch is written.
void HaShell::Reload() {
  OnLogThread([this] { return process_->LoadRows(kv_.get()); }, [this] { process_->OnReloaded(); });
}

void HaShell::Ask(CoordinatorCall call) {
  asking_ = true;
  const bool queued = coordinator_thread_->Run([this, call = std::move(call)] {
    CoordinatorDone done;
    switch (call.kind) {
      case CoordinatorCall::Kind::kRead: {
        Result<CoordinatorView> view = coordinator_->Read();
        done.err = view.err();
        if (view.ok()) done.view = std::move(*view);
        break;
      }
      case CoordinatorCall::Kind::kCommit: {
        const Result<uint64_t> version = call.renews
                                             ? coordinator_->Commit(call.record, call.version)
                                             : coordinator_->Change(call.record, call.version);
        done.err = version.err();
        if (version.ok()) done.version = *version;
        break;
      }
      case CoordinatorCall::Kind::kRelease:
        coordinator_->Release();
        break;
    }
    loop_->Post([this, done = std::make_shared<CoordinatorDone>(std::move(done))] {
      asking_ = false;
      Run([&](HaOutbox* out) { node_->OnCoordinatorDone(std::move(*done), ReadClock(), out); });
    });
  });
  ASSERT(queued);  // one at a time
}

void HaShell::RunHook(uint64_t epoch) {
  if (config_.promote_hook.empty()) return;
  const std::vector<std::string> argv = {config_.promote_hook, std::to_string(epoch)};
  const std::string log = config_.log_file.empty() ? "/dev/null" : config_.log_file + ".hook";
  const Result<ProcessId> hook = Spawn(argv, log, [](const ProcessId&) { return Err::kOk; });
  if (hook.ok()) {
    LOG_INFO("promote_hook_started", "program=%s epoch=%llu", LogText(config_.promote_hook).c_str(),
             static_cast<unsigned long long>(epoch));
  } else {
    LOG_ERROR("promote_hook_failed", "program=%s err=%s", LogText(config_.promote_hook).c_str(),
              std::string(ErrName(hook.err())).c_str());
  }
}

void HaShell::Stop() {
  if (stopping_) return loop_->Stop();
  stopping_ = true;
  Run([&](HaOutbox* out) { (void)node_->HandOver(ReadClock(), out); });
  if (!node_->role().handing_over()) return loop_->Stop();
  stop_ = loop_->After(kHandOverMsMax, [this] { loop_->Stop(); });
}

void HaShell::End(int exit_code, const std::string& why, Err err) {
  if (tick_ == nullptr) return;  // it ends already
  if (exit_code == 0) {
    LOG_INFO("node_ends", "cause=\"%s\"", why.c_str());
  } else {
    LOG_ERROR("node_ends", "cause=\"%s\" err=%s", why.c_str(), std::string(ErrName(err)).c_str());
  }
  exit_code_ = exit_code;
  tick_.reset();
  // What is open goes on under its new name until this process is gone.
  const bool replace = options_.replace_damaged && (kv_->damaged() || err == Err::kCorrupt) &&
                       LevelDbKv::SetAside(StorePath(config_)).ok();
  begins_anew_ = replace || exit_code == kExitRoleLost;
  loop_->Stop();  // at the end of this turn: what was answered in it leaves
}

bool HaShell::LogHangs() const {
  return writing_ && ReadClock().mono_ms - writing_since_ms_ > kDiskStallMs;
}

std::string HaShell::WhyNotReady() const {
  if (node_ == nullptr) return "not started yet";
  if (LogHangs()) return "the log waits for its disk";
  if (process_->Answers(ReadClock())) return "";
  if (!node_->role().active() && node_->role().in_sync()) return "";  // a standby
  const std::string_view why = node_->role().why_waiting();
  return "not active" + (why.empty() ? "" : ": " + std::string(why));
}

void HaShell::PrintMetrics(MetricsText* out) const {
  const std::string prefix = "hayloft_" + std::string(options_.role) + "_";
  out->Add({prefix, "requests_total", "requests answered"}, requests_total_);
  out->Add({prefix, "log_batches_total", "synced batches of the log"}, log_batches_total_);
  out->Add({prefix, "log_records_total", "records in them"}, log_records_total_);
  out->Add({prefix, "log_sync_ms", "milliseconds from a batch to its sync"}, log_sync_ms_);
  server_->metrics().Print(out);
  if (node_ == nullptr) return;
  client_->metrics().Print(out);
  const RoleCore& role = node_->role();
  out->AddGauge({prefix, "active", "1: it answers"}, process_->Answers(ReadClock()) ? 1 : 0);
  out->AddGauge(
      {prefix, "in_sync", "1: nothing that was acknowledged is missing on the other one, or here"},
      role.in_sync() ? 1 : 0);
  out->AddGauge({prefix, "log_index", "of the last record"}, role.last());
  out->AddGauge(
      {prefix, "log_committed", "of the last record that all members of the in-sync set have"},
      role.committed());
  process_->PrintMetrics(ReadClock(), out);
}

// --- Main ---

namespace {

// One that lost its role begins anew as one that follows, whether or not somebody watches it. What
// an operator said of one start, on the command line or in a file, does not hold for another.
void BeginAnew(const std::string& name, const std::vector<std::string>& once, int argc,
               char** argv) {
  std::vector<std::string> never;
  for (const std::string& option : once) never.push_back("--" + option + "=false");
  std::vector<char*> again;
  for (int i = 0; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const bool drop = std::any_of(once.begin(), once.end(), [&](const std::string& option) {
      return argument == "--" + option || argument.starts_with("--" + option + "=");
    });
    if (!drop) again.push_back(argv[i]);
  }
  for (std::string& option : never) again.push_back(option.data());
  again.push_back(nullptr);
  StopLog();
  execv("/proc/self/exe", again.data());
  SayFault(name, "cannot begin anew");
}

// `begin_anew` may return if it can't.
int RunLoop(const std::string& name, const HaConfig& config, const HaShellOptions& options,
            HaProcess* process, const std::function<void()>& begin_anew) {
  std::string why;
  Loop loop;
  HaShell shell(&loop, config, options, process);
  const Loop::Handle terminate = loop.OnSignal(SIGTERM, [&shell] { shell.Stop(); });
  const Loop::Handle interrupt = loop.OnSignal(SIGINT, [&shell] { shell.Stop(); });
  const Loop::Handle reopen = loop.OnSignal(SIGHUP, [] { ReopenLog(); });
  if (shell.Start(&why) == Err::kOk) {
    LOG_INFO("started", "version=%s data=%s", kVersion, LogText(config.data).c_str());
    loop.Run();
    if (shell.begins_anew()) begin_anew();
    LOG_INFO("stopped", "code=%d", shell.exit_code());
    if (shell.may_hang()) {
      StopLog();
      _exit(shell.exit_code());
    }
    return shell.exit_code();
  }
  // Without a log file the line below is the one that people see.
  if (!config.log_file.empty()) LOG_ERROR("not_started", "cause=\"%s\"", LogText(why).c_str());
  SayFault(name, why);
  return kExitConfig;
}

}  // namespace

int RunHaServer(const Program& program, const HaConfig& config, const HaShellOptions& options,
                HaProcess* process, std::vector<std::string> once, int argc, char** argv) {
  if (const std::optional<int> code = ParseCommandLine(program, argc, argv)) return *code;
  const std::string name(program.name);
  PrepareProcess();
  std::string why;
  if (config.init) {
    if (HaShell::Init(config, process, config.join, &why) == Err::kOk) return 0;
    SayFault(name, why);
    return kExitConfig;
  }
  if (config.check_store) {
    const Result<bool> holds = HaShell::HoldsStore(config, process);
    if (holds.ok()) return *holds ? 0 : 1;
    SayFault(name, config.data + ": " + std::string(ErrMeaning(holds.err())));
    return kExitConfig;
  }
  const Result<LogLevel> level = ParseLogLevel(config.log_level);
  if (!level.ok() || StartLog(config.log_file, *level) != Err::kOk) {
    SayFault(name, "cannot log to " + config.log_file);
    return kExitConfig;
  }
  once.insert(once.end(), {"force-promote", "rebuild"});
  const int exit_code =
      RunLoop(name, config, options, process, [&] { BeginAnew(name, once, argc, argv); });
  StopLog();
  return exit_code;
}

}  // namespace hayloft
