// Uploads and deletes that go through the directory (docs/directory.md): what a client does so that
// the same image is stored once, and that nobody's delete takes another's image.
//
//   Put --> look up -- hit --> is it live on the dsps? --> add -----------------------> PutDone
//              |                  '-- no --.                 '-- not any more: look up
//              '-- miss ----------> append --> insert ---------------------------------> PutDone
//                                                '-- another won: live? --> lose ------> PutDone
//
// A shard that is down, or slower than `directory_ms`, holds up no upload: before an insert was
// sent the bytes are stored as a file of their own, under a new nonce if the shard has seen the old
// one. After that only the shard's answer counts: the same is sent again; if none comes in
// kPatienceMs, the bytes are appended once more under a new nonce, and nothing else is said of the
// first. With an Idempotency-Key there is no such way out: kUnavailable.
//
// Deletes, undeletes and names need the shard. They wait kTakeoverMs for one of its nodes to become
// active, and kSilentMs if none of them says anything.
//
// Messages to a shard go in batches: what comes up in one turn goes together, and while kBatchesMax
// are under way the next one gathers.
// Without a directory all this is a ClientCore.
//
// Bounds: those of the ClientCore; messages to a shard at a time. Threads: one owner. Pure: time
// comes in, effects leave through the outbox, randomness from `random`.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "client/client_core.h"
#include "client/dedup_ops.h"
#include "common/content.h"

namespace hayloft {

class DedupCore {
 public:
  static constexpr uint64_t kPatienceMs = 2'000;  // for the answer to an insert
  static constexpr uint64_t kDownMs = 1'000;      // a shard that was silent is not asked
  static constexpr uint64_t kTakeoverMs = 3'000;  // until the standby of a dead active answers
  static constexpr uint64_t kSilentMs = 1'000;    // of both nodes: there is none to take over
  static constexpr uint64_t kPauseMs = 30;        // before a message is sent again
  static constexpr size_t kBatchesMax = 1;        // of one kind to one shard
  static constexpr uint32_t kRoundsMax = 8;       // look-ups and inserts of one upload

  // Borrows `random`, which must outlive it.
  DedupCore(ClientOptions options, Random* random);

  // As those of ClientCore; each returns the id that the answer has.
  uint64_t Put(PutRequest&& request, Now now, ClientOutbox* outbox);
  uint64_t Get(GetRequest&& request, Now now, ClientOutbox* outbox);
  uint64_t Stat(StatRequest&& request, Now now, ClientOutbox* outbox);
  // With a directory `nonce` or `takedown` is needed: kInvalid.
  uint64_t SetDelete(SetDeleteRequest&& request, Now now, ClientOutbox* outbox);
  uint64_t Status(uint32_t timeout_ms, Now now, ClientOutbox* outbox);
  uint64_t Ask(AskRequest&& request, Now now, ClientOutbox* outbox);

  void OnCallDone(CallDone&& done, Now now, ClientOutbox* outbox);
  void OnTick(Now now, ClientOutbox* outbox);
  uint64_t NextWakeMs() const;
  // Messages wait for the others of this turn: EndTurn is due.
  bool gathers() const { return !gathering_.empty(); }
  void EndTurn(ClientOutbox* outbox);

  size_t ops_in_flight() const { return files_.ops_in_flight() + ops_.size(); }
  uint32_t shards() const { return static_cast<uint32_t>(options_.directory.size()); }

 private:
  using Op = DedupOp;
  using Upload = DedupUpload;
  using Change = DedupChange;
  using Step = DedupUpload::Step;
  enum Batch : size_t { kLookups, kAdds, kInserts, kBatchKinds };
  struct Shard {
    size_t node = 0;             // that is asked
    uint64_t down_until_ms = 0;  // no upload waits for it
    uint64_t waits_ms = 0;       // when a node last said that it is not active yet, or busy
    std::deque<uint64_t> waiting[kBatchKinds];
    size_t under_way[kBatchKinds] = {};
  };
  struct Call {
    uint32_t shard = 0;
    size_t node = 0;
    bool batch = false;
    Batch kind = kLookups;
    std::vector<uint64_t> ops;  // in the order of the message
  };

