#include "dataserver/dsp/dsp_shell.h"

#include <algorithm>

#include "common/io/failpoint.h"
#include "common/io/server_start.h"
#include "common/io/system_clock.h"
#include "common/log.h"

namespace hayloft {

namespace {

constexpr uint64_t kTickMs = 100;
constexpr size_t kReadQueueMax = 4096;  // beyond it reads are answered kBusy
// What stands in for LevelDB where it cannot be opened or must not be written: nothing rests on it.
class NoKv : public Kv {
 public:
  Result<std::string> Get(std::string_view) override { return Err::kNotFound; }
  Err Write(std::span<const Change>, bool) override { return Err::kOk; }
  Err Scan(std::string_view,
           const std::function<bool(std::string_view, std::string_view)>&) override {
    return Err::kOk;
  }
};

constexpr size_t kJobQueueMax = 65536;  // the core bounds what it has under way far below

Err ConfigFault(std::string* why, std::string text) {
  *why = std::move(text);
  return Err::kConfig;
}

Id16 ParseId(const std::string& hex) {
  Id16 id{};
  ASSERT(FromHex(hex, id));  // Fault() has looked at it
  return id;
}

// What a refusal to start means to whoever looks after the machine.
std::string StartFault(Err err, const std::string& folder) {
  switch (err) {
    case Err::kNotFound:
      return folder + " is no formatted disk: is the right one mounted?";
    case Err::kConfig:
      return folder + " belongs to another cluster";
    case Err::kCorrupt:
      return folder + ": both superblocks are damaged";
    case Err::kUnsupported:
      return folder + " was written by a later version of Hayloft";
    default:
      return folder + ": " + std::string(ErrMeaning(err));
  }
}

}  // namespace

std::string DspConfig::Fault() const {
  Id16 id;
  if (!FromHex(cluster_id, id)) return "cluster_id is not 32 hex digits";
  if (data.empty()) return "data is needed: the disk's folder";
  if (block_bytes % kPageBytes != 0) return "block_bytes is no multiple of 4096";
  const bool tool = format || clear_failed || rebuild_superblock;
  if (rebuild_superblock && !FromHex(disk_id, id)) return "disk_id is not 32 hex digits";
  if (!tool && nameservers.empty()) return "nameservers is needed";
  return "";
}

DspShell::DspShell(Loop* loop, DspConfig config) : loop_(loop), config_(std::move(config)) {}

DspShell::~DspShell() {
  // The threads finish what they were given; nobody hears of it any more.
  commit_.reset();
  background_.reset();
  readers_.reset();
}

Err DspShell::Format(const DspConfig& config, std::string* why) {
  TRY_ASSIGN(const std::unique_ptr<PosixDevice> device, OpenForTool(config, why));
  SystemRandom random;
  Superblock superblock;
  superblock.cluster_id = ParseId(config.cluster_id);
  random.Fill(superblock.disk_id);
  superblock.block_bytes = config.block_bytes;
  superblock.created_ms = SystemWallMs();
  const Err err = FormatDisk(device.get(), superblock);
  if (err == Err::kOk) return Err::kOk;
  if (err == Err::kExists) return ConfigFault(why, config.data + " is not empty");
  return ConfigFault(why, config.data + ": " + std::string(ErrMeaning(err)));
}

// What a tool needs: the folder, and that nobody serves it meanwhile.
Result<std::unique_ptr<PosixDevice>> DspShell::OpenForTool(const DspConfig& config,
                                                           std::string* why) {
  Result<std::unique_ptr<PosixDevice>> device = PosixDevice::OpenFolder(config.data);
  if (!device.ok()) return ConfigFault(why, config.data + " is no folder");
  if ((*device)->Lock() != Err::kOk) return ConfigFault(why, config.data + " is in use");
  return device;
}

Err DspShell::ClearFailedMark(const DspConfig& config, std::string* why) {
  TRY_ASSIGN(const std::unique_ptr<PosixDevice> device, OpenForTool(config, why));
  const Err err = ClearFailed(device.get(), ParseId(config.cluster_id));
  return err == Err::kOk ? err : ConfigFault(why, StartFault(err, config.data));
}

Err DspShell::Rebuild(const DspConfig& config, std::string* why) {
  TRY_ASSIGN(const std::unique_ptr<PosixDevice> device, OpenForTool(config, why));
  Superblock known;
  known.cluster_id = ParseId(config.cluster_id);
  known.disk_id = ParseId(config.disk_id);
  known.block_bytes = config.block_bytes;
  known.created_ms = SystemWallMs();
  known.incarnation = known.created_ms;  // above any count of starts
  const Err err = RebuildSuperblock(device.get(), known);
  if (err == Err::kExists) return ConfigFault(why, config.data + " has a sound superblock");
  return err == Err::kOk ? err : ConfigFault(why, StartFault(err, config.data));
}

Err DspShell::Start(std::string* why) {
  Result<std::string> key = ReadClusterKey(config_.cluster_key_file, why);
  if (!key.ok()) return key.err();
  cluster_key_ = std::move(*key);
  TRY(OpenDisk(why));
  // The port is taken before the disk is touched: a second process of this disk ends here.
  server_ = std::make_unique<RpcServer>(
      loop_, RpcServerOptions{.listen = config_.listen, .cluster_key = cluster_key_});
  TRY(server_->Listen(why));
  if (!config_.admin_listen.empty()) {
    admin_ = std::make_unique<AdminHttp>(loop_, config_.admin_listen);
    TRY(admin_->Listen(why));
    admin_->OnMetrics([this](MetricsText* out) { PrintMetrics(out); });
    admin_->OnReady([this]() -> std::string { return core_->registered() ? "" : "unregistered"; });
  }
  TRY(StartCore(why));
  commit_ = std::make_unique<WorkerThread>("commit", kJobQueueMax);
  background_ = std::make_unique<WorkerThread>("background", kJobQueueMax);
  readers_ = std::make_unique<WorkerPool>(WorkerPool::Options{
      .name = "reader", .threads = config_.readers, .queue_max = kReadQueueMax});
  client_ = std::make_unique<RpcClient>(
      loop_, RpcClientOptions{.role = "dsp", .cluster_key = cluster_key_});
  client_->OnDone([this](CallDone&& done) {
    DspOutbox out;
    core_->OnCallDone(std::move(done), loop_->now(), &out);
    Take(&out);
  });
  server_->OnRequest([this](RpcRequest&& request) { OnRequest(std::move(request)); });
  tick_ = loop_->Every(kTickMs, [this] { Tick(); });
  Tick();
  return Err::kOk;
}

Err DspShell::OpenDisk(std::string* why) {
  Result<std::unique_ptr<PosixDevice>> device = PosixDevice::OpenFolder(config_.data);
  if (!device.ok()) return ConfigFault(why, config_.data + " is no folder");
  device_ = std::move(*device);
  // Before anything is made in the folder: it may be the empty mount point of a disk.
  const Result<Superblock> superblock = LoadSuperblock(device_.get());
  if (!superblock.ok()) return ConfigFault(why, StartFault(superblock.err(), config_.data));
  if (superblock->cluster_id != ParseId(config_.cluster_id)) {
    return ConfigFault(why, StartFault(Err::kConfig, config_.data));
  }
  const Err lock = device_->Lock();
  if (lock == Err::kExists) {
    exit_code_ = kExitTemporary;  // its holder may be about to leave
    return ConfigFault(why, config_.data + " is in use by another process");
  }
  if (lock != Err::kOk && !config_.read_only) {
    return ConfigFault(why, StartFault(lock, config_.data));
  }
  return Err::kOk;
}

Err DspShell::StartCore(std::string* why) {
  OpenFastStart();
  core_ = std::make_unique<DspCore>(CoreOptions(), &random_);
  const Err err = core_->Start(device_.get(), kv_.get(), loop_->now());
  if (err == Err::kReadOnly || err == Err::kIo) {
    exit_code_ = kExitDisk;
    return ConfigFault(why, config_.data + " has failed; --read-only serves what it holds");
  }
  if (err == Err::kFull || err == Err::kBusy) exit_code_ = kExitTemporary;
  if (err != Err::kOk) return ConfigFault(why, StartFault(err, config_.data));
  const Result<SpaceInfo> space = device_->Space();
  if (space.ok()) space_ = *space;
  return Err::kOk;
}

void DspShell::OpenFastStart() {
  kv_ = std::make_unique<NoKv>();
  if (config_.read_only) return;
  Result<LevelDbKv::Opened> opened =
      LevelDbKv::OpenOrQuarantine(config_.data + "/leveldb", {.settle_at_close = false});
  if (!opened.ok()) {
    LOG_WARN("fast_start_unusable", "err=%s action=do_without", ErrName(opened.err()).data());
    return;
  }
  if (!opened->set_aside.empty()) {
    LOG_WARN("fast_start_damaged", "set_aside=%s action=rebuild_from_footers",
             LogText(opened->set_aside).c_str());
  }
  kv_ = std::move(opened->kv);
}

DspOptions DspShell::CoreOptions() const {
  DspOptions options;
  options.cluster_id = ParseId(config_.cluster_id);
  options.address = config_.advertise.empty() ? server_->address() : config_.advertise;
  if (admin_ != nullptr) options.admin_address = admin_->address();
  options.machine = config_.machine;
  options.zone = config_.zone;
  options.nameservers = SplitList(config_.nameservers);
  options.read_only = config_.read_only;
  options.pool_files = config_.pool_files;
  options.append_queue_bytes = config_.append_queue_bytes;
  options.trash_ms = uint64_t{config_.trash_hours} * 3600 * 1000;
  options.reserve_percent = config_.reserve_percent;
  options.full_percent = config_.full_percent;
  options.sealed_files_max =
      static_cast<uint32_t>(std::min<uint64_t>(config_.sealed_files, OpenFilesMax() / 2));
  return options;
}

void DspShell::OnRequest(RpcRequest&& request) {
  const bool writes = request.type != MessageType::kRead && request.type != MessageType::kStat;
  if (stopping_ && writes) {  // else a stop would never end under load
    RpcReply reply;
    reply.token = request.token;
    reply.type = request.type;
    // The next start closes every block: the append's client goes to another one.
    reply.err = request.type == MessageType::kAppend ? Err::kClosed : Err::kUnavailable;
    return server_->Reply(std::move(reply));
  }
  if (request.type == MessageType::kAppend) FAILPOINT("dsp_append_received");
  DspOutbox out;
  core_->OnRequest(std::move(request), loop_->now(), &out);
  Take(&out);
}

// Carries out what the core wants. Reads that the page cache answers come back at once, so more may
// follow from them.
void DspShell::Take(DspOutbox* out) {
  for (RpcReply& reply : out->replies) {
    if (reply.type == MessageType::kAppend) FAILPOINT("dsp_append_before_reply");
    server_->Reply(std::move(reply));
  }
  for (RpcCall& call : out->calls) client_->Call(std::move(call));
  for (IoJob& job : out->jobs) StartJob(std::move(job));
  for (FileHandle file : out->closes) device_->Close(file);
  for (ReadJob& read : out->reads) StartRead(std::move(read));
  if (out->disk_failed) {
    exit_code_ = kExitDisk;
    Stop();
  }
}

void DspShell::StartJob(IoJob job) {
  const uint64_t id = job.id;
  WorkerThread* lane = job.lane == IoLane::kCommit ? commit_.get() : background_.get();
  auto running = std::make_unique<RunningJob>();
  running->job = std::move(job);
  running->begun_ms = loop_->now().mono_ms;
  RunningJob* work = running.get();
  jobs_.emplace(id, std::move(running));
  const bool taken = lane->Run([this, work, id] {
    work->done = RunJob(work->job, device_.get(), kv_.get());
    loop_->Post([this, id] { OnJobDone(id); });
  });
  ASSERT(taken);  // the core has far fewer jobs under way than the queue holds
}

void DspShell::OnJobDone(uint64_t id) {
  auto node = jobs_.extract(id);
  ASSERT(!node.empty());
  if (node.mapped()->job.lane == IoLane::kCommit) commit_progress_ms_ = loop_->now().mono_ms;
  DspOutbox out;
  core_->OnJobDone(std::move(node.mapped()->done), loop_->now(), &out);
  Take(&out);
  EndIfIdle();
}

void DspShell::StartRead(ReadJob job) {
  ReadDone done = ReadNeedle(device_.get(), std::move(job), /*cached_only=*/true);
  if (done.err != Err::kBusy) {
    ++cached_reads_;
    DspOutbox out;
    core_->OnReadDone(std::move(done), loop_->now(), &out);
    return Take(&out);
  }
  ++blocking_reads_;
  const uint64_t id = next_read_id_++;
  auto running = std::make_unique<RunningRead>();
  running->job = std::move(done.job);
  running->begun_ms = loop_->now().mono_ms;
  RunningRead* work = running.get();
  const bool taken = readers_->Run([this, work, id] {
    work->done = ReadNeedle(device_.get(), std::move(work->job), /*cached_only=*/false);
    loop_->Post([this, id] { OnReadDone(id); });
  });
  if (taken) {
    reads_.emplace(id, std::move(running));
    return;
  }
  done.job = std::move(running->job);
  DspOutbox out;
  core_->OnReadDone(std::move(done), loop_->now(), &out);
  Take(&out);
}

void DspShell::OnReadDone(uint64_t id) {
  auto node = reads_.extract(id);
  ASSERT(!node.empty());
  read_progress_ms_ = loop_->now().mono_ms;
  DspOutbox out;
  core_->OnReadDone(std::move(node.mapped()->done), loop_->now(), &out);
  Take(&out);
}

void DspShell::Tick() {
  RefreshSpace();
  DspOutbox out;
  core_->OnTick({.space = space_, .idle_ms = DiskIdleMs()}, loop_->now(), &out);
  Take(&out);
}

// On a thread that may block: a disk that hangs hangs in statvfs too.
void DspShell::RefreshSpace() {
  if (space_asked_) return;
  space_asked_ = readers_->Run([this] {
    const Result<SpaceInfo> space = device_->Space();
    loop_->Post([this, space] {
      space_asked_ = false;
      if (space.ok()) space_ = *space;
    });
  });
}

// How long commits, or reads that wait for the disk, have made no progress. The background lane may
// take long over one job.
uint64_t DspShell::DiskIdleMs() {
  uint64_t commit_ms = UINT64_MAX;
  for (const auto& [id, running] : jobs_) {
    if (running->job.lane == IoLane::kCommit) commit_ms = std::min(commit_ms, running->begun_ms);
  }
  uint64_t read_ms = UINT64_MAX;
  for (const auto& [id, running] : reads_) read_ms = std::min(read_ms, running->begun_ms);
  if (commit_ms != UINT64_MAX) commit_ms = std::max(commit_ms, commit_progress_ms_);
  if (read_ms != UINT64_MAX) read_ms = std::max(read_ms, read_progress_ms_);
  const uint64_t now_ms = loop_->now().mono_ms;
  return now_ms - std::min({now_ms, commit_ms, read_ms});
}

void DspShell::Stop() {
  if (!std::exchange(stopping_, true)) {
    DspOutbox out;
    core_->CloseAll(&out);
    Take(&out);
  }
  EndIfIdle();
}

void DspShell::EndIfIdle() {
  if (!stopping_) return;
  const bool committing = std::any_of(jobs_.begin(), jobs_.end(), [](const auto& entry) {
    return entry.second->job.lane == IoLane::kCommit;
  });
  if (committing) return;
  loop_->Post([this] { loop_->Stop(); });  // after the replies of this turn have left
}

void DspShell::PrintMetrics(MetricsText* out) {
  const DspStats stats = core_->Stats();
  const auto print = [out](const char* name, const char* help, uint64_t value) {
    out->AddGauge({.prefix = "hayloft_dsp_", .name = name, .help = help}, value);
  };
  print("disk_progress_ms", "age of the last finished commit while one waits", DiskIdleMs());
  print("disk_state", "0 healthy, 1 read-only, 2 failed",
        static_cast<uint64_t>(core_->disk_state()));
  print("blocks_open", "blocks that take appends", stats.blocks_open);
  print("blocks_closed", "blocks that wait for their seal", stats.blocks_closed);
  print("blocks_sealed", "blocks with a footer", stats.blocks_sealed);
  print("blocks_unreadable", "block files that could not be used", stats.blocks_unreadable);
  print("needles_open", "needles of blocks that are not sealed", stats.needles_open);
  print("needles_sealed", "needles of sealed blocks", stats.needles_sealed);
  print("index_open_bytes", "memory of the indexes of blocks that are not sealed",
        stats.index_open_bytes);
  print("index_sealed_bytes", "memory of the indexes of sealed blocks and of the block table",
        stats.index_sealed_bytes);
  print("files_live", "files that answer", stats.files_live);
  print("files_deleted", "files in the trash", stats.files_deleted);
  print("files_lost", "needles of which no intact copy is here", stats.files_lost);
  print("pool_files", "block files written beforehand", stats.pool_files);
  print("sealed_files_open", "files of sealed blocks that are open", stats.sealed_files_open);
  print("appends_total", "appends acknowledged", stats.appends);
  print("append_bytes_total", "bytes of images taken", stats.append_bytes);
  print("appends_refused_total", "appends refused at once", stats.appends_refused);
  print("append_queue_bytes", "bytes that wait for the disk", stats.append_queue_bytes);
  print("commits_total", "group commits, each one write and one fdatasync", stats.commits);
  print("reads_total", "reads and stats answered", stats.reads);
  print("reads_failed_total", "reads answered with an error", stats.reads_failed);
  print("reads_cached_total", "reads that the page cache answered", cached_reads_);
  print("reads_blocking_total", "reads that waited for the disk", blocking_reads_);
  print("needles_corrupt_total", "reads that found damage", stats.needles_corrupt);
  print("deletes_total", "deletes and undeletes synced", stats.deletes);
  print("delete_log_bytes", "size of the delete log", stats.delete_log_bytes);
  print("delete_log_damaged", "damaged records of the delete log at the start",
        stats.delete_log_damaged);
  print("bytes_total", "size of the disk", space_.total_bytes);
  print("bytes_free", "free on the disk", space_.free_bytes);
  server_->metrics().Print(out);
  client_->metrics().Print(out);
}

}  // namespace hayloft
