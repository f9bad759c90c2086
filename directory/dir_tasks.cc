// Deletes, undeletes, adoptions, and finishing what is pending: one at a time per file.
//
// A task is not a list of steps that were decided at its start: whenever something has come (a
// record is committed, the dsps have answered) it looks at the rows anew and takes the next step
// from there. So uploads need not wait for tasks.
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/mutant.h"
#include "directory/dir_core.h"
#include "directory/dir_messages.h"

namespace hayloft {

namespace {
Err ErrOfSeen(Err err, bool purged) { return err == Err::kOk && purged ? Err::kGone : err; }

// Of what the dsps have of a file; none if that isn't known.
std::vector<std::string> TagsOf(const std::string& seen) {
  const Result<NeedleHead> head = ParseNeedleHead(AsBytes(seen));
  if (!head.ok()) return {};
  const Result<Metadata> metadata = ParseMetadata(head->metadata);
  return metadata.ok() ? PurgeTags(*metadata) : std::vector<std::string>();
}

void SetLive(pb::DirFile* row) {
  row->set_dead(false);
  row->clear_gone_ms();
}
}  // namespace

// --- Requests ---

Err DirCore::OnReference(const RpcRequest& request, ServiceOutbox* out) {
  pb::DirReferenceRequest message;
  const bool parses = message.ParseFromString(request.message);
  const std::optional<ContentId> content = ContentFrom(message.content());
  const std::optional<FileAddress> file = FileFrom(message.file());
  const std::optional<Nonce> nonce = NonceFrom(message.nonce());
  if (!parses || !content || !file || !nonce || !OwnShard(*content)) return Refuse(request, out);
  TRY_ASSIGN(const std::optional<ReferenceRecord> reference,
             files_.FindReference(*content, *nonce));
  pb::DirReferenceReply reply;
  if (reference.has_value() && reference->file == *file) {
    reply.set_known(true);
    reply.set_counter(reference->counter);
  }
  Answer(request, Err::kOk, reply.SerializeAsString(), out);
  return Err::kOk;
}

// DirDeleteRequest and DirUndeleteRequest have the same fields.
Err DirCore::OnChange(RpcRequest&& request, TaskKind kind, ServiceOutbox* out) {
  pb::DirDeleteRequest message;
  const bool parses = message.ParseFromString(request.message);
  const std::optional<ContentId> content = ContentFrom(message.content());
  const std::optional<FileAddress> file = FileFrom(message.file());
  const std::optional<Nonce> nonce = NonceFrom(message.nonce());
  bool valid = parses && content.has_value() && file.has_value() && OwnShard(*content);
  if (!message.takedown()) {
    const bool odd = IsRemoved(message.counter());
    valid = valid && nonce.has_value() && odd == (kind == TaskKind::kDelete);
    valid = valid && message.counter() != 0;
  }
  if (!valid) return Refuse(request, out);
  Task task;
  task.kind = kind;
  task.content = *content;
  task.nonce = nonce.value_or(Nonce{});
  task.counter = message.counter();
  task.takedown = message.takedown();
  task.request = std::move(request);
  task.request.message.clear();
  return Begin(*file, std::move(task), out);
}

// False: malformed, or of another shard.
template <typename Message>
bool DirCore::ReadFiles(const Message& message, Files* files) {
  if (message.files_size() != message.contents_size()) return false;
  for (int i = 0; i < message.files_size(); ++i) {
    const std::optional<FileAddress> file = FileFrom(message.files(i));
    const std::optional<ContentId> content = ContentFrom(message.contents(i));
    if (!file.has_value() || !content.has_value() || !OwnShard(*content)) return false;
    files->emplace_back(*file, *content);
  }
  return true;
}

// A task for each file, which `fill` says more of; it is answered when all have ended.
Err DirCore::BeginJob(RpcRequest&& request, const Files& files, Job&& job,
                      const std::function<void(Task*)>& fill, ServiceOutbox* out) {
  ASSERT(!files.empty());
  const uint64_t number = ++last_job_;
  job.request = std::move(request);
  job.request.message.clear();
  job.left = files.size();
  jobs_[number] = std::move(job);
  for (size_t i = 0; i < files.size(); ++i) {
    Task task;
    fill(&task);
    task.content = files[i].second;
    task.job = number;
    task.index = static_cast<int>(i);
    TRY(Begin(files[i].first, std::move(task), out));
  }
  return Err::kOk;
}

Err DirCore::OnAdopt(RpcRequest&& request, ServiceOutbox* out) {
  pb::DirAdoptRequest message;
  Files files;
  bool valid = message.ParseFromString(request.message) && message.files_size() > 0 &&
               message.files_size() <= kDirAdoptMax && ReadFiles(message, &files);
  const std::optional<Nonce> nonce = NonceFrom(message.nonce());
  if (valid && !message.idempotency().empty()) {
    valid =
        files.size() == 1 && nonce.has_value() && message.idempotency().size() == sizeof(Sha256);
  }
  if (!valid) return Refuse(request, out);
  Job job;
  for (size_t i = 0; i < files.size(); ++i) job.adopted.add_files();
  const auto fill = [&](Task* task) {
    task->kind = TaskKind::kAdopt;
    task->look_only = message.look_only();
    task->nonce = nonce.value_or(Nonce{});
    task->idempotency = message.idempotency();
  };
  return BeginJob(std::move(request), files, std::move(job), fill, out);
}

// An administrator's word: files stay whoever refers to them, or (unpinned) go with their last
// reference; at once, as by a delete, if there is none any more.
Err DirCore::OnPin(RpcRequest&& request, ServiceOutbox* out) {
  pb::DirPinRequest message;
  Files files;
  Job job;
  bool valid = message.ParseFromString(request.message) && message.files_size() <= kDirBatchMax &&
               ReadFiles(message, &files);
  if (valid && files.empty()) {
    TRY_ASSIGN(valid, PinnedFrom(message.from(), &files, job.pinned.mutable_next()));
    valid = valid && !message.pinned();
  }
  if (!valid) return Refuse(request, out);
  if (files.empty()) {
    Answer(request, Err::kOk, job.pinned.SerializeAsString(), out);
    return Err::kOk;
  }
  const auto fill = [&](Task* task) {
    task->kind = TaskKind::kPin;
    task->pin = message.pinned();
  };
  return BeginJob(std::move(request), files, std::move(job), fill, out);
}

// Files that are pinned, from this key of a content or file on; some, and where to go on. False:
// it is no such key.
Result<bool> DirCore::PinnedFrom(const std::string& from, Files* files, std::string* next) {
  const std::string first = from.empty() ? "c" : from;
  const char kind = first[0];
  if (kind != 'c' && kind != 'f') return false;
  next->assign(kind == 'c' ? 1 : 0, 'f');  // behind the last content come the files
  size_t looked_at = 0;
  Err err = Err::kOk;
  TRY(rows_.ScanFrom(first, [&](std::string_view key, std::string_view value) {
    if (key[0] != kind) return false;
    pb::DirFile row;
    const Result<ContentId> content = ParseFileKey(key);
    if (!content.ok() || !row.ParseFromString(std::string(value))) err = Err::kCorrupt;
    if (err != Err::kOk) return false;
    if (Pinned(row))
      files->emplace_back(FileAddress{row.block_id(), FileId{row.file_id()}}, *content);
    if (++looked_at < kScannedMax && files->size() < kDirBatchMax) return true;
    *next = std::string(key) + '\0';
    return false;
  }));
  TRY(err);
  return true;
}

// --- The queue of a file ---

Err DirCore::Begin(const FileAddress& file, Task&& task, ServiceOutbox* out) {
  const auto found = tasks_.find(file);
  const size_t before = found == tasks_.end() ? 0 : found->second.queue.size();
  const bool asked_for = task.kind != TaskKind::kFinish;
  if (asked_for && (tasks_count_ >= kTasksMax || before >= kTasksPerFileMax)) {
    return AnswerTask(file, task, Err::kBusy, /*when_safe=*/false, out);
  }
  tasks_[file].queue.push_back(std::move(task));
  ++tasks_count_;
  return before == 0 ? Run(file, out) : Err::kOk;
}

// As far as it goes without waiting.
Err DirCore::Run(const FileAddress& file, ServiceOutbox* out) {
  for (bool more = true; more;) {
    const auto found = tasks_.find(file);
    if (found == tasks_.end()) return Err::kOk;
    TRY_ASSIGN(more, Step(file, &found->second, out));
  }
  return Err::kOk;
}

Result<bool> DirCore::Step(const FileAddress& file, FileTasks* tasks, ServiceOutbox* out) {
  if (tasks->op != 0 || tasks->wait_index != 0) return false;
  const Task& task = tasks->queue.front();
  // What is begun is finished first.
  if (task.kind != TaskKind::kAdopt && pending_.contains(file)) {
    return FinishPending(file, tasks, out);
  }
  switch (task.kind) {
    case TaskKind::kDelete:
      return StepDelete(file, tasks, out);
    case TaskKind::kUndelete:
      return StepUndelete(file, tasks, out);
    case TaskKind::kAdopt:
      return StepAdopt(file, tasks, out);
    case TaskKind::kPin:
      return StepPin(file, tasks, out);
    case TaskKind::kFinish:
      break;
  }
  TRY(End(file, Err::kOk, /*when_safe=*/false, out));
  return true;
}

Err DirCore::End(const FileAddress& file, Err err, bool when_safe, ServiceOutbox* out) {
  const auto found = tasks_.find(file);
  ASSERT(found != tasks_.end());
  const Task task = std::move(found->second.queue.front());
  found->second.queue.pop_front();
  --tasks_count_;
  if (found->second.queue.empty()) tasks_.erase(found);
  return AnswerTask(file, task, err, when_safe, out);
}

Err DirCore::AnswerTask(const FileAddress& file, const Task& task, Err err, bool when_safe,
                        ServiceOutbox* out) {
  if (task.kind == TaskKind::kFinish && replays_ > 0) {
    --replays_;
    replay_more_ = true;
  }
  if (!task.drop.empty()) return OnDropDone(task.drop, err);
  if (task.job != 0) return AnswerJob(file, task, err, out);
  if (task.request.type == MessageType::kPing) return Err::kOk;  // nobody asked
  if (err == Err::kOk) {
    Counter& done =
        task.kind == TaskKind::kDelete ? metrics_.deletes_total : metrics_.undeletes_total;
    done.Add();
  }
  if (when_safe) {
    AnswerWhenSafe(task.request, err, "", out);
  } else {
    Answer(task.request, err, "", out);
  }
  return Err::kOk;
}

Err DirCore::AnswerJob(const FileAddress& file, const Task& task, Err err, ServiceOutbox* out) {
  Job& job = jobs_.at(task.job);
  if (task.kind == TaskKind::kPin) {
    job.pinned.set_changed(job.pinned.changed() + (task.written ? 1 : 0));
    job.pinned.set_failed(job.pinned.failed() + (err != Err::kOk ? 1 : 0));
    if (--job.left > 0) return Err::kOk;
    AnswerWhenSafe(job.request, Err::kOk, job.pinned.SerializeAsString(), out);
  } else {
    pb::DirFileStatus* status = job.adopted.mutable_files(task.index);
    TRY_ASSIGN(const std::optional<FileRecord> record, files_.Find(task.content, file));
    status->set_err(static_cast<uint32_t>(err));
    if (record.has_value()) status->set_pinned(Pinned(record->row));
    if (record.has_value()) {
      status->set_state(record->row.dead() ? pb::DIR_FILE_DEAD : pb::DIR_FILE_LIVE);
    }
    if (pending_.contains(file)) status->set_state(pb::DIR_FILE_PENDING);
    status->set_adopted(task.written);
    if (--job.left > 0) return Err::kOk;
    Answer(job.request, Err::kOk, job.adopted.SerializeAsString(), out);
  }
  jobs_.erase(task.job);
  return Err::kOk;
}

// --- Steps ---

// Asks the dsps what they have of the file; the task goes on when they have answered.
bool DirCore::Look(const FileAddress& file, FileTasks* tasks, ServiceOutbox* out) {
  SetDeleteRequest request;
  request.address = file;
  request.timeout_ms = options_.file_timeout_ms;
  request.look_only = true;
  return SendToDsps(file, std::move(request), tasks, out);
}

// Sends the value that the dsps must come to have, once its record is safe.
bool DirCore::FinishPending(const FileAddress& file, FileTasks* tasks, ServiceOutbox* out) {
  const Pending& pending = pending_.at(file);
  if (pending.index > committed_) {
    tasks->wait_index = pending.index;
    waits_.emplace(pending.index, file);
    return false;
  }
  tasks->queue.front().seen.reset();  // it will not be so any more
  SetDeleteRequest request;
  request.address = file;
  request.timeout_ms = options_.file_timeout_ms;
  request.undelete = !IsRemoved(pending.counter);
  request.counter = pending.counter;
  tasks->setting = true;
  return SendToDsps(file, std::move(request), tasks, out);
}

bool DirCore::SendToDsps(const FileAddress& file, SetDeleteRequest&& request, FileTasks* tasks,
                         ServiceOutbox* out) {
  ClientOutbox client_out;
  tasks->op = dsps_.SetDelete(std::move(request), now_, &client_out);
  ops_[tasks->op] = file;
  // What it is answered at once (kBusy) comes with the next tick.
  for (RpcCall& call : client_out.calls) out->calls.push_back(std::move(call));
  for (SetDeleteDone& done : client_out.set_deletes) early_.push_back(std::move(done));
  return false;
}

Result<bool> DirCore::StepDelete(const FileAddress& file, FileTasks* tasks, ServiceOutbox* out) {
  Task& task = tasks->queue.front();
  const auto end = [&](Err err) -> Result<bool> {
    TRY(End(file, err, /*when_safe=*/err == Err::kOk, out));
    return true;
  };
  TRY_ASSIGN(std::optional<FileRecord> record, files_.Find(task.content, file));
  if (!record.has_value()) {  // a right token: adopt, then act
    if (!task.seen.has_value()) return Look(file, tasks, out);
    const Err err = ErrOfSeen(task.seen->err, task.seen->purged);
    const bool deleted = err == Err::kOk && IsRemoved(task.seen->counter);
    // A takedown of what is deleted is recorded: nobody but an administrator shall undelete it.
    if (err == Err::kGone || (deleted && !task.takedown)) {
      TRY(EndDeleted(file, task, out));
      return true;
    }
    if (err != Err::kOk) return end(err);
    Result<FileRecord> added = AddFound(file, task);
    if (added.err() == Err::kInvalid) return end(Err::kInvalid);
    if (!added.ok()) return added.err();
    return true;
  }
  if (task.takedown) {
    if (!record->row.dead()) return DeleteLast(std::move(*record), tasks, out);
    record->row.set_taken_down(true);
    files_.Put(task.content, *record);
    TRY(EndDeleted(file, task, out));
    return true;
  }
  TRY_ASSIGN(const uint64_t others, files_.References(task.content, *record, task.nonce));
  const bool stays = others > 0 || Pinned(record->row) || record->row.dead();
  TRY_ASSIGN(const std::optional<ReferenceRecord> reference,
             files_.FindReference(task.content, task.nonce));
  if (reference.has_value() && reference->file != file) return end(Err::kOk);
  if (reference.has_value() && reference->counter >= task.counter) return end(Err::kOk);
  // Its reference was lost with other records, or forgotten: it is remembered that it is gone.
  if (!stays && reference.has_value()) return DeleteLast(std::move(*record), tasks, out);
  TRY(files_.SetReference(task.content, task.nonce, task.counter, &*record));
  return end(Err::kOk);
}

// It was deleted already, and whoever deletes it again may do so because a CDN still has it.
Err DirCore::EndDeleted(const FileAddress& file, const Task& task, ServiceOutbox* out) {
  const std::string seen = task.seen.has_value() ? task.seen->head : "";
  TRY(purges_.EnterAgain(file, TagsOf(seen), now_));
  return End(file, Err::kOk, /*when_safe=*/true, out);
}

// One record: the reference is gone, the file is dead, and the dsps must come to have the value.
Result<bool> DirCore::DeleteLast(FileRecord record, FileTasks* tasks, ServiceOutbox* out) {
  Task& task = tasks->queue.front();
  const FileAddress file = record.file;
  if (!task.seen.has_value()) return Look(file, tasks, out);
  Err err = task.seen->err;
  if (err == Err::kOk && pending_.size() >= kPendingMax) err = Err::kBusy;
  const bool absent = err == Err::kNotFound || err == Err::kGone;  // nothing to be told to the dsps
  if (err != Err::kOk && !absent) {
    TRY(End(file, err, /*when_safe=*/false, out));
    return true;
  }
  record.row.set_dead(true);
  // Here and not before: the file of a takedown that came to nothing is its owners'.
  if (task.takedown) record.row.set_taken_down(true);
  files_.Put(task.content, record);
  if (!task.takedown && task.kind == TaskKind::kDelete) {
    TRY(files_.SetReference(task.content, task.nonce, task.counter, &record));
  }
  purges_.Enter(file, TagsOf(task.seen->head), now_);
  if (absent) purges_.Allow(file, now_);
  if (!absent) EnterPending(task.content, file, task.seen->counter | 1, nullptr);
  task.written = true;
  task.seen.reset();
  if (IsMutant(Mutant::kDirAnswerEarly)) TRY(End(file, Err::kOk, /*when_safe=*/true, out));
  return true;
}

Result<bool> DirCore::StepUndelete(const FileAddress& file, FileTasks* tasks, ServiceOutbox* out) {
  Task& task = tasks->queue.front();
  const auto end = [&](Err err) -> Result<bool> {
    TRY(End(file, err, /*when_safe=*/true, out));
    return true;
  };
  if (task.written || task.gone) return end(task.gone ? Err::kGone : Err::kOk);
  if (!task.seen.has_value()) return Look(file, tasks, out);
  const Seen seen = *std::exchange(task.seen, std::nullopt);
  if (const Err err = ErrOfSeen(seen.err, seen.purged); err != Err::kOk) return end(err);
  TRY_ASSIGN(std::optional<FileRecord> record, files_.Find(task.content, file));
  if (!record.has_value()) {
    task.seen = seen;
    Result<FileRecord> added = AddFound(file, task);
    task.seen.reset();
    if (added.err() == Err::kInvalid) return end(Err::kInvalid);
    if (!added.ok()) return added.err();
    record = std::move(*added);
  }
  if (record->row.taken_down() && !task.takedown) return end(Err::kGone);
  if (!task.takedown) {
    TRY_ASSIGN(const std::optional<ReferenceRecord> reference,
               files_.FindReference(task.content, task.nonce));
    const bool elsewhere = reference.has_value() && reference->file != file;
    if (elsewhere || (reference.has_value() && reference->counter > task.counter)) {
      return end(Err::kOk);
    }
    if (IsRemoved(seen.counter) && pending_.size() >= kPendingMax) return end(Err::kBusy);
    SetLive(&record->row);
    TRY(files_.SetReference(task.content, task.nonce, task.counter, &*record));
  } else {
    SetLive(&record->row);
    record->row.set_taken_down(false);
    files_.Put(task.content, *record);
  }
  task.written = true;
  if (IsRemoved(seen.counter) && !IsMutant(Mutant::kDirForgetReviving)) {
    EnterPending(task.content, file, seen.counter + 1, task.takedown ? nullptr : &task.nonce);
  }
  return true;
}

Result<bool> DirCore::StepAdopt(const FileAddress& file, FileTasks* tasks, ServiceOutbox* out) {
  Task& task = tasks->queue.front();
  const auto end = [&](Err err) -> Result<bool> {
    TRY(End(file, err, /*when_safe=*/false, out));
    return true;
  };
  TRY_ASSIGN(const std::optional<FileRecord> record, files_.Find(task.content, file));
  const bool pending = pending_.contains(file) && !IsMutant(Mutant::kDirAdoptDying);
  Upload upload;  // as far as its key matters
  upload.content = task.content;
  upload.nonce = task.nonce;
  upload.idempotency = task.idempotency;
  pb::DirUploaded answered;
  TRY_ASSIGN(const bool used, UsedKey(upload, &answered));
  if (used) return end(Err::kExists);
  if (record.has_value() || pending) return end(Err::kOk);
  if (!task.seen.has_value()) return Look(file, tasks, out);
  Err err = ErrOfSeen(task.seen->err, task.seen->purged);
  if (err == Err::kOk && IsRemoved(task.seen->counter) && !IsMutant(Mutant::kDirAdoptDying)) {
    err = Err::kGone;
  }
  if (err != Err::kOk || task.look_only) return end(err);
  Result<FileRecord> added = AddFound(file, task);
  if (added.err() == Err::kInvalid) return end(Err::kInvalid);
  if (!added.ok()) return added.err();
  PutKey(upload, file);
  task.written = true;
  return end(Err::kOk);
}

// Unpinned, a file to which nobody refers any more is deleted: in the same record, so that nothing
// of it can be lost.
Result<bool> DirCore::StepPin(const FileAddress& file, FileTasks* tasks, ServiceOutbox* out) {
  Task& task = tasks->queue.front();
  const auto end = [&]() -> Result<bool> {
    TRY(End(file, Err::kOk, /*when_safe=*/true, out));
    return true;
  };
  TRY_ASSIGN(std::optional<FileRecord> record, files_.Find(task.content, file));
  if (!record.has_value() || task.written) return end();
  const bool changes = Pinned(record->row) != task.pin;
  TRY_ASSIGN(const uint64_t references, files_.References(task.content, *record, task.nonce));
  record->row.set_pinned(task.pin);
  if (!task.pin) record->row.set_losses(state_.head.settings().losses());
  if (!task.pin && !record->row.dead() && references == 0) {
    return DeleteLast(std::move(*record), tasks, out);
  }
  if (changes) files_.Put(task.content, *record);
  task.written = changes;
  return end();
}

// A record of what the dsps were just seen to have. Deleted: a dead one, its reference removed.
// kInvalid: it is not of this content.
Result<FileRecord> DirCore::AddFound(const FileAddress& file, const Task& task) {
  const Result<NeedleHead> head = ParseNeedleHead(AsBytes(task.seen->head));
  if (!head.ok()) return Err::kInvalid;
  const Result<ContentId> content = ContentOf(*head);
  const Result<Metadata> metadata = ParseMetadata(head->metadata);
  const bool same = content.ok() && *content == task.content && metadata.ok() &&
                    head->header.block_id == file.block_id && head->file_id() == file.file_id;
  if (!same) return Err::kInvalid;
  const bool deleted = IsRemoved(task.seen->counter);
  const uint32_t losses = state_.head.settings().losses();
  pb::DirFile row;
  row.set_dead(deleted);
  row.set_losses(losses);
  row.set_pinned(losses > 0 && !IsMutant(Mutant::kDirUnpinned));
  const Nonce& nonce = metadata->nonce;
  // Its upload may have been answered with another file; then nobody has a token of this one.
  TRY_ASSIGN(const std::optional<ReferenceRecord> reference,
             files_.FindReference(task.content, nonce));
  TRY_ASSIGN(FileRecord record,
             files_.Add(task.content, file, reference.has_value() ? nullptr : &nonce,
                        std::move(row), /*share=*/false));
  if (deleted && !reference.has_value()) {
    TRY(files_.SetReference(task.content, nonce, 1, &record));
  }
  metrics_.adopted_total.Add();
  return record;
}

// --- What comes back ---

Err DirCore::TakeClientOutbox(ClientOutbox* from, ServiceOutbox* out) {
  for (RpcCall& call : from->calls) out->calls.push_back(std::move(call));
  std::vector<SetDeleteDone> dones = std::exchange(early_, {});
  for (SetDeleteDone& done : from->set_deletes) dones.push_back(std::move(done));
  for (const SetDeleteDone& done : dones) TRY(OnFileDone(done, out));
  return Err::kOk;
}

Err DirCore::OnFileDone(const SetDeleteDone& done, ServiceOutbox* out) {
  const auto op = ops_.find(done.op_id);
  ASSERT(op != ops_.end());
  const FileAddress file = op->second;
  ops_.erase(op);
  FileTasks& tasks = tasks_.at(file);
  ASSERT(tasks.op == done.op_id);
  tasks.op = 0;
  if (std::exchange(tasks.setting, false)) {
    TRY(OnPendingDone(file, &tasks, done.err, out));
  } else {
    tasks.queue.front().seen =
        Seen{.err = done.err, .counter = done.counter, .purged = done.purged, .head = done.head};
  }
  return Run(file, out);
}

Err DirCore::OnPendingDone(const FileAddress& file, FileTasks* tasks, Err err, ServiceOutbox* out) {
  Task& task = tasks->queue.front();
  const auto found = pending_.find(file);
  ASSERT(found != pending_.end());
  Pending& pending = found->second;
  const bool reviving = !IsRemoved(pending.counter);
  const bool absent = err == Err::kGone || err == Err::kNotFound;
  if (err != Err::kOk && !absent) {  // its value is sent again, later
    pending.pause_ms = std::clamp(2 * pending.pause_ms, kReplayFirstMs, kReplayMostMs);
    pending.next_ms = now_.mono_ms + pending.pause_ms;
    return End(file, err, /*when_safe=*/false, out);
  }
  if (absent && reviving) {  // it was purged meanwhile: the undelete is taken back
    TRY_ASSIGN(std::optional<FileRecord> record, files_.Find(pending.content, file));
    if (!record.has_value()) return Err::kCorrupt;
    record->row.set_dead(true);
    files_.Put(pending.content, *record);
    const std::optional<Nonce> nonce = NonceFrom(pending.nonce);
    if (nonce.has_value()) {
      TRY_ASSIGN(const std::optional<ReferenceRecord> reference,
                 files_.FindReference(pending.content, *nonce));
      if (reference.has_value() && reference->file == file && !IsRemoved(reference->counter)) {
        TRY(files_.SetReference(pending.content, *nonce, reference->counter + 1, &*record));
      }
    }
    if (task.kind == TaskKind::kUndelete) task.gone = true;
    TRY(purges_.EnterAgain(file, {}, now_));  // some dsp may have served it for a moment
  }
  if (!reviving) purges_.Allow(file, now_);
  rows_.Remove(PendingKey(pending.content, file));
  pending_.erase(found);
  return Err::kOk;
}

// Records were committed: tasks that waited for them go on, and losers' files die.
Err DirCore::ContinueCommitted(ServiceOutbox* out) {
  while (!waits_.empty() && waits_.begin()->first <= committed_) {
    const FileAddress file = waits_.begin()->second;
    waits_.erase(waits_.begin());
    tasks_.at(file).wait_index = 0;
    TRY(Run(file, out));
  }
  return Err::kOk;
}

Err DirCore::ReplayPending(ServiceOutbox* out) {
  std::vector<std::pair<FileAddress, ContentId>> due;
  auto at = pending_.lower_bound(replay_from_);
  for (size_t i = 0; i < std::min(pending_.size(), kLookedAtPerTick); ++i, ++at) {
    if (at == pending_.end()) at = pending_.begin();
    if (replays_ + due.size() >= kReplaysMax) break;
    const Pending& pending = at->second;
    if (pending.index > committed_ || pending.next_ms > now_.mono_ms) continue;
    if (tasks_.contains(at->first)) continue;
    due.emplace_back(at->first, pending.content);
  }
  replay_from_ = at == pending_.end() ? FileAddress() : at->first;
  for (const auto& [file, content] : due) {
    Task task;
    task.kind = TaskKind::kFinish;
    task.content = content;
    ++replays_;
    TRY(Begin(file, std::move(task), out));
  }
  return Err::kOk;
}

}  // namespace hayloft
