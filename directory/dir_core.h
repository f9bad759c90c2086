// A directory shard's decisions: which stored file an upload shares, who refers to it, and when it
// is deleted. docs/directory.md tells the order of steps and why.
//
//   request, answer of a dsp --> DirCore --> record: rows --> [log of the pair: committed] --> Kv
//                                  |  '----> replies, calls: once what they rest on is committed
//                                  '------- reads: rows decided, else those of the Kv
//
// A reference is (nonce, counter), odd = removed. The last one that goes makes the file dead and
// *dying* in one record; then the dsps are told; then the entry is cleared; then it is answered. An
// undelete makes it live and *reviving* in one record, likewise. Such entries outlive any crash and
// are sent again until the dsps have the value that they name, so that nothing stays half done.
//
// Answers that say what is durable (a reference was added, removed) wait for the log; those that
// do not (look-ups, an insert, whose loss leaves a file without a record) don't.
//
// A record's rows can be read at once, from an overlay, until OnApplied says that the Kv has them.
// An error of the Kv ends the process (`exit`): nothing of it is answered.
//
// Threads: one owner, which waits for the Kv's disk. Pure; borrows `kv` and `random`.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "client/client_core.h"
#include "common/content.h"
#include "common/ha/ha_server.h"
#include "common/metrics.h"
#include "directory/dir_files.h"
#include "directory/dir_purges.h"
#include "directory/dir_rows.h"
#include "directory/dir_store.h"

namespace hayloft {

struct DirOptions {
  ClientOptions dsps;  // how it reaches the nameservers and the dsps
  // Where each shard's nodes are: names' references may lie in another one. Empty: there is one.
  std::vector<std::vector<std::string>> shards;
  uint64_t idempotency_ms = 24 * 3'600'000;  // how long a user's key is remembered
  uint32_t file_timeout_ms = 5'000;          // for one delete, undelete or look at the dsps
  // After a promotion by force, before it answers: what the last active one told the dsps, and this
  // one knows nothing of, is done or given up by then, on a disk that stalls, too.
  uint32_t forced_wait_ms = 10'000;
  PurgeOptions purge;  // whether and how a CDN is told of deletes
};

#define DIR_METRICS(X)                                                               \
  X(Counter, lookups_total, "contents looked up")                                    \
  X(Counter, hits_total, "of them, those of which there is a file to share")         \
  X(Counter, inserts_total, "files recorded by their uploads")                       \
  X(Counter, references_total, "references added to files that were there")          \
  X(Counter, losers_total, "files that go because another of the same content won")  \
  X(Counter, deletes_total, "deletes of references and takedowns answered with 204") \
  X(Counter, undeletes_total, "undeletes answered with 200")                         \
  X(Counter, adopted_total, "files that got a record though no upload told of them")
struct DirMetrics {
  HAYLOFT_METRICS("hayloft_directory_", DIR_METRICS)
};

class DirCore : public HaService {
 public:
  static constexpr size_t kTasksMax = 10'000;        // deletes, undeletes, adoptions under way
  static constexpr size_t kTasksPerFileMax = 64;     // waiting for one another
  static constexpr size_t kPendingMax = 1 << 20;     // entries; more are refused: kBusy
  static constexpr size_t kReplaysMax = 64;          // entries that are being finished at a time
  static constexpr size_t kLookedAtPerTick = 1'000;  // of entries
  static constexpr uint64_t kReplayFirstMs = 500;    // pause after a failure, doubled each time
  static constexpr uint64_t kReplayMostMs = 30'000;
  static constexpr uint64_t kTombstoneMs = 24 * 3'600'000;  // of a deleted name
  // The trash time: what is dead or removed for so long is forgotten.
  static constexpr uint64_t kForgetMs = 7 * 24 * 3'600'000;
  static constexpr size_t kSweptPerTick = 256;          // rows looked at for their age, or pin
  static constexpr size_t kScannedMax = 4'096;          // for one page of what is pinned
  static constexpr uint64_t kTellElsewhereMs = 60'000;  // between two lines in the log
  static constexpr size_t kNamesLookedAtMax = 10'000;   // for one page of a list
  static constexpr size_t kHeldMax = 100'000;           // answers that wait for the log
  static constexpr size_t kOverlaidMax = 400'000;       // rows that wait for the Kv
  static constexpr uint64_t kDeclareAgainMs = 10'000;   // a nameserver's store may be made anew

