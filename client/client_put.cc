// Puts: grants, appends, and what an append's error says about its block and its dsp.
#include <algorithm>

#include "client/client_core.h"
#include "common/check.h"

namespace hayloft {

namespace {

constexpr size_t kBlocksTriedMax = 8;    // for one put, beside those that were over
constexpr size_t kBlocksOverAtOnce = 8;  // then it waits a little: a dsp that restarts closes all
constexpr uint32_t kBusyTriesMax = 6;    // then the overload is passed on to the caller
constexpr uint64_t kRefillMs = 1'000;    // between requests that no put waits for
constexpr uint64_t kSlowDspMs = 2'000;
constexpr uint64_t kUnwritableDspMs = 10'000;

enum class Verdict {
  kBlockOver,       // another block of the same dsp may well do
  kDspLate,         // nothing of this dsp for a moment
  kDspUnwritable,   // nothing of this dsp for longer
  kDspBusy,         // nothing is wrong, but it has too much to do
  kBlockUncertain,  // this put goes elsewhere; others may stay
  kRequestWrong,    // no other block would take it
};

Verdict Judge(Err err) {
  switch (err) {
    case Err::kClosed:
    case Err::kStaleEpoch:
    case Err::kNotServing:
    case Err::kNotFound:
      return Verdict::kBlockOver;
    case Err::kTimeout:
    case Err::kUnavailable:
      return Verdict::kDspLate;
    case Err::kFull:
    case Err::kReadOnly:
    case Err::kIo:
      return Verdict::kDspUnwritable;
    case Err::kBusy:
      return Verdict::kDspBusy;
    default:
      return ErrMayRetry(err) ? Verdict::kBlockUncertain : Verdict::kRequestWrong;
  }
}

}  // namespace

// A grant with a late dsp costs seconds. So it is taken only when the nameserver, which is told who
// is late, has no better one.
const pb::Grant* ClientCore::TakeGrant(PutOp* put, bool late_too, Now now) {
  const uint64_t batch = put->tried.empty() ? put->request.batch : 0;
  GrantCache::Wish wish{.tried = put->tried,
                        .failed_dsps = put->failed_dsps,
                        .bytes = put->request.stored.size(),
                        .late_too = late_too};
  if (batch != 0 && batch == batch_) wish.block_id = batch_block_;
  const pb::Grant* grant = grants_.Take(wish, now.mono_ms);
  if (grant != nullptr && batch != 0) {
    batch_ = batch;
    batch_block_ = grant->block_id();
  }
  return grant;
}

void ClientCore::StartPut(Op* op, Now now, ClientOutbox* outbox) {
  PutOp& put = std::get<PutOp>(op->kind);
  ASSERT(!put.request.stored.empty());
  if (put.tried.size() >= kBlocksTriedMax + put.blocks_over) return Fail(op, op->last_err, outbox);
  if (const pb::Grant* grant = TakeGrant(&put, /*late_too=*/false, now)) {
    SendAppend(op, *grant, now, outbox);
    const bool few = grants_.usable(now.mono_ms) < options_.grants_wanted;
    if (few && now.mono_ms >= next_refill_ms_) RequestGrants(now, outbox);
    return;
  }
  if (put.no_block_since_ms == 0) put.no_block_since_ms = now.mono_ms;
  puts_without_grant_.insert(op->id);
  RequestGrants(now, outbox);
}

void ClientCore::RequestGrants(Now now, ClientOutbox* outbox) {
  if (grants_requested_) return;
  grants_requested_ = true;
  next_refill_ms_ = now.mono_ms + kRefillMs;
  pb::GrantRequest request;
  request.set_count(options_.grants_wanted);
  grants_.Describe(now.mono_ms, &request);
  request.mutable_unreachable()->set_reporter(reporter_);  // also when it reaches all
  unreachable_.Describe(now.mono_ms, request.mutable_unreachable());
  RpcCall rpc;
  rpc.address = nameserver();
  rpc.timeout_ms = options_.nameserver_timeout_ms;
  rpc.message = request.SerializeAsString();
  SendCall({.type = MessageType::kGrant, .index = nameserver_, .dsp = {}}, std::move(rpc), outbox);
}

void ClientCore::OnGrantDone(const Call& call, const CallDone& done, Now now,
                             ClientOutbox* outbox) {
  ASSERT(grants_requested_);
  grants_requested_ = false;
  Err err = done.err;
  if (err == Err::kOk) {
    pb::GrantReply reply;
    if (!reply.ParseFromString(done.message)) err = Err::kCorrupt;
    if (err == Err::kOk) {
      (void)grants_.Add(reply, now.mono_ms);  // none new: seen by whoever finds none
      // What is about to be stored there can be read while no nameserver answers.
      for (const pb::Grant& grant : reply.grants()) {
        KeepLocation(grant.block_id(), AddressesOf(grant.replicas()));
      }
    }
  } else {
    NameserverFailed(call, err);
  }
  const std::set<uint64_t> waiting = std::exchange(puts_without_grant_, {});
  for (const uint64_t op_id : waiting) {
    if (Op* op = FindOp(op_id)) ContinuePut(op, err, now, outbox);
  }
}

// After the nameserver has spoken: on with a grant, or without one.
void ClientCore::ContinuePut(Op* op, Err grant_err, Now now, ClientOutbox* outbox) {
  PutOp& put = std::get<PutOp>(op->kind);
  if (const pb::Grant* grant = TakeGrant(&put, /*late_too=*/true, now)) {
    put.no_block_since_ms = 0;
    return SendAppend(op, *grant, now, outbox);
  }
  const Err err = grant_err == Err::kOk ? Err::kNoBlock : grant_err;
  // A full cluster stays full; a block may only be a moment away.
  const uint64_t waited_ms = now.mono_ms - put.no_block_since_ms;
  const bool patient = err != Err::kNoBlock || waited_ms < options_.no_block_patience_ms;
  if (err == Err::kFull || !ErrMayRetry(err) || !patient) return Fail(op, err, outbox);
  BackOff(op, err, now);
}

void ClientCore::SendAppend(Op* op, const pb::Grant& grant, Now now, ClientOutbox* outbox) {
  PutOp& put = std::get<PutOp>(op->kind);
  const pb::Replica& primary = grant.replicas(0);
  put.set_dsps.clear();
  pb::AppendRequest request;
  request.set_block_id(grant.block_id());
  request.set_block_epoch(grant.block_epoch());
  *request.mutable_replicas() = grant.replicas();
  request.set_raw_size(put.request.raw_size);
  request.set_encoding(static_cast<uint32_t>(put.request.encoding));
  request.set_metadata(put.request.metadata);
  request.mutable_piece_crcs()->Add(put.piece_crcs.begin(), put.piece_crcs.end());
  RpcCall rpc;
  rpc.address = primary.address();
  rpc.timeout_ms = TimeoutMs(*op, options_.append_timeout_ms, now);
  rpc.message = request.SerializeAsString();
  rpc.payload = put.request.stored.Share();
  if (put.piece_crcs.size() == 1) {
    rpc.payload_crc = put.piece_crcs[0];
    rpc.payload_crc_known = true;
  }
  const Call call{.type = MessageType::kAppend,
                  .op_id = op->id,
                  .round = ++op->round,
                  .block_id = grant.block_id(),
                  .dsp_id = primary.dsp_id(),
                  .dsp = primary.address(),
                  .bytes = put.request.stored.size(),
                  .sent_ms = now.mono_ms};
  for (const pb::Replica& replica : grant.replicas()) put.set_dsps.push_back(replica.dsp_id());
  SendCall(call, std::move(rpc), outbox);
}

// An append's fate also steers the puts of others, whether or not its own put still waits.
void ClientCore::JudgeGrant(const Call& call, Err err, uint32_t late_dsp_id, Now now) {
  grants_.Failed(call.block_id, call.bytes);
  if (late_dsp_id != 0) {  // the primary has answered: not it is late
    grants_.SkipDsp(late_dsp_id, now.mono_ms + kSlowDspMs);
    return grants_.DropBlock(call.block_id, now.mono_ms);
  }
  switch (Judge(err)) {
    case Verdict::kBlockOver:
      return grants_.DropBlock(call.block_id, now.mono_ms);
    case Verdict::kDspLate:
      grants_.DropBlock(call.block_id, now.mono_ms);
      return grants_.SkipDsp(call.dsp_id, now.mono_ms + kSlowDspMs);
    case Verdict::kDspUnwritable:
      grants_.DropBlock(call.block_id, now.mono_ms);
      return grants_.DropDsp(call.dsp_id, now.mono_ms + kUnwritableDspMs);
    case Verdict::kDspBusy:
    case Verdict::kBlockUncertain:
    case Verdict::kRequestWrong:
      return;
  }
}

void ClientCore::OnAppendDone(const Call& call, const CallDone& done, Now now,
                              ClientOutbox* outbox) {
  Err err = done.err;
  pb::AppendReply reply;
  const bool parsed = reply.ParseFromString(done.message);  // an error may name the late dsp
  if (err == Err::kOk && !parsed) err = Err::kCorrupt;
  if (err == Err::kOk) {
    grants_.Answered(call.block_id, call.bytes, now.mono_ms);
  } else {
    JudgeGrant(call, err, parsed ? reply.late_dsp_id() : 0, now);
  }
  Op* op = FindOp(call.op_id);
  if (op == nullptr || op->round != call.round) return;
  PutOp& put = std::get<PutOp>(op->kind);
  if (err == Err::kOk) {
    outbox->puts.push_back({.op_id = op->id,
                            .err = Err::kOk,
                            .address = {call.block_id, FileId{reply.file_id()}},
                            .created_ms = reply.created_ms(),
                            .dsp = call.dsp});
    return Forget(op);
  }
  const Verdict verdict = Judge(err);
  if (verdict == Verdict::kRequestWrong) return Fail(op, err, outbox);
  if (verdict == Verdict::kDspBusy) {
    if (op->pauses >= kBusyTriesMax) return Fail(op, err, outbox);
    return BackOff(op, err, now);
  }
  op->last_err = err;
  put.tried.push_back(call.block_id);
  for (const uint32_t dsp_id : put.set_dsps) put.failed_dsps.push_back(dsp_id);
  if (verdict == Verdict::kBlockOver && ++put.blocks_over % kBlocksOverAtOnce == 0) {
    return BackOff(op, err, now);
  }
  StartPut(op, now, outbox);
}

}  // namespace hayloft
