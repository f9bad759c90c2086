#include "dataserver/dsp/dsp_shell.h"

#include <algorithm>

#include "common/io/failpoint.h"
#include "common/io/server_start.h"
#include "common/io/system_clock.h"
#include "common/log.h"

namespace hayloft {

namespace {

constexpr uint64_t kTickMs = 100;

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

DspShell::DspShell(Loop* loop, DspConfig config)
    : loop_(loop),
      config_(std::move(config)),
      end_turn_(loop, [this] { EndTurn(); }),
      run_jobs_(loop, [this] { RunJobs(); }) {}

DspShell::~DspShell() {
  // The threads finish what they were given; nobody hears of it any more.
  commit_.reset();
  background_.reset();
  readers_.reset();
}

void DspShell::OnRequest(RpcRequest&& request) {
  const bool writes = request.type != MessageType::kRead && request.type != MessageType::kStat;
  if (phase_ != Phase::kServing) {  // the port is taken before the disk is
    RpcReply reply;
    reply.token = request.token;
    reply.type = request.type;
    reply.err = Err::kUnavailable;
    return server_->Reply(std::move(reply));
  }
  if (stopping_ && writes) {  // else a stop would never end under load
    RpcReply reply;
    reply.token = request.token;
    reply.type = request.type;
    reply.err = Err::kUnavailable;
    if (request.type == MessageType::kAppend) {
      // The next start closes every block: the append's client goes to another dsp.
      pb::AppendReply message;
      message.set_late_dsp_id(core_->superblock().dsp_id);
      reply.err = Err::kClosed;
      reply.message = message.SerializeAsString();
    }
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
  if (out->refused) Fail(kExitConfig, config_.data + ": the nameservers refuse this disk");
  if (out->disk_failed) {
    exit_code_ = kExitDisk;
    Stop();
  }
  if (core_->commits_wait()) end_turn_.Schedule();
}

void DspShell::EndTurn() {
  DspOutbox out;
  core_->StartCommits(loop_->now(), &out);
  Take(&out);
}

void DspShell::StartJob(IoJob job) {
  const uint64_t id = job.id;
  auto running = std::make_unique<RunningJob>();
  running->job = std::move(job);
  running->begun_ms = loop_->now().mono_ms;
  jobs_to_run_.push_back(running.get());
  jobs_.emplace(id, std::move(running));
  run_jobs_.Schedule();
}

// Behind what the connections send in this turn: the secondaries' part of a commit takes longer
// than this disk's, and the thread that is woken here may take the loop's processor.
void DspShell::RunJobs() {
  for (RunningJob* work : std::exchange(jobs_to_run_, {})) {
    WorkerThread* lane = work->job.lane == IoLane::kCommit ? commit_.get() : background_.get();
    const bool taken = lane->Run([this, work] {
      const uint64_t id = work->job.id;  // from the Post on it may be gone
      work->done = RunJob(work->job, device_.get(), kv_.get());
      loop_->Post([this, id] { OnJobDone(id); });
    });
    ASSERT(taken);  // the core has far fewer jobs under way than the queue holds
  }
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
  if (phase_ != Phase::kServing) return TickStart();
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
  if (phase_ == Phase::kAsking) return 0;
  if (phase_ == Phase::kRecovering) return loop_->now().mono_ms - recovery_progress_ms_;
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
  const bool first = !std::exchange(stopping_, true);
  if (phase_ != Phase::kServing) return loop_->Stop();  // nothing was acknowledged yet
  if (first) {
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
  const auto print = [out](const char* name, const char* help, uint64_t value) {
    out->AddGauge({.prefix = "hayloft_dsp_", .name = name, .help = help}, value);
  };
  print("disk_progress_ms", "age of the last finished commit while one waits, or step of a start",
        DiskIdleMs());
  print("starting", "1 until the disk is recovered", phase_ == Phase::kServing ? 0 : 1);
  if (phase_ != Phase::kServing) return;  // the core is another thread's
  const DspStats stats = core_->Stats();
  print("disk_state", "0 healthy, 1 read-only, 2 failed",
        static_cast<uint64_t>(core_->disk_state()));
  print("blocks_open", "blocks that take appends", stats.blocks_open);
  print("blocks_closed", "blocks that wait for their seal", stats.blocks_closed);
  print("blocks_sealed", "blocks with a footer", stats.blocks_sealed);
  print("blocks_not_serving",
        "blocks with replicas that deletes were not merged of, or outside; fresh ones not counted",
        stats.blocks_not_serving);
  print("promised_epoch", "of nameservers: orders of a lower one are refused",
        core_->superblock().promised_epoch);
  print("commands_stale_total", "orders refused: of a nameserver not active any more, or overtaken",
        stats.commands_stale);
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
  print("replica_commits_total", "commits taken from a primary", stats.replica_commits);
  print("replica_commits_refused_total", "commits of a primary that were refused",
        stats.replica_commits_refused);
  print("secondaries_failed_total", "commits closed because a secondary failed or was late",
        stats.secondaries_failed);
  print("commits_total", "group commits, each one write and one fdatasync", stats.commits);
  print("reads_total", "reads and stats answered", stats.reads);
  print("reads_failed_total", "reads answered with an error", stats.reads_failed);
  print("reads_cached_total", "reads that the page cache answered", cached_reads_);
  print("reads_blocking_total", "reads that waited for the disk", blocking_reads_);
  print("needles_corrupt_total", "reads that found damage", stats.needles_corrupt);
  print("deletes_total", "deletes and undeletes synced", stats.deletes);
  print("live_asks_total", "caches that asked whether a file still lives", stats.live_asks);
  print("feed_requests_total", "requests of caches for the feed of deletes", stats.feed_requests);
  print("feed_gaps_total", "of them, those that may have missed a delete", stats.feed_gaps);
  print("delete_log_bytes", "size of the delete log", stats.delete_log_bytes);
  print("delete_log_damaged", "damaged records of the delete log at the start",
        stats.delete_log_damaged);
  print("bytes_total", "size of the disk", space_.total_bytes);
  print("bytes_free", "free on the disk", space_.free_bytes);
  server_->metrics().Print(out);
  client_->metrics().Print(out);
}

}  // namespace hayloft
