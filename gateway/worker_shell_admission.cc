// Admission: which requests the store is asked for now. What admission.h decides is done here.
//
// Reads and writes have a queue each: files in the page cache are read while a disk is busy with
// uploads. The first call of a request is let in, those behind it are only counted. An upload is
// let in when its body is here, because a client may take minutes for that; but one that would be
// refused then is refused at its head, as are those that the loop itself comes too late to. What
// needs no store (/healthz, /readyz) never waits. Each part of a form is let in by itself.
#include "gateway/worker_shell.h"

namespace hayloft {

// Its client has waited for so long before it was even heard that it will hardly wait for more.
bool GatewayWorker::IsLateFor(const HttpConnection& connection) {
  const uint64_t queue_ms = shared_->options.queue_ms;
  return queue_ms > 0 && connection.UnreadMs() > queue_ms;
}

void GatewayWorker::Admit(HttpConnection* connection, Work work) {
  connection->exchange.work = work;
  const bool has_body = work == Work::kStore || work == Work::kStorePart;  // asked at its head
  if (!has_body && IsLateFor(*connection)) return RefuseOverload(connection);
  switch (LaneOf(work).Arrive(connection->id, loop_.now().mono_ms)) {
    case Admission::Verdict::kBegin:
      return BeginWork(connection);
    case Admission::Verdict::kWait:
      return connection->NoteWaits();
    case Admission::Verdict::kRefuse:
      return RefuseOverload(connection);
  }
}

void GatewayWorker::BeginWork(HttpConnection* connection) {
  switch (connection->exchange.work) {
    case Work::kReadHead:
      return ReadHead(connection, DownloadState::Step::kHeadFirst);
    case Work::kReadRun:
      return ReadFirstRun(connection);
    case Work::kReadKept:
      return ReadThroughCache(connection);
    case Work::kDescribe:
      return Describe(connection);
    case Work::kStore:
      return StoreBody(connection);
    case Work::kStorePart:
      return StorePart(connection);
    case Work::kReadName:
      return LookUpName(connection);
    case Work::kListNames:
      return ListNames(connection);
    case Work::kPutName:
    case Work::kDeleteName:
      if (SpendNonce(connection)) return LookUpName(connection);
      return writes_.Dropped();
    case Work::kDelete:
    case Work::kUndelete:
      if (SpendNonce(connection)) {
        return SetDelete(connection, connection->exchange.work == Work::kUndelete);
      }
      return writes_.Dropped();
  }
}

// `asked_ms`: when the store was asked; 0: that is not known any more.
void GatewayWorker::WorkEnded(Admission* lane, uint64_t asked_ms) {
  const uint64_t now_ms = loop_.now().mono_ms;
  lane->Ended(asked_ms == 0 ? Admission::kUnknownMs : now_ms - asked_ms, now_ms);
  if (lane->waiting() > 0) BeginWaiting(lane);
}

void GatewayWorker::ReadEnded(const HttpConnection* connection) {
  WorkEnded(&reads_, connection == nullptr ? 0 : connection->exchange.store_asked_ms);
}

// A client that has given up is not worked for.
void GatewayWorker::BeginWaiting(Admission* lane) {
  while (const std::optional<uint64_t> id = lane->Next()) {
    HttpConnection* connection = Find(*id);
    if (connection != nullptr && !connection->PeerGone()) {
      BeginWork(connection);
      continue;
    }
    lane->Dropped();
    shared_->metrics.overload_abandoned_total.Add();
    if (connection != nullptr) RefuseOverload(connection);
  }
}

void GatewayWorker::TickAdmission(uint64_t now_ms) {
  for (Admission* lane : {&reads_, &writes_}) {
    while (const std::optional<uint64_t> id = lane->Expired(now_ms)) {
      if (HttpConnection* connection = Find(*id)) RefuseOverload(connection);
    }
  }
  const auto waiting = static_cast<int64_t>(reads_.waiting() + writes_.waiting());
  shared_->metrics.requests_waiting.Add(waiting - std::exchange(told_waiting_, waiting));
}

void GatewayWorker::RefuseOverload(HttpConnection* connection) {
  shared_->metrics.overload_refused_total.Add();
  const Work work = connection->exchange.work;
  if (work == Work::kStorePart) {
    shared_->metrics.upload_failures_total.Add();
    return RefusePart(connection);
  }
  if (work <= Work::kReadKept) shared_->metrics.read_failures_total.Add();
  if (work == Work::kStore) {
    shared_->metrics.upload_failures_total.Add();
    EndUpload(connection);
  }
  AnswerError(connection, {.status = 503, .code = "overloaded", .message = kOverloaded});
}

}  // namespace hayloft
