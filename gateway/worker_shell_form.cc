// Forms: POST /v1/files with multipart/form-data, one file or many.
//
//   BeginForm --bytes--> parser --part--> BeginPart, AddToPart, EndPart --put--> OnPartStored
//                           \\--end, or fault--> EndForm --no put under way--> AnswerForm
//
// Each part passes admission by itself: a form may bring any number of them.
// A part that has come is stored while the next ones are received. Each file has an outcome of its
// own, in the order of the parts: one that is too large does not cost the others. Also when the
// form breaks off in the middle the answer waits for the puts under way and names what is stored:
// nothing is kept of which the client does not learn the id and the token.
#include <algorithm>

#include "client/sniff.h"
#include "common/log.h"
#include "gateway/answers.h"
#include "gateway/worker_shell.h"

namespace hayloft {

namespace {

// Of one form, and then no more is read from its socket. What one read has brought already may hold
// further ones: the budget of memory bounds those.
constexpr size_t kPutsUnderWayMax = 16;

std::string FormJson(const HttpFault& fault, const std::vector<std::string>& files) {
  std::string json = "{";
  if (fault.status != 0) {
    json = ErrorJson(FaultCode(fault), fault.reason);
    json.resize(json.rfind('}'));
    json.push_back(',');
  }
  json.append("\"files\":[");
  for (size_t i = 0; i < files.size(); ++i) json.append(i == 0 ? "" : ",").append(files[i]);
  return json.append("]}\n");
}

std::string FailedJson(const FormState::File& file) {
  std::string json = file.err != Err::kOk ? ErrorJson(ErrName(file.err), ErrSentence(file.err))
                                          : ErrorJson(FaultCode(file.fault), file.fault.reason);
  json.pop_back();  // the newline
  return json;
}

}  // namespace

void GatewayWorker::BeginForm(HttpConnection* connection, std::string_view boundary) {
  ASSERT(connection->exchange.form == nullptr);
  FormState& form = *(connection->exchange.form = std::make_unique<FormState>(boundary));
  if (const auto& bounds = connection->exchange.bounds) form.bytes_left = bounds->body_bytes_max;
  connection->ReadBody();
}

void GatewayWorker::OnFormBytes(HttpConnection* connection, Bytes piece) {
  FormState& form = *connection->exchange.form;
  if (piece.size() > form.bytes_left) {
    connection->AbandonBody();
    return EndForm(connection, {413, kBeyondUrl});
  }
  form.bytes_left -= piece.size();
  std::string_view input = AsText(piece);
  std::string_view data;
  while (true) {
    switch (form.parser.Next(&input, &data)) {
      case MultipartParser::Step::kPart:
        BeginPart(connection);
        break;
      case MultipartParser::Step::kData:
        if (form.in_file) AddToPart(connection, AsBytes(data));
        break;
      case MultipartParser::Step::kPartEnd:
        if (form.in_file) EndPart(connection);
        break;
      case MultipartParser::Step::kMore:
        if (form.storing < kPutsUnderWayMax) return;
        form.paused = true;
        return connection->PauseBody();
      case MultipartParser::Step::kError:
        connection->AbandonBody();
        return EndForm(connection, form.parser.fault());
    }
  }
}

// A part without a file name is a field of the form; those mean nothing here.
void GatewayWorker::BeginPart(HttpConnection* connection) {
  FormState& form = *connection->exchange.form;
  const FormPart& part = form.parser.part();
  ASSERT(!form.in_file);
  if (!part.is_file) return;
  form.in_file = true;
  form.may_be_absent = part.unnamed;
  FormState::File& file = form.files.emplace_back();
  if (HasControlByte(part.content_type)) {
    file.fault = {400, "The Content-Type holds a control byte."};
    return;
  }
  TakeSpareUpload(connection, shared_->options.upload_bytes_max);
  connection->exchange.upload->file.content_type = part.content_type;
  file.fault = TakeUploadHeaders(part.headers, &connection->exchange.upload->headers);
  if (file.fault.status != 0) EndUpload(connection);
}

void GatewayWorker::AddToPart(HttpConnection* connection, Bytes piece) {
  FormState::File& file = connection->exchange.form->files.back();
  if (file.fault.status != 0) return;  // the rest of it is dropped
  file.fault = AddToUpload(connection->exchange.upload.get(), piece);
  if (file.fault.status != 0) EndUpload(connection);
}

void GatewayWorker::EndPart(HttpConnection* connection) {
  FormState& form = *connection->exchange.form;
  FormState::File& file = form.files.back();
  form.in_file = false;
  if (file.fault.status != 0) return;
  if (connection->exchange.upload->file.size == 0) {
    EndUpload(connection);
    if (form.may_be_absent) return form.files.pop_back();
    file.fault = {400, "The file is empty."};
    return;
  }
  file.fault = FinishBytes(connection->exchange.upload.get());
  if (file.fault.status == 0) file.fault = TypeFault(connection->exchange);
  if (file.fault.status != 0) return EndUpload(connection);
  form.waiting.emplace_back(form.files.size() - 1, std::move(connection->exchange.upload));
  ++form.storing;
  Admit(connection, Work::kStorePart);
}

// There is room in the store for the part that has waited longest.
void GatewayWorker::StorePart(HttpConnection* connection) {
  FormState& form = *connection->exchange.form;
  auto [part, upload] = std::move(form.waiting.front());
  form.waiting.pop_front();
  FormState::File& file = form.files[part];
  file.err = StoreUpload(connection, upload.get(), part);
  file.stored = upload->file;
  Recycle(std::move(upload));
  if (file.err == Err::kOk) return;
  writes_.Dropped();
  PartEnded(connection);
}

// There is none for one of those that wait: the last, as the order of the others is kept then.
void GatewayWorker::RefusePart(HttpConnection* connection) {
  FormState& form = *connection->exchange.form;
  auto [part, upload] = std::move(form.waiting.back());
  form.waiting.pop_back();
  form.files[part].fault = {503, kOverloaded, "overloaded"};
  Recycle(std::move(upload));
  PartEnded(connection);
}

void GatewayWorker::PartEnded(HttpConnection* connection) {
  FormState& form = *connection->exchange.form;
  ASSERT(form.storing > 0);
  --form.storing;
  if (form.paused && !form.ended && form.storing <= kPutsUnderWayMax / 2) {
    form.paused = false;
    connection->ResumeBody();
  }
  AnswerForm(connection);
}

void GatewayWorker::OnPartStored(HttpConnection* connection, size_t part, const PutDone& done) {
  FormState& form = *connection->exchange.form;
  ASSERT(part < form.files.size());
  FormState::File& file = form.files[part];
  file.err = done.err;
  file.address = done.address;
  file.stored.nonce = done.nonce;
  file.stored.duplicate = done.duplicate;
  NoteStored(connection, done, file.stored.size);
  if (ErrHttpStatus(done.err) >= 500) {
    LOG_WARN("request_failed", "err=%s action=tell_in_form_answer", ErrName(done.err).data());
  }
  PartEnded(connection);
}

// Nothing more of it comes. A file that is not whole is no file.
void GatewayWorker::EndForm(HttpConnection* connection, const HttpFault& fault) {
  FormState& form = *connection->exchange.form;
  ASSERT(!form.ended);
  form.ended = true;
  form.fault = fault;
  if (form.in_file) {
    form.files.pop_back();
    EndUpload(connection);
  }
  if (form.files.empty() && fault.status == 0) form.fault = {400, "The form holds no file."};
  AnswerForm(connection);
}

// 201 when all are stored, 200 when all were there already, else the worst status of all; each
// file's own stands in the body.
void GatewayWorker::AnswerForm(HttpConnection* connection) {
  const FormState& form = *connection->exchange.form;
  if (!form.ended || form.storing > 0) return;
  ASSERT(connection->answering());
  int status = form.fault.status;
  bool all_duplicates = true;
  std::vector<std::string> files;
  for (const FormState::File& file : form.files) {
    const bool failed = file.err != Err::kOk || file.fault.status != 0;
    if (failed && form.fault.status == 0) status = std::max(status, file.status());
    all_duplicates = all_duplicates && file.stored.duplicate;
    files.push_back(failed ? FailedJson(file) : StoredJson(file.address, file.stored));
  }
  if (status == 0) status = all_duplicates ? 200 : 201;
  const std::string json = FormJson(form.fault, files);
  const uint64_t retry_after_s = form.retry_after_s;
  connection->exchange.form.reset();
  ResponseHead head = connection->Head(status);
  head.Add("Content-Type", "application/json").Add("Content-Length", json.size());
  head.Add("Cache-Control", "no-store");
  if (status == 429 || status == 503) head.Add("Retry-After", retry_after_s);
  head.End();
  connection->out()->append(json);
  connection->SendAll();
}

}  // namespace hayloft
