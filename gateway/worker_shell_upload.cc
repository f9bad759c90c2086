// Uploads: POST /v1/files with the bytes as its body. What comes in forms: worker_shell_form.cc.
#include <algorithm>
#include <cstring>

#include "client/prepare.h"
#include "client/sniff.h"
#include "common/log.h"
#include "gateway/answers.h"
#include "gateway/worker_shell.h"

namespace hayloft {

namespace {

constexpr uint64_t kFirstRoomBytes = 64 << 10;  // most images fit, and then no byte is moved again
constexpr size_t kSpareUploadsMax = 64;
// The body of an upload that is refused is taken up to this size, so that its connection lives on:
// a new one would cost us more.
constexpr uint64_t kRefusedBytesMax = 64 << 10;
constexpr const char* kNoMemory = "The memory for uploads is taken; try again later.";
constexpr const char* kEmptyBody = "The body is empty.";
constexpr const char* kNoDirectory =
    "An Idempotency-Key needs the directory, which this gateway does not use.";
// Of files that only uploads with the same key may share. No field of HTTP has such a name.
constexpr std::string_view kScopeField = "uploader";
constexpr uint64_t kTellUncheckedMs = 1'000;
constexpr const char* kHeadersOfForm =
    "Digests and fields of a file belong to the headers of its part, not to those of the form.";

// What is wrong with an upload as far as its head shows, so that a client which waits for "100
// Continue" need not send its body in vain. Status 0: nothing.
HttpFault HeadFault(const HttpRequest& request, const GatewayShared& shared) {
  const std::string_view encoding = request.Value(HttpField::kContentEncoding);
  const std::string_view type = request.Value(HttpField::kContentType);
  const bool several = request.Count(HttpField::kContentEncoding) > 1;
  if (several || (!encoding.empty() && !EqualsNoCase(encoding, "identity"))) {
    return {415, "Files are taken as they are, without a Content-Encoding."};
  }
  if (HasControlByte(type)) return {400, "The Content-Type holds a control byte."};
  if (request.chunked) return {};
  if (!request.has_content_length) {
    return {411, "An upload needs a Content-Length, or a chunked body."};
  }
  if (request.content_length == 0) return {400, kEmptyBody};
  if (request.content_length > shared.options.upload_bytes_max && !IsMultipart(type))
    return {413, shared.too_large.c_str()};
  return {};
}

}  // namespace

void GatewayWorker::BeginUpload(HttpConnection* connection, const HttpRequest& request) {
  const uint64_t size_bytes_max = shared_->options.upload_bytes_max;
  const HttpFault fault = HeadFault(request, *shared_);
  if (fault.status != 0) return RefuseUpload(connection, fault);
  Exchange& exchange = connection->exchange;
  const UrlBounds* bounds = exchange.bounds.get();
  const uint64_t body_bytes_max = bounds == nullptr ? UINT64_MAX : bounds->body_bytes_max;
  if (request.content_length > body_bytes_max) return RefuseUpload(connection, {413, kBeyondUrl});
  exchange.work = Work::kStore;
  exchange.refused = false;
  if (writes_.WouldRefuse() || IsLateFor(*connection)) {
    exchange.refused = request.has_content_length && !request.expect_continue &&
                       request.content_length <= kRefusedBytesMax;
    return exchange.refused ? connection->ReadBody() : RefuseOverload(connection);
  }
  const HttpFault terms_fault = TakeUploadTerms(request, &exchange.terms);
  if (terms_fault.status != 0) return RefuseUpload(connection, terms_fault);
  const bool looks_up = shared_->options.dedup && client_.shards() > 0;
  if (!looks_up && !exchange.terms.idempotency_key.empty()) {
    return RefuseUpload(connection, {501, kNoDirectory});
  }
  const uint64_t expected =
      request.has_content_length ? std::min(request.content_length, size_bytes_max) : 1;
  if (!shared_->upload_memory.HasRoom(expected)) {
    shared_->metrics.upload_memory_refused_total.Add();
    return RefuseUpload(connection, {503, kNoMemory});
  }
  const std::string_view type = request.Value(HttpField::kContentType);
  const bool has_headers = HasUploadHeaders(request);
  if (IsMultipart(type)) {
    if (has_headers) return RefuseUpload(connection, {400, kHeadersOfForm});
    std::string_view boundary;
    const HttpFault form_fault = ParseFormType(type, &boundary);
    if (form_fault.status != 0) return RefuseUpload(connection, form_fault);
    if (SpendNonce(connection)) BeginForm(connection, boundary);
    return;
  }
  TakeSpareUpload(connection, request.has_content_length
                                  ? request.content_length
                                  : std::min(size_bytes_max, body_bytes_max));
  UploadState* upload = exchange.upload.get();
  upload->file.content_type = type;
  if (has_headers) {
    const HttpFault header_fault = TakeUploadHeaders(request.headers(), &upload->headers);
    if (header_fault.status != 0) return RefuseUpload(connection, header_fault);
  }
  if (!SpendNonce(connection)) return EndUpload(connection);
  connection->ReadBody();
}

void GatewayWorker::TakeSpareUpload(HttpConnection* connection, uint64_t size_max) {
  std::unique_ptr<UploadState>& upload = connection->exchange.upload;
  ASSERT(upload == nullptr);
  if (spare_uploads_.empty()) {
    upload = std::make_unique<UploadState>(&shared_->upload_memory);
  } else {
    upload = std::move(spare_uploads_.back());
    spare_uploads_.pop_back();
  }
  upload->file.size = 0;
  upload->size_max = size_max;
}

void GatewayWorker::RefuseUpload(HttpConnection* connection, const HttpFault& fault) {
  EndUpload(connection);
  if (fault.status >= 500) shared_->metrics.upload_failures_total.Add();
  AnswerError(connection,
              {.status = fault.status, .code = FaultCode(fault), .message = fault.reason});
}

// Its hashing contexts are worth keeping; its bytes are not.
void GatewayWorker::EndUpload(HttpConnection* connection) {
  Recycle(std::move(connection->exchange.upload));
}

void GatewayWorker::Recycle(std::unique_ptr<UploadState> upload) {
  if (upload == nullptr || spare_uploads_.size() >= kSpareUploadsMax) return;
  upload->raw = Buffer();
  upload->charge.Clear();
  upload->hasher.Reset();
  upload->headers = UploadHeaders();
  spare_uploads_.push_back(std::move(upload));
}

// Room for `size` bytes, doubled each time: memory follows what has come, not what was promised.
bool GatewayWorker::GrowUpload(UploadState* upload, uint64_t size) {
  ASSERT(size <= upload->size_max);
  if (size <= upload->raw.size()) return true;
  const uint64_t wish = std::max({size, kFirstRoomBytes, 2 * uint64_t{upload->raw.size()}});
  const uint64_t room = std::min(wish, upload->size_max);
  if (!upload->charge.TryGrowTo(room)) return false;
  Buffer larger(room);
  const uint64_t have = upload->file.size;
  if (have > 0) std::memcpy(larger.mutable_bytes().data(), upload->raw.data(), have);
  upload->raw = std::move(larger);
  return true;
}

// Status 0: the piece is taken.
HttpFault GatewayWorker::AddToUpload(UploadState* upload, Bytes piece) {
  StoredFile& file = upload->file;
  // Never by a Content-Length: the connection keeps to it.
  if (piece.size() > upload->size_max - file.size) {
    const bool beyond_url = upload->size_max < shared_->options.upload_bytes_max;
    return {413, beyond_url ? kBeyondUrl : shared_->too_large.c_str()};
  }
  if (!GrowUpload(upload, file.size + piece.size())) {
    shared_->metrics.upload_memory_refused_total.Add();
    return {503, kNoMemory};
  }
  std::memcpy(upload->raw.mutable_bytes().data() + file.size, piece.data(), piece.size());
  file.size += piece.size();
  upload->hasher.Update(piece);
  if (upload->headers.digests != nullptr) upload->headers.digests->Update(piece);
  return {};
}

// All of the file has come. Status 0: it is what the client says of it.
HttpFault GatewayWorker::FinishBytes(UploadState* upload) {
  StoredFile& file = upload->file;
  upload->hasher.Finish(&file.sha1, &file.sha256);
  ExpectedDigests* digests = upload->headers.digests.get();
  if (digests == nullptr || digests->Matches(file.sha1, file.sha256)) return {};
  shared_->metrics.digest_mismatches_total.Add();
  return {400, "The bytes that came are not those that a digest was sent of.", "digest_mismatch"};
}

void GatewayWorker::OnBody(HttpConnection* connection, Bytes piece) {
  Exchange& exchange = connection->exchange;
  if (exchange.refused) return;
  if (shared_->counts_bodies() && !TakeBodyRate(connection, piece.size())) return;
  if (exchange.form != nullptr) return OnFormBytes(connection, piece);
  if (exchange.warm != nullptr) return AddToWarm(connection, piece);
  ASSERT(exchange.upload != nullptr);
  const HttpFault fault = AddToUpload(exchange.upload.get(), piece);
  if (fault.status != 0) RefuseUpload(connection, fault);
}

void GatewayWorker::OnBodyFault(HttpConnection* connection, const HttpFault& fault) {
  if (connection->exchange.form != nullptr) return EndForm(connection, fault);
  connection->exchange.warm.reset();
  RefuseUpload(connection, fault);
}

void GatewayWorker::OnBodyEnd(HttpConnection* connection) {
  Exchange& exchange = connection->exchange;
  if (exchange.refused) return RefuseOverload(connection);
  if (exchange.form != nullptr) {
    const bool whole = exchange.form->parser.End();
    return EndForm(connection, whole ? HttpFault() : exchange.form->parser.fault());
  }
  if (exchange.warm != nullptr) return EndWarmBody(connection);
  ASSERT(exchange.upload != nullptr);
  if (exchange.upload->file.size == 0) return RefuseUpload(connection, {400, kEmptyBody});
  HttpFault fault = FinishBytes(exchange.upload.get());
  if (fault.status == 0) fault = TypeFault(exchange);
  if (fault.status != 0) return RefuseUpload(connection, fault);
  Admit(connection, Work::kStore);
}

void GatewayWorker::StoreBody(HttpConnection* connection) {
  if (connection->exchange.name != nullptr) return LookUpName(connection);
  const Err err = StoreUpload(connection, connection->exchange.upload.get(), 0);
  if (err == Err::kOk) return;
  writes_.Dropped();
  EndUpload(connection);
  AnswerErr(connection, err);
}

// Whether what was received is of a type that the URL allows: as it is going to be served.
HttpFault GatewayWorker::TypeFault(const Exchange& exchange) {
  if (exchange.bounds == nullptr || exchange.bounds->type.empty()) return {};
  const UploadState& upload = *exchange.upload;
  const Bytes bytes = upload.raw.bytes().first(upload.file.size);
  const std::string type = DecideType(upload.file.content_type, bytes);
  if (TypeFits(exchange.bounds->type, type)) return {};
  return {415, "The file is not of the type that the signed URL allows."};
}

// Begins the put of what was received: a request's body, or this part of a form.
// REQUIRES: FinishBytes found nothing.
Err GatewayWorker::StoreUpload(HttpConnection* connection, UploadState* upload, size_t part) {
  UploadState& from = *upload;
  StoredFile& stored = from.file;
  from.raw.Narrow(0, stored.size);
  Upload file;
  stored.content_type = DecideType(stored.content_type, from.raw.bytes());
  file.raw = std::move(from.raw);
  file.content_type = stored.content_type;
  random_.Fill(file.nonce);
  file.sha1 = stored.sha1;
  file.sha256 = stored.sha256;
  file.fields = std::move(from.headers.fields);
  const Exchange& exchange = connection->exchange;
  if (shared_->options.dedup_scope == "key" && !exchange.uploader.empty()) {
    file.fields.emplace(kScopeField, exchange.uploader);
  }
  file.timeout_ms = shared_->options.upload_timeout_ms;
  TRY_ASSIGN(PutRequest put, PreparePut(std::move(file)));
  if (exchange.name != nullptr) {
    TRY_ASSIGN(const Metadata metadata, ParseMetadata(AsBytes(put.metadata)));
    exchange.name->content = ContentOf(metadata, put.raw_size);
  }
  put.dedup = shared_->options.dedup && exchange.terms.dedup;
  put.uploader = exchange.uploader;
  put.idempotency_key = exchange.terms.idempotency_key;
  const bool of_form = exchange.form != nullptr;
  if (of_form && !put.idempotency_key.empty()) {
    put.idempotency_key.append("\n").append(std::to_string(part));
  }
  // The bytes live as long as the put, whatever becomes of the connection.
  const uint64_t held = from.charge.Detach();
  std::shared_ptr<const UploadedNeedle> needle;  // to be kept
  if (shared_->options.cache_bytes > 0 && put.stored.size() <= kCachedFileBytesMax) {
    needle = std::make_shared<UploadedNeedle>(
        UploadedNeedle{put.stored.Share(), put.metadata, put.raw_size, put.encoding});
  }
  client_.Put(std::move(put), [this, held, part, needle, id = connection->id,
                               asked_ms = loop_.now().mono_ms](PutDone&& done) {
    shared_->upload_memory.Release(held);
    WorkEnded(&writes_, asked_ms);
    if (HttpConnection* waiting = Find(id)) {
      waiting->exchange.form != nullptr ? OnPartStored(waiting, part, done)
                                        : OnStored(waiting, done);
    }
    if (needle == nullptr || done.err != Err::kOk || done.duplicate) return;
    KeepUploaded(*needle, done, asked_ms);
  });
  return Err::kOk;
}

// The JSON of a file that has been stored.
std::string GatewayWorker::StoredJson(const FileAddress& address, const StoredFile& file) const {
  const std::string id = ToText(address);
  return UploadJson({.id = id,
                     .url = shared_->urls.Url(id, file.content_type),
                     .size = file.size,
                     .sha1_hex = ToHex(file.sha1),
                     .content_type = file.content_type,
                     .duplicate = file.duplicate,
                     .delete_token = MakeDeleteToken(shared_->key, address, file.nonce)});
}

void GatewayWorker::NoteStored(HttpConnection* connection, const PutDone& done, uint64_t size) {
  std::string_view how = {};
  if (done.duplicate) how = "duplicate";
  if (done.unchecked) how = "unchecked";
  connection->NoteStore(done.dsp, how);
  if (done.err != Err::kOk) return shared_->metrics.upload_failures_total.Add();
  NoteSuccess();
  if (done.duplicate) return shared_->metrics.duplicates_total.Add();
  if (done.unchecked) {
    shared_->metrics.uploads_unchecked_total.Add();
    ++unchecked_untold_;
  }
  shared_->metrics.uploads_total.Add();
  shared_->metrics.upload_bytes_total.Add(size);
}

void GatewayWorker::OnStored(HttpConnection* connection, const PutDone& done) {
  ASSERT(connection->answering());
  StoredFile& file = connection->exchange.upload->file;
  file.nonce = done.nonce;
  file.duplicate = done.duplicate;
  NoteStored(connection, done, file.size);
  if (done.err != Err::kOk) {
    EndUpload(connection);
    return AnswerErr(connection, done.err);
  }
  if (connection->exchange.name != nullptr) return OnNameStored(connection, done);
  const std::string json = StoredJson(done.address, file) + "\n";
  const std::string url = shared_->urls.Url(ToText(done.address), file.content_type);
  EndUpload(connection);
  connection->Head(done.duplicate ? 200 : 201)
      .Add("Location", url)
      .Add("Content-Type", "application/json")
      .Add("Content-Length", json.size())
      .Add("Cache-Control", "no-store")
      .End();
  connection->out()->append(json);
  connection->SendAll();
}

// While the directory is down each upload is one of these: one line a second says it, not one each.
void GatewayWorker::TellUnchecked(uint64_t now_ms) {
  if (unchecked_untold_ == 0 || now_ms < unchecked_told_ms_ + kTellUncheckedMs) return;
  unchecked_told_ms_ = now_ms;
  LOG_WARN("uploads_unchecked", "files=%llu cause=directory_did_not_answer_or_refused",
           static_cast<unsigned long long>(std::exchange(unchecked_untold_, 0)));
}

}  // namespace hayloft
