// Gets, stats and deletes: where the file is, its replicas in rounds, and which answers are facts.
#include <algorithm>

#include "client/client_core.h"
#include "common/check.h"
#include "common/log.h"
#include "common/mutant.h"

namespace hayloft {

namespace {

constexpr size_t kNamedMax = 2 * kReplicasMax;  // replicas of one block, located and told of

// The head names the file that was asked for, and the payload covers what was asked of it.
Err CheckRead(const GetRequest& request, bool head_only, const pb::ReadReply& reply,
              uint64_t payload_bytes) {
  if (request.live_only && reply.head().empty() && payload_bytes == 0) return Err::kOk;
  TRY_ASSIGN(const NeedleHead head, ParseNeedleHead(AsBytes(reply.head())));
  if (head.header.block_id != request.address.block_id) return Err::kCorrupt;
  if (head.file_id() != request.address.file_id) return Err::kCorrupt;
  const uint64_t stored_bytes = head.header.stored_size;
  if (reply.offset() > stored_bytes || payload_bytes > stored_bytes - reply.offset()) {
    return Err::kCorrupt;
  }
  if (head_only) return Err::kOk;
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

bool AllAsked(const FileOp& file) { return file.asked + 1 == 1u << file.replicas.size(); }

bool Contains(const std::vector<std::string>& list, const std::string& one) {
  return std::find(list.begin(), list.end(), one) != list.end();
}

// What a replica may say about a file. Any other error is about the replica itself (it doesn't know
// our key, it is of another version), and another one may be fine.
bool IsFact(Err err) {
  return err == Err::kNotFound || err == Err::kGone || err == Err::kRange || err == Err::kInvalid;
}

bool Deletes(const FileOp& file) {
  const SetDeleteRequest* request = std::get_if<SetDeleteRequest>(&file.request);
  return request != nullptr && !request->look_only;
}

bool IsOdd(uint32_t counter) { return counter % 2 == 1; }

struct RoundErrs {
  size_t fine = 0;
  Err fact = Err::kOk;
  Err doubt = Err::kOk;
};
RoundErrs ErrsOf(const StatDone& round) {
  RoundErrs errs;
  for (const StatReplica& replica : round.replicas) {
    if (replica.err == Err::kOk) {
      ++errs.fine;
    } else {
      (ErrMayRetry(replica.err) ? errs.doubt : errs.fact) = replica.err;
    }
  }
  return errs;
}

// A serving replica answered, and all whom the answers count as up; all that were located, if the
// answers don't tell.
bool EnoughToChange(const FileOp& file) {
  const std::vector<StatReplica>& answers = file.stat.replicas;
  const auto has_answered = [&](const std::string& dsp) {
    return std::any_of(answers.begin(), answers.end(), [&](const StatReplica& replica) {
      return replica.dsp == dsp && replica.err == Err::kOk;
    });
  };
  const DeleteRound& deletes = file.deletes;
  const std::vector<std::string>& needed = deletes.up_known ? deletes.needed : file.replicas;
  return deletes.serving && std::all_of(needed.begin(), needed.end(), has_answered);
}

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
  file.replicas = KnownLocation(file.address.block_id);
  // Before each delete: no cache tells whether the cluster has got a directory.
  const bool deletes = Deletes(file) && !options_.of_directory && !file.located;
  if (file.replicas.empty() || file.relocate || deletes) return Locate(op, now, outbox);
  AskReplicas(op, now, outbox);
}

// A shared one is as good as an own one: who finds it wrong asks again.
std::vector<std::string> ClientCore::KnownLocation(uint64_t block_id) {
  std::vector<std::string> replicas = locations_.Find(block_id);
  if (!replicas.empty() || options_.shared_locations == nullptr) return replicas;
  replicas = options_.shared_locations->Find(block_id);
  if (!replicas.empty()) locations_.Put(block_id, replicas);
  return replicas;
}

void ClientCore::KeepLocation(uint64_t block_id, const std::vector<std::string>& replicas) {
  if (replicas.empty()) return;
  locations_.Put(block_id, replicas);
  if (options_.shared_locations != nullptr) options_.shared_locations->Put(block_id, replicas);
}

void ClientCore::ForgetLocation(uint64_t block_id) {
  locations_.Erase(block_id);
  if (options_.shared_locations != nullptr) options_.shared_locations->Erase(block_id);
}

void ClientCore::Locate(Op* op, Now now, ClientOutbox* outbox) {
  const uint64_t block_id = std::get<FileOp>(op->kind).address.block_id;
  SetTimer(op, op->deadline_ms);  // a hedge that was due would begin another round
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
  SendCall({.type = MessageType::kLocate, .index = nameserver_, .block_id = block_id, .dsp = {}},
           std::move(rpc), outbox);
}

void ClientCore::OnLocateDone(const Call& call, const CallDone& done, Now now,
                              ClientOutbox* outbox) {
  pb::LocateReply reply;
  Err err = done.err;
  if (err != Err::kOk) {
    NameserverFailed(call, err);
  } else if (!reply.ParseFromString(done.message) || reply.locations_size() != 1) {
    err = Err::kCorrupt;
  }
  const bool past_directory = reply.directory_shards() != 0 && !options_.of_directory;
  std::vector<std::string> replicas;
  if (err == Err::kOk) {
    const pb::Location& location = reply.locations(0);
    replicas = AddressesOf(location.replicas());
    if (!replicas.empty()) {
      KeepLocation(call.block_id, replicas);
    } else {
      // A nameserver to which some dsp has not yet spoken can't know that a block does not exist.
      const bool unknown = location.state() == pb::BLOCK_UNKNOWN && reply.complete();
      err = unknown ? Err::kNotFound : Err::kUnavailable;
      if (unknown) ForgetLocation(call.block_id);
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
    file.located |= err == Err::kOk;
    file.fresh = true;
    file.replicas = replicas;
    if (past_directory && Deletes(file)) {
      LOG_ERROR("delete_refused", "cause=cluster_has_a_directory option=directory");
      Fail(op, Err::kConfig, outbox);  // others may share the file
    } else if (err == Err::kOk) {
      AskReplicas(op, now, outbox);
    } else if (!ErrMayRetry(err)) {
      Fail(op, err, outbox);
    } else if (!AnswerSpare(op, /*doubtful=*/true, outbox)) {
      BackOff(op, err, now);
    }
  }
}

// A get asks one replica, and another when that fails or takes long; the others ask all at once.
void ClientCore::AskReplicas(Op* op, Now now, ClientOutbox* outbox) {
  FileOp& file = std::get<FileOp>(op->kind);
  ASSERT(!file.replicas.empty());
  ASSERT(file.replicas.size() <= kNamedMax);
  ASSERT(file.awaited == 0);
  file.asked = 0;
  file.stat = {};
  file.refused = 0;
  file.deletes = {};
  if (std::holds_alternative<GetRequest>(file.request)) {
    chooser_.CountRead();
    AskNext(op, now, outbox);
    file.insist_ms = now.mono_ms + (op->deadline_ms - now.mono_ms) / 2;
    if (file.replicas.size() > 1) SetTimer(op, now.mono_ms + chooser_.hedge_after_ms());
    return;
  }
  file.deletes.set_size = file.replicas.size();
  AskNewlyNamed(op, now, outbox);
}

void ClientCore::AskNext(Op* op, Now now, ClientOutbox* outbox) {
  const FileOp& file = std::get<FileOp>(op->kind);
  AskOne(op, chooser_.Choose(file.replicas, file.asked, now.mono_ms, random_), now, outbox);
}

// All replicas that weren't asked in this round.
void ClientCore::AskNewlyNamed(Op* op, Now now, ClientOutbox* outbox) {
  FileOp& file = std::get<FileOp>(op->kind);
  for (size_t i = file.stat.replicas.size(); i < file.replicas.size(); ++i) {
    file.stat.replicas.push_back({.dsp = file.replicas[i], .err = Err::kTimeout});
    AskOne(op, i, now, outbox);
  }
}

// This read takes longer than most. If there is no hedge for it, or the second replica hangs too,
// it asks the next one when half of its time is over, and then of what is left: it must not fail
// because of who was asked first.
void ClientCore::Hedge(Op* op, Now now, ClientOutbox* outbox) {
  FileOp& file = std::get<FileOp>(op->kind);
  if (!std::holds_alternative<GetRequest>(file.request) || AllAsked(file)) return;
  const bool insist = now.mono_ms >= file.insist_ms;
  if (insist) file.insist_ms = now.mono_ms + (op->deadline_ms - now.mono_ms) / 2;
  if (insist || chooser_.TakeHedge()) AskNext(op, now, outbox);
  if (!AllAsked(file)) SetTimer(op, file.insist_ms);
}

void ClientCore::AskOne(Op* op, size_t index, Now now, ClientOutbox* outbox) {
  FileOp& file = std::get<FileOp>(op->kind);
  ASSERT(index < file.replicas.size());
  ASSERT((file.asked >> index & 1) == 0);
  Call call{.type = MessageType::kStat,
            .op_id = op->id,
            .round = op->round,
            .index = index,
            .dsp = file.replicas[index],
            .sent_ms = now.mono_ms};
  RpcCall rpc;
  const uint64_t block_id = file.address.block_id;
  const uint64_t file_id = file.address.file_id.value;
  if (const GetRequest* get = std::get_if<GetRequest>(&file.request)) {
    call.type = MessageType::kRead;
    chooser_.Sent(call.dsp);
    pb::ReadRequest request;
    request.set_block_id(block_id);
    request.set_file_id(file_id);
    request.set_offset(get->offset);
    request.set_length(get->length);
    request.set_suffix(get->suffix);
    request.set_include_deleted(get->include_deleted);
    // Once there are a doubtful replica's bytes, others need only say whether the file is there.
    request.set_head_only(get->head_only || file.spare != nullptr);
    request.set_live_only(get->live_only);
    call.head_only = request.head_only();
    rpc.message = request.SerializeAsString();
  } else if (file.counter_known) {
    call.type = MessageType::kSetDelete;
    pb::SetDeleteRequest request;
    request.set_block_id(block_id);
    request.set_file_id(file_id);
    request.set_counter(file.counter);
    for (const auto* named : {&file.named, &file.deletes.numbers}) {
      const auto at = named->find(call.dsp);
      if (at != named->end()) request.set_member(at->second);
    }
    rpc.message = request.SerializeAsString();
  } else {
    pb::StatRequest request;
    request.set_block_id(block_id);
    request.set_file_id(file_id);
    rpc.message = request.SerializeAsString();
  }
  rpc.address = call.dsp;
  rpc.timeout_ms = TimeoutMs(*op, options_.read_timeout_ms, now);
  file.asked |= 1u << index;
  ++file.awaited;
  SendCall(call, std::move(rpc), outbox);
}

// No replica gave a fact. What the cache knew may be old: ask the nameserver once, then pause.
void ClientCore::RoundFailed(Op* op, Err err, Now now, ClientOutbox* outbox) {
  FileOp& file = std::get<FileOp>(op->kind);
  op->last_err = err;
  if (file.refused == file.replicas.size()) return Fail(op, err, outbox);
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
  if (call.type == MessageType::kRead) {
    return OnReadDone(op, call, std::move(done), now, outbox);
  }
  if (call.type == MessageType::kStat) {
    OnStatDone(op, call.index, done);
  } else {
    OnSetDeleteDone(op, call.index, done);
  }
  const bool stat = std::holds_alternative<StatRequest>(file.request);
  if (!stat) AskNewlyNamed(op, now, outbox);
  if (!stat && file.counter_known) return EndChange(op, now, outbox);
  if (!stat && EnoughToChange(file)) return BeginChange(op, now, outbox);
  if (file.awaited == 0) EndStat(op, now, outbox);
}

// The first answer that is a fact is the operation's: a dsp says that there is no such file only if
// it may be believed. A doubtful one's bytes wait for a better answer.
void ClientCore::OnReadDone(Op* op, const Call& call, CallDone&& done, Now now,
                            ClientOutbox* outbox) {
  FileOp& file = std::get<FileOp>(op->kind);
  const GetRequest& request = std::get<GetRequest>(file.request);
  const std::string& replica = file.replicas[call.index];
  Err err = done.err;
  pb::ReadReply reply;
  if (err == Err::kOk && !reply.ParseFromString(done.message)) err = Err::kCorrupt;
  if (err == Err::kOk) err = CheckRead(request, call.head_only, reply, done.payload.size());
  if (err == Err::kCorrupt && done.err == Err::kOk) {
    LOG_WARN("wrong_read_reply", "dsp=%s block=%llu action=ask_another", replica.c_str(),
             static_cast<unsigned long long>(file.address.block_id));
  }
  if (err == Err::kOk && call.head_only && !request.head_only) {
    ASSERT(file.spare != nullptr);
    if (!reply.doubtful()) {
      // Who sent the bytes may not know the last delete or undelete.
      file.spare->delete_counter = std::max(file.spare->delete_counter, reply.delete_counter());
      file.spare->dsp = replica;
      (void)AnswerSpare(op, /*doubtful=*/false, outbox);  // there is one
      return;
    }
    err = Err::kNotServing;
  } else if (err == Err::kOk) {
    GetDone got;
    got.op_id = op->id;
    got.head = std::move(*reply.mutable_head());
    got.payload = std::move(done.payload);
    got.offset = reply.offset();
    got.delete_counter = reply.delete_counter();
    got.block_open = reply.block_open() == 1;
    got.dsp = replica;
    if (!reply.doubtful()) {
      outbox->gets.push_back(std::move(got));
      return Forget(op);
    }
    if (file.spare == nullptr) file.spare = std::make_unique<GetDone>(std::move(got));
    err = Err::kNotServing;
  }
  if (IsFact(err)) return Fail(op, err, outbox);
  if (!ErrMayRetry(err)) ++file.refused;
  op->last_err = err;
  if (!AllAsked(file)) return AskNext(op, now, outbox);
  if (file.awaited > 0) return;
  // A doubtful replica has others beside it: who knows of none asks for them once.
  const bool alone = file.replicas.size() == 1 && !file.fresh && request.dsp.empty();
  if (!alone && AnswerSpare(op, /*doubtful=*/true, outbox)) return;
  RoundFailed(op, err, now, outbox);
}

bool ClientCore::AnswerSpare(Op* op, bool doubtful, ClientOutbox* outbox) {
  FileOp* file = std::get_if<FileOp>(&op->kind);
  if (file == nullptr || file->spare == nullptr) return false;
  file->spare->doubtful = doubtful;
  outbox->gets.push_back(std::move(*file->spare));
  Forget(op);
  return true;
}

// The time is over, and not all replicas have answered.
bool ClientCore::AnswerStat(Op* op, ClientOutbox* outbox) {
  FileOp* file = std::get_if<FileOp>(&op->kind);
  if (file == nullptr || !std::holds_alternative<StatRequest>(file->request)) return false;
  if (ErrsOf(file->stat).fine == 0) return false;
  Answer(op, Err::kOk, outbox);
  Forget(op);
  return true;
}

// Adds those that an answer counts as up, the answerer too, to who must have a delete, and to who
// is asked in this round.
template <typename Reply>
void ClientCore::NoteUp(FileOp* file, size_t index, const Reply& reply) {
  DeleteRound& deletes = file->deletes;
  const auto add = [](std::vector<std::string>* list, const std::string& one) {
    if (list->size() == kNamedMax) return;
    if (!Contains(*list, one)) list->push_back(one);
  };
  const bool told = reply.up_size() > 0;
  deletes.up_known |= told;
  deletes.serving |= reply.serving() || !told;
  deletes.set_size = std::max<size_t>(deletes.set_size, reply.set_size());
  add(&deletes.needed, file->replicas[index]);
  for (const pb::Replica& replica : reply.up()) {
    if (replica.address().empty()) continue;
    if (deletes.needed.size() < kNamedMax) deletes.numbers[replica.address()] = replica.dsp_id();
    add(&deletes.needed, replica.address());
    add(&file->replicas, replica.address());
  }
}

void ClientCore::OnStatDone(Op* op, size_t index, const CallDone& done) {
  FileOp& file = std::get<FileOp>(op->kind);
  StatDone& best = file.stat;
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
  best.doubtful = best.doubtful && !(reply.serving() || reply.up_size() == 0);
  if (!std::holds_alternative<StatRequest>(file.request)) NoteUp(&file, index, reply);
}

void ClientCore::OnSetDeleteDone(Op* op, size_t index, const CallDone& done) {
  FileOp& file = std::get<FileOp>(op->kind);
  Err err = done.err;
  pb::SetDeleteReply reply;
  if (err == Err::kOk && !reply.ParseFromString(done.message)) err = Err::kCorrupt;
  if (err == Err::kOk && reply.counter() < file.counter) err = Err::kCorrupt;
  file.stat.replicas[index].err = err;
  if (err != Err::kOk) return;
  file.stat.delete_counter = std::max(file.stat.delete_counter, reply.counter());
  NoteUp(&file, index, reply);
}

// All replicas of a stat's round have answered, or of a delete's, of which too few could.
void ClientCore::EndStat(Op* op, Now now, ClientOutbox* outbox) {
  FileOp& file = std::get<FileOp>(op->kind);
  const RoundErrs errs = ErrsOf(file.stat);
  // The first positive answer wins: who has the file knows more than who hasn't.
  if (errs.fine == 0 && errs.fact != Err::kOk) return Fail(op, errs.fact, outbox);
  if (errs.fine == 0) return RoundFailed(op, errs.doubt, now, outbox);
  if (std::holds_alternative<StatRequest>(file.request)) {
    file.stat.op_id = op->id;
    outbox->stats.push_back(std::move(file.stat));
    return Forget(op);
  }
  if (!file.deletes.serving) return RoundFailed(op, Err::kNotServing, now, outbox);
  BeginChange(op, now, outbox);
}

void ClientCore::BeginChange(Op* op, Now now, ClientOutbox* outbox) {
  FileOp& file = std::get<FileOp>(op->kind);
  ASSERT(!file.counter_known);
  const SetDeleteRequest& request = std::get<SetDeleteRequest>(file.request);
  if (request.look_only) {
    outbox->set_deletes.push_back({.op_id = op->id,
                                   .err = Err::kOk,
                                   .counter = file.stat.delete_counter,
                                   .head = std::move(file.stat.head),
                                   .purged = file.stat.purged});
    return Forget(op);
  }
  const bool undelete = request.undelete;
  if (undelete && file.stat.purged) return Fail(op, Err::kGone, outbox);
  // Read once: the value is the operation's name from now on, however often it is repeated. It is
  // sent also when it is so already: only some replicas may have it, or not yet synced.
  file.counter = file.stat.delete_counter;
  if (IsOdd(file.counter) == undelete) ++file.counter;
  if (request.counter != 0) file.counter = request.counter;
  if (file.counter == 0) {  // never deleted, and shall not be: there is no value to send
    outbox->set_deletes.push_back({op->id, Err::kOk, 0});
    return Forget(op);
  }
  file.counter_known = true;
  file.named = file.deletes.numbers;
  file.awaited = 0;
  ++op->round;
  AskReplicas(op, now, outbox);
}

// Called at each answer: it need not wait for a replica that nobody counts as up.
void ClientCore::EndChange(Op* op, Now now, ClientOutbox* outbox) {
  const FileOp& file = std::get<FileOp>(op->kind);
  const RoundErrs errs = ErrsOf(file.stat);
  if (errs.fact != Err::kOk) return Fail(op, errs.fact, outbox);
  const bool enough = errs.fine >= std::min<size_t>(2, file.deletes.set_size);
  const bool any = IsMutant(Mutant::kDeleteByAnyOne) && errs.fine > 0;
  if ((enough && EnoughToChange(file)) || any) {
    outbox->set_deletes.push_back({op->id, Err::kOk, file.stat.delete_counter});
    return Forget(op);
  }
  if (file.awaited > 0) return;
  RoundFailed(op, errs.doubt != Err::kOk ? errs.doubt : Err::kUnavailable, now, outbox);
}

}  // namespace hayloft
