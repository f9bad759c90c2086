// How a dsp comes to serve: from the command line to the first answer, and the tools for a disk
// that nobody serves.
//
//   options, folder, lock, ports      nothing is changed
//   the nameservers are asked         is this disk served elsewhere? nothing is changed
//   recovery, on the commit thread    reports its progress on the admin port
//   serving
#include <algorithm>

#include "common/io/process.h"
#include "common/io/server_start.h"
#include "common/io/system_clock.h"
#include "common/log.h"
#include "dataserver/dsp/dsp_shell.h"

namespace hayloft {

namespace {

constexpr uint64_t kTickMs = 100;
constexpr size_t kReadQueueMax = 4096;  // beyond it reads are answered kBusy
constexpr size_t kJobQueueMax = 65536;  // the core bounds what it has under way far below
constexpr uint32_t kAskTimeoutMs = 1'000;
constexpr uint64_t kAskAgainMs = 500;
// A disk that moved is refused as long as its old process counts as up.
constexpr uint64_t kAskPatienceMs = 10'000;
constexpr uint64_t kFirstAskId = uint64_t{1} << 62;  // the core's calls count from 1

// What stands in for LevelDB where it cannot be opened or must not be written: nothing rests on it.
class NoKv : public Kv {
 public:
  Result<std::string> Get(std::string_view) override { return Err::kNotFound; }
  Err Write(std::span<const Change>, bool) override { return Err::kOk; }
  Err ScanFrom(std::string_view, const Visit&) override { return Err::kOk; }
};

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
    admin_->OnReady([this]() -> std::string {
      if (phase_ != Phase::kServing) return "starting";
      return core_->registered() ? "" : "unregistered";
    });
  }
  commit_ = std::make_unique<WorkerThread>("commit", kJobQueueMax);
  background_ = std::make_unique<WorkerThread>("background", kJobQueueMax);
  readers_ = std::make_unique<WorkerPool>(WorkerPool::Options{
      .name = "reader", .threads = config_.readers, .queue_max = kReadQueueMax});
  client_ = std::make_unique<RpcClient>(
      loop_, RpcClientOptions{.role = "dsp", .cluster_key = cluster_key_});
  client_->OnDone([this](CallDone&& done) { OnCallDone(std::move(done)); });
  server_->OnRequest([this](RpcRequest&& request) { OnRequest(std::move(request)); });
  core_ = std::make_unique<DspCore>(CoreOptions(), &random_);
  tick_ = loop_->Every(kTickMs, [this] { Tick(); });
  ask_until_ms_ = loop_->now().mono_ms + kAskPatienceMs;
  if (config_.read_only) {
    Recover();  // it changes nothing
  } else {
    Ask();
  }
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
  // Copies of a disk have one id: of those on one machine only the first is served.
  disk_id_ = superblock->disk_id;
  next_incarnation_ = superblock->incarnation + 1;
  promised_epoch_ = superblock->promised_epoch;
  Result<UniqueFd> name = TakeMachineName("hayloft-disk-" + ToHex(disk_id_));
  if (!name.ok()) {
    return ConfigFault(why, config_.data + " is a copy of a disk that is served on this machine");
  }
  machine_name_ = std::move(*name);
  return Err::kOk;
}

// Whether this disk may be served here. Nameservers that do not answer keep nobody from starting.
void DspShell::Ask() {
  phase_ = Phase::kAsking;
  refusal_ = Err::kOk;
  pb::RegisterRequest message;  // without `space`: it only asks
  message.set_cluster_id(std::string(AsText(ParseId(config_.cluster_id))));
  message.set_disk_id(std::string(AsText(disk_id_)));
  message.set_incarnation(next_incarnation_);
  message.set_address(config_.advertise.empty() ? server_->address() : config_.advertise);
  message.set_promised_epoch(promised_epoch_);
  for (const std::string& nameserver : SplitList(config_.nameservers)) {
    ++asked_;
    RpcCall call;
    call.call_id = kFirstAskId + asked_;
    call.address = nameserver;
    call.type = MessageType::kRegister;
    call.timeout_ms = kAskTimeoutMs;
    call.message = message.SerializeAsString();
    client_->Call(std::move(call));
  }
}

void DspShell::OnCallDone(CallDone&& done) {
  if (phase_ == Phase::kServing) {
    DspOutbox out;
    core_->OnCallDone(std::move(done), loop_->now(), &out);
    return Take(&out);
  }
  ASSERT(phase_ == Phase::kAsking);
  ASSERT(asked_ > 0);
  --asked_;
  const bool refused =
      done.err == Err::kExists || done.err == Err::kStaleEpoch || done.err == Err::kConfig;
  if (refused) refusal_ = done.err;
  if (asked_ > 0) return;
  if (refusal_ == Err::kOk) return Recover();
  const uint64_t now_ms = loop_->now().mono_ms;
  if (refusal_ == Err::kExists && now_ms < ask_until_ms_) {
    ask_at_ms_ = now_ms + kAskAgainMs;
    return;
  }
  Fail(kExitConfig, config_.data + (refusal_ == Err::kConfig
                                        ? ": the nameserver is of another cluster"
                                        : " is a copy of a disk that the nameserver knows"));
}

void DspShell::TickStart() {
  const uint64_t now_ms = loop_->now().mono_ms;
  if (phase_ == Phase::kAsking) {
    if (asked_ == 0 && now_ms >= ask_at_ms_) Ask();
    return;
  }
  const uint64_t operations = device_->operations();
  if (std::exchange(recovery_operations_, operations) != operations) {
    recovery_progress_ms_ = now_ms;
  }
}

void DspShell::Recover() {
  phase_ = Phase::kRecovering;
  recovery_progress_ms_ = loop_->now().mono_ms;
  const bool taken = commit_->Run([this, now = loop_->now()] {
    OpenFastStart();
    const Err err = core_->Start(device_.get(), kv_.get(), now);
    loop_->Post([this, err] { OnRecovered(err); });
  });
  ASSERT(taken);  // the first task
}

void DspShell::OnRecovered(Err err) {
  ASSERT(phase_ == Phase::kRecovering);
  if (err == Err::kReadOnly || err == Err::kIo) {
    return Fail(kExitDisk, config_.data + " has failed; --read-only serves what it holds");
  }
  const bool temporary = err == Err::kFull || err == Err::kBusy;
  if (err != Err::kOk) {
    return Fail(temporary ? kExitTemporary : kExitConfig, StartFault(err, config_.data));
  }
  const Result<SpaceInfo> space = device_->Space();
  if (space.ok()) space_ = *space;
  phase_ = Phase::kServing;
  Tick();
}

void DspShell::Fail(int exit_code, std::string why) {
  if (!why_.empty()) return;
  exit_code_ = exit_code;
  why_ = std::move(why);
  loop_->Stop();
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
  options.commits_wait = true;
  options.replica_timeout_ms = config_.replica_timeout_ms;
  options.append_queue_bytes = config_.append_queue_bytes;
  options.trash_ms = uint64_t{config_.trash_hours} * 3600 * 1000;
  options.reserve_percent = config_.reserve_percent;
  options.full_percent = config_.full_percent;
  options.sealed_files_max =
      static_cast<uint32_t>(std::min<uint64_t>(config_.sealed_files, OpenFilesMax() / 2));
  return options;
}

}  // namespace hayloft
