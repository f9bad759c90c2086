// Uploads: POST /v1/files with the bytes as its body.
#include <algorithm>
#include <cstring>

#include "client/prepare.h"
#include "client/sniff.h"
#include "gateway/answers.h"
#include "gateway/worker_shell.h"

namespace hayloft {

namespace {

constexpr uint64_t kFirstRoomBytes = 64 << 10;  // most images fit, and then no byte is moved again
constexpr size_t kSpareUploadsMax = 64;

// What is wrong with an upload as far as its head shows, so that a client which waits for "100
// Continue" need not send its body in vain. Status 0: nothing.
HttpFault HeadFault(const HttpRequest& request, uint64_t size_bytes_max) {
  const std::string_view encoding = request.Value(HttpField::kContentEncoding);
  const std::string_view type = request.Value(HttpField::kContentType);
  const bool several = request.Count(HttpField::kContentEncoding) > 1;
  if (several || (!encoding.empty() && !EqualsNoCase(encoding, "identity"))) {
    return {415, "Files are taken as they are, without a Content-Encoding."};
  }
  if (EqualsNoCase(type.substr(0, 10), "multipart/")) {
    return {415, "Send one file as the raw body of the request."};
  }
  if (HasControlByte(type)) return {400, "The Content-Type holds a control byte."};
  if (request.chunked) return {};
  if (!request.has_content_length) {
    return {411, "An upload needs a Content-Length, or a chunked body."};
  }
  if (request.content_length == 0) return {400, "The body is empty."};
  if (request.content_length > size_bytes_max) return {413, "The file is too large."};
  return {};
}

}  // namespace

void GatewayWorker::BeginUpload(HttpConnection* connection, const HttpRequest& request) {
  const uint64_t size_bytes_max = shared_->options.upload_bytes_max;
  const HttpFault fault = HeadFault(request, size_bytes_max);
  if (fault.status != 0) return RefuseUpload(connection, fault.status, fault.reason);
  const uint64_t expected = request.has_content_length ? request.content_length : 1;
  if (!shared_->upload_memory.HasRoom(expected)) {
    shared_->metrics.upload_memory_refused_total.Add();
    return RefuseUpload(connection, 503, "The memory for uploads is taken; try again later.");
  }
  std::unique_ptr<UploadState>& upload = connection->exchange.upload;
  ASSERT(upload == nullptr);
  if (spare_uploads_.empty()) {
    upload = std::make_unique<UploadState>(&shared_->upload_memory);
  } else {
    upload = std::move(spare_uploads_.back());
    spare_uploads_.pop_back();
  }
  upload->size = 0;
  upload->size_max = request.has_content_length ? request.content_length : size_bytes_max;
  upload->content_type = request.Value(HttpField::kContentType);
  connection->ReadBody();
}

void GatewayWorker::RefuseUpload(HttpConnection* connection, int status, std::string_view message) {
  EndUpload(connection);
  if (status >= 500) shared_->metrics.upload_failures_total.Add();
  AnswerError(connection, {.status = status, .message = message});
}

// Its hashing contexts are worth keeping; its bytes are not.
void GatewayWorker::EndUpload(HttpConnection* connection) {
  std::unique_ptr<UploadState> upload = std::move(connection->exchange.upload);
  if (upload == nullptr || spare_uploads_.size() >= kSpareUploadsMax) return;
  upload->raw = Buffer();
  upload->charge.Clear();
  upload->hasher.Reset();
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
  if (upload->size > 0)
    std::memcpy(larger.mutable_bytes().data(), upload->raw.data(), upload->size);
  upload->raw = std::move(larger);
  return true;
}

void GatewayWorker::OnBody(HttpConnection* connection, Bytes piece) {
  UploadState* upload = connection->exchange.upload.get();
  ASSERT(upload != nullptr);
  const uint64_t size = upload->size + piece.size();
  if (size > upload->size_max) {  // chunked only: the parser keeps to a Content-Length
    return RefuseUpload(connection, 413, "The file is too large.");
  }
  if (!GrowUpload(upload, size)) {
    shared_->metrics.upload_memory_refused_total.Add();
    return RefuseUpload(connection, 503, "The memory for uploads is taken; try again later.");
  }
  std::memcpy(upload->raw.mutable_bytes().data() + upload->size, piece.data(), piece.size());
  upload->size = size;
  upload->hasher.Update(piece);
}

void GatewayWorker::OnBodyEnd(HttpConnection* connection) {
  UploadState* upload = connection->exchange.upload.get();
  ASSERT(upload != nullptr);
  if (upload->size == 0) return RefuseUpload(connection, 400, "The body is empty.");
  StoreUpload(connection);
}

void GatewayWorker::StoreUpload(HttpConnection* connection) {
  UploadState* upload = connection->exchange.upload.get();
  UploadState& from = *upload;
  from.raw.Narrow(0, from.size);
  Upload file;
  from.hasher.Finish(&from.sha1, &file.sha256);
  random_.Fill(from.nonce);
  from.content_type = DecideType(from.content_type, from.raw.bytes());
  file.raw = std::move(from.raw);
  file.content_type = from.content_type;
  file.nonce = from.nonce;
  file.sha1 = from.sha1;
  file.timeout_ms = shared_->options.upload_timeout_ms;
  Result<PutRequest> put = PreparePut(std::move(file));
  if (!put.ok()) {
    EndUpload(connection);
    return AnswerErr(connection, put.err());
  }
  // The bytes live as long as the put, whatever becomes of the connection.
  const uint64_t held = upload->charge.Detach();
  client_.Put(std::move(*put), [this, held, id = connection->id](PutDone&& done) {
    shared_->upload_memory.Release(held);
    HttpConnection* waiting = Find(id);
    if (waiting != nullptr) OnStored(waiting, done);
  });
}

void GatewayWorker::OnStored(HttpConnection* connection, const PutDone& done) {
  ASSERT(connection->answering());
  connection->NoteStore(done.dsp, {});
  if (done.err != Err::kOk) {
    shared_->metrics.upload_failures_total.Add();
    EndUpload(connection);
    return AnswerErr(connection, done.err);
  }
  NoteSuccess();
  const UploadState& upload = *connection->exchange.upload;
  const std::string id = ToText(done.address);
  const std::string json =
      UploadJson({.id = id,
                  .size = upload.size,
                  .sha1_hex = ToHex(upload.sha1),
                  .content_type = upload.content_type,
                  .delete_token = MakeDeleteToken(shared_->key, done.address, upload.nonce)});
  GatewayMetrics& metrics = shared_->metrics;
  metrics.uploads_total.Add();
  metrics.upload_bytes_total.Add(upload.size);
  EndUpload(connection);
  connection->Head(201)
      .Add("Location", "/" + id)
      .Add("Content-Type", "application/json")
      .Add("Content-Length", json.size())
      .Add("Cache-Control", "no-store")
      .End();
  connection->out()->append(json);
  connection->SendAll();
}

}  // namespace hayloft
