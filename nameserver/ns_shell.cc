#include "nameserver/ns_shell.h"

#include <utility>

#include "common/codec.h"
#include "common/ha/lease_file.h"
#include "common/io/failpoint.h"
#include "common/io/files.h"
#include "common/io/server_start.h"
#include "common/log.h"

namespace hayloft {

namespace {

constexpr uint64_t kTickMs = 100;
constexpr uint64_t kRenewMs = 1'000;
constexpr size_t kIdBytes = 16;
constexpr int kExitRoleLost = 75;  // EX_TEMPFAIL: another nameserver is the active one

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
  if (min_copies > copies) return "min_copies is more than copies";
  if (down_after_ms < suspect_after_ms) return "down_after_ms is less than suspect_after_ms";
  return "";
}

NsShell::NsShell(Loop* loop, NsConfig config) : loop_(loop), config_(std::move(config)) {}

NsShell::~NsShell() { log_.reset(); }

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
  const Err err = NsStore(kv->get()).Init(node, settings);
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
  TRY(OpenStore(&state, why));
  const bool forced = config_.force_promote || (config_.rebuild && state.last_index == 0);
  uint64_t epoch = 0;
  TRY(WinRole(state, forced, &epoch, why));
  LOG_INFO("active", "epoch=%llu blocks=%llu dsps=%zu", static_cast<unsigned long long>(epoch),
           static_cast<unsigned long long>(state.blocks.size()), state.dsps.size());
  core_ = std::make_unique<NsCore>(NsOptions{.suspect_after_ms = config_.suspect_after_ms,
                                             .down_after_ms = config_.down_after_ms,
                                             .open_blocks_per_dsp = config_.open_blocks_per_dsp,
                                             .end_rebuild = config_.end_rebuild},
                                   std::move(state), &random_);
  log_ = std::make_unique<WorkerThread>("ns-log", 16);
  client_ = std::make_unique<RpcClient>(
      loop_, RpcClientOptions{.role = "nameserver", .cluster_key = cluster_key_});
  client_->OnDone([this](CallDone&& done) {
    NsOutbox outbox;
    core_->OnCallDone(std::move(done), loop_->now(), &outbox);
    Take(&outbox);
  });
  server_->OnRequest([this](RpcRequest&& request) {
    NsOutbox outbox;
    core_->OnRequest(std::move(request), loop_->now(), &outbox);
    Take(&outbox);
  });
  tick_ = loop_->Every(kTickMs, [this] {
    NsOutbox outbox;
    core_->OnTick(loop_->now(), &outbox);
    Take(&outbox);
  });
  NsOutbox outbox;
  core_->Start(epoch, forced, loop_->now(), &outbox);
  Take(&outbox);
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
Err NsShell::OpenStore(NsState* state, std::string* why) {
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
  store_ = std::make_unique<NsStore>(kv_.get());
  Result<NsState> loaded = store_->Load();
  if (loaded.err() == Err::kNotFound) {
    return Refuse(why, "the making of the store in " + config_.data +
                           " was cut short; --rebuild finishes it from what the dsps say");
  }
  if (loaded.err() == Err::kUnsupported) {
    return Refuse(why, "the store in " + config_.data + " was written by a newer version");
  }
  if (!loaded.ok()) return cannot_use(loaded.err());
  *state = std::move(loaded).value();
  const Result<std::string> wanted = ClusterIdOf(config_);
  if (!config_.cluster_id.empty() && (!wanted.ok() || *wanted != state->settings.cluster_id())) {
    return Refuse(why, config_.data + " belongs to another cluster");
  }
  return Err::kOk;
}

Err NsShell::WinRole(const NsState& state, bool forced, uint64_t* epoch, std::string* why) {
  const std::string folder =
      config_.coordinator_dir.empty() ? config_.data + "/coordinator" : config_.coordinator_dir;
  if (MakeFolders(folder) != Err::kOk) return Refuse(why, "cannot make " + folder);
  Result<std::unique_ptr<PosixDevice>> device = PosixDevice::OpenFolder(folder);
  if (!device.ok()) return Refuse(why, "cannot open " + folder);
  lease_folder_ = std::move(device).value();
  coordinator_ = std::make_unique<LeaseFile>(LeaseFileOptions{.folder = folder},
                                             lease_folder_.get(), &random_);
  const Result<uint64_t> won = Claim({.node = state.node,
                                      .log_position = state.last_index,
                                      .epoch_above = state.epoch,
                                      .force = forced});
  switch (won.err()) {
    case Err::kOk:
      *epoch = won.value();
      written_index_ = state.last_index;
      return Err::kOk;
    case Err::kExists:
      return Refuse(why, "another nameserver holds " + folder);
    case Err::kNotActive:
      return Refuse(why, "the store in " + config_.data +
                             " is older than what was acknowledged; --force-promote starts with "
                             "it all the same");
    default:
      return Refuse(why,
                    "the lease record in " + folder + ": " + std::string(ErrMeaning(won.err())));
  }
}

// The new epoch. kExists: another process holds the role. kNotActive: this node may not have it.
Result<uint64_t> NsShell::Claim(const LeaseClaim& claim) {
  Result<CoordinatorView> view = coordinator_->Read();
  if (view.err() == Err::kCorrupt && claim.force) view = CoordinatorView{};
  if (!view.ok()) return view.err();
  TRY_ASSIGN(lease_, ClaimRecord(*view, claim));
  TRY_ASSIGN(lease_version_, coordinator_->Commit(lease_, view->version));
  return lease_.epoch();
}

// Says how far the log has come. kNotActive: another one has won meanwhile.
Err NsShell::Renew(uint64_t log_position) {
  lease_.set_log_position(log_position);
  const Result<uint64_t> version = coordinator_->Commit(lease_, lease_version_);
  if (version.err() == Err::kExists) return Err::kNotActive;
  if (!version.ok()) return version.err();
  lease_version_ = *version;
  return Err::kOk;
}

// --- The loop ---

void NsShell::Take(NsOutbox* outbox) {
  for (RpcReply& reply : outbox->replies) server_->Reply(std::move(reply));
  metrics_.requests_total.Add(outbox->replies.size());
  for (RpcCall& call : outbox->calls) client_->Call(std::move(call));
  for (pb::LogRecord& record : outbox->records) waiting_.push_back(std::move(record));
  if (outbox->raise_epoch_above != 0) RaiseEpoch(outbox->raise_epoch_above);
  WriteLog();
}

// Records that come while a batch is being synced make the next one. The lease is renewed by the
// same thread, so that it ends when the log's disk hangs.
void NsShell::WriteLog() {
  const Now now = loop_->now();
  const bool renew = now.mono_ms - renewed_ms_ >= kRenewMs;
  if (writing_ || (waiting_.empty() && !renew)) return;
  writing_ = true;
  writing_since_ms_ = now.mono_ms;
  if (renew) renewed_ms_ = now.mono_ms;
  const bool queued = log_->Run([this, renew, batch = std::exchange(waiting_, {})] {
    Err err = Err::kOk;
    if (!batch.empty()) {
      FAILPOINT("nameserver_log_append_before");
      err = store_->Append(batch);
      FAILPOINT("nameserver_log_append_after");
      if (err == Err::kOk) written_index_ = batch.back().index();
    }
    if (err == Err::kOk && renew) err = Renew(written_index_);
    loop_->Post([this, err, index = written_index_, count = batch.size()] {
      if (count > 0) {
        metrics_.log_batches_total.Add();
        metrics_.log_records_total.Add(count);
        metrics_.log_sync_ms.Observe(loop_->now().mono_ms - writing_since_ms_);
      }
      OnLogWritten(err, index);
    });
  });
  ASSERT(queued);  // one batch and one raise at most
}

void NsShell::OnLogWritten(Err err, uint64_t index) {
  writing_ = false;
  if (err == Err::kNotActive) return End(kExitRoleLost, "another nameserver is active", err);
  if (err != Err::kOk) return End(kExitDisk, "the log cannot be written", err);
  NsOutbox outbox;
  core_->OnLogSynced(index, &outbox);
  Take(&outbox);
}

void NsShell::RaiseEpoch(uint64_t above) {
  LeaseClaim claim;
  claim.node = core_->state().node;
  claim.epoch_above = above;
  const bool queued = log_->Run([this, claim]() mutable {
    // What is on the disk, not what the core has made and nobody has written: after a crash the log
    // could not reach that position, and this node would be refused as outdated.
    claim.log_position = written_index_;
    const Result<uint64_t> won = Claim(claim);
    loop_->Post([this, won] {
      if (!won.ok()) return End(kExitRoleLost, "a higher epoch could not be won", won.err());
      NsOutbox outbox;
      core_->OnEpochRaised(*won, &outbox);
      Take(&outbox);
    });
  });
  ASSERT(queued);
}

void NsShell::End(int exit_code, const char* why, Err err) {
  LOG_ERROR("nameserver_ends", "cause=\"%s\" err=%s", why, std::string(ErrName(err)).c_str());
  exit_code_ = exit_code;
  tick_.reset();
  loop_->Stop();
}

std::string NsShell::WhyNotReady() const {
  if (core_ == nullptr || !core_->Active()) return "not active yet";
  const bool hangs = writing_ && loop_->now().mono_ms - writing_since_ms_ > kDiskStallMs;
  return hangs ? "the log waits for its disk" : "";
}

void NsShell::PrintMetrics(MetricsText* out) const {
  metrics_.Print(out);
  server_->metrics().Print(out);
  if (core_ == nullptr) return;
  client_->metrics().Print(out);
  const pb::ClusterStatusReply status = core_->Status(loop_->now());
  const std::string_view prefix = "hayloft_nameserver_";
  const auto gauge = [&](std::string_view name, std::string_view help, uint64_t value) {
    out->AddGauge({prefix, name, help}, value);
  };
  gauge("epoch", "its epoch", status.epoch());
  gauge("log_index", "of the last record", core_->state().last_index);
  gauge("dsps", "dsps known", static_cast<uint64_t>(status.dsps_size()));
  gauge("dsps_reported", "of them, reported in full to this process", status.dsps_reported());
  uint64_t nearly_full = 0;
  uint64_t full = 0;
  for (const auto& [dsp_id, live] : core_->membership().dsps()) {
    nearly_full += live.nearly_full ? 1 : 0;
    full += live.disk_state == pb::DISK_HEALTHY && live.Full() ? 1 : 0;
  }
  gauge("dsps_nearly_full", "dsps with 85 % of their disk in use", nearly_full);
  gauge("dsps_full", "dsps that get no new blocks, because their disk is full", full);
  gauge("dsps_unreachable", "dsps that others can't reach, though they are heard here",
        core_->unreachable().size());
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
        core_->ReplicasOutside());
  gauge("needles_corrupt", "reads that found damage, as the dsps count them since their starts",
        status.needles_corrupt());
  gauge("blocks_lost", "blocks that no dsp holds any more", status.blocks_lost());
  gauge("block_table_bytes", "memory of the block table", core_->state().blocks.MemoryBytes());
  gauge("rebuilding", "1: not all that there is has been reported, unknown blocks are unavailable",
        core_->state().settings.rebuilding() ? 1 : 0);
  gauge("writable", "1: an upload would find a block", status.writable() ? 1 : 0);
}

}  // namespace hayloft