  // dedup_core.cc: operations, calls to shards, changes
  template <typename Kind>
  Op* NewOp(Kind&& kind, uint32_t timeout_ms, Now now);
  Op* FindOp(uint64_t op_id);
  void SetTimer(Op* op, uint64_t due_ms);
  void Forget(Op* op);
  uint32_t LeftMs(const Op& op, uint32_t most_ms, Now now) const;
  void OnDue(Op* op, Now now, ClientOutbox* outbox);
  void Fail(Op* op, Err err, ClientOutbox* outbox);
  void Pause(Op* op, Err err, Now now);
  bool MayWait(const Op& op, Err err, Now now);
  void Wait(Op* op, Batch kind, Now now);
  void SendBatch(uint32_t shard, Batch kind, ClientOutbox* outbox);
  void SendOne(Op* op, MessageType type, std::string message, Now now, ClientOutbox* outbox);
  void SendAgain(Op* op, Now now, ClientOutbox* outbox);
  void Send(Call&& call, RpcCall&& rpc, ClientOutbox* outbox);
  void NodeFailed(const Call& call, const CallDone& done, Now now);
  void OnBatchDone(const Call& call, const CallDone& done, Now now, ClientOutbox* outbox);
  void OnOneDone(Op* op, const CallDone& done, Now now, ClientOutbox* outbox);
  void Take(ClientOutbox* from, Now now, ClientOutbox* outbox);
  void ContinueChange(Op* op, Now now, ClientOutbox* outbox);
  void OnLooked(Op* op, const GetDone& done, Now now, ClientOutbox* outbox);
  void OnChangeAnswer(Op* op, const CallDone& done, Now now, ClientOutbox* outbox);

  // dedup_upload.cc
  void Lookup(Op* op, Now now, ClientOutbox* outbox);
  void CheckTarget(Op* op, Step step, Now now, ClientOutbox* outbox);
  void Append(Op* op, Step step, Now now, ClientOutbox* outbox);
  void Insert(Op* op, Now now, ClientOutbox* outbox);
  void StoreAlone(Op* op, Now now, ClientOutbox* outbox);
  void FillUpload(const Op& op, pb::DirUpload* message) const;
  void OnFound(Op* op, const pb::FileName& name, uint64_t epoch, Now now, ClientOutbox* outbox);
  void OnUploaded(Op* op, const pb::DirUploaded& answer, Now now, ClientOutbox* outbox);
  void OnRecorded(Op* op, const pb::DirUploaded& answer, Now now, ClientOutbox* outbox);
  void OnAnswerChecked(Op* op, const GetDone& done, bool same, Now now, ClientOutbox* outbox);
  void OnChecked(Op* op, const GetDone& done, Now now, ClientOutbox* outbox);
  void OnAppended(Op* op, PutDone&& done, Now now, ClientOutbox* outbox);
  void OnAdopted(Op* op, const CallDone& done, Now now, ClientOutbox* outbox);
  void ShardFailed(Op* op, Err err, Now now, ClientOutbox* outbox);
  void FinishUpload(Op* op, PutDone done, ClientOutbox* outbox);

  const ClientOptions options_;
  Random* const random_;
  ClientCore files_;
  std::unordered_map<uint64_t, Op> ops_;
  std::set<std::pair<uint64_t, uint64_t>> timers_;  // (due, op), one for each op
  std::unordered_map<uint64_t, uint64_t> parts_;    // operation of files_ -> op that began it
  std::unordered_map<uint64_t, Call> calls_;
  std::vector<Shard> directory_;
  std::set<uint32_t> gathering_;  // shards to which a batch may go at the end of the turn
  uint64_t last_id_ = 0;
};

}  // namespace hayloft
