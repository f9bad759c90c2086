// Look-ups, and what uploads want recorded: each is one decision over rows, taken at once.
#include <algorithm>

#include "common/check.h"
#include "common/mutant.h"
#include "directory/dir_core.h"
#include "directory/dir_messages.h"

namespace hayloft {

Err DirCore::OnLookup(const RpcRequest& request, ServiceOutbox* out) {
  pb::DirLookupRequest message;
  if (!message.ParseFromString(request.message) || message.contents_size() > kDirBatchMax) {
    return Refuse(request, out);
  }
  pb::DirLookupReply reply;
  reply.set_epoch(state_.head.epoch());
  for (const pb::Content& asked : message.contents()) {
    const std::optional<ContentId> content = ContentFrom(asked);
    if (!content.has_value() || !OwnShard(*content)) return Refuse(request, out);
    TRY_ASSIGN(const std::optional<FileRecord> record, files_.Shared(*content));
    pb::FileName* file = reply.add_files();
    const bool hit = record.has_value() && Live(*record);
    if (hit) FillFile(record->file, file);
    metrics_.hits_total.Add(hit ? 1 : 0);
  }
  metrics_.lookups_total.Add(static_cast<uint64_t>(message.contents_size()));
  Answer(request, Err::kOk, reply.SerializeAsString(), out);
  return Err::kOk;
}

bool DirCore::ParseUpload(const pb::DirUpload& message, Upload* upload) {
  const std::optional<ContentId> content = ContentFrom(message.content());
  const std::optional<Nonce> nonce = NonceFrom(message.nonce());
  if (!content.has_value() || !nonce.has_value() || !OwnShard(*content)) return false;
  upload->content = *content;
  upload->nonce = *nonce;
  upload->epoch = message.epoch();
  upload->idempotency = message.idempotency();
  if (!upload->idempotency.empty() && upload->idempotency.size() != sizeof(Sha256)) return false;
  if (message.has_file() && !(upload->file = FileFrom(message.file())).has_value()) return false;
  if (message.has_own() && !(upload->own = FileFrom(message.own())).has_value()) return false;
  if (message.dead_size() > kDirDeadMax) return false;
  for (const pb::FileName& name : message.dead()) {
    const std::optional<FileAddress> file = FileFrom(name);
    if (!file.has_value()) return false;
    upload->dead.push_back(*file);
  }
  if (!upload->file.has_value() && !upload->own.has_value()) return false;
  return upload->file != upload->own;
}

// One record for all of them. Only what makes a user believe something durable waits for it.
Err DirCore::OnUpload(const RpcRequest& request, ServiceOutbox* out) {
  pb::DirUploadRequest message;
  bool valid = message.ParseFromString(request.message) && message.uploads_size() <= kDirBatchMax;
  std::vector<Upload> uploads(valid ? static_cast<size_t>(message.uploads_size()) : 0);
  for (size_t i = 0; valid && i < uploads.size(); ++i) {
    valid = ParseUpload(message.uploads(static_cast<int>(i)), &uploads[i]);
  }
  if (!valid) return Refuse(request, out);
  pb::DirUploadReply reply;
  bool rests_on_log = false;
  for (const Upload& upload : uploads) {
    TRY(RecordUpload(upload, reply.add_uploads(), &rests_on_log));
  }
  if (rests_on_log) {
    AnswerWhenSafe(request, Err::kOk, reply.SerializeAsString(), out);
  } else {
    Answer(request, Err::kOk, reply.SerializeAsString(), out);
    out->put_off = true;
  }
  return Err::kOk;
}

Err DirCore::RecordUpload(const Upload& upload, pb::DirUploaded* reply, bool* rests_on_log) {
  const auto recorded = [&](const FileAddress& file, std::string_view nonce) {
    reply->set_verdict(pb::DIR_RECORDED);
    FillFile(file, reply->mutable_file());
    reply->set_nonce(std::string(nonce));
  };
  TRY_ASSIGN(const bool used, UsedKey(upload, reply));
  if (used) {
    *rests_on_log = true;
    return Err::kOk;
  }
  TRY_ASSIGN(const std::optional<ReferenceRecord> known,
             files_.FindReference(upload.content, upload.nonce));
  if (known.has_value()) {  // sent again, or late
    TRY_ASSIGN(const std::optional<FileRecord> record, files_.Find(upload.content, known->file));
    // Without a record: its file was forgotten before it.
    if (!record.has_value() || IsRemoved(known->counter) || !Live(*record)) {
      reply->set_verdict(pb::DIR_REFUSED);
      return Err::kOk;
    }
    PutKey(upload, known->file);  // it may have been adopted, of which its key knows nothing
    *rests_on_log |= known->file != upload.own;
    recorded(known->file, AsText(upload.nonce));
    return Err::kOk;
  }
  if (!upload.file.has_value()) return RecordInsert(upload, reply);
  *rests_on_log = true;
  return RecordAdd(upload, reply);
}

Err DirCore::RecordAdd(const Upload& upload, pb::DirUploaded* reply) {
  reply->set_verdict(pb::DIR_MISS);
  if (upload.epoch != state_.head.epoch() && !IsMutant(Mutant::kDirAnyEpoch)) return Err::kOk;
  TRY_ASSIGN(std::optional<FileRecord> record, files_.Find(upload.content, *upload.file));
  if (!record.has_value()) return Err::kOk;
  if (!Live(*record) && !IsMutant(Mutant::kDirAddToDead)) return Err::kOk;
  if (upload.own.has_value()) {
    TRY_ASSIGN(const std::optional<FileRecord> own, files_.Find(upload.content, *upload.own));
    if (pending_.size() >= kPendingMax) {
      reply->set_verdict(pb::DIR_REFUSED);
      return Err::kOk;
    }
    // With a record it is somebody's: then only this reference is entered.
    if (!own.has_value() && !pending_.contains(*upload.own)) {
      EnterPending(upload.content, *upload.own, 1, nullptr);
      metrics_.losers_total.Add();
    }
  }
  TRY(files_.SetReference(upload.content, upload.nonce, 0, &*record));
  metrics_.references_total.Add();
  PutKey(upload, *upload.file);
  reply->set_verdict(pb::DIR_RECORDED);
  FillFile(*upload.file, reply->mutable_file());
  reply->set_nonce(std::string(AsText(upload.nonce)));
  return Err::kOk;
}

Err DirCore::RecordInsert(const Upload& upload, pb::DirUploaded* reply) {
  if (upload.epoch != state_.head.epoch() && !IsMutant(Mutant::kDirAnyEpoch)) {
    reply->set_verdict(pb::DIR_STALE);
    return Err::kOk;
  }
  TRY_ASSIGN(const std::optional<FileRecord> shared, files_.Shared(upload.content));
  const bool excluded = shared.has_value() && std::find(upload.dead.begin(), upload.dead.end(),
                                                        shared->file) != upload.dead.end();
  if (shared.has_value() && shared->file != *upload.own && Live(*shared) && !excluded) {
    reply->set_verdict(pb::DIR_OTHER);
    FillFile(shared->file, reply->mutable_file());
    return Err::kOk;
  }
  TRY_ASSIGN(const std::optional<FileRecord> own, files_.Find(upload.content, *upload.own));
  if (own.has_value() || pending_.contains(*upload.own)) {
    reply->set_verdict(pb::DIR_REFUSED);
    return Err::kOk;
  }
  pb::DirFile row;
  row.set_losses(state_.head.settings().losses());
  TRY_ASSIGN(const FileRecord added, files_.Add(upload.content, *upload.own, &upload.nonce,
                                                std::move(row), /*share=*/true));
  metrics_.inserts_total.Add();
  PutKey(upload, added.file);
  reply->set_verdict(pb::DIR_RECORDED);
  FillFile(added.file, reply->mutable_file());
  reply->set_nonce(std::string(AsText(upload.nonce)));
  return Err::kOk;
}

// Whether the user's key was used for this content, and what was answered still holds: so that a
// lost answer leaves no reference whose token nobody has.
Result<bool> DirCore::UsedKey(const Upload& upload, pb::DirUploaded* reply) {
  if (upload.idempotency.empty() || IsMutant(Mutant::kDirForgetKey)) return false;
  TRY_ASSIGN(const std::optional<pb::DirKey> key,
             rows_.Get<pb::DirKey>(IdempotencyKey(upload.idempotency)));
  if (!key.has_value() || key->until_ms() < now_.wall_ms) return false;
  const std::optional<FileAddress> file = FileFrom(key->file());
  const std::optional<Nonce> nonce = NonceFrom(key->nonce());
  if (!file.has_value() || !nonce.has_value()) return Err::kCorrupt;
  if (*nonce == upload.nonce) return false;
  TRY_ASSIGN(const std::optional<ReferenceRecord> reference,
             files_.FindReference(upload.content, *nonce));
  TRY_ASSIGN(const std::optional<FileRecord> record, files_.Find(upload.content, *file));
  if (!reference.has_value() || !record.has_value()) return false;
  if (reference->file != *file || IsRemoved(reference->counter) || !Live(*record)) return false;
  reply->set_verdict(pb::DIR_RECORDED);
  *reply->mutable_file() = key->file();
  reply->set_nonce(key->nonce());
  return true;
}

void DirCore::PutKey(const Upload& upload, const FileAddress& file) {
  if (upload.idempotency.empty()) return;
  pb::DirKey key;
  FillFile(file, key.mutable_file());
  key.set_nonce(std::string(AsText(upload.nonce)));
  key.set_until_ms(now_.wall_ms + options_.idempotency_ms);
  rows_.Put(IdempotencyKey(upload.idempotency), key);
}

void DirCore::EnterPending(const ContentId& content, const FileAddress& file, uint32_t counter,
                           const Nonce* reviver) {
  ASSERT(!pending_.contains(file));
  pb::DirPending row;
  row.set_counter(counter);
  if (reviver != nullptr) row.set_nonce(reviver->data(), reviver->size());
  rows_.Put(PendingKey(content, file), row);
  pending_[file] = {
      .content = content, .counter = counter, .nonce = row.nonce(), .index = SafeIndex()};
}

}  // namespace hayloft
