#include "dataserver/dsp/dsp_core.h"

#include <algorithm>

#include "common/check.h"
#include "common/log.h"

namespace hayloft {

namespace {
constexpr uint64_t kRewriteRetryMs = 10'000;
}

DspCore::DspCore(DspOptions options, Random* random)
    : options_(std::move(options)),
      random_(random),
      read_only_(options_.read_only),
      feed_(options_.feed_changes_kept) {
  ASSERT(random != nullptr);
  for (const std::string& address : options_.nameservers) {
    links_.emplace_back();
    links_.back().address = address;
  }
}

void DspCore::OnRequest(RpcRequest&& request, Now now, DspOutbox* out) {
  NoteTime(now);
  switch (request.type) {
    case MessageType::kAppend:
      return OnAppend(std::move(request), now, out);
    case MessageType::kReplicaAppend:
      return OnReplicaAppend(std::move(request), now, out);
    case MessageType::kNeedleList:
      return OnNeedleList(request, out);
    case MessageType::kRead:
      return OnRead(request, now, out);
    case MessageType::kStat:
      return OnStat(request, out);
    case MessageType::kSetDelete:
      return OnSetDelete(request, now, out);
    case MessageType::kDeleteState:
      return OnDeleteState(request, now, out);
    case MessageType::kDeleteFeed:
      return OnDeleteFeed(request, out);
    case MessageType::kCreateBlock:
      return OnCreateBlock(request, now, out);
    case MessageType::kCloseBlock:
      return OnCloseBlock(request, out);
    case MessageType::kSealBlock:
      return OnSealBlock(request, out);
    case MessageType::kPing:
      return Reply(request.token, request.type, Err::kOk, out);
    default:
      return Reply(request.token, request.type, Err::kUnsupported, out);
  }
}

void DspCore::OnJobDone(JobDone&& done, Now now, DspOutbox* out) {
  NoteTime(now);
  auto node = jobs_.extract(done.id);
  ASSERT(!node.empty());
  PendingJob& job = node.mapped();
  if (done.err != Err::kOk) JudgeFailure(job.kind, done, out);
  Block* block = FindBlock(job.block_id);
  switch (job.kind) {
    case PendingJob::Kind::kCommit:
      return OnCommitDone(block, done.err, now, out);
    case PendingJob::Kind::kClose:
      return OnCloseDone(block, out);
    case PendingJob::Kind::kCreate: {
      return OnCreateDone(std::move(job), std::move(done), now, out);
    }
    case PendingJob::Kind::kSealScan:
      return OnSealScanned(block, std::move(done), out);
    case PendingJob::Kind::kListScan:
      return OnListScanned(block, std::move(done), out);
    case PendingJob::Kind::kLifeStep:
      return OnLifeStep(block, done, out);
    case PendingJob::Kind::kLifeEnd:
      return OnLifeEnd(std::move(job), done.err, out);
    case PendingJob::Kind::kSealWrite:
      return OnSealWritten(std::move(job), done.err, out);
    case PendingJob::Kind::kPool:
      return OnPoolDone(job, done, out);
    case PendingJob::Kind::kDeletes:
      if (done.err != Err::kOk && Writable()) return TakeBackDeletes(done.err, out);
      return OnDeletesDone(done.err, now, out);
    case PendingJob::Kind::kDeletesBack:
      // Not cut for a lack of something: nobody knows what a start would find.
      if (done.err != Err::kOk && Writable()) FailDisk(job.kind, done.err, out);
      return OnDeletesDone(job.err, now, out);
    case PendingJob::Kind::kDeleteRewrite: {
      delete_job_ = false;
      if (done.err == Err::kOk) {
        out->closes.push_back(delete_log_.Replaced(done.file));
      } else {  // the long log goes on, in the reserve
        delete_rewrite_after_ms_ = now.mono_ms + kRewriteRetryMs;
      }
      return StartDeleteCommit(now, out);
    }
    case PendingJob::Kind::kSuperblock:
    case PendingJob::Kind::kCleanup:
      return;
  }
}

void DspCore::CloseAll(DspOutbox* out) {
  for (auto& [id, block] : blocks_) {
    if (block.state != pb::BLOCK_OPEN) continue;
    if (block.late_dsp_id == 0) block.late_dsp_id = superblock_.dsp_id;
    BeginClose(&block, block.block_epoch + 1, out);
    FinishCloseIfIdle(&block, out);
  }
}

void DspCore::OnTick(const DiskStatus& disk, Now now, DspOutbox* out) {
  NoteTime(now);
  disk_ = disk;
  FillPool(out);
  DropScans();
  for (NameserverLink& link : links_) TickLink(&link, now, out);
  ContinueMerges(now, out);
}

void DspCore::OnCallDone(CallDone&& done, Now now, DspOutbox* out) {
  NoteTime(now);
  if (const auto node = peer_calls_.extract(done.call_id); !node.empty()) {
    const PeerCall& call = node.mapped();
    unreachable_.OnCallDone(call.address, {call.sent_ms, now.mono_ms, done.err});
    if (call.kind == PeerCall::Kind::kCommit) return OnReplicaAnswer(call, done.err, now, out);
    if (call.kind == PeerCall::Kind::kMerge) return OnMergeAnswer(call, done, now, out);
    Block* block = FindBlock(call.block_id);
    ASSERT(block != nullptr && block->merging != nullptr);
    if (block->merging->rows.empty()) return OnList(block, std::move(done), out);
    return OnFetched(block, std::move(done), out);
  }
  for (NameserverLink& link : links_) {
    if (done.call_id == link.register_call) return OnRegistered(&link, done, now, out);
    if (done.call_id == link.heartbeat_call) return OnHeartbeatDone(&link, done, now, out);
    if (done.call_id == link.report_call) return OnReportDone(&link, done, out);
  }
}

// Commands and answers of a nameserver carry its epoch. A lower one than the highest ever heard is
// that of a nameserver that lost its role; an equal one from another node is one that never had it.
Err DspCore::Promise(uint64_t epoch, const std::string& node, uint64_t block_range_end,
                     DspOutbox* out) {
  Id16 node_id;
  if (node.size() != node_id.size()) return Err::kInvalid;
  std::copy(node.begin(), node.end(), node_id.begin());
  if (epoch < superblock_.promised_epoch) return Err::kStaleEpoch;
  if (epoch == superblock_.promised_epoch && node_id != superblock_.promised_node) {
    return Err::kStaleEpoch;
  }
  const bool raised = epoch > superblock_.promised_epoch;
  const bool range_raised = block_range_end > superblock_.block_range_end;
  if (!raised && !range_raised) return Err::kOk;
  superblock_.promised_epoch = epoch;
  superblock_.promised_node = node_id;
  superblock_.block_range_end = std::max(superblock_.block_range_end, block_range_end);
  // What the command asks for is a later job of the same lane: it is done only after this one.
  if (Writable()) StoreSuperblock(out);
  return Err::kOk;
}

void DspCore::StoreSuperblock(DspOutbox* out) {
  (void)Issue({.kind = PendingJob::Kind::kSuperblock}, IoLane::kCommit,
              SuperblockSteps(superblock_files_, &superblock_), out);  // nobody asks for its id
}

// After a change or a sync failed nobody knows what the disk holds: it is never written again. A
// full disk, or a lack of descriptors or memory, costs only the job that met it; the superblock is
// overwritten in place, so that it can meet neither.
void DspCore::JudgeFailure(PendingJob::Kind kind, const JobDone& done, DspOutbox* out) {
  const int what = static_cast<int>(kind);
  if (done.err == Err::kReadOnly && superblock_.disk_state == DiskState::kHealthy) {
    superblock_.disk_state = DiskState::kReadOnly;
    LOG_ERROR("disk_read_only", "job=%d action=serve_reads", what);
    Hurry();
    return AbandonWrites(out);
  }
  const bool failed = done.disk_failed || kind == PendingJob::Kind::kSuperblock;
  if (!failed || done.err == Err::kReadOnly) {
    LOG_WARN("job_failed", "job=%d err=%s", what, ErrName(done.err).data());
    return;
  }
  if (superblock_.disk_state != DiskState::kFailed) FailDisk(kind, done.err, out);
}

void DspCore::FailDisk(PendingJob::Kind kind, Err err, DspOutbox* out) {
  ASSERT(superblock_.disk_state != DiskState::kFailed);
  LOG_ERROR("disk_failed", "job=%d err=%s action=stop_writing", static_cast<int>(kind),
            ErrName(err).data());
  superblock_.disk_state = DiskState::kFailed;
  StoreSuperblock(out);  // the last write, best effort: other sectors may still take it
  out->disk_failed = true;
  AbandonWrites(out);
}

// Answers whatever waits to be written: none of it ever will.
void DspCore::AbandonWrites(DspOutbox* out) {
  ASSERT(!Writable());
  CloseAll(out);
  if (!delete_job_) StartDeleteCommit({.mono_ms = now_mono_ms_}, out);  // which refuses them
}

void DspCore::Reply(const ReplyToken& token, MessageType type, Err err, DspOutbox* out) {
  out->replies.emplace_back();
  out->replies.back().token = token;
  out->replies.back().type = type;
  out->replies.back().err = err;
}

void DspCore::ReplyInfo(const ReplyToken& token, MessageType type, const Block& block,
                        DspOutbox* out) {
  pb::CreateBlockReply message;  // the replies to create, close and seal have one shape
  FillInfo(block, message.mutable_block());
  Reply(token, type, Err::kOk, out);
  out->replies.back().message = message.SerializeAsString();
}

uint64_t DspCore::Issue(PendingJob pending, IoLane lane, std::vector<IoStep> steps,
                        DspOutbox* out) {
  const uint64_t id = next_job_id_++;
  jobs_.emplace(id, std::move(pending));
  out->jobs.push_back({.id = id, .lane = lane, .steps = std::move(steps)});
  return id;
}

uint64_t DspCore::Call(const Callee& callee, std::string message, DspOutbox* out) {
  out->calls.emplace_back();
  RpcCall& call = out->calls.back();
  call.call_id = next_call_id_++;
  call.address = callee.address;
  call.type = callee.type;
  call.timeout_ms = callee.timeout_ms;
  call.message = std::move(message);
  return call.call_id;
}

uint64_t DspCore::CallPeer(PeerCall call, const Callee& callee, std::string message,
                           DspOutbox* out) {
  call.address = callee.address;
  call.sent_ms = now_mono_ms_;
  const uint64_t id = Call(callee, std::move(message), out);
  peer_calls_.emplace(id, std::move(call));
  return id;
}

Block* DspCore::FindBlock(uint64_t block_id) {
  const auto found = blocks_.find(block_id);
  return found == blocks_.end() ? nullptr : &found->second;
}

bool DspCore::registered() const {
  return std::any_of(links_.begin(), links_.end(),
                     [](const NameserverLink& link) { return link.registered; });
}

DspStats DspCore::Stats() const {
  DspStats stats = stats_;
  for (const auto& [id, block] : blocks_) {
    if (block.state == pb::BLOCK_OPEN) ++stats.blocks_open;
    if (block.state == pb::BLOCK_CLOSED) ++stats.blocks_closed;
    if (block.state == pb::BLOCK_SEALED) ++stats.blocks_sealed;
    if (block.open_index) {
      stats.needles_open += block.open_index->size();
      stats.index_open_bytes += block.open_index->memory_bytes() + sizeof(OpenIndex);
    } else {
      stats.needles_sealed += block.sealed_index.size();
      stats.index_sealed_bytes += block.sealed_index.memory_bytes();
    }
    stats.index_sealed_bytes += sizeof(Block);
    const bool fresh = block.state == pb::BLOCK_OPEN && block.next_sequence == 0;
    const bool served = fresh || !block.shared() || Serves(block);
    stats.blocks_not_serving += block.outside || !served ? 1 : 0;
    stats.files_deleted += block.deleted;
    stats.files_lost += block.lost;
  }
  const uint64_t needles = stats.needles_open + stats.needles_sealed;
  stats.files_live = needles - std::min(needles, stats.files_deleted + stats.files_lost);
  stats.pool_files = pool_.size();
  stats.sealed_files_open = open_sealed_.size();
  stats.delete_log_bytes = delete_log_.size_bytes();
  stats.delete_log_damaged = delete_log_.damaged_records();
  return stats;
}

}  // namespace hayloft
