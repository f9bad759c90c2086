// Gets, stats and deletes: where the file is, its replicas in rounds, and which answers are facts.
#include <algorithm>

#include "client/client_core.h"
#include "common/check.h"
#include "common/log.h"

namespace hayloft {

namespace {

// The head names the file that was asked for, and the payload covers what was asked of it.
Err CheckRead(const GetRequest& request, const pb::ReadReply& reply, uint64_t payload_bytes) {
  TRY_ASSIGN(const NeedleHead head, ParseNeedleHead(AsBytes(reply.head())));
  if (head.header.block_id != request.address.block_id) return Err::kCorrupt;
  if (head.file_id() != request.address.file_id) return Err::kCorrupt;
  const uint64_t stored_bytes = head.header.stored_size;
  if (reply.offset() > stored_bytes || payload_bytes > stored_bytes - reply.offset()) {
    return Err::kCorrupt;
  }
  if (request.head_only) return Err::kOk;
  const bool whole = reply.offset() == 0 && payload_bytes == stored_bytes;
  if (head.header.encoding != static_cast<uint8_t>(Encoding::kIdentity) || whole) {
    return whole ? Err::kOk : Err::kCorrupt;
  }
  uint64_t begin = request.offset;
  uint64_t end = stored_bytes;
  if (request.suffix > 0) {
    begin = stored_bytes - std::min(request.suffix, stored_bytes);
  } else if (request.length > 0 && begin < stored_bytes) {
    end = begin + std::min(request.length, stored_bytes - begin);
  }
  const bool covered = reply.offset() <= begin && reply.offset() + payload_bytes >= end;
  return covered ? Err::kOk : Err::kCorrupt;
}

bool IsOdd(uint32_t counter) { return counter % 2 == 1; }

}  // namespace

void ClientCore::StartRound(Op* op, Now now, ClientOutbox* outbox) {
  FileOp& file = std::get<FileOp>(op->kind);
  ++op->round;
  file.fresh = false;
  const GetRequest* get = std::get_if<GetRequest>(&file.request);
  if (get != nullptr && !get->dsp.empty()) {
    file.replicas = {get->dsp};
    return AskReplicas(op, now, outbox);
  }
  file.replicas = locations_.Find(file.address.block_id);
  if (file.replicas.empty() || file.relocate) return Locate(op, now, outbox);
  AskReplicas(op, now, outbox);
}

void ClientCore::Locate(Op* op, Now now, ClientOutbox* outbox) {
  const uint64_t block_id = std::get<FileOp>(op->kind).address.block_id;
  std::vector<uint64_t>& waiting = ops_locating_[block_id];
  waiting.push_back(op->id);
  if (waiting.size() > 1) return;  // asked already
  pb::LocateRequest request;
  request.add_block_ids(block_id);
  if (!unreachable_.empty()) {
    request.mutable_unreachable()->set_reporter(reporter_);
    unreachable_.Describe(now.mono_ms, request.mutable_unreachable());
  }
  RpcCall rpc;
  rpc.address = nameserver();
  rpc.timeout_ms = options_.nameserver_timeout_ms;
  rpc.message = request.SerializeAsString();
  SendCall({.type = MessageType::kLocate, .block_id = block_id, .dsp = {}}, std::move(rpc), outbox);
}

void ClientCore::OnLocateDone(const Call& call, const CallDone& done, Now now,
                              ClientOutbox* outbox) {
  pb::LocateReply reply;
  Err err = done.err;
  if (err != Err::kOk) {
    NameserverFailed(err);
  } else if (!reply.ParseFromString(done.message) || reply.locations_size() != 1) {
    err = Err::kCorrupt;
  }
  std::vector<std::string> replicas;
  if (err == Err::kOk) {
    const pb::Location& location = reply.locations(0);
    for (const pb::Replica& replica : location.replicas()) {
      if (replicas.size() < kReplicasMax) replicas.push_back(replica.address());
    }
    if (!replicas.empty()) {
      locations_.Put(call.block_id, replicas);
    } else {
      // A nameserver to which some dsp has not yet spoken can't know that a block does not exist.
      const bool unknown = location.state() == pb::BLOCK_UNKNOWN && reply.complete();
      err = unknown ? Err::kNotFound : Err::kUnavailable;
      if (unknown) locations_.Erase(call.block_id);
    }
  }
  const auto waiting = ops_locating_.extract(call.block_id);
  ASSERT(!waiting.empty());
  for (const uint64_t op_id : waiting.mapped()) {
    Op* op = FindOp(op_id);
    if (op == nullptr) continue;
    FileOp& file = std::get<FileOp>(op->kind);
    // With no nameserver the old location is the best there is: dsps keep their addresses.
    file.relocate = false;
    file.fresh = true;
    file.replicas = replicas;
    if (err == Err::kOk) {
      AskReplicas(op, now, outbox);
    } else if (err == Err::kNotFound) {
      Fail(op, err, outbox);
    } else {
      BackOff(op, err, now);
    }
  }
}

// A get asks one replica after the other, from a random one on; the others ask all at once.
void ClientCore::AskReplicas(Op* op, Now now, ClientOutbox* outbox) {
  FileOp& file = std::get<FileOp>(op->kind);
  ASSERT(!file.replicas.empty());
  file.asked = 0;
  file.awaited = 0;
  file.stat = {};
  if (std::holds_alternative<GetRequest>(file.request)) {
    const auto first = static_cast<ptrdiff_t>(random_->Below(file.replicas.size()));
    std::rotate(file.replicas.begin(), file.replicas.begin() + first, file.replicas.end());
    return AskOne(op, now, outbox);
  }
  for (const std::string& replica : file.replicas) {
    file.stat.replicas.push_back({.dsp = replica, .err = Err::kTimeout});
  }
  while (file.asked < file.replicas.size()) AskOne(op, now, outbox);
}

void ClientCore::AskOne(Op* op, Now now, ClientOutbox* outbox) {
  FileOp& file = std::get<FileOp>(op->kind);
  ASSERT(file.asked < file.replicas.size());
  Call call{.type = MessageType::kStat,
            .op_id = op->id,
            .round = op->round,
            .index = file.asked,
            .dsp = file.replicas[file.asked],
            .sent_ms = now.mono_ms};
  RpcCall rpc;
  const uint64_t block_id = file.address.block_id;
  const uint64_t file_id = file.address.file_id.value;
  if (const GetRequest* get = std::get_if<GetRequest>(&file.request)) {
    call.type = MessageType::kRead;
    pb::ReadRequest request;
    request.set_block_id(block_id);
    request.set_file_id(file_id);
    request.set_offset(get->offset);
    request.set_length(get->length);
    request.set_suffix(get->suffix);
    request.set_include_deleted(get->include_deleted);
    request.set_head_only(get->head_only);
    rpc.message = request.SerializeAsString();
  } else if (file.counter_known) {
    call.type = MessageType::kSetDelete;
    pb::SetDeleteRequest request;
    request.set_block_id(block_id);
    request.set_file_id(file_id);
    request.set_counter(file.counter);
    rpc.message = request.SerializeAsString();
  } else {
    pb::StatRequest request;
    request.set_block_id(block_id);
    request.set_file_id(file_id);
    rpc.message = request.SerializeAsString();
  }
  rpc.address = file.replicas[file.asked];
  rpc.timeout_ms = TimeoutMs(*op, options_.read_timeout_ms, now);
  ++file.asked;
  ++file.awaited;
  SendCall(call, std::move(rpc), outbox);
}

// No replica gave a fact. What the cache knew may be old: ask the nameserver once, then pause.
void ClientCore::RoundFailed(Op* op, Err err, Now now, ClientOutbox* outbox) {
  FileOp& file = std::get<FileOp>(op->kind);
  ASSERT(ErrMayRetry(err));
  op->last_err = err;
  const GetRequest* get = std::get_if<GetRequest>(&file.request);
  const bool one_dsp_only = get != nullptr && !get->dsp.empty();
  if (file.fresh || one_dsp_only) return BackOff(op, err, now);
  file.relocate = true;
  StartRound(op, now, outbox);
}

void ClientCore::OnReplicaDone(const Call& call, CallDone&& done, Now now, ClientOutbox* outbox) {
  Op* op = FindOp(call.op_id);
  if (op == nullptr || op->round != call.round) return;
  FileOp& file = std::get<FileOp>(op->kind);
  ASSERT(file.awaited > 0);
  --file.awaited;
  if (call.type == MessageType::kRead) return OnReadDone(op, std::move(done), now, outbox);
  if (call.type == MessageType::kStat) {
    OnStatDone(op, call.index, done);
  } else {
    OnSetDeleteDone(op, call.index, done);
  }
  if (file.awaited == 0) EndRound(op, now, outbox);
}

void ClientCore::OnReadDone(Op* op, CallDone&& done, Now now, ClientOutbox* outbox) {
  FileOp& file = std::get<FileOp>(op->kind);
  const GetRequest& request = std::get<GetRequest>(file.request);
  const std::string& replica = file.replicas[file.asked - 1];
  Err err = done.err;
  pb::ReadReply reply;
  if (err == Err::kOk && !reply.ParseFromString(done.message)) err = Err::kCorrupt;
  if (err == Err::kOk) err = CheckRead(request, reply, done.payload.size());
  if (err == Err::kCorrupt && done.err == Err::kOk) {
    LOG_WARN("wrong_read_reply", "dsp=%s block=%llu action=ask_another", replica.c_str(),
             static_cast<unsigned long long>(file.address.block_id));
  }
  if (err == Err::kOk) {
    GetDone got;
    got.op_id = op->id;
    got.head = std::move(*reply.mutable_head());
    got.payload = std::move(done.payload);
    got.offset = reply.offset();
    got.delete_counter = reply.delete_counter();
    got.block_open = reply.block_open() == 1;
    got.dsp = replica;
    outbox->gets.push_back(std::move(got));
    return Forget(op);
  }
  if (!ErrMayRetry(err)) return Fail(op, err, outbox);
  op->last_err = err;
  if (file.asked < file.replicas.size()) return AskOne(op, now, outbox);
  RoundFailed(op, err, now, outbox);
}

void ClientCore::OnStatDone(Op* op, size_t index, const CallDone& done) {
  StatDone& best = std::get<FileOp>(op->kind).stat;
  Err err = done.err;
  pb::StatReply reply;
  if (err == Err::kOk && !reply.ParseFromString(done.message)) err = Err::kCorrupt;
  best.replicas[index].err = err;
  if (err != Err::kOk) return;
  // Replicas merge by maximum, so that the greatest counter is what all come to.
  if (best.head.empty() || reply.delete_counter() > best.delete_counter) {
    best.head = reply.head();
    best.delete_counter = reply.delete_counter();
    best.changed_ms = reply.delete_changed_ms();
  }
  best.purged |= reply.purged();
}

void ClientCore::OnSetDeleteDone(Op* op, size_t index, const CallDone& done) {
  StatDone& best = std::get<FileOp>(op->kind).stat;
  Err err = done.err;
  pb::SetDeleteReply reply;
  if (err == Err::kOk && !reply.ParseFromString(done.message)) err = Err::kCorrupt;
  best.replicas[index].err = err;
  if (err == Err::kOk) best.delete_counter = std::max(best.delete_counter, reply.counter());
}

// All replicas of a stat's or delete's round have answered.
void ClientCore::EndRound(Op* op, Now now, ClientOutbox* outbox) {
  FileOp& file = std::get<FileOp>(op->kind);
  size_t fine = 0;
  Err fact = Err::kOk;
  Err doubt = Err::kOk;
  for (const StatReplica& replica : file.stat.replicas) {
    if (replica.err == Err::kOk) {
      ++fine;
    } else {
      (ErrMayRetry(replica.err) ? doubt : fact) = replica.err;
    }
  }
  if (file.counter_known) {
    if (fact != Err::kOk) return Fail(op, fact, outbox);
    if (doubt != Err::kOk) return RoundFailed(op, doubt, now, outbox);
    outbox->set_deletes.push_back({op->id, Err::kOk, file.stat.delete_counter});
    return Forget(op);
  }
  // The first positive answer wins: who has the file knows more than who hasn't.
  if (fine == 0 && fact != Err::kOk) return Fail(op, fact, outbox);
  if (fine == 0) return RoundFailed(op, doubt, now, outbox);
  if (std::holds_alternative<StatRequest>(file.request)) {
    file.stat.op_id = op->id;
    outbox->stats.push_back(std::move(file.stat));
    return Forget(op);
  }
  const bool undelete = std::get<SetDeleteRequest>(file.request).undelete;
  if (undelete && file.stat.purged) return Fail(op, Err::kGone, outbox);
  // Read once: the value is the operation's name from now on, however often it is repeated. It is
  // sent also when it is so already: only some replicas may have it, or not yet synced.
  file.counter = file.stat.delete_counter;
  if (IsOdd(file.counter) == undelete) ++file.counter;
  if (file.counter == 0) {  // never deleted, and shall not be: there is no value to send
    outbox->set_deletes.push_back({op->id, Err::kOk, 0});
    return Forget(op);
  }
  file.counter_known = true;
  ++op->round;
  AskReplicas(op, now, outbox);
}

}  // namespace hayloft
