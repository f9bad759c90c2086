#include "client/dedup_core.h"

#include <algorithm>

#include "common/check.h"

namespace hayloft {

namespace {
// Operations and calls of the ClientCore never have this bit.
constexpr uint64_t kOwn = uint64_t{1} << 61;

// How long one node is given for a message.
uint32_t AnswerMs(MessageType type, uint32_t directory_ms) {
  switch (type) {
    case MessageType::kDirDelete:
    case MessageType::kDirUndelete:
    case MessageType::kDirAdopt:
      return 6'000;  // it asks the dsps meanwhile
    case MessageType::kDirNamePut:
    case MessageType::kDirNameDelete:
    case MessageType::kDirUpload:
      return DedupCore::kTakeoverMs;  // its disk, or its standby, may take a while
    default:
      return directory_ms;
  }
}
}  // namespace

DedupCore::DedupCore(ClientOptions options, Random* random)
    : options_(std::move(options)),
      random_(random),
      files_(options_, random),
      directory_(options_.directory.size()) {
  ASSERT(options_.directory.size() <= kShardsMax);
  for (const std::vector<std::string>& nodes : options_.directory) ASSERT(!nodes.empty());
}

// --- Operations and their timers ---

// Null when too many are in flight.
template <typename Kind>
DedupCore::Op* DedupCore::NewOp(Kind&& kind, uint32_t timeout_ms, Now now) {
  const uint64_t op_id = kOwn | ++last_id_;
  if (ops_.size() >= options_.ops_max) return nullptr;
  Op& op = ops_[op_id];
  op.id = op_id;
  op.deadline_ms = now.mono_ms + timeout_ms;
  op.due_ms = op.deadline_ms;
  op.kind = std::forward<Kind>(kind);
  timers_.emplace(op.due_ms, op_id);
  return &op;
}

DedupCore::Op* DedupCore::FindOp(uint64_t op_id) {
  const auto found = ops_.find(op_id);
  return found == ops_.end() ? nullptr : &found->second;
}

void DedupCore::SetTimer(Op* op, uint64_t due_ms) {
  const size_t erased = timers_.erase({op->due_ms, op->id});
  ASSERT(erased == 1);
  op->due_ms = std::min(due_ms, op->deadline_ms);
  timers_.emplace(op->due_ms, op->id);
}

void DedupCore::Forget(Op* op) {
  timers_.erase({op->due_ms, op->id});
  ops_.erase(op->id);
}

uint32_t DedupCore::LeftMs(const Op& op, uint32_t most_ms, Now now) const {
  const uint64_t left_ms = op.deadline_ms > now.mono_ms ? op.deadline_ms - now.mono_ms : 1;
  return static_cast<uint32_t>(std::min<uint64_t>(left_ms, most_ms));
}

uint64_t DedupCore::NextWakeMs() const {
  const uint64_t own_ms = timers_.empty() ? UINT64_MAX : timers_.begin()->first;
  return std::min(own_ms, files_.NextWakeMs());
}

void DedupCore::Fail(Op* op, Err err, ClientOutbox* outbox) {
  ASSERT(err != Err::kOk);
  if (std::holds_alternative<Upload>(op->kind)) {
    outbox->puts.push_back({.op_id = op->id, .err = err, .address = {}, .dsp = {}});
  } else if (std::holds_alternative<Change>(op->kind)) {
    outbox->set_deletes.push_back({.op_id = op->id, .err = err});
  } else {
    outbox->asks.push_back(
        {.op_id = op->id, .err = err, .message = {}, .unsure = op->unsure || op->call != 0});
  }
  Forget(op);
}

void DedupCore::OnTick(Now now, ClientOutbox* outbox) {
  ClientOutbox from;
  files_.OnTick(now, &from);
  Take(&from, now, outbox);
  // What goes on gets a later timer, so that this ends.
  while (!timers_.empty() && timers_.begin()->first <= now.mono_ms) {
    Op* op = FindOp(timers_.begin()->second);
    ASSERT(op != nullptr);
    if (op->deadline_ms <= now.mono_ms) {
      Fail(op, op->last_err, outbox);
      continue;
    }
    SetTimer(op, op->deadline_ms);
    OnDue(op, now, outbox);
  }
}

void DedupCore::OnDue(Op* op, Now now, ClientOutbox* outbox) {
  if (std::exchange(op->paused, false)) return SendAgain(op, now, outbox);
  // The shard is too slow; whatever it still says of this message comes too late.
  op->call = 0;
  op->waiting = false;
  directory_[op->shard].down_until_ms = now.mono_ms + kDownMs;
  ShardFailed(op, Err::kTimeout, now, outbox);
}

// Whether somebody may answer yet. What is being done on the dsps may take its time.
bool DedupCore::MayWait(const Op& op, Err err, Now now) {
  Shard& shard = directory_[op.shard];
  if (err != Err::kTimeout && err != Err::kUnavailable) shard.waits_ms = now.mono_ms;
  const Change* change = std::get_if<Change>(&op.kind);
  const AskRequest* ask = std::get_if<AskRequest>(&op.kind);
  const bool asks_dsps =
      change != nullptr ? change->step == Change::Step::kSend : ask->type == MessageType::kDirAdopt;
  if (asks_dsps) return true;
  const uint64_t silent_since_ms = std::max(op.since_ms, shard.waits_ms);
  return now.mono_ms < op.since_ms + kTakeoverMs && now.mono_ms < silent_since_ms + kSilentMs;
}

void DedupCore::Pause(Op* op, Err err, Now now) {
  op->last_err = err;
  op->paused = true;
  SetTimer(op, now.mono_ms + kPauseMs + random_->Below(kPauseMs));
}

// --- Entry points ---

uint64_t DedupCore::Put(PutRequest&& request, Now now, ClientOutbox* outbox) {
  Upload upload;
  Result<Metadata> metadata = ParseMetadata(AsBytes(request.metadata));
  const bool alone = directory_.empty() || !request.dedup;
  if (metadata.ok()) upload.metadata = std::move(*metadata);
  const uint32_t timeout_ms = request.timeout_ms;
  upload.request = std::move(request);
  const bool valid = metadata.ok() && !upload.request.stored.empty();
  Op* op = NewOp(std::move(upload), timeout_ms, now);
  if (op == nullptr || !valid) {
    const uint64_t op_id = kOwn | last_id_;
    if (op != nullptr) Forget(op);
    outbox->puts.push_back(
        {.op_id = op_id, .err = valid ? Err::kBusy : Err::kInvalid, .address = {}, .dsp = {}});
    return op_id;
  }
  const uint64_t op_id = op->id;
  if (alone) {
    StoreAlone(op, now, outbox);
    return op_id;
  }
  Upload& begun = std::get<Upload>(op->kind);
  begun.content = ContentOf(begun.metadata, begun.request.raw_size);
  op->shard = ShardOf(begun.content.sha1, shards());
  if (!begun.request.idempotency_key.empty()) {
    const Sha256 hash =
        IdempotencyHash(begun.request.uploader, begun.request.idempotency_key, begun.content);
    begun.idempotency = AsText(hash);
  }
  Lookup(op, now, outbox);
  return op_id;
}

uint64_t DedupCore::Get(GetRequest&& request, Now now, ClientOutbox* outbox) {
  return files_.Get(std::move(request), now, outbox);
}

uint64_t DedupCore::Stat(StatRequest&& request, Now now, ClientOutbox* outbox) {
  return files_.Stat(std::move(request), now, outbox);
}

uint64_t DedupCore::Status(uint32_t timeout_ms, Now now, ClientOutbox* outbox) {
  return files_.Status(timeout_ms, now, outbox);
}

uint64_t DedupCore::SetDelete(SetDeleteRequest&& request, Now now, ClientOutbox* outbox) {
  if (directory_.empty()) return files_.SetDelete(std::move(request), now, outbox);
  const bool valid = request.nonce.has_value() || request.takedown;
  const uint32_t timeout_ms = request.timeout_ms;
  Change change;
  change.request = std::move(request);
  Op* op = NewOp(std::move(change), timeout_ms, now);
  const uint64_t op_id = kOwn | last_id_;
  if (op == nullptr) {
    outbox->set_deletes.push_back({.op_id = op_id, .err = Err::kBusy});
  } else if (!valid) {
    Fail(op, Err::kInvalid, outbox);
  } else {
    ContinueChange(op, now, outbox);
  }
  return op_id;
}

uint64_t DedupCore::Ask(AskRequest&& request, Now now, ClientOutbox* outbox) {
  const uint32_t timeout_ms = request.timeout_ms;
  const uint32_t shard = request.shard;
  Op* op = NewOp(std::move(request), timeout_ms, now);
  const uint64_t op_id = kOwn | last_id_;
  if (op == nullptr) {
    outbox->asks.push_back({.op_id = op_id, .err = Err::kBusy, .message = {}, .unsure = false});
  } else if (shard >= directory_.size()) {
    Fail(op, directory_.empty() ? Err::kUnsupported : Err::kInvalid, outbox);
  } else {
    op->shard = shard;
    SendAgain(op, now, outbox);
  }
  return op_id;
}

// --- Messages to shards ---

void DedupCore::Send(Call&& call, RpcCall&& rpc, ClientOutbox* outbox) {
  Shard& shard = directory_[call.shard];
  const std::vector<std::string>& nodes = options_.directory[call.shard];
  call.node = shard.node % nodes.size();
  rpc.call_id = kOwn | ++last_id_;
  rpc.address = nodes[call.node];
  for (const uint64_t op_id : call.ops) {
    FindOp(op_id)->call = rpc.call_id;
  }
  calls_.emplace(rpc.call_id, std::move(call));
  outbox->calls.push_back(std::move(rpc));
}

// The upload's message goes with the next batch of its kind.
void DedupCore::Wait(Op* op, Batch kind, Now now) {
  op->waiting = true;
  op->call = 0;
  if (op->tries++ == 0) op->since_ms = now.mono_ms;
  SetTimer(op, op->since_ms + options_.directory_ms);
  directory_[op->shard].waiting[kind].push_back(op->id);
  gathering_.insert(op->shard);
}

void DedupCore::EndTurn(ClientOutbox* outbox) {
  for (const uint32_t shard : std::exchange(gathering_, {})) {
    for (const Batch kind : {kLookups, kAdds, kInserts}) {
      if (directory_[shard].under_way[kind] < kBatchesMax) SendBatch(shard, kind, outbox);
    }
  }
}

void DedupCore::SendBatch(uint32_t number, Batch kind, ClientOutbox* outbox) {
  Shard& shard = directory_[number];
  Call call{.shard = number, .node = 0, .batch = true, .kind = kind, .ops = {}};
  pb::DirLookupRequest lookups;
  pb::DirUploadRequest uploads;
  while (!shard.waiting[kind].empty() && call.ops.size() < kDirBatchMax) {
    Op* op = FindOp(shard.waiting[kind].front());
    shard.waiting[kind].pop_front();
    if (op == nullptr || !op->waiting) continue;  // it gave up
    op->waiting = false;
    call.ops.push_back(op->id);
    if (kind == kLookups) {
      FillContent(std::get<Upload>(op->kind).content, lookups.add_contents());
    } else {
      FillUpload(*op, uploads.add_uploads());
    }
  }
  if (call.ops.empty()) return;
  ++shard.under_way[kind];
  RpcCall rpc;
  rpc.type = kind == kLookups ? MessageType::kDirLookup : MessageType::kDirUpload;
  rpc.timeout_ms = options_.directory_ms;
  rpc.message = kind == kLookups ? lookups.SerializeAsString() : uploads.SerializeAsString();
  Send(std::move(call), std::move(rpc), outbox);
}

void DedupCore::SendOne(Op* op, MessageType type, std::string message, Now now,
                        ClientOutbox* outbox) {
  if (op->tries++ == 0) op->since_ms = now.mono_ms;
  Call call{.shard = op->shard, .node = 0, .batch = false, .kind = kLookups, .ops = {op->id}};
  RpcCall rpc;
  rpc.type = type;
  rpc.timeout_ms = LeftMs(*op, AnswerMs(type, options_.directory_ms), now);
  rpc.message = std::move(message);
  Send(std::move(call), std::move(rpc), outbox);
}

// The message of an operation that was paused, or begins.
void DedupCore::SendAgain(Op* op, Now now, ClientOutbox* outbox) {
  if (const AskRequest* ask = std::get_if<AskRequest>(&op->kind)) {
    return SendOne(op, ask->type, ask->message, now, outbox);
  }
  if (std::holds_alternative<Change>(op->kind)) return ContinueChange(op, now, outbox);
  switch (std::get<Upload>(op->kind).step) {
    case Step::kLookup:
      return Wait(op, kLookups, now);
    case Step::kAdd:
      return Wait(op, kAdds, now);
    case Step::kInsert:
    case Step::kLose:
    case Step::kAdopt:
      return Insert(op, now, outbox);
    case Step::kCheck:
    case Step::kAppend:
    case Step::kCheckWinner:
    case Step::kCheckAnswer:
    case Step::kAlone:
      ASSERT(false);  // these wait for dsps
  }
}

// The other node is asked from now on, or the one that it names.
void DedupCore::NodeFailed(const Call& call, const CallDone& done, Now now) {
  Shard& shard = directory_[call.shard];
  const std::vector<std::string>& nodes = options_.directory[call.shard];
  if (done.err == Err::kTimeout && call.batch) shard.down_until_ms = now.mono_ms + kDownMs;
  if (shard.node % nodes.size() != call.node) return;  // it was changed already
  shard.node = call.node + 1;
  pb::NotActive hint;
  if (done.err != Err::kNotActive || !hint.ParseFromString(done.message)) return;
  const auto named = std::find(nodes.begin(), nodes.end(), hint.hint());
  if (named != nodes.end()) shard.node = static_cast<size_t>(named - nodes.begin());
}

void DedupCore::OnCallDone(CallDone&& done, Now now, ClientOutbox* outbox) {
  const auto found = calls_.find(done.call_id);
  if (found == calls_.end()) {
    ClientOutbox from;
    files_.OnCallDone(std::move(done), now, &from);
    return Take(&from, now, outbox);
  }
  const Call call = std::move(found->second);
  calls_.erase(found);
  const bool silent =
      done.err == Err::kNotActive || done.err == Err::kTimeout || done.err == Err::kUnavailable;
  if (silent) NodeFailed(call, done, now);
  if (call.batch) {
    ASSERT(directory_[call.shard].under_way[call.kind] > 0);
    --directory_[call.shard].under_way[call.kind];
    gathering_.insert(call.shard);
    return OnBatchDone(call, done, now, outbox);
  }
  Op* op = FindOp(call.ops[0]);
  if (op == nullptr || op->call != done.call_id) return;
  op->call = 0;
  const bool refused = done.err == Err::kBusy || done.err == Err::kNotServing ||
                       done.err == Err::kNotActive || !ErrMayRetry(done.err);
  op->unsure |= done.err != Err::kOk && !refused;
  OnOneDone(op, done, now, outbox);
}

void DedupCore::OnBatchDone(const Call& call, const CallDone& done, Now now, ClientOutbox* outbox) {
  Err err = done.err;
  const int expected = static_cast<int>(call.ops.size());
  pb::DirLookupReply lookups;
  pb::DirUploadReply uploads;
  if (err == Err::kOk) {
    const bool lookup = call.kind == kLookups;
    const bool good =
        lookup ? lookups.ParseFromString(done.message) && lookups.files_size() == expected
               : uploads.ParseFromString(done.message) && uploads.uploads_size() == expected;
    if (!good) err = Err::kCorrupt;
  }
  for (int i = 0; i < expected; ++i) {
    Op* op = FindOp(call.ops[static_cast<size_t>(i)]);
    if (op == nullptr || op->call != done.call_id) continue;  // it gave up
    op->call = 0;
    SetTimer(op, op->deadline_ms);
    if (err != Err::kOk) {
      ShardFailed(op, err, now, outbox);
    } else if (call.kind == kLookups) {
      OnFound(op, lookups.files(i), lookups.epoch(), now, outbox);
    } else {
      OnUploaded(op, uploads.uploads(i), now, outbox);
    }
  }
}

void DedupCore::OnOneDone(Op* op, const CallDone& done, Now now, ClientOutbox* outbox) {
  if (std::holds_alternative<Upload>(op->kind)) return OnAdopted(op, done, now, outbox);
  if (done.err != Err::kOk && ErrMayRetry(done.err)) {
    return MayWait(*op, done.err, now) ? Pause(op, done.err, now) : Fail(op, done.err, outbox);
  }
  if (std::holds_alternative<Change>(op->kind)) return OnChangeAnswer(op, done, now, outbox);
  outbox->asks.push_back(
      {.op_id = op->id, .err = done.err, .message = done.message, .unsure = op->unsure});
  Forget(op);
}

// --- What the ClientCore did ---

void DedupCore::Take(ClientOutbox* from, Now now, ClientOutbox* outbox) {
  const auto move_all = [](auto* source, auto* target) {
    for (auto& one : *source) target->push_back(std::move(one));
    source->clear();
  };
  // What they lead to goes to `outbox` at once: `from` is whole before.
  move_all(&from->calls, &outbox->calls);
  move_all(&from->stats, &outbox->stats);
  move_all(&from->statuses, &outbox->statuses);
  move_all(&from->set_deletes, &outbox->set_deletes);
  const auto owner = [&](uint64_t part, bool* ours) -> Op* {
    const auto found = parts_.find(part);
    *ours = found != parts_.end();
    if (!*ours) return nullptr;
    Op* op = FindOp(found->second);
    parts_.erase(found);
    return op;
  };
  bool ours = false;
  for (PutDone& done : std::exchange(from->puts, {})) {
    Op* op = owner(done.op_id, &ours);
    ASSERT(ours);  // all puts are begun here
    if (op != nullptr) OnAppended(op, std::move(done), now, outbox);
  }
  for (GetDone& done : std::exchange(from->gets, {})) {
    Op* op = owner(done.op_id, &ours);
    if (!ours) {
      outbox->gets.push_back(std::move(done));
    } else if (op != nullptr && std::holds_alternative<Upload>(op->kind)) {
      OnChecked(op, done, now, outbox);
    } else if (op != nullptr) {
      OnLooked(op, done, now, outbox);
    }
  }
}

// --- Deletes and undeletes ---

// The needle tells the content and so the shard; the shard tells the reference's counter, once; the
// value that it must become is sent until it is answered.
void DedupCore::ContinueChange(Op* op, Now now, ClientOutbox* outbox) {
  Change& change = std::get<Change>(op->kind);
  const auto fill = [&](auto* message) {
    FillContent(change.content, message->mutable_content());
    message->mutable_file()->set_block_id(change.request.address.block_id);
    message->mutable_file()->set_file_id(change.request.address.file_id.value);
    if (change.request.nonce.has_value()) {
      message->set_nonce(std::string(AsText(*change.request.nonce)));
    }
  };
  switch (change.step) {
    case Change::Step::kLook: {
      GetRequest get;
      get.address = change.request.address;
      get.head_only = true;
      get.include_deleted = true;
      get.timeout_ms = LeftMs(*op, UINT32_MAX, now);
      ClientOutbox from;
      parts_[files_.Get(std::move(get), now, &from)] = op->id;
      return Take(&from, now, outbox);
    }
    case Change::Step::kReference: {
      pb::DirReferenceRequest message;
      fill(&message);
      return SendOne(op, MessageType::kDirReference, message.SerializeAsString(), now, outbox);
    }
    case Change::Step::kSend: {
      pb::DirDeleteRequest message;  // an undelete has the same fields
      fill(&message);
      message.set_counter(change.counter);
      message.set_takedown(change.request.takedown);
      const MessageType type =
          change.request.undelete ? MessageType::kDirUndelete : MessageType::kDirDelete;
      return SendOne(op, type, message.SerializeAsString(), now, outbox);
    }
  }
}

void DedupCore::OnLooked(Op* op, const GetDone& done, Now now, ClientOutbox* outbox) {
  if (done.err != Err::kOk) return Fail(op, done.err, outbox);
  Change& change = std::get<Change>(op->kind);
  const Result<NeedleHead> head = ParseNeedleHead(AsBytes(done.head));
  if (!head.ok()) return Fail(op, Err::kCorrupt, outbox);
  const Result<ContentId> content = ContentOf(*head);
  if (!content.ok()) return Fail(op, Err::kCorrupt, outbox);
  change.content = *content;
  op->shard = ShardOf(content->sha1, shards());
  change.step = change.request.takedown ? Change::Step::kSend : Change::Step::kReference;
  ContinueChange(op, now, outbox);
}

void DedupCore::OnChangeAnswer(Op* op, const CallDone& done, Now now, ClientOutbox* outbox) {
  if (done.err != Err::kOk) return Fail(op, done.err, outbox);
  Change& change = std::get<Change>(op->kind);
  if (change.step == Change::Step::kSend) {
    outbox->set_deletes.push_back(
        {.op_id = op->id, .err = Err::kOk, .counter = change.request.undelete ? 0u : 1u});
    return Forget(op);
  }
  pb::DirReferenceReply reply;
  if (!reply.ParseFromString(done.message)) return Fail(op, Err::kCorrupt, outbox);
  // The next odd or even value: it also outdoes what is still under way.
  const uint32_t counter = reply.counter();
  change.counter = change.request.undelete ? (counter | 1) + 1 : (counter + 1) | 1;
  change.step = Change::Step::kSend;
  op->tries = 0;
  ContinueChange(op, now, outbox);
}

}  // namespace hayloft
