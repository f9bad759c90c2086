#include "client/client_core.h"

#include <algorithm>

#include "common/check.h"
#include "common/log.h"

namespace hayloft {

namespace {
constexpr uint64_t kPauseFirstMs = 40;
constexpr uint64_t kPauseMostMs = 1'000;
constexpr uint64_t kBrokenDspMs = 2'000;  // no puts onto sets with a dsp whose connection broke
}  // namespace

ClientCore::ClientCore(ClientOptions options, Random* random)
    : options_(std::move(options)),
      random_(random),
      reporter_(options_.reporter != 0 ? options_.reporter : random->Next64()),
      grants_(reporter_),
      locations_(options_.locations_max) {
  ASSERT(!options_.nameservers.empty());
}

// --- Operations and their timers ---

// Null when too many are in flight; only else is *kind taken.
template <typename Kind>
ClientCore::Op* ClientCore::NewOp(Kind* kind, uint32_t timeout_ms, Now now) {
  if (ops_.size() >= options_.ops_max) return nullptr;
  const uint64_t op_id = last_op_id_;
  Op& op = ops_[op_id];
  op.id = op_id;
  op.deadline_ms = now.mono_ms + timeout_ms;
  op.due_ms = op.deadline_ms;
  op.kind = std::move(*kind);
  timers_.emplace(op.due_ms, op_id);
  ASSERT(timers_.size() == ops_.size());
  return &op;
}

ClientCore::Op* ClientCore::FindOp(uint64_t op_id) {
  const auto found = ops_.find(op_id);
  return found == ops_.end() ? nullptr : &found->second;
}

void ClientCore::SetTimer(Op* op, uint64_t due_ms) {
  const size_t erased = timers_.erase({op->due_ms, op->id});
  ASSERT(erased == 1);
  op->due_ms = std::min(due_ms, op->deadline_ms);
  timers_.emplace(op->due_ms, op->id);
}

void ClientCore::Resume(Op* op, Now now, ClientOutbox* outbox) {
  if (std::holds_alternative<PutOp>(op->kind)) return StartPut(op, now, outbox);
  const FileOp* file = std::get_if<FileOp>(&op->kind);
  if (file == nullptr) return;
  if (file->awaited > 0) return Hedge(op, now, outbox);
  StartRound(op, now, outbox);
}

// Tries again later: twice as late each time, and not at the same moment as all others.
void ClientCore::BackOff(Op* op, Err err, Now now) {
  ASSERT(err != Err::kOk);
  op->last_err = err;
  const uint64_t most_ms = std::min(kPauseFirstMs << std::min(op->pauses, 10u), kPauseMostMs);
  ++op->pauses;
  SetTimer(op, now.mono_ms + most_ms / 2 + random_->Below(most_ms / 2));
}

void ClientCore::Answer(Op* op, Err err, ClientOutbox* outbox) {
  if (std::holds_alternative<PutOp>(op->kind)) {
    outbox->puts.push_back({.op_id = op->id, .err = err, .address = {}, .dsp = {}});
  } else if (FileOp* file = std::get_if<FileOp>(&op->kind)) {
    if (std::holds_alternative<GetRequest>(file->request)) {
      GetDone done;
      done.op_id = op->id;
      done.err = err;
      outbox->gets.push_back(std::move(done));
    } else if (std::holds_alternative<StatRequest>(file->request)) {
      StatDone done = std::move(file->stat);
      done.op_id = op->id;
      done.err = err;
      outbox->stats.push_back(std::move(done));
    } else {
      outbox->set_deletes.push_back({.op_id = op->id, .err = err});
    }
  } else {
    outbox->statuses.push_back(std::move(std::get<StatusOp>(op->kind).done));
  }
}

void ClientCore::Fail(Op* op, Err err, ClientOutbox* outbox) {
  ASSERT(err != Err::kOk);
  Answer(op, err, outbox);
  Forget(op);
}

void ClientCore::Forget(Op* op) {
  timers_.erase({op->due_ms, op->id});
  puts_without_grant_.erase(op->id);
  ops_.erase(op->id);
  ASSERT(timers_.size() == ops_.size());
}

void ClientCore::OnTick(Now now, ClientOutbox* outbox) {
  // What is resumed gets a later timer, so that this ends.
  while (!timers_.empty() && timers_.begin()->first <= now.mono_ms) {
    Op* op = FindOp(timers_.begin()->second);
    ASSERT(op != nullptr);
    if (op->deadline_ms <= now.mono_ms) {
      const bool answered = AnswerSpare(op, /*doubtful=*/true, outbox) || AnswerStat(op, outbox);
      if (!answered) Fail(op, op->last_err, outbox);
      continue;
    }
    SetTimer(op, op->deadline_ms);
    Resume(op, now, outbox);
  }
}

// --- Calls ---

uint32_t ClientCore::TimeoutMs(const Op& op, uint32_t most_ms, Now now) const {
  const uint64_t left_ms = op.deadline_ms > now.mono_ms ? op.deadline_ms - now.mono_ms : 1;
  return static_cast<uint32_t>(std::min<uint64_t>(left_ms, most_ms));
}

void ClientCore::SendCall(const Call& call, RpcCall&& rpc, ClientOutbox* outbox) {
  rpc.call_id = ++last_call_id_;
  rpc.type = call.type;
  calls_.emplace(rpc.call_id, call);
  outbox->calls.push_back(std::move(rpc));
}

void ClientCore::OnCallDone(CallDone&& done, Now now, ClientOutbox* outbox) {
  const auto found = calls_.find(done.call_id);
  if (found == calls_.end()) return;
  const Call call = found->second;
  calls_.erase(found);
  if (!call.dsp.empty()) {
    unreachable_.OnCallDone(call.dsp, {call.sent_ms, now.mono_ms, done.err});
    if (done.err == Err::kUnavailable) {
      grants_.SkipAddress(call.dsp, now.mono_ms + kBrokenDspMs);
    }
    if (call.type == MessageType::kRead) {
      chooser_.OnEnded(call.dsp, {call.sent_ms, now.mono_ms, done.err, done.payload.size()});
    }
  }
  switch (call.type) {
    case MessageType::kAppend:
      return OnAppendDone(call, done, now, outbox);
    case MessageType::kGrant:
      return OnGrantDone(call, done, now, outbox);
    case MessageType::kLocate:
      return OnLocateDone(call, done, now, outbox);
    case MessageType::kClusterStatus:
      return OnStatusDone(call, done, outbox);
    default:
      return OnReplicaDone(call, std::move(done), now, outbox);
  }
}

// The next call goes to another one: it knows, or its NOT_ACTIVE leads back here.
// Of several calls that one left unanswered, the first leads away from it; the others find us gone.
void ClientCore::NameserverFailed(const Call& call, Err err) {
  if (err != Err::kNotActive && err != Err::kTimeout && err != Err::kUnavailable) return;
  if (call.index != nameserver_) return;
  nameserver_ = (nameserver_ + 1) % options_.nameservers.size();
}

// --- Entry points ---

uint64_t ClientCore::Put(PutRequest&& request, Now now, ClientOutbox* outbox) {
  const uint64_t op_id = ++last_op_id_;
  const uint64_t size = request.stored.size();
  Err err = Err::kOk;
  if (size == 0 || request.raw_size == 0) err = Err::kInvalid;
  if (size > kFileBytesMax || request.metadata.size() > kMetadataBytesMax) err = Err::kTooLarge;
  if (err == Err::kOk) {
    PutOp put;
    put.request = std::move(request);
    put.piece_crcs = PieceCrcs(put.request.stored.bytes());
    const uint32_t timeout_ms = put.request.timeout_ms;
    if (Op* op = NewOp(&put, timeout_ms, now)) {
      StartPut(op, now, outbox);
      return op_id;
    }
    err = Err::kBusy;
  }
  outbox->puts.push_back({.op_id = op_id, .err = err, .address = {}, .dsp = {}});
  return op_id;
}

uint64_t ClientCore::Get(GetRequest&& request, Now now, ClientOutbox* outbox) {
  FileOp file;
  file.address = request.address;
  const uint32_t timeout_ms = request.timeout_ms;
  file.request = std::move(request);
  return StartFile(std::move(file), timeout_ms, now, outbox);
}

uint64_t ClientCore::Stat(StatRequest&& request, Now now, ClientOutbox* outbox) {
  FileOp file;
  file.address = request.address;
  const uint32_t timeout_ms = request.timeout_ms;
  file.request = std::move(request);
  return StartFile(std::move(file), timeout_ms, now, outbox);
}

uint64_t ClientCore::SetDelete(SetDeleteRequest&& request, Now now, ClientOutbox* outbox) {
  FileOp file;
  file.address = request.address;
  const uint32_t timeout_ms = request.timeout_ms;
  file.request = std::move(request);
  return StartFile(std::move(file), timeout_ms, now, outbox);
}

uint64_t ClientCore::StartFile(FileOp&& file, uint32_t timeout_ms, Now now, ClientOutbox* outbox) {
  const uint64_t op_id = ++last_op_id_;
  if (Op* op = NewOp(&file, timeout_ms, now)) {
    StartRound(op, now, outbox);
  } else {
    Op refused;
    refused.id = op_id;
    refused.kind = std::move(file);
    Answer(&refused, Err::kBusy, outbox);
  }
  return op_id;
}

uint64_t ClientCore::Status(uint32_t timeout_ms, Now now, ClientOutbox* outbox) {
  const uint64_t op_id = ++last_op_id_;
  StatusOp status;
  status.done.op_id = op_id;
  for (const std::string& address : options_.nameservers) {
    // What it stays if no answer comes.
    status.done.nameservers.push_back({.address = address, .err = Err::kTimeout, .status = {}});
  }
  status.awaited = options_.nameservers.size();
  Op* op = NewOp(&status, timeout_ms, now);
  if (op == nullptr) {
    for (NameserverStatus& one : status.done.nameservers) one.err = Err::kBusy;
    outbox->statuses.push_back(std::move(status.done));
    return op_id;
  }
  for (size_t i = 0; i < options_.nameservers.size(); ++i) {
    RpcCall rpc;
    rpc.address = options_.nameservers[i];
    rpc.timeout_ms = timeout_ms;
    SendCall({.type = MessageType::kClusterStatus, .op_id = op_id, .index = i, .dsp = {}},
             std::move(rpc), outbox);
  }
  return op_id;
}

void ClientCore::OnStatusDone(const Call& call, const CallDone& done, ClientOutbox* outbox) {
  Op* op = FindOp(call.op_id);
  if (op == nullptr) return;
  StatusOp& status = std::get<StatusOp>(op->kind);
  NameserverStatus& one = status.done.nameservers[call.index];
  one.err = done.err;
  if (one.err == Err::kOk && !one.status.ParseFromString(done.message)) one.err = Err::kCorrupt;
  ASSERT(status.awaited > 0);
  if (--status.awaited > 0) return;
  Answer(op, Err::kOk, outbox);
  Forget(op);
}

}  // namespace hayloft