  DirCore(DirOptions options, DirState state, Kv* kv, Random* random);

  // --- HaService. Of the messages it answers kDir* only. Errors: kNotServing (it has just become
  // active), kInvalid (malformed), kConfig (another shard's), kBusy (a bound), kNotActive; and
  // those below.
  bool Knows(const pb::HaRecord& record) const override;
  bool KnowsRows(const pb::SnapshotRequest& snapshot) const override;
  Err Follow(const pb::HaRecord& record) override;
  uint64_t AnswerAsStandby(const RpcRequest& request, Now now, RpcReply* reply) override;
  void Promote(const Promotion& promotion, std::vector<pb::HaRecord> tail, Now now,
               ServiceOutbox* out) override;
  void OnRequest(RpcRequest&& request, Now now, ServiceOutbox* out) override;
  void OnCallDone(CallDone&& done, Now now, ServiceOutbox* out) override;
  void OnTick(Now now, ServiceOutbox* out) override;
  void OnCommitted(uint64_t index, Now now, ServiceOutbox* out) override;
  void OnEpochRaised(uint64_t epoch, ServiceOutbox* out) override;
  void LogNothing(ServiceOutbox* out) override;
  uint64_t last_index() const override { return state_.head.last_index(); }
  // It becomes ready when its rows have all that was committed before its promotion, and a
  // nameserver knows that there is a directory: from then on nobody else deletes files.
  void OnApplied(uint64_t index, Now now, ServiceOutbox* out) override;

  // After a snapshot: the state of the rows. REQUIRES: not promoted.
  void OnReloaded(DirState state);

  const DirState& state() const { return state_; }
  bool ready() const { return ready_; }  // it is active and answers
  size_t pending() const { return pending_.size(); }
  size_t drops() const { return drops_.size(); }
  // Live files that are pinned, as last counted; of the active one.
  uint64_t pinned() const { return std::max(pinned_, pinned_so_far_); }
  const DirMetrics& metrics() const { return metrics_; }
  const DirPurges& purges() const { return purges_; }

 private:
  enum class TaskKind { kDelete, kUndelete, kAdopt, kPin, kFinish };
  // What the dsps say of a file.
  struct Seen {
    Err err = Err::kOk;  // kOk: the rest is known
    uint32_t counter = 0;
    bool purged = false;
    std::string head;
  };
  // Something that is done to one file, one at a time.
  struct Task {
    TaskKind kind = TaskKind::kFinish;
    ContentId content;
    Nonce nonce{};
    uint32_t counter = 0;       // that its reference must come to have
    bool takedown = false;      // whoever refers to it; without nonce and counter
    bool look_only = false;     // an adoption
    std::string idempotency{};  // of an adoption: the key that its upload was sent with
    bool pin = false;           // else it is unpinned
    bool written = false;       // its own record is made; what is pending is its own
    bool gone = false;          // an undelete that a purge refused
    std::optional<Seen> seen{};
    // Who waits for it.
    RpcRequest request{};  // its message is empty; kPing: nobody asked
    uint64_t job = 0;      // one of this job,
    int index = 0;         // in this place
    std::string drop{};    // or the key of a DirDrop
  };
  struct FileTasks {
    std::deque<Task> queue;   // the first one is under way
    uint64_t wait_index = 0;  // not 0: until this record is committed
    uint64_t op = 0;          // of dsps_, under way; 0: none
    bool setting = false;     // what it does: sets the counter, or reads it
  };
  struct Pending {
    ContentId content;
    uint32_t counter = 0;
    std::string nonce{};
    uint64_t index = 0;  // of its record
    uint64_t next_ms = 0;
    uint64_t pause_ms = 0;
  };
  struct Drop {
    ContentId content;
    uint64_t index = 0;
    uint64_t next_ms = 0;
    uint64_t pause_ms = 0;
    size_t asked = 0;  // which node of the other shard
    bool busy = false;
  };
  // A request for many files: adoptions, or pins.
  struct Job {
    RpcRequest request;
    pb::DirAdoptReply adopted;
    pb::DirPinReply pinned;
    size_t left = 0;
  };
  using Files = std::vector<std::pair<FileAddress, ContentId>>;
  struct Held {
    uint64_t index = 0;
    RpcReply reply;
  };

