// An upload through the directory, step by step; see dedup_core.h and docs/directory.md.
#include <algorithm>

#include "client/dedup_core.h"
#include "common/check.h"
#include "common/mutant.h"

namespace hayloft {

namespace {

constexpr uint32_t kCheckMs = 2'000;

void FillName(const FileAddress& file, pb::FileName* name) {
  name->set_block_id(file.block_id);
  name->set_file_id(file.file_id.value);
}

FileAddress AddressOf(const pb::FileName& name) {
  return {name.block_id(), FileId{name.file_id()}};
}

// The needle is live and sound, and a reader of it gets what he would get of the upload.
bool IsSame(const GetDone& done, const FileAddress& file, const ContentId& content,
            PutDone* found) {
  if (done.err != Err::kOk || done.doubtful) return false;
  const Result<NeedleHead> head = ParseNeedleHead(AsBytes(done.head));
  if (!head.ok()) return false;
  const Result<ContentId> stored = ContentOf(*head);
  if (!stored.ok() || *stored != content) return false;
  *found = {.address = file, .created_ms = head->header.created_ms, .dsp = done.dsp};
  return true;
}

}  // namespace

void DedupCore::Lookup(Op* op, Now now, ClientOutbox* outbox) {
  Upload& upload = std::get<Upload>(op->kind);
  upload.step = Step::kLookup;
  op->tries = 0;
  op->since_ms = now.mono_ms;
  const bool down = directory_[op->shard].down_until_ms > now.mono_ms;
  // Nothing new is known of the shard: it is asked again in time, however many come meanwhile.
  if (down || ++upload.rounds > kRoundsMax) return StoreAlone(op, now, outbox);
  Wait(op, kLookups, now);
}

void DedupCore::FillUpload(const Op& op, pb::DirUpload* message) const {
  const Upload& upload = std::get<Upload>(op.kind);
  FillContent(upload.content, message->mutable_content());
  message->set_nonce(std::string(AsText(upload.metadata.nonce)));
  message->set_epoch(upload.epoch);
  message->set_idempotency(upload.idempotency);
  if (upload.step != Step::kInsert) FillName(upload.target, message->mutable_file());
  if (upload.step != Step::kAdd) FillName(upload.own.address, message->mutable_own());
  if (upload.step != Step::kInsert) return;
  for (const FileAddress& file : upload.dead) FillName(file, message->add_dead());
}

void DedupCore::OnFound(Op* op, const pb::FileName& name, uint64_t epoch, Now now,
                        ClientOutbox* outbox) {
  Upload& upload = std::get<Upload>(op->kind);
  upload.epoch = epoch;
  upload.target = AddressOf(name);
  const bool dead =
      std::find(upload.dead.begin(), upload.dead.end(), upload.target) != upload.dead.end();
  if (name.block_id() == 0 || dead) return Append(op, Step::kAppend, now, outbox);
  CheckTarget(op, Step::kCheck, now, outbox);
}

// The record alone proves nothing: the needle is read, its first piece too.
void DedupCore::CheckTarget(Op* op, Step step, Now now, ClientOutbox* outbox) {
  Upload& upload = std::get<Upload>(op->kind);
  upload.step = step;
  GetRequest get;
  get.address = upload.target;
  get.length = kPieceBytes;
  // Before anything is stored look-up and check together hold an upload up no longer than a look-up
  // alone may.
  const uint64_t over_ms = op->since_ms + options_.directory_ms;
  const uint64_t left_ms = over_ms > now.mono_ms ? over_ms - now.mono_ms : 1;
  get.timeout_ms =
      LeftMs(*op, step == Step::kCheck ? static_cast<uint32_t>(left_ms) : kCheckMs, now);
  ClientOutbox from;
  parts_[files_.Get(std::move(get), now, &from)] = op->id;
  Take(&from, now, outbox);
}

void DedupCore::OnChecked(Op* op, const GetDone& done, Now now, ClientOutbox* outbox) {
  Upload& upload = std::get<Upload>(op->kind);
  bool same = IsSame(done, upload.target, upload.content, &upload.found);
  if (upload.step == Step::kCheckAnswer) return OnAnswerChecked(op, done, same, now, outbox);
  if (IsMutant(Mutant::kDirTrustRecord)) same = true;
  if (same) {
    upload.step = upload.step == Step::kCheck ? Step::kAdd : Step::kLose;
    upload.told = true;
    op->tries = 0;
    return Wait(op, kAdds, now);
  }
  // One that can't be looked at now is as good as none: what it costs is space.
  upload.dead.push_back(upload.target);
  if (upload.step == Step::kCheckWinner) return Insert(op, now, outbox);
  Append(op, Step::kAppend, now, outbox);
}

void DedupCore::Append(Op* op, Step step, Now now, ClientOutbox* outbox) {
  Upload& upload = std::get<Upload>(op->kind);
  upload.step = step;
  PutRequest put;
  put.stored = upload.request.stored.Share();
  put.raw_size = upload.request.raw_size;
  put.encoding = upload.request.encoding;
  put.metadata = upload.request.metadata;
  put.batch = upload.request.batch;
  put.timeout_ms = LeftMs(*op, UINT32_MAX, now);
  ClientOutbox from;
  parts_[files_.Put(std::move(put), now, &from)] = op->id;
  Take(&from, now, outbox);
}

void DedupCore::OnAppended(Op* op, PutDone&& done, Now now, ClientOutbox* outbox) {
  if (done.err != Err::kOk) return Fail(op, done.err, outbox);
  Upload& upload = std::get<Upload>(op->kind);
  if (upload.step == Step::kAlone) return FinishUpload(op, std::move(done), outbox);
  ASSERT(upload.step == Step::kAppend);
  upload.own = std::move(done);
  upload.has_own = true;
  upload.told = true;
  upload.insert_since_ms = now.mono_ms;
  Insert(op, now, outbox);
}

// Also after a lose that got no answer: if it was done, the shard knows the nonce.
void DedupCore::Insert(Op* op, Now now, ClientOutbox* outbox) {
  Upload& upload = std::get<Upload>(op->kind);
  ASSERT(upload.has_own);
  upload.step = Step::kInsert;
  op->tries = 0;
  const bool too_many = upload.dead.size() > kDirDeadMax;
  if (too_many || ++upload.rounds > 4 * kRoundsMax) return StoreAlone(op, now, outbox);
  Wait(op, kInserts, now);
}

void DedupCore::OnUploaded(Op* op, const pb::DirUploaded& answer, Now now, ClientOutbox* outbox) {
  Upload& upload = std::get<Upload>(op->kind);
  const Step step = upload.step;
  if (answer.verdict() == pb::DIR_RECORDED) {
    return OnRecorded(op, answer, now, outbox);
  }
  if (answer.verdict() == pb::DIR_MISS && step == Step::kAdd) return Lookup(op, now, outbox);
  if (answer.verdict() == pb::DIR_MISS && step == Step::kLose) return Insert(op, now, outbox);
  if (answer.verdict() == pb::DIR_OTHER && step == Step::kInsert) {
    upload.target = AddressOf(answer.file());
    return CheckTarget(op, Step::kCheckWinner, now, outbox);
  }
  if (answer.verdict() == pb::DIR_STALE && step == Step::kInsert) {
    upload.step = Step::kAdopt;
    pb::DirAdoptRequest adopt;
    FillName(upload.own.address, adopt.add_files());
    FillContent(upload.content, adopt.add_contents());
    adopt.set_nonce(std::string(AsText(upload.metadata.nonce)));
    adopt.set_idempotency(upload.idempotency);
    op->tries = 0;
    return SendOne(op, MessageType::kDirAdopt, adopt.SerializeAsString(), now, outbox);
  }
  StoreAlone(op, now, outbox);  // refused
}

void DedupCore::OnRecorded(Op* op, const pb::DirUploaded& answer, Now now, ClientOutbox* outbox) {
  Upload& upload = std::get<Upload>(op->kind);
  const FileAddress file = AddressOf(answer.file());
  if (answer.nonce().size() != sizeof(Nonce)) return Fail(op, Err::kCorrupt, outbox);
  std::copy(answer.nonce().begin(), answer.nonce().end(), upload.answer.begin());
  const bool own = upload.has_own && file == upload.own.address;
  if (!own && upload.answer != upload.metadata.nonce && file != upload.found.address) {
    upload.target = file;
    return CheckTarget(op, Step::kCheckAnswer, now, outbox);
  }
  upload.metadata.nonce = upload.answer;
  PutDone done = own ? upload.own : upload.found;
  if (done.address != file) done = {.address = file, .dsp = {}};
  done.duplicate = !own;
  FinishUpload(op, std::move(done), outbox);
}

// The answer that the user's key had before: it holds, unless its file is known to be gone. One
// that its uploader has deleted meanwhile: the shard says so by now.
void DedupCore::OnAnswerChecked(Op* op, const GetDone& done, bool same, Now now,
                                ClientOutbox* outbox) {
  Upload& upload = std::get<Upload>(op->kind);
  const bool unknown = done.doubtful || (done.err != Err::kOk && ErrMayRetry(done.err));
  if (!same && !unknown) {
    if (done.err != Err::kGone) upload.idempotency.clear();
    upload.dead.push_back(upload.target);
    return upload.has_own ? Insert(op, now, outbox) : Lookup(op, now, outbox);
  }
  upload.metadata.nonce = upload.answer;
  PutDone answer{.address = upload.target, .dsp = {}};
  if (same) answer = upload.found;
  answer.duplicate = true;
  FinishUpload(op, std::move(answer), outbox);
}

void DedupCore::OnAdopted(Op* op, const CallDone& done, Now now, ClientOutbox* outbox) {
  Upload& upload = std::get<Upload>(op->kind);
  if (done.err != Err::kOk) return ShardFailed(op, done.err, now, outbox);
  pb::DirAdoptReply reply;
  const bool parses = reply.ParseFromString(done.message) && reply.files_size() == 1;
  if (!parses) return Fail(op, Err::kCorrupt, outbox);
  const Err err = ErrFromWire(static_cast<uint16_t>(reply.files(0).err()));
  if (err != Err::kOk && ErrMayRetry(err)) return ShardFailed(op, err, now, outbox);
  if (err == Err::kExists) return Insert(op, now, outbox);  // it is told what the key stands for
  if (reply.files(0).state() != pb::DIR_FILE_LIVE) return Fail(op, Err::kUnavailable, outbox);
  FinishUpload(op, upload.own, outbox);
}

// No answer, or one that says that there will be none soon.
void DedupCore::ShardFailed(Op* op, Err err, Now now, ClientOutbox* outbox) {
  if (!std::holds_alternative<Upload>(op->kind)) return Pause(op, err, now);
  const Upload& upload = std::get<Upload>(op->kind);
  if (upload.has_own) {
    if (IsMutant(Mutant::kDirSlowAnswersOwn)) return FinishUpload(op, upload.own, outbox);
    const bool patient = now.mono_ms - upload.insert_since_ms < kPatienceMs;
    return patient ? Pause(op, err, now) : StoreAlone(op, now, outbox);
  }
  // Another node may have taken over: they are asked in turn, as long as that is no delay.
  const size_t nodes = options_.directory[op->shard].size();
  const bool changes = err == Err::kNotActive || err == Err::kNotServing ||
                       (err == Err::kUnavailable && op->tries < 2 * nodes);
  if (changes && now.mono_ms - op->since_ms < options_.directory_ms) return Pause(op, err, now);
  directory_[op->shard].down_until_ms = now.mono_ms + kDownMs;
  StoreAlone(op, now, outbox);
}

// A file of its own, of which the directory is told nothing. A message that it has, or may get yet,
// may lead to a reference under the old nonce: nobody gets a token of that.
void DedupCore::StoreAlone(Op* op, Now now, ClientOutbox* outbox) {
  Upload& upload = std::get<Upload>(op->kind);
  if (!upload.idempotency.empty()) return Fail(op, Err::kUnavailable, outbox);
  upload.unchecked = !directory_.empty() && upload.request.dedup;
  if (upload.told) {
    random_->Fill(upload.metadata.nonce);
    upload.request.metadata = EncodeMetadata(upload.metadata);
  }
  Append(op, Step::kAlone, now, outbox);
}

void DedupCore::FinishUpload(Op* op, PutDone done, ClientOutbox* outbox) {
  const Upload& upload = std::get<Upload>(op->kind);
  done.op_id = op->id;
  done.err = Err::kOk;
  done.nonce = upload.metadata.nonce;
  done.unchecked = upload.unchecked;
  outbox->puts.push_back(std::move(done));
  Forget(op);
}

}  // namespace hayloft
