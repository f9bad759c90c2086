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
  if (!Gives(block)) return Err::kNotServing;
  job->serves = Serves(block);
  if (file_id.sequence() >= block.needles()) {
    // Until it is sealed with all its members, another replica may have what this one lacks; but
    // not while this one leads the appends. (One that was late at the creation is open, and empty.)
    const bool complete = block.state == pb::BLOCK_SEALED
                              ? !block.without_all
                              : block.replication != nullptr && block.state == pb::BLOCK_OPEN;
    const bool believed = job->serves && (complete || !block.shared());
    if (!believed && !IsMutant(Mutant::kBelieveShortReplica)) return Err::kNotServing;
    return block.unread_pages ? Err::kLost : Err::kNotFound;
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
  // Another read was faster, or a seal has replaced the file.
  if (block->file.valid() || block->life != done.job.life) {
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
// longest ago are closed, but never one that a read or a scan is using.
void DspCore::EvictFiles(DspOutbox* out) {
  auto oldest = open_sealed_.begin();
  while (open_sealed_.size() > options_.sealed_files_max && oldest != open_sealed_.end()) {
    Block* block = FindBlock(oldest->second);
    ASSERT(block != nullptr);
    ASSERT(block->file.valid());
    if (block->reads > 0 || block->sealing || block->list_scanning) {
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
    // It may have been undeleted since.
    if (!job.serves && !IsMutant(Mutant::kBelieveDoubtful)) job.delete_err = Err::kNotServing;
  }
  if (message.live_only()) return AnswerLive(job, out);
  StartRead(std::move(job), out);
}

// For a cache that has the bytes: it was told the cookie with them, and needs nothing of the disk.
void DspCore::AnswerLive(const ReadJob& job, DspOutbox* out) {
  ++stats_.live_asks;
  if (job.delete_err != Err::kOk) return Reply(job.token, MessageType::kRead, job.delete_err, out);
  pb::ReadReply message;
  message.set_delete_counter(job.delete_counter);
  message.set_block_open(job.block_open ? 1 : 0);
  message.set_doubtful(!job.serves);
  Reply(job.token, MessageType::kRead, Err::kOk, out);
  out->replies.back().message = message.SerializeAsString();
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

// Whoever asks has seen the needle under this file id at some replica. So nothing is read here, and
// a replica whose needle is damaged or missing keeps the value like all others.
void DspCore::OnSetDelete(const RpcRequest& request, Now now, DspOutbox* out) {
  const auto refuse = [&](Err err) { Reply(request.token, request.type, err, out); };
  pb::SetDeleteRequest message;
  if (!message.ParseFromString(request.message) || message.counter() == 0) {
    return refuse(Err::kInvalid);
  }
  if (!Writable()) return refuse(Err::kReadOnly);
  const bool another = message.member() != 0 && message.member() != superblock_.dsp_id;
  if (another) return refuse(Err::kNotServing);
  const uint32_t sequence = FileId{message.file_id()}.sequence();
  const bool none = sequence >= kNeedlesPerBlockMax || message.block_id() > kBlockIdMax;
  if (none) return refuse(Err::kNotFound);
  const Block* block = FindBlock(message.block_id());
  if (block == nullptr) {
    const bool unread = unreadable_blocks_.contains(message.block_id());
    if (!unread && message.member() == 0) return refuse(Err::kNotServing);
  } else {
    if (block->outside) return refuse(Err::kNotServing);
    if (!block->shared() && sequence >= block->needles()) return refuse(Err::kNotFound);
  }
  QueueDelete({.token = request.token,
               .change = {.block_id = message.block_id(),
                          .entry = {.sequence = sequence,
                                    .counter = message.counter(),
                                    .changed_ms = now.wall_ms}}},
              now, out);
}

// It was planned by the offsets of a life that has ended, and opened the file of the next one.
bool DspCore::ReadAgain(const ReadDone& done, DspOutbox* out) {
  const Block& block = blocks_.at(done.job.block_id);
  if (done.err != Err::kCorrupt || block.life == done.job.life) return false;
  ReadJob job = done.job;
  job.span = block.Find(job.file_id.sequence());
  if (!job.span.present()) return false;
  job.file = block.file;
  job.life = block.life;
  StartRead(std::move(job), out);
  return true;
}

void DspCore::OnReadDone(ReadDone&& done, Now now, DspOutbox* out) {
  NoteTime(now);
  EndRead(done, out);
  if (ReadAgain(done, out)) return;
  if (done.err == Err::kCorrupt || done.err == Err::kIo) {
    ++stats_.needles_corrupt;
    LOG_WARN("needle_unreadable", "block=%llu sequence=%u offset_bytes=%llu err=%s",
             static_cast<unsigned long long>(done.job.block_id), done.job.file_id.sequence(),
             static_cast<unsigned long long>(done.job.span.offset), ErrName(done.err).data());
  }
  ++(done.err == Err::kOk ? stats_.reads : stats_.reads_failed);
  const Block& block = blocks_.at(done.job.block_id);
  // Under one sequence another replica may hold the needle that was asked for.
  const bool unsure = block.divergent > 0 && done.err == Err::kNotFound;
  if (unsure) done.reply.err = Err::kNotServing;
  if (done.err == Err::kOk && done.job.purpose == ReadJob::Purpose::kStat && block.shared()) {
    pb::StatReply up;  // to be read as part of what the message holds already
    const bool known = FillUp(block, up.mutable_up());
    up.set_serving(known && done.job.serves && Serves(block));
    up.set_set_size(static_cast<uint32_t>(block.set_dsp_ids.size()));
    done.reply.message += up.SerializeAsString();
  }
  out->replies.push_back(std::move(done.reply));
}

// An undelete (an even value) is refused once the trash time has passed: space may be taken back.
void DspCore::QueueDelete(WaitingDelete&& waiting, Now now, DspOutbox* out) {
  const DeleteEntry& wanted = waiting.change.entry;
  const DeleteEntry have = deletes_.Find(waiting.change.block_id, wanted.sequence);
  const bool revives = have.deleted() && wanted.counter % 2 == 0 && wanted.counter > have.counter;
  if (revives && now.wall_ms >= have.changed_ms + options_.trash_ms) {
    return Reply(waiting.token, MessageType::kSetDelete, Err::kGone, out);
  }
  if (waiting_deletes_.size() >= kRpcInFlightMax) {
    return Reply(waiting.token, MessageType::kSetDelete, Err::kBusy, out);
  }
  waiting_deletes_.push_back(std::move(waiting));
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
    merged_changes_.clear();
    merged_blocks_.clear();
  }
  if (waiting_deletes_.empty() && merged_blocks_.empty() && merged_changes_.empty()) return;
  if (now.mono_ms >= delete_rewrite_after_ms_ &&
      delete_log_.NeedsRewrite(deletes_, options_.delete_log_rewrite_bytes)) {
    delete_job_ = true;
    (void)Issue({.kind = PendingJob::Kind::kDeleteRewrite}, IoLane::kCommit,
                delete_log_.RewriteSteps(deletes_, random_->Next64()), out);  // one at a time
    return;
  }
  committing_deletes_ = std::exchange(waiting_deletes_, {});
  if (IsMutant(Mutant::kDeleteAsIncrement)) {
    for (WaitingDelete& waiting : committing_deletes_) {
      DeleteEntry& entry = waiting.change.entry;
      entry.counter = deletes_.Find(waiting.change.block_id, entry.sequence).counter + 1;
    }
  }
  committing_merged_ = std::exchange(merged_blocks_, {});
  committing_doubt_ = doubts_;
  committing_changes_ = std::exchange(merged_changes_, {});
  for (const WaitingDelete& waiting : committing_deletes_) {
    committing_changes_.push_back(waiting.change);
  }
  std::erase_if(committing_changes_, [this](const DeleteChange& change) {
    return deletes_.Find(change.block_id, change.entry.sequence).counter >= change.entry.counter;
  });
  if (committing_changes_.empty()) return OnDeletesDone(Err::kOk, now, out);
  delete_job_ = true;
  (void)Issue({.kind = PendingJob::Kind::kDeletes}, IoLane::kCommit,
              delete_log_.AppendSteps(committing_changes_), out);  // one at a time
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
  for (const DeleteChange& change : std::exchange(committing_changes_, {})) {
    if (err == Err::kOk) ApplyDelete(change);
  }
  OnMergesSynced(err);
  for (const WaitingDelete& waiting : std::exchange(committing_deletes_, {})) {
    if (err == Err::kOk) {
      AnswerDelete(waiting, out);
    } else {
      Reply(waiting.token, MessageType::kSetDelete, err, out);
    }
  }
  StartDeleteCommit(now, out);
}

// With who counts as up at this moment: whoever merged before has it, or is named here.
void DspCore::AnswerDelete(const WaitingDelete& waiting, DspOutbox* out) {
  const uint64_t block_id = waiting.change.block_id;
  pb::SetDeleteReply message;
  message.set_counter(deletes_.Find(block_id, waiting.change.entry.sequence).counter);
  const Block* block = FindBlock(block_id);
  if (block == nullptr) {  // it keeps the value, and knows of nobody else
    pb::Replica& self = *message.add_up();
    self.set_dsp_id(superblock_.dsp_id);
    self.set_address(options_.address);
  } else if (block->shared()) {
    const bool known = FillUp(*block, message.mutable_up());
    message.set_serving(known && Serves(*block));
    message.set_set_size(static_cast<uint32_t>(block->set_dsp_ids.size()));
  }
  Reply(waiting.token, MessageType::kSetDelete, Err::kOk, out);
  out->replies.back().message = message.SerializeAsString();
  ++stats_.deletes;
}

void DspCore::ApplyDelete(const DeleteChange& change) {
  const bool was = deletes_.Find(change.block_id, change.entry.sequence).deleted();
  if (!deletes_.Raise(change)) return;
  feed_.Add(change.block_id, change.entry.sequence);  // before anybody is told that it is done
  Block* block = FindBlock(change.block_id);
  if (block == nullptr) return;  // its file can't be read, or is lost
  if (change.entry.deleted() && !was) ++block->deleted;
  if (!change.entry.deleted() && was) --block->deleted;
}

}  // namespace hayloft