  // dir_core.cc: records, what waits for them, time
  Err Handle(RpcRequest&& request, ServiceOutbox* out);
  void Seal(Err err, ServiceOutbox* out);
  void BeginEpoch(uint64_t epoch, ServiceOutbox* out);
  Err BecomeReady();
  void Declare(ServiceOutbox* out);
  Err OnDeclared(const CallDone& done);
  uint64_t SafeIndex() const;
  void Answer(const RpcRequest& request, Err err, std::string message, ServiceOutbox* out) const;
  void AnswerWhenSafe(const RpcRequest& request, Err err, std::string message, ServiceOutbox* out);
  Err Refuse(const RpcRequest& request, ServiceOutbox* out);
  bool OwnShard(const ContentId& content);
  bool Pinned(const pb::DirFile& row) const;
  bool Live(const FileRecord& record) const;
  bool Overloaded() const;
  Err Sweep();
  Err SweepRow(const std::string& key, const std::string& value);
  template <typename Row>
  void ForgetLater(const std::string& key, Row* row);
  Err ReplayPending(ServiceOutbox* out);
  Err SendPurges(ServiceOutbox* out);
  pb::DirStatusReply Status() const;

  // dir_upload.cc: look-ups, and what uploads want recorded
  Err OnLookup(const RpcRequest& request, ServiceOutbox* out);
  Err OnUpload(const RpcRequest& request, ServiceOutbox* out);
  struct Upload {
    ContentId content;
    Nonce nonce{};
    uint64_t epoch = 0;
    std::optional<FileAddress> file{};
    std::optional<FileAddress> own{};
    std::vector<FileAddress> dead{};
    std::string idempotency{};
  };
  bool ParseUpload(const pb::DirUpload& message, Upload* upload);
  Err RecordUpload(const Upload& upload, pb::DirUploaded* reply, bool* rests_on_log);
  Err RecordAdd(const Upload& upload, pb::DirUploaded* reply);
  Err RecordInsert(const Upload& upload, pb::DirUploaded* reply);
  Result<bool> UsedKey(const Upload& upload, pb::DirUploaded* reply);
  void PutKey(const Upload& upload, const FileAddress& file);
  void EnterPending(const ContentId& content, const FileAddress& file, uint32_t counter,
                    const Nonce* reviver);

