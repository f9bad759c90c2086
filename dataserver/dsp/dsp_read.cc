// Reads, and deletes, which begin with one: the cookie in the needle's header must fit before
// anything is told or changed, and it is nowhere else.
#include "common/check.h"
#include "common/log.h"
#include "common/mutant.h"
#include "dataserver/dsp/dsp_core.h"

namespace hayloft {

// Where the needle lies and what is known of it. kNotFound, kLost.
Err DspCore::PlanRead(uint64_t block_id, FileId file_id, ReadJob* job) const {
  const auto found = blocks_.find(block_id);
  // Who does not hold a block cannot say what is not in it: the asker's location may be old, or the
  // block's file is gone. Only a nameserver knows that a block does not exist.
  if (found == blocks_.end()) return Err::kNotServing;
  const Block& block = found->second;
  if (file_id.sequence() >= block.needles()) {
    // Until it is sealed, another replica may have what this one lost at its end.
    if (block.state == pb::BLOCK_CLOSED && block.set_dsp_ids.size() > 1) return Err::kNotServing;
    return block.doubtful ? Err::kLost : Err::kNotFound;
  }
  job->span = block.Find(file_id.sequence());
  if (!job->span.present()) return Err::kLost;
  job->file = block.file;
  job->block_id = block_id;
  job->life = block.life;
  job->file_id = file_id;
  job->block_open = block.state == pb::BLOCK_OPEN;
  const DeleteEntry entry = deletes_.Find(block_id, file_id.sequence());
  job->delete_counter = entry.counter;
  job->delete_changed_ms = entry.changed_ms;
  return Err::kOk;
}

void DspCore::StartRead(ReadJob job, DspOutbox* out) {
  Block* block = FindBlock(job.block_id);
  ASSERT(block != nullptr);
  ++block->reads;
  UseFile(block);
  out->reads.push_back(std::move(job));
}

// A read of a sealed block whose file was not open has opened it: it is kept for the next ones.
void DspCore::EndRead(const ReadDone& done, DspOutbox* out) {
  Block* block = FindBlock(done.job.block_id);
  ASSERT(block != nullptr);
  ASSERT(block->reads > 0);
  --block->reads;
  if (block->reads == 0) {
    for (const FileHandle old : std::exchange(block->old_files, {})) out->closes.push_back(old);
  }
  if (!done.opened.valid()) return;
  if (block->file.valid()) {  // another read was faster
    out->closes.push_back(done.opened);
    return;
  }
  block->file = done.opened;
  UseFile(block);
  EvictFiles(out);
}

void DspCore::UseFile(Block* block) {
  if (block->state != pb::BLOCK_SEALED || !block->file.valid()) return;
  open_sealed_.erase(block->file_used);
  block->file_used = next_use_++;
  open_sealed_.emplace(block->file_used, block->id);
}

// A disk has more blocks than a process may have files: those of sealed blocks that were read the
// longest ago are closed, but never one that a read is using.
void DspCore::EvictFiles(DspOutbox* out) {
  auto oldest = open_sealed_.begin();
  while (open_sealed_.size() > options_.sealed_files_max && oldest != open_sealed_.end()) {
    Block* block = FindBlock(oldest->second);
    ASSERT(block != nullptr);
    ASSERT(block->file.valid());
    if (block->reads > 0) {
      ++oldest;
      continue;
    }
    PROBE("sealed_file_closed");
    out->closes.push_back(std::exchange(block->file, FileHandle{}));
    oldest = open_sealed_.erase(oldest);
  }
}

void DspCore::OnRead(const RpcRequest& request, Now now, DspOutbox* out) {
  pb::ReadRequest message;
  ReadJob job;
  if (!message.ParseFromString(request.message)) {
    return Reply(request.token, request.type, Err::kInvalid, out);
  }
  const Err err = PlanRead(message.block_id(), FileId{message.file_id()}, &job);
  if (err != Err::kOk) {
    ++stats_.reads_failed;
    return Reply(request.token, request.type, err, out);
  }
  job.purpose = ReadJob::Purpose::kRead;
  job.token = request.token;
  job.offset = message.offset();
  job.length = message.length();
  job.suffix = message.suffix();
  job.head_only = message.head_only();
  if (job.delete_counter % 2 == 1 && !message.include_deleted()) {
    const bool in_trash = now.wall_ms < job.delete_changed_ms + options_.trash_ms;
    job.delete_err = in_trash ? Err::kGone : Err::kNotFound;
  }
  StartRead(std::move(job), out);
}

void DspCore::OnStat(const RpcRequest& request, DspOutbox* out) {
  pb::StatRequest message;
  ReadJob job;
  if (!message.ParseFromString(request.message)) {
    return Reply(request.token, request.type, Err::kInvalid, out);
  }
  const Err err = PlanRead(message.block_id(), FileId{message.file_id()}, &job);
  if (err != Err::kOk) return Reply(request.token, request.type, err, out);
  job.purpose = ReadJob::Purpose::kStat;
  job.token = request.token;
  StartRead(std::move(job), out);
}

void DspCore::OnSetDelete(const RpcRequest& request, DspOutbox* out) {
  pb::SetDeleteRequest message;
  ReadJob job;
  if (!message.ParseFromString(request.message) || message.counter() == 0) {
    return Reply(request.token, request.type, Err::kInvalid, out);
  }
  if (!Writable()) return Reply(request.token, request.type, Err::kReadOnly, out);
  const Err err = PlanRead(message.block_id(), FileId{message.file_id()}, &job);
  if (err != Err::kOk) return Reply(request.token, request.type, err, out);
  job.purpose = ReadJob::Purpose::kSetDelete;
  job.token = request.token;
  job.set_counter = message.counter();
  StartRead(std::move(job), out);
}

void DspCore::OnReadDone(ReadDone&& done, Now now, DspOutbox* out) {
  now_mono_ms_ = now.mono_ms;
  EndRead(done, out);
  if (done.err == Err::kCorrupt || done.err == Err::kIo) {
    ++stats_.needles_corrupt;
    LOG_WARN("needle_unreadable", "block=%llu sequence=%u offset_bytes=%llu err=%s",
             static_cast<unsigned long long>(done.job.block_id), done.job.file_id.sequence(),
             static_cast<unsigned long long>(done.job.span.offset), ErrName(done.err).data());
  }
  if (done.err != Err::kOk) {
    ++stats_.reads_failed;
  } else if (done.job.purpose == ReadJob::Purpose::kSetDelete) {
    return QueueDelete(done.job, now, out);
  } else {
    ++stats_.reads;
  }
  out->replies.push_back(std::move(done.reply));
}

// An undelete (an even value) is refused once the trash time has passed: space may be taken back.
void DspCore::QueueDelete(const ReadJob& job, Now now, DspOutbox* out) {
  const DeleteEntry have = deletes_.Find(job.block_id, job.file_id.sequence());
  const bool revives = have.deleted() && job.set_counter % 2 == 0 && job.set_counter > have.counter;
  if (revives && now.wall_ms >= have.changed_ms + options_.trash_ms) {
    return Reply(job.token, MessageType::kSetDelete, Err::kGone, out);
  }
  if (waiting_deletes_.size() >= kRpcInFlightMax) {
    return Reply(job.token, MessageType::kSetDelete, Err::kBusy, out);
  }
  waiting_deletes_.push_back({.token = job.token,
                              .change = {.block_id = job.block_id,
                                         .entry = {.sequence = job.file_id.sequence(),
                                                   .counter = job.set_counter,
                                                   .changed_ms = now.wall_ms}}});
  if (!delete_job_) StartDeleteCommit(now, out);
}

// Takes all that waits into one commit. What changes nothing is answered with the others: an
// operation of the same file may be under way, and its value must be durable first.
void DspCore::StartDeleteCommit(Now now, DspOutbox* out) {
  ASSERT(!delete_job_);
  if (!Writable()) {
    for (const WaitingDelete& waiting : std::exchange(waiting_deletes_, {})) {
      Reply(waiting.token, MessageType::kSetDelete, Err::kReadOnly, out);
    }
  }
  if (waiting_deletes_.empty()) return;
  if (now.mono_ms >= delete_rewrite_after_ms_ &&
      delete_log_.NeedsRewrite(deletes_, options_.delete_log_rewrite_bytes)) {
    delete_job_ = true;
    (void)Issue({.kind = PendingJob::Kind::kDeleteRewrite}, IoLane::kCommit,
                delete_log_.RewriteSteps(deletes_, random_->Next64()), out);  // one at a time
    return;
  }
  committing_deletes_ = std::exchange(waiting_deletes_, {});
  std::vector<DeleteChange> changes;
  for (const WaitingDelete& waiting : committing_deletes_) {
    const DeleteEntry& wanted = waiting.change.entry;
    const DeleteEntry have = deletes_.Find(waiting.change.block_id, wanted.sequence);
    if (have.counter < wanted.counter) changes.push_back(waiting.change);
  }
  if (changes.empty()) return OnDeletesDone(Err::kOk, now, out);
  delete_job_ = true;
  (void)Issue({.kind = PendingJob::Kind::kDeletes}, IoLane::kCommit,
              delete_log_.AppendSteps(changes), out);  // one at a time
  if (IsMutant(Mutant::kDeleteNotLogged)) out->jobs.back().steps.clear();
}

// Pages of the commit may lie in the log with sound CRCs, though it failed. They are cut off before
// anybody hears of the failure: else a start could find a delete that was answered 507.
void DspCore::TakeBackDeletes(Err err, DspOutbox* out) {
  ASSERT(err != Err::kOk);
  ASSERT(delete_job_);
  (void)Issue({.kind = PendingJob::Kind::kDeletesBack, .err = err}, IoLane::kCommit,
              delete_log_.TakeBackSteps(), out);  // found by its kind
}

void DspCore::OnDeletesDone(Err err, Now now, DspOutbox* out) {
  delete_job_ = false;
  for (const WaitingDelete& waiting : committing_deletes_) {
    if (err != Err::kOk) {
      Reply(waiting.token, MessageType::kSetDelete, err, out);
      continue;
    }
    ApplyDelete(waiting.change);
    pb::SetDeleteReply message;
    message.set_counter(
        deletes_.Find(waiting.change.block_id, waiting.change.entry.sequence).counter);
    Reply(waiting.token, MessageType::kSetDelete, Err::kOk, out);
    out->replies.back().message = message.SerializeAsString();
    ++stats_.deletes;
  }
  committing_deletes_.clear();
  StartDeleteCommit(now, out);
}

void DspCore::ApplyDelete(const DeleteChange& change) {
  const bool was = deletes_.Find(change.block_id, change.entry.sequence).deleted();
  if (!deletes_.Raise(change)) return;
  Block* block = FindBlock(change.block_id);
  ASSERT(block != nullptr);
  if (change.entry.deleted() && !was) ++block->deleted;
  if (!change.entry.deleted() && was) --block->deleted;
}

}  // namespace hayloft
