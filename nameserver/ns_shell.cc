#include "nameserver/ns_shell.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "common/codec.h"
#include "common/ha/etcd_coordinator.h"
#include "common/ha/lease_file.h"
#include "common/io/failpoint.h"
#include "common/io/files.h"
#include "common/io/log_sink.h"
#include "common/io/process.h"
#include "common/io/server_start.h"
#include "common/log.h"

namespace hayloft {

namespace {

constexpr uint64_t kTickMs = 50;
constexpr uint64_t kHandOverMsMax = 3'000;
constexpr size_t kLogQueueMax = 100'000;  // batches of rows that may wait for a slow disk
constexpr size_t kIdBytes = 16;

constexpr char kStoreFolder[] = "leveldb";

std::string StorePath(const NsConfig& config) { return config.data + "/" + kStoreFolder; }

bool HasStore(const NsConfig& config) { return FileExists(StorePath(config) + "/CURRENT"); }

Err Refuse(std::string* why, std::string cause) {
  *why = std::move(cause);
  return Err::kConfig;
}

Result<std::string> ClusterIdOf(const NsConfig& config) {
  std::string id(kIdBytes, '\0');
  if (!FromHex(config.cluster_id, {reinterpret_cast<uint8_t*>(id.data()), id.size()})) {
    return Err::kInvalid;
  }
  return id;
}

}  // namespace

std::string NsConfig::Fault() const {
  if (data.empty()) return "data: which folder?";
  if (init && rebuild) return "init and rebuild exclude each other";
  if (end_rebuild && (rebuild || force_promote)) {
    return "end_rebuild: not at the start that begins the rebuild";
  }
  if ((init || rebuild) && !ClusterIdOf(*this).ok()) return "cluster_id: 32 hex digits are needed";
  if (join && !init) return "join: with --init only";
  const std::vector<std::string> all = SplitList(nameservers);
  const bool named = std::find(all.begin(), all.end(), Address()) != all.end();
  if (all.size() > 2) return "nameservers: two at most";
  if (all.size() == 2 && !named) return "advertise: which of `nameservers` is this one?";
  if (strict && Peer().empty()) return "strict: a second nameserver is needed";
  if (all.size() == 2 && !init && etcd.empty() && coordinator_dir.empty()) {
    return "two nameservers need etcd, or a coordinator_dir that both have";
  }
  if (!etcd.empty() && !coordinator_dir.empty())
    return "etcd and coordinator_dir exclude each other";
  if (min_copies > copies) return "min_copies is more than copies";
  if (down_after_ms < suspect_after_ms) return "down_after_ms is less than suspect_after_ms";
  return "";
}

std::string NsConfig::Peer() const {
  const std::vector<std::string> all = SplitList(nameservers);
  const auto other = std::find_if(all.begin(), all.end(),
                                  [&](const std::string& one) { return one != Address(); });
  return all.size() == 2 && other != all.end() ? *other : "";
}

NsShell::NsShell(Loop* loop, NsConfig config) : loop_(loop), config_(std::move(config)) {}

NsShell::~NsShell() {
  coordinator_thread_.reset();
  log_.reset();
}

Err NsShell::Init(const NsConfig& config, std::string* why) {
  if (MakeFolders(config.data) != Err::kOk) return Refuse(why, "cannot make " + config.data);
  const Result<std::vector<std::string>> files = ListFolder(config.data);
  if (!files.ok()) return Refuse(why, "cannot read " + config.data);
  // A store without a row is one whose making was cut short: it is made now.
  const bool empty = files->empty() || *files == std::vector<std::string>{kStoreFolder};
  if (!empty) return Refuse(why, config.data + " is not empty");
  Result<std::unique_ptr<LevelDbKv>> kv = LevelDbKv::Open(StorePath(config));
  if (!kv.ok()) return Refuse(why, "cannot make a store in " + config.data);
  SystemRandom random;
  std::string node(kIdBytes, '\0');
  random.Fill({reinterpret_cast<uint8_t*>(node.data()), node.size()});
  pb::LogSettings settings;
  settings.set_cluster_id(ClusterIdOf(config).value());
  settings.set_copies(config.copies);
  settings.set_min_copies(config.min_copies);
  settings.set_rebuilding(config.rebuild);
  settings.set_rebuild_dsps(config.rebuild_dsps);
  FAILPOINT("nameserver_init_before_head");
  const Err err = NsStore(kv->get()).Init(node, settings, config.join);
  if (err == Err::kExists) return Refuse(why, config.data + " is not empty");
  if (err != Err::kOk) {
    return Refuse(why, "cannot write to " + config.data + ": " + std::string(ErrMeaning(err)));
  }
  if (SyncFolder(config.data) != Err::kOk) return Refuse(why, "cannot sync " + config.data);
  return Err::kOk;
}

// --- Start ---

Err NsShell::Start(std::string* why) {
  Result<std::string> key = ReadClusterKey(config_.cluster_key_file, why);
  if (!key.ok()) return key.err();
  cluster_key_ = std::move(key).value();
  TRY(Listen(why));  // a port in use is met before anything is touched
  if (config_.rebuild) {
    // A rebuild that was begun goes on, and an operator may say so again.
    const Err err = Init(config_, why);
    if (err != Err::kOk && !HasStore(config_)) return err;
  }
  NsState state;
  RoleDisk disk{.head = {}, .log = LogTail(pb::HaPoint())};
  TRY(OpenStore(&state, &disk, why));
  TRY(OpenCoordinator(state, why));
  RoleOptions role;
  role.node = disk.head.node();
  role.address = config_.Address();
  role.peer = config_.Peer();
  role.lease_ms = config_.lease_ms;
  role.strict = config_.strict;
  role.force = config_.force_promote || (config_.rebuild && state.last_index == 0);
  node_ = std::make_unique<NsServer>(NsOptions{.suspect_after_ms = config_.suspect_after_ms,
                                               .down_after_ms = config_.down_after_ms,
                                               .open_blocks_per_dsp = config_.open_blocks_per_dsp,
                                               .end_rebuild = config_.end_rebuild},
                                     std::move(role), std::move(state), std::move(disk), &random_);
  log_ = std::make_unique<WorkerThread>("ns-log", kLogQueueMax);
  coordinator_thread_ = std::make_unique<WorkerThread>("ns-coordinator", 4);
  client_ = std::make_unique<RpcClient>(
      loop_, RpcClientOptions{.role = "nameserver", .cluster_key = cluster_key_});
  client_->OnDone([this](CallDone&& done) {
    Run([&](ServerOutbox* out) { node_->OnCallDone(std::move(done), loop_->now(), out); });
  });
  server_->OnRequest([this](RpcRequest&& request) {
    Run([&](ServerOutbox* out) { node_->OnRequest(std::move(request), loop_->now(), out); });
  });
  tick_ = loop_->Every(kTickMs, [this] {
    Run([&](ServerOutbox* out) { node_->OnTick(loop_->now(), out); });
    if (stopping_ && !node_->role().handing_over()) loop_->Stop();  // nobody takes over
  });
  Run([&](ServerOutbox* out) { node_->Start(loop_->now(), out); });
  return Err::kOk;
}

Err NsShell::Listen(std::string* why) {
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
Err NsShell::OpenStore(NsState* state, RoleDisk* disk, std::string* why) {
  if (!HasStore(config_)) {
    return Refuse(why, config_.data +
                           " holds no store (not mounted? --init makes a new cluster's, "
                           "--rebuild starts from what the dsps say)");
  }
  Result<std::unique_ptr<LevelDbKv>> kv = LevelDbKv::Open(StorePath(config_));
  if (kv.err() == Err::kBusy) return Refuse(why, config_.data + " is in use by another process");
  const auto cannot_use = [&](Err err) {
    const std::string_view advice =
        err == Err::kCorrupt ? "; move the folder away and start with --rebuild" : "";
    return Refuse(why, "the store in " + config_.data + ": " + std::string(ErrMeaning(err)) +
                           std::string(advice));
  };
  if (!kv.ok()) return cannot_use(kv.err());
  kv_ = std::move(kv).value();
  const Err err = LoadStore(state, disk);
  if (err == Err::kNotFound) {
    return Refuse(why, "the making of the store in " + config_.data +
                           " was cut short; --rebuild finishes it from what the dsps say");
  }
  if (err == Err::kUnsupported) {
    return Refuse(why, "the store in " + config_.data + " was written by a newer version");
  }
  if (err != Err::kOk) return cannot_use(err);
  const Result<std::string> wanted = ClusterIdOf(config_);
  if (!config_.cluster_id.empty() && (!wanted.ok() || *wanted != state->settings.cluster_id())) {
    return Refuse(why, config_.data + " belongs to another cluster");
  }
  return Err::kOk;
}

Err NsShell::LoadStore(NsState* state, RoleDisk* disk) {
  store_ = std::make_unique<NsStore>(kv_.get());
  log_store_ = std::make_unique<HaStore>(kv_.get());
  const Result<pb::HaHead> head = HaStore::ReadHead(kv_.get());
  if (head.ok() && head->installing()) {  // rows of a snapshot that was cut short mean nothing
    state->node = head->node();
    state->settings.set_cluster_id(head->service_id());
  } else {
    TRY_ASSIGN(*state, store_->Load());
  }
  TRY_ASSIGN(*disk, log_store_->Load(state->last_index));
  return Err::kOk;
}

Err NsShell::OpenCoordinator(const NsState& state, std::string* why) {
  if (config_.etcd.empty()) return OpenLeaseFile(why);
  const std::string id = ToHex(AsBytes(state.settings.cluster_id()));
  EtcdOptions options;
  options.endpoints = SplitList(config_.etcd);
  options.prefix = config_.etcd_prefix;
  if (options.prefix.empty()) options.prefix = "/hayloft/" + id + "/nameserver";
  options.lease_ms = config_.lease_ms;
  options.ca_file = config_.etcd_ca_file;
  options.cert_file = config_.etcd_cert_file;
  options.key_file = config_.etcd_key_file;
  options.user = config_.etcd_user;
  options.password_file = config_.etcd_password_file;
  coordinator_ = std::make_unique<EtcdCoordinator>(std::move(options), &random_);
  return Err::kOk;
}

Err NsShell::OpenLeaseFile(std::string* why) {
  const std::string folder =
      config_.coordinator_dir.empty() ? config_.data + "/coordinator" : config_.coordinator_dir;
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
void NsShell::Run(Call&& call) {
  ServerOutbox out;
  call(&out);
  Take(&out);
}

// Rows are queued before the batch that follows them, so that a snapshot's removes them all.
void NsShell::Take(ServerOutbox* out) {
  for (RpcReply& reply : out->replies) server_->Reply(std::move(reply));
  metrics_.requests_total.Add(out->replies.size());
  for (RpcCall& call : out->calls) client_->Call(std::move(call));
  if (!out->apply.empty()) Apply(std::move(out->apply));
  if (out->reload) Reload();  // before what is written behind it
  if (out->write.has_value()) WriteLog(std::move(*out->write));
  if (out->coordinator.has_value()) Ask(std::move(*out->coordinator));
  if (out->read_from != 0) ReadLog(out->read_from);
  if (out->snapshot_after.has_value()) ReadSnapshot(std::move(*out->snapshot_after));
  if (out->promoted_epoch != 0) RunHook(out->promoted_epoch);
  if (!out->exit.empty()) End(stopping_ ? 0 : kExitRoleLost, out->exit, Err::kNotActive);
}

void NsShell::OnLogThread(std::function<Err()> task, std::function<void()> then) {
  const bool queued = log_->Run([this, task = std::move(task), then = std::move(then)] {
    const Err err = task();
    loop_->Post([this, err, then] {
      if (err != Err::kOk) return End(kExitDisk, "the log cannot be written or read", err);
      if (then) then();
    });
  });
  if (!queued) End(kExitDisk, "the log's disk is too slow", Err::kBusy);
}

void NsShell::WriteLog(RoleWrite write) {
  writing_ = true;
  writing_since_ms_ = loop_->now().mono_ms;
  const size_t records = write.records.size();
  OnLogThread(
      [this, write = std::make_shared<const RoleWrite>(std::move(write))] {
        FAILPOINT("nameserver_log_append_before");
        const Err err = log_store_->Write(*write);
        FAILPOINT("nameserver_log_append_after");
        return err;
      },
      [this, records] {
        writing_ = false;
        metrics_.log_batches_total.Add();
        metrics_.log_records_total.Add(records);
        metrics_.log_sync_ms.Observe(loop_->now().mono_ms - writing_since_ms_);
        Run([&](ServerOutbox* out) { node_->OnWritten(loop_->now(), out); });
      });
}

void NsShell::Apply(std::vector<pb::LogRecord> records) {
  OnLogThread(
      [this, records = std::make_shared<const std::vector<pb::LogRecord>>(std::move(records))] {
        TRY(store_->Apply(*records, /*sync=*/false));
        return log_store_->Truncate(store_->applied());
      },
      nullptr);
}

void NsShell::ReadLog(uint64_t from) {
  auto records = std::make_shared<std::vector<pb::HaRecord>>();
  OnLogThread(
      [this, from, records] {
        TRY_ASSIGN(*records, log_store_->Read(from));
        return Err::kOk;
      },
      [this, records] {
        Run([&](ServerOutbox* out) {
          node_->OnRecordsRead(std::move(*records), loop_->now(), out);
        });
      });
}

void NsShell::ReadSnapshot(std::string after) {
  auto part = std::make_shared<RoleCore::SnapshotPart>();
  OnLogThread(
      [this, part, after = std::move(after)] {
        TRY_ASSIGN(*part, log_store_->ReadSnapshot(after, store_->applied()));
        return Err::kOk;
      },
      [this, part] {
        Run([&](ServerOutbox* out) { node_->OnSnapshotRead(std::move(*part), loop_->now(), out); });
      });
}

// The rows of another node are here: nothing else is under way on the log's thread, and nothing is
// applied until the next batch is written.
void NsShell::Reload() {
  auto state = std::make_shared<NsState>();
  OnLogThread(
      [this, state] {
        TRY_ASSIGN(*state, store_->Load());
        return Err::kOk;
      },
      [this, state] { node_->OnReloaded(std::move(*state)); });
}

void NsShell::Ask(CoordinatorCall call) {
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
        const Result<uint64_t> version = coordinator_->Commit(call.record, call.version);
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
      Run([&](ServerOutbox* out) {
        node_->OnCoordinatorDone(std::move(*done), loop_->now(), out);
      });
    });
  });
  ASSERT(queued);  // one at a time
}

