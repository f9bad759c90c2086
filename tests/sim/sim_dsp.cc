#include "tests/sim/sim_dsp.h"

#include <cinttypes>

#include "tests/sim/old_needles.h"

namespace hayloft {

namespace {

// Files pushed to the disk do not all lie in the page cache.
constexpr uint64_t kUncachedPercent = 30;

}  // namespace

SimDsp::SimDsp(SimWorld* world, SimDspOptions options)
    : world_(world),
      options_(std::move(options)),
      random_(world->random.Next()),
      disk_(world->random.Next(), kDiskBytes, &power_),
      kv_(world->random.Next(), &power_) {
  clock_.mono_offset_ms = world_->random.Below(1'000'000'000);
  commits_wait_ = world_->random.Chance(50);
  feed_changes_kept_ = world_->random.Between(1, 4);
  disk_.SetUncachedPercent(kUncachedPercent);
  Superblock superblock;
  superblock.cluster_id = options_.cluster_id;
  random_.Fill(superblock.disk_id);
  superblock.block_bytes = kBlockBytesMin;
  superblock.created_ms = now().wall_ms;
  const Err err = FormatDisk(&disk_, superblock);
  ASSERT(err == Err::kOk);
}

bool SimDsp::Start() {
  ASSERT(core_ == nullptr);
  DspOptions options;
  options.cluster_id = options_.cluster_id;
  options.address = options_.address;
  options.machine = options_.machine;
  options.zone = "zone";
  options.nameservers = options_.nameservers;
  options.pool_files = 1;
  options.delete_log_rewrite_bytes = 16 << 10;
  options.append_queue_bytes = 1 << 20;
  options.sealed_files_max = 2;
  options.feed_changes_kept = feed_changes_kept_;
  options.commits_wait = commits_wait_;
  options.read_only = disk_failed_;
  ++life_;
  stalled_until_us_ = 0;
  leaving_ = false;
  turn_ends_ = false;
  ASSERT(disk_.Lock() == Err::kOk);
  core_ = std::make_unique<DspCore>(std::move(options), &random_);
  const Err err = core_->Start(&disk_, &kv_, now());
  world_->trace.Note("%s start %s", address().c_str(), ErrName(err).data());
  if (disk_.dead()) {
    PROBE("sim_dsp_died_in_recovery");
    core_.reset();
    Crash(crash_mode_);
    return false;
  }
  if (err != Err::kOk) {
    core_.reset();
    disk_.Crash(CrashMode::kKill);  // the process is gone, and the folder's lock with it
    disk_.Restart();
    const bool failed = err == Err::kReadOnly || err == Err::kIo;
    if (failed && !disk_failed_) {
      disk_failed_ = true;  // the next start only reads
    } else if (err != Err::kFull) {
      world_->trace.Fail("%s does not start: %s", address().c_str(), ErrName(err).data());
    }
    return false;
  }
  Listen();
  return true;
}

void SimDsp::Listen() {
  const uint64_t life = life_;
  last_done_us_ = world_->events.now_us();
  world_->net.Start(address(), {.now = [this] { return now(); },
                                .on_request =
                                    [this](RpcRequest&& request) {
                                      NoteAppend(request);
                                      DspOutbox outbox;
                                      core_->OnRequest(std::move(request), now(), &outbox);
                                      Flush(&outbox);
                                    },
                                .on_done =
                                    [this](CallDone&& done) {
                                      DspOutbox outbox;
                                      core_->OnCallDone(std::move(done), now(), &outbox);
                                      Flush(&outbox);
                                    }});
  world_->events.After(world_->random.Below(kTickUs), [this, life] { Tick(life); });
}

// The disk's own state changes too when the process is down already: a power cut after a kill.
void SimDsp::Crash(CrashMode mode) {
  world_->trace.Note("%s crash %d", address().c_str(), static_cast<int>(mode));
  if (core_ != nullptr) world_->net.Stop(address());
  core_.reset();
  ++life_;
  for (Lane& lane : lanes_) lane = {};
  reading_ = 0;
  disk_.Crash(mode);
  disk_.SetLyingSync(false);
  kv_.Crash(mode);
  power_.Restore();
}

void SimDsp::CrashAtOperation(uint64_t n, CrashMode mode) {
  power_.CutAtOperation(n);
  crash_mode_ = mode;
}

void SimDsp::FailReads(uint64_t block_id, SimDevice::Range range) {
  const std::string name = BlockFileName(block_id);
  if (disk_.Exists(name)) disk_.FailReads(name, range);
}

void SimDsp::Rot() {
  ASSERT(core_ == nullptr);
  kv_.WriteBack();  // what rots was written long ago, and so was its copy
  static constexpr const char* kFiles[] = {"superblock.a", "superblock.b", "deletes"};
  const char* file = kFiles[world_->random.Below(std::size(kFiles))];
  if (!disk_.Exists(file)) return;
  const size_t size = disk_.FileImage(file).size();
  if (size == 0) return;
  // The first bytes of a page: structs begin there.
  const uint64_t page = world_->random.Below(PageCeil(size) / kPageBytes) * kPageBytes;
  const uint64_t offset = std::min<uint64_t>(size - 1, page + world_->random.Below(60));
  world_->trace.Note("%s bit flips in %s at %" PRIu64, address().c_str(), file, offset);
  disk_.FlipBit(file, offset, static_cast<uint32_t>(world_->random.Below(8)));
}

void SimDsp::RotBlock() {
  ASSERT(core_ == nullptr);
  const Result<std::vector<FileInfo>> files = disk_.List();
  if (!files.ok()) return;
  std::vector<std::string> names;
  for (const FileInfo& file : *files) {
    // Once each: two flips in one header may look like a later version's, whose disk is refused.
    const bool fresh = ParseBlockFileName(file.name) && !rotten_.contains(file.name);
    if (fresh) names.push_back(file.name);
  }
  if (names.empty()) return;
  const std::string& name = names[world_->random.Below(names.size())];
  const size_t size = disk_.FileImage(name).size();
  if (size <= kFirstNeedleOffset) return;
  rotten_.insert(name);
  const uint64_t offset = world_->random.Between(kFirstNeedleOffset, size - 1);
  world_->trace.Note("%s bit flips in %s at %" PRIu64, address().c_str(), name.c_str(), offset);
  disk_.FlipBit(name, offset, static_cast<uint32_t>(world_->random.Below(8)));
}

void SimDsp::NoteAppend(const RpcRequest& request) {
  pb::AppendRequest message;
  if (request.type == MessageType::kAppend && message.ParseFromString(request.message)) {
    ++world_->appends_asked[message.block_id()];
  }
}

// Needles that nobody appended are those of a former life, or were hidden in an image.
void SimDsp::CheckBlocks() {
  for (const auto& [id, block] : core_->blocks()) {
    if (block.needles() <= world_->appends_asked[id]) continue;
    world_->trace.Fail("block %" PRIx64 " of %s has %u sequences after %u appends", id,
                       address().c_str(), block.needles(), world_->appends_asked[id]);
  }
}

void SimDsp::Tick(uint64_t life) {
  if (life != life_) return;
  DspOutbox outbox;
  core_->OnTick(Status(), now(), &outbox);
  Flush(&outbox);
  world_->events.After(kTickUs, [this, life] { Tick(life); });
}

DiskStatus SimDsp::Status() {
  DiskStatus status;
  const Result<SpaceInfo> space = disk_.Space();
  if (space.ok()) status.space = *space;
  if (JobsWaiting() > 0) status.idle_ms = (world_->events.now_us() - last_done_us_) / 1000;
  return status;
}

void SimDsp::Flush(DspOutbox* outbox) {
  for (RpcReply& reply : outbox->replies) world_->net.Reply(address(), std::move(reply));
  for (RpcCall& call : outbox->calls) world_->net.Call(address(), std::move(call));
  for (IoJob& job : outbox->jobs) {
    const size_t lane = static_cast<size_t>(job.lane);
    if (JobsWaiting() == 0) last_done_us_ = world_->events.now_us();
    lanes_[lane].jobs.push_back(std::move(job));
    RunLane(lane);
  }
  for (ReadJob& job : outbox->reads) StartRead(std::move(job));
  for (const FileHandle file : outbox->closes) disk_.Close(file);
  if (outbox->disk_failed) {
    world_->trace.Note("%s disk failed", address().c_str());
    disk_failed_ = leaving_ = true;
  }
  if (core_->commits_wait()) EndTurn();
}

// What came in one turn of a process' loop shares a commit.
void SimDsp::EndTurn() {
  if (std::exchange(turn_ends_, true)) return;
  world_->events.After(world_->random.Below(200), [this, life = life_] {
    if (life != life_) return;
    turn_ends_ = false;
    DspOutbox outbox;
    core_->StartCommits(now(), &outbox);
    Flush(&outbox);
  });
}

uint64_t SimDsp::DiskDelay() {
  const uint64_t now_us = world_->events.now_us();
  const uint64_t stall_us = stalled_until_us_ > now_us ? stalled_until_us_ - now_us : 0;
  return stall_us + world_->random.Between(20, 2'000);
}

void SimDsp::RunLane(size_t lane) {
  if (lanes_[lane].busy || lanes_[lane].jobs.empty()) return;
  lanes_[lane].busy = true;
  world_->events.After(DiskDelay(), [this, lane, life = life_] {
    if (life == life_) RunFirstJob(lane);
  });
}

void SimDsp::RunFirstJob(size_t lane) {
  IoJob job = std::move(lanes_[lane].jobs.front());
  lanes_[lane].jobs.pop_front();
  for (const IoStep& step : job.steps) Recycle(step);
  JobDone done = RunJob(job, &disk_, &kv_);
  if (DiedInOperation()) return;
  world_->trace.Note("%s job %" PRIu64 " %s", address().c_str(), done.id, ErrName(done.err).data());
  last_done_us_ = world_->events.now_us();
  lanes_[lane].busy = false;
  RunLane(lane);
  // A fixed delay, so that what one lane has done is told in order.
  constexpr uint64_t kToLoopUs = 10;
  world_->events.After(kToLoopUs, [this, life = life_, done = std::move(done)]() mutable {
    if (life != life_) return;
    DspOutbox outbox;
    core_->OnJobDone(std::move(done), now(), &outbox);
    Flush(&outbox);
    if (leaving_ && JobsWaiting() == 0) Crash(CrashMode::kKill);
  });
}

// A pool file becomes a block: let it be one that held a former life of that very block.
void SimDsp::Recycle(const IoStep& step) {
  if (step.op != IoStep::Op::kRename || !ParsePoolFileName(step.name)) return;
  const std::optional<uint64_t> block_id = ParseBlockFileName(step.target);
  if (!block_id || !disk_.Exists(step.name)) return;
  FillWithOldNeedles(&disk_, step.name, *block_id, &world_->random);
}

bool SimDsp::DiedInOperation() {
  if (!disk_.dead()) return false;
  PROBE("sim_dsp_died_in_operation");
  Crash(crash_mode_);
  return true;
}

void SimDsp::StartRead(ReadJob&& job) {
  ReadDone cached = ReadNeedle(&disk_, std::move(job), /*cached_only=*/true);
  if (cached.err != Err::kBusy) {
    DspOutbox outbox;
    core_->OnReadDone(std::move(cached), now(), &outbox);
    return Flush(&outbox);
  }
  ++reading_;
  // Some take long: bytes that are told of a file may be older than what is told of its delete.
  constexpr uint64_t kSlowUsMax = 1'500'000;
  const bool slow = options_.slow_reads && world_->random.Chance(60);
  const uint64_t delay_us = DiskDelay() + (slow ? world_->random.Below(kSlowUsMax) : 0);
  world_->events.After(delay_us, [this, life = life_, job = std::move(cached.job)]() mutable {
    if (life != life_) return;
    --reading_;
    ReadDone done = ReadNeedle(&disk_, std::move(job), /*cached_only=*/false);
    DspOutbox outbox;
    core_->OnReadDone(std::move(done), now(), &outbox);
    Flush(&outbox);
  });
}

}  // namespace hayloft
