// A put, get, stat or delete as a state machine: which block, which dsp, again or give up.
//
//   Put  --> a grant from the cache --> kAppend to its primary --> PutDone
//             ^ kGrant when few           | any doubt: drop the grant, take another block
//   Get  --> a location from the cache --> kRead from a replica --> GetDone
//             ^ kLocate when unknown        | any doubt, or slow: another replica, then locate
//             again
//   SetDelete --> kStat from all replicas --> kSetDelete to all --> SetDeleteDone
//                  ^ and from those that an answer counts as up    | not all have it: again
//
// Requests enter by the methods below, which return an operation's id; every operation is answered
// exactly once, in the outbox of that call or of a later one, at the latest at its deadline. An
// append that went unanswered may have been stored: it then stays as a file that nobody knows.
//
// Bounds: operations in flight (kBusy beyond), blocks tried by a put, both caches. Not bounded
// here: the bytes in flight, which their owner counts.
// Threads: one owner. Pure: time comes in, effects leave through the outbox, jitter from `random`.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "client/client_ops.h"
#include "client/client_types.h"
#include "client/grant_cache.h"
#include "client/location_cache.h"
#include "client/replica_chooser.h"
#include "client/shared_locations.h"
#include "common/core_io.h"
#include "common/ports.h"
#include "common/proto/hayloft.pb.h"
#include "common/unreachable_peers.h"

namespace hayloft {

class ClientCore {
 public:
  // Borrows `random`, which must outlive it.
  ClientCore(ClientOptions options, Random* random);

  uint64_t Put(PutRequest&& request, Now now, ClientOutbox* outbox);
  uint64_t Get(GetRequest&& request, Now now, ClientOutbox* outbox);
  uint64_t Stat(StatRequest&& request, Now now, ClientOutbox* outbox);
  uint64_t SetDelete(SetDeleteRequest&& request, Now now, ClientOutbox* outbox);
  // Asks all nameservers at once; answered when all have, or after `timeout_ms`.
  uint64_t Status(uint32_t timeout_ms, Now now, ClientOutbox* outbox);

  // One for each call of the outbox; a second one with the same id is dropped.
  void OnCallDone(CallDone&& done, Now now, ClientOutbox* outbox);
  void OnTick(Now now, ClientOutbox* outbox);
  // When OnTick should be called next; sooner is harmless, later makes reads wait. UINT64_MAX:
  // nothing is in flight.
  uint64_t NextWakeMs() const { return timers_.empty() ? UINT64_MAX : timers_.begin()->first; }

  size_t ops_in_flight() const { return ops_.size(); }

 private:
  using Op = ClientOp;
  using Call = ClientCall;

  // client_core.cc: operations, timers, nameservers
  template <typename Kind>
  Op* NewOp(Kind* kind, uint32_t timeout_ms, Now now);
  Op* FindOp(uint64_t op_id);
  void SetTimer(Op* op, uint64_t due_ms);
  void Resume(Op* op, Now now, ClientOutbox* outbox);
  void BackOff(Op* op, Err err, Now now);
  void Answer(Op* op, Err err, ClientOutbox* outbox);  // without a result
  void Fail(Op* op, Err err, ClientOutbox* outbox);    // answers and forgets
  void Forget(Op* op);
  uint32_t TimeoutMs(const Op& op, uint32_t most_ms, Now now) const;
  void SendCall(const Call& call, RpcCall&& rpc, ClientOutbox* outbox);
  const std::string& nameserver() const { return options_.nameservers[nameserver_]; }
  void NameserverFailed(const Call& call, Err err);
  void OnStatusDone(const Call& call, const CallDone& done, ClientOutbox* outbox);

  // client_put.cc
  void StartPut(Op* op, Now now, ClientOutbox* outbox);
  void ContinuePut(Op* op, Err grant_err, Now now, ClientOutbox* outbox);
  void RequestGrants(Now now, ClientOutbox* outbox);
  void OnGrantDone(const Call& call, const CallDone& done, Now now, ClientOutbox* outbox);
  void SendAppend(Op* op, const pb::Grant& grant, Now now, ClientOutbox* outbox);
  void OnAppendDone(const Call& call, const CallDone& done, Now now, ClientOutbox* outbox);
  const pb::Grant* TakeGrant(PutOp* put, bool late_too, Now now);
  void JudgeGrant(const Call& call, Err err, uint32_t late_dsp_id, Now now);

  // client_file.cc
  uint64_t StartFile(FileOp&& file, uint32_t timeout_ms, Now now, ClientOutbox* outbox);
  void StartRound(Op* op, Now now, ClientOutbox* outbox);
  std::vector<std::string> KnownLocation(uint64_t block_id);
  void KeepLocation(uint64_t block_id, const std::vector<std::string>& replicas);
  void ForgetLocation(uint64_t block_id);
  void Locate(Op* op, Now now, ClientOutbox* outbox);
  void OnLocateDone(const Call& call, const CallDone& done, Now now, ClientOutbox* outbox);
  void AskReplicas(Op* op, Now now, ClientOutbox* outbox);
  void AskNext(Op* op, Now now, ClientOutbox* outbox);
  void AskOne(Op* op, size_t index, Now now, ClientOutbox* outbox);
  void Hedge(Op* op, Now now, ClientOutbox* outbox);
  bool AnswerSpare(Op* op, bool doubtful, ClientOutbox* outbox);  // false: there is none
  bool AnswerStat(Op* op, ClientOutbox* outbox);                  // likewise
  void RoundFailed(Op* op, Err err, Now now, ClientOutbox* outbox);
  void OnReplicaDone(const Call& call, CallDone&& done, Now now, ClientOutbox* outbox);
  void OnReadDone(Op* op, const Call& call, CallDone&& done, Now now, ClientOutbox* outbox);
  void OnStatDone(Op* op, size_t index, const CallDone& done);
  void OnSetDeleteDone(Op* op, size_t index, const CallDone& done);
  template <typename Reply>
  void NoteUp(FileOp* file, size_t index, const Reply& reply);
  void AskNewlyNamed(Op* op, Now now, ClientOutbox* outbox);
  void EndStat(Op* op, Now now, ClientOutbox* outbox);
  void BeginChange(Op* op, Now now, ClientOutbox* outbox);
  void EndChange(Op* op, Now now, ClientOutbox* outbox);

  const ClientOptions options_;
  Random* const random_;
  const uint64_t reporter_;  // our name to nameservers
  GrantCache grants_;
  LocationCache locations_;
  ReplicaChooser chooser_;
  UnreachablePeers unreachable_;
  size_t nameserver_ = 0;  // the one that was active when last heard

  std::unordered_map<uint64_t, Op> ops_;
  std::set<std::pair<uint64_t, uint64_t>> timers_;  // (due, op), one for each op
  std::unordered_map<uint64_t, Call> calls_;
  uint64_t last_op_id_ = 0;
  uint64_t last_call_id_ = 0;

  uint64_t batch_ = 0;  // of the last put that had one, and the block that it took
  uint64_t batch_block_ = 0;
  bool grants_requested_ = false;
  uint64_t next_refill_ms_ = 0;
  std::set<uint64_t> puts_without_grant_;                   // waiting for a reply to kGrant
  std::map<uint64_t, std::vector<uint64_t>> ops_locating_;  // by block, waiting for kLocate
};

}  // namespace hayloft