void NsShell::RunHook(uint64_t epoch) {
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

void NsShell::Stop() {
  if (stopping_) return loop_->Stop();
  stopping_ = true;
  RpcRequest request;
  request.type = MessageType::kFailover;
  ServerOutbox out;
  node_->OnRequest(std::move(request), loop_->now(), &out);
  const bool hands_over = node_->role().handing_over();
  out.replies.clear();  // nobody sent it
  Take(&out);
  if (!hands_over) return loop_->Stop();
  stop_ = loop_->After(kHandOverMsMax, [this] { loop_->Stop(); });
}

void NsShell::End(int exit_code, const std::string& why, Err err) {
  if (tick_ == nullptr) return;  // it ends already
  if (exit_code == 0) {
    LOG_INFO("nameserver_ends", "cause=\"%s\"", why.c_str());
  } else {
    LOG_ERROR("nameserver_ends", "cause=\"%s\" err=%s", why.c_str(),
              std::string(ErrName(err)).c_str());
  }
  exit_code_ = exit_code;
  tick_.reset();
  if (exit_code == kExitRoleLost && on_role_lost_) on_role_lost_();
  // The threads would be waited for, and a disk or an etcd may hang.
  if (writing_ || asking_) {
    StopLog();
    _exit(exit_code);
  }
  loop_->Stop();
}

bool NsShell::LogHangs() const {
  return writing_ && loop_->now().mono_ms - writing_since_ms_ > kDiskStallMs;
}

std::string NsShell::WhyNotReady() const {
  if (node_ == nullptr) return "not started yet";
  if (LogHangs()) return "the log waits for its disk";
  if (node_->Answers(loop_->now())) return "";
  if (!node_->role().active() && node_->role().in_sync()) return "";  // a standby
  const std::string_view why = node_->role().why_waiting();
  return "not active" + (why.empty() ? "" : ": " + std::string(why));
}

void NsShell::PrintMetrics(MetricsText* out) const {
  metrics_.Print(out);
  server_->metrics().Print(out);
  if (node_ == nullptr) return;
  client_->metrics().Print(out);
  const Now now = loop_->now();
  const RoleCore& role = node_->role();
  const pb::ClusterStatusReply status = node_->Status(now);
  const std::string_view prefix = "hayloft_nameserver_";
  const auto gauge = [&](std::string_view name, std::string_view help, uint64_t value) {
    out->AddGauge({prefix, name, help}, value);
  };
  gauge("epoch", "its epoch", status.epoch());
  gauge("active", "1: it answers", node_->Answers(now) ? 1 : 0);
  gauge("in_sync", "1: nothing that was acknowledged is missing on the other one, or here",
        role.in_sync() ? 1 : 0);
  gauge("log_index", "of the last record", role.last());
  gauge("log_committed", "of the last record that all members of the in-sync set have",
        role.committed());
  gauge("block_table_bytes", "memory of the block table", node_->state().blocks.MemoryBytes());
  const NsCore* const core = node_->core();
  if (core == nullptr) return;
  gauge("dsps", "dsps known", static_cast<uint64_t>(status.dsps_size()));
  gauge("dsps_reported", "of them, reported in full to this process", status.dsps_reported());
  uint64_t nearly_full = 0;
  uint64_t full = 0;
  for (const auto& [dsp_id, live] : core->membership().dsps()) {
    nearly_full += live.nearly_full ? 1 : 0;
    full += live.disk_state == pb::DISK_HEALTHY && live.Full() ? 1 : 0;
  }
  gauge("dsps_nearly_full", "dsps with 85 % of their disk in use", nearly_full);
  gauge("dsps_full", "dsps that get no new blocks, because their disk is full", full);
  gauge("dsps_unreachable", "dsps that others can't reach, though they are heard here",
        core->unreachable().size());
  gauge("blocks_open", "blocks that take appends", status.blocks_open());
  gauge("blocks_closed", "blocks that wait to be sealed", status.blocks_closed());
  gauge("blocks_sealed", "blocks that never change again", status.blocks_sealed());
  gauge("blocks_under_replicated", "blocks with fewer replicas on dsps that are up than copies",
        status.blocks_under_replicated());
  gauge("blocks_short_of_members", "blocks whose sets have fewer dsps than copies",
        status.blocks_short_of_members());
  gauge("blocks_divergent", "blocks whose replicas hold different bytes under one name",
        status.blocks_divergent());
  gauge("replicas_outside", "replicas on dsps that are not in their blocks' sets; not served",
        core->ReplicasOutside());
  gauge("needles_corrupt", "reads that found damage, as the dsps count them since their starts",
        status.needles_corrupt());
  gauge("blocks_lost", "blocks that no dsp holds any more", status.blocks_lost());
  gauge("rebuilding", "1: not all that there is has been reported, unknown blocks are unavailable",
        core->state().settings.rebuilding() ? 1 : 0);
  gauge("writable", "1: an upload would find a block", status.writable() ? 1 : 0);
}

}  // namespace hayloft