  // dir_tasks.cc: deletes, undeletes, adoptions
  Err OnReference(const RpcRequest& request, ServiceOutbox* out);
  Err OnChange(RpcRequest&& request, TaskKind kind, ServiceOutbox* out);
  Err OnAdopt(RpcRequest&& request, ServiceOutbox* out);
  Err OnPin(RpcRequest&& request, ServiceOutbox* out);
  template <typename Message>
  bool ReadFiles(const Message& message, Files* files);
  Result<bool> PinnedFrom(const std::string& from, Files* files, std::string* next);
  Err BeginJob(RpcRequest&& request, const Files& files, Job&& job,
               const std::function<void(Task*)>& fill, ServiceOutbox* out);
  Err Begin(const FileAddress& file, Task&& task, ServiceOutbox* out);
  Err Run(const FileAddress& file, ServiceOutbox* out);
  // One step: true if there may be another one at once.
  Result<bool> Step(const FileAddress& file, FileTasks* tasks, ServiceOutbox* out);
  Result<bool> StepDelete(const FileAddress& file, FileTasks* tasks, ServiceOutbox* out);
  Result<bool> DeleteLast(FileRecord record, FileTasks* tasks, ServiceOutbox* out);
  Result<bool> StepUndelete(const FileAddress& file, FileTasks* tasks, ServiceOutbox* out);
  Result<bool> StepAdopt(const FileAddress& file, FileTasks* tasks, ServiceOutbox* out);
  Result<bool> StepPin(const FileAddress& file, FileTasks* tasks, ServiceOutbox* out);
  Result<FileRecord> AddFound(const FileAddress& file, const Task& task);
  Err EndDeleted(const FileAddress& file, const Task& task, ServiceOutbox* out);
  bool FinishPending(const FileAddress& file, FileTasks* tasks, ServiceOutbox* out);
  bool Look(const FileAddress& file, FileTasks* tasks, ServiceOutbox* out);
  Err OnFileDone(const SetDeleteDone& done, ServiceOutbox* out);
  Err OnPendingDone(const FileAddress& file, FileTasks* tasks, Err err, ServiceOutbox* out);
  bool SendToDsps(const FileAddress& file, SetDeleteRequest&& request, FileTasks* tasks,
                  ServiceOutbox* out);
  Err End(const FileAddress& file, Err err, bool when_safe, ServiceOutbox* out);
  Err AnswerTask(const FileAddress& file, const Task& task, Err err, bool when_safe,
                 ServiceOutbox* out);
  Err AnswerJob(const FileAddress& file, const Task& task, Err err, ServiceOutbox* out);
  Err TakeClientOutbox(ClientOutbox* from, ServiceOutbox* out);
  Err ContinueCommitted(ServiceOutbox* out);

  // dir_names.cc
  Err OnNameGet(const RpcRequest& request, ServiceOutbox* out);
  Err OnNamePut(const RpcRequest& request, ServiceOutbox* out);
  Err OnNameDelete(const RpcRequest& request, ServiceOutbox* out);
  Err OnNameList(const RpcRequest& request, ServiceOutbox* out);
  bool OwnName(std::string_view name);
  void EnterDrop(const pb::DirName& old);
  Err ReplayDrops(ServiceOutbox* out);
  Err OnDropDone(const std::string& key, Err err);

  const DirOptions options_;
  DirState state_;
  DirRows rows_;
  DirFiles files_;
  DirPurges purges_;
  Random* const random_;
  ClientCore dsps_;
  bool promoted_ = false;
  bool declared_ = false;
  bool ready_ = false;
  bool failed_ = false;
  bool elsewhere_ = false;  // the request at hand is of another shard
  uint64_t told_elsewhere_ms_ = 0;
  uint64_t declare_call_ = 0;  // under way; 0: none
  uint64_t last_declare_call_ = 0;
  uint64_t declare_next_ms_ = 0;
  size_t declare_to_ = 0;  // which nameserver
  uint64_t applied_ = 0;
  uint64_t wait_applied_ = 0;
  uint64_t wait_until_ms_ = 0;
  uint64_t committed_ = 0;
  Now now_;  // of the last event
  std::deque<Held> held_;

  std::map<FileAddress, FileTasks> tasks_;
  size_t tasks_count_ = 0;
  std::map<uint64_t, FileAddress> ops_;               // of dsps_
  std::vector<SetDeleteDone> early_;                  // answered before they were sent
  std::set<std::pair<uint64_t, FileAddress>> waits_;  // (record, file): tasks that wait for it
  std::map<FileAddress, Pending> pending_;
  size_t replays_ = 0;
  bool replay_more_ = false;           // one has ended since the last look at entries
  FileAddress replay_from_;            // the next tick goes on there
  std::map<std::string, Drop> drops_;  // by key
  std::string drop_from_;
  std::map<uint64_t, std::string> drop_calls_;  // to other shards
  uint64_t last_drop_call_ = 0;
  std::map<uint64_t, Job> jobs_;
  uint64_t last_job_ = 0;
  std::string swept_;           // the sweep goes on behind this key
  uint64_t pinned_ = 0;         // that the last whole sweep has met
  uint64_t pinned_so_far_ = 0;  // this one
  DirMetrics metrics_;
};

}  // namespace hayloft
