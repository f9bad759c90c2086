// The dsp: one disk's blocks, and all that is decided about them.
//
//   requests, finished jobs and reads, ticks  --->  DspCore  --->  replies, calls, jobs, reads
//
// Durability: an append or a delete is answered kOk only after the sync that covers it returned
// kOk. After a failed write or sync nothing is written again: the disk is failed, `disk_failed`
// leaves in the outbox, and reads go on until the process ends.
// Threads: one. Ownership: borrows random; device and kv only during Start.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/core_io.h"
#include "common/ports.h"
#include "common/unreachable_peers.h"
#include "dataserver/dsp/block.h"
#include "dataserver/dsp/delete_feed.h"
#include "dataserver/dsp/delete_log.h"
#include "dataserver/dsp/io_job.h"
#include "dataserver/dsp/needle_read.h"
#include "dataserver/dsp/peer_view.h"
#include "dataserver/dsp/superblock.h"

namespace hayloft {

struct DspOptions {
  Id16 cluster_id{};    // the disk's must be the same
  std::string address;  // told to others
  std::string admin_address;
  std::string machine;
  std::string zone;
  std::vector<std::string> nameservers;    // "IP:PORT"
  bool read_only = false;                  // write nothing at all: for a failed disk
  uint32_t pool_files = 2;                 // block files written beforehand
  bool commits_wait = false;               // for StartCommits; else none does
  uint64_t append_queue_bytes = 64 << 20;  // beyond it appends are answered kBusy
  uint32_t replica_timeout_ms = 2'000;     // then a secondary is late, and its block closes
  uint64_t trash_ms = 168ull * 3600 * 1000;
  uint32_t reserve_percent = 1;                   // of the disk, with two blocks: not for appends
  uint32_t full_percent = 95;                     // told to the nameserver, which obeys it
  uint64_t delete_log_rewrite_bytes = 256 << 10;  // smaller logs are left alone
  uint32_t sealed_files_max = 8192;               // of sealed blocks kept open between reads
  size_t feed_changes_kept = DeleteFeed::kKeptMax;
};

struct DspOutbox {
  std::vector<RpcReply> replies;
  std::vector<RpcCall> calls;
  std::vector<IoJob> jobs;
  std::vector<ReadJob> reads;
  std::vector<FileHandle> closes;  // files that nothing uses any more
  bool refused = false;            // for long, by a nameserver: a copy of another disk
  bool disk_failed = false;        // the shell tells the dataserver by its exit
};

// What /metrics shows. Bytes of memory are those of the indexes alone.
struct DspStats {
  uint64_t blocks_open = 0, blocks_closed = 0, blocks_sealed = 0;
  uint64_t needles_open = 0, needles_sealed = 0;
  uint64_t index_open_bytes = 0, index_sealed_bytes = 0;
  uint64_t files_live = 0, files_deleted = 0, files_lost = 0;
  uint64_t pool_files = 0;
  uint64_t sealed_files_open = 0;
  uint64_t appends = 0, append_bytes = 0, commits = 0, appends_refused = 0;
  uint64_t replica_commits = 0, replica_commits_refused = 0, secondaries_failed = 0;
  uint64_t reads = 0, reads_failed = 0, needles_corrupt = 0;
  uint64_t deletes = 0, delete_log_bytes = 0, delete_log_damaged = 0;
  uint64_t live_asks = 0, feed_requests = 0, feed_gaps = 0;
  uint64_t append_queue_bytes = 0;
  uint64_t blocks_unreadable = 0;  // files at start-up that could not be used
  // Of a nameserver that is not active any more, or overtaken by a later one; none was obeyed.
  uint64_t commands_stale = 0;
  // With several replicas: not merged yet, in doubt, or outside their sets. Open ones that nothing
  // was ever appended to have nothing to serve, and are not counted.
  uint64_t blocks_not_serving = 0;
};

// Small facts of the disk that the shell refreshes before each tick.
struct DiskStatus {
  SpaceInfo space;
  uint64_t idle_ms = 0;  // since a job last finished while another waited; 0: nothing waits
};

class DspCore {
 public:
  DspCore(DspOptions options, Random* random);
  DspCore(const DspCore&) = delete;  // two cores on one disk would append to the same block
  DspCore& operator=(const DspCore&) = delete;

  // Reads the disk, then makes it this process's own: raises the incarnation, closes what was open,
  // cuts torn tails and fsyncs what is kept. Blocks. With nothing changed: kNotFound (not
  // formatted, or not mounted), kConfig (another cluster's), kCorrupt, kUnsupported (of a later
  // version), kReadOnly (the disk is marked failed). Else kFull, kBusy; or kIo, after which the
  // disk is marked as failed: a write failed, or a sync with whatever errno. On a read-only file
  // system it is served as with options.read_only.
  Err Start(Device* device, Kv* kv, Now now);

  void OnRequest(RpcRequest&& request, Now now, DspOutbox* out);
  void OnCallDone(CallDone&& done, Now now, DspOutbox* out);
  void OnJobDone(JobDone&& done, Now now, DspOutbox* out);
  // What came in one turn of a loop shares a commit, where otherwise the first would have one alone
  // and all others wait for its end.
  void StartCommits(Now now, DspOutbox* out);
  bool commits_wait() const { return !blocks_to_commit_.empty(); }
  // Each read that left in an outbox comes back, also one that the shell had no room for (kBusy).
  void OnReadDone(ReadDone&& done, Now now, DspOutbox* out);
  // Before an orderly end: closes what is open, so that the next start knows how far to look.
  void CloseAll(DspOutbox* out);
  void OnTick(const DiskStatus& disk, Now now, DspOutbox* out);

  DspStats Stats() const;
  const Superblock& superblock() const { return superblock_; }
  DiskState disk_state() const { return superblock_.disk_state; }
  // What it says of the block is a fact: it knows of all deletes that were acknowledged.
  bool Serves(const Block& block) const;
  // Why it doesn't, for people.
  std::string DescribeServing(const Block& block) const;
  // A nameserver has answered a heartbeat of this incarnation.
  bool registered() const;
  const std::map<uint64_t, Block>& blocks() const { return blocks_; }
  const DeleteState& deletes() const { return deletes_; }

 private:
  // What a job was for. Its completion is handled by kind.
  struct PendingJob {
    enum class Kind : uint8_t {
      kCommit,
      kClose,
      kCreate,
      kSealScan,
      kListScan,
      kLifeStep,
      kLifeEnd,
      kSealWrite,
      kPool,
      kDeletes,
      kDeletesBack,  // cuts off what a failed commit of deletes left
      kDeleteRewrite,
      kSuperblock,
      kCleanup,  // of a file that a failed job left
    };
    Kind kind = Kind::kSuperblock;
    uint64_t block_id = 0;
    ReplyToken token{};               // kCreate
    BlockHeader header{};             // kCreate
    FileHandle file{};                // kCreate: the pool file used, if one was
    std::string temporary{};          // kCreate, kPool: the file's name until all is done
    std::vector<uint32_t> offsets{};  // kSealWrite
    uint64_t data_end = 0;            // kSealWrite
    uint32_t lost = 0;                // kSealWrite
    bool without_all = false;         // kSealWrite
    Sha256 digest{};                  // kSealWrite
    uint64_t number = 0;              // kPool
    Err err = Err::kOk;               // kDeletesBack: of the commit that failed
  };
  struct WaitingDelete {
    ReplyToken token;
    DeleteChange change;
  };
  struct PoolFile {
    uint64_t number = 0;
    FileHandle file;
  };
  // One of the nameservers, and what it has been told.
  struct NameserverLink {
    std::string address;
    bool registered = false;
    uint32_t dsp_id = 0;
    uint64_t register_call = 0;  // 0: none under way; so for the others
    uint64_t heartbeat_call = 0;
    uint64_t heartbeat_sent_ms = 0;
    bool heartbeat_after_report = false;  // it was sent when all blocks had been reported
    uint64_t report_call = 0;
    uint64_t refused_since_ms = 0;  // 0: not refused
    uint64_t next_call_ms = 0;      // of a registration or heartbeat
    uint64_t report_sequence = 0;
    std::set<uint64_t> changed;     // blocks to be told
    std::vector<uint64_t> telling;  // by the heartbeat under way
    bool reporting = false;         // a full report is under way, or wanted
    bool reported = false;          // all blocks, since its registration
    uint64_t report_id = 0;
    uint32_t report_part = 0;
    uint64_t report_next_block = 0;
  };

  // What a call to another dsp was for.
  struct PeerCall {
    enum class Kind : uint8_t { kCommit, kUnion, kMerge };
    Kind kind = Kind::kCommit;
    uint64_t block_id = 0;  // kCommit, kUnion: the block that is being sealed
    uint64_t commit = 0;    // kCommit
    uint32_t dsp_id = 0;    // kCommit, kMerge
    std::string address{};
    uint64_t sent_ms = 0;
  };

  // recovery.cc
  struct BlockFile {
    uint64_t id = 0;
    uint64_t bytes = 0;
  };
  Err Recover(Device* device, Kv* kv);
  Err LoadOwnSuperblock(Device* device);
  Err TakeOver(Device* device, Kv* kv, const std::vector<FileInfo>& files);
  void MarkFailed(Device* device, Kv* kv);
  void Forget(Device* device);
  Err RecoverFile(Device* device, Kv* kv, const FileInfo& file);
  Err RecoverBlock(Device* device, Kv* kv, const BlockFile& file, Block* block,
                   std::string* footer);
  bool TakeFastStart(Kv* kv, uint64_t size, Block* block);
  Err TakeFooter(Device* device, uint64_t size, Block* block, std::string* encoded);
  void RememberFooter(std::string_view encoded, uint64_t size, const Block& block, Kv* kv);
  void AdoptFooter(const Footer& footer, Block* block);
  Err TakeScan(Device* device, uint64_t size, Block* block);
  Err SettleClosed(Device* device, Block* block);

  // dsp_append.cc
  void OnAppend(RpcRequest&& request, Now now, DspOutbox* out);
  Err CheckAppend(const pb::AppendRequest& message, const RpcRequest& request, Block** block);
  void WantCommit(Block* block, Now now, DspOutbox* out);
  void StartCommit(Block* block, Now now, DspOutbox* out);
  bool TakeWaiting(Block* block, uint64_t* offset, uint64_t now_wall_ms,
                   std::vector<Buffer>* parts);
  void OnCommitDone(Block* block, Err err, Now now, DspOutbox* out);
  void PublishCommit(Block* block, DspOutbox* out);
  void BeginClose(Block* block, uint64_t block_epoch, DspOutbox* out);
  void FinishCloseIfIdle(Block* block, DspOutbox* out);
  void OnCloseDone(Block* block, DspOutbox* out);

  void EndCommit(Block* block, Now now, DspOutbox* out);
  void AnswerCommit(Block* block, Err err, DspOutbox* out);

  // dsp_replicate.cc
  Err CheckReplicas(const pb::AppendRequest& message, Block* block);
  std::vector<Buffer> SendCommit(Block* block, std::vector<Buffer> parts, DspOutbox* out);
  void OnReplicaAnswer(const PeerCall& call, Err err, Now now, DspOutbox* out);
  void OnReplicaAppend(RpcRequest&& request, Now now, DspOutbox* out);
  Result<std::vector<CommittingAppend>> TakeCommit(const pb::ReplicaAppendRequest& message,
                                                   Bytes pages, const Block& block) const;

  // dsp_seal.cc
  void OnSealBlock(const RpcRequest& request, DspOutbox* out);
  struct SealJob {
    PendingJob job;
    std::vector<IoStep> steps;
    IoStep remember;  // for LevelDB, the last of them
  };
  void IssueScan(PendingJob::Kind kind, const Block& block, DspOutbox* out);
  SealJob FooterJob(const Block& block, Footer&& footer, FileHandle file, uint64_t offset) const;
  static BlockHeader HeaderOf(const Block& block, uint64_t life);
  void UseScan(Block* block, DspOutbox* out);
  void OnSealScanned(Block* block, JobDone&& done, DspOutbox* out);
  Footer FooterOf(const Block& block, const ScanResult& scan, uint32_t needles_min) const;
  void WriteFooter(Block* block, uint32_t needles_min, DspOutbox* out);
  void OnSealWritten(PendingJob&& job, Err err, DspOutbox* out);
  void RefuseSeal(Block* block, Err err, DspOutbox* out);

  // dsp_union.cc
  void OnNeedleList(const RpcRequest& request, DspOutbox* out);
  void OnListScanned(Block* block, JobDone&& done, DspOutbox* out);
  void AskForList(Block* block, DspOutbox* out);
  void OnList(Block* block, CallDone&& done, DspOutbox* out);
  void FormUnion(Block* block, DspOutbox* out);
  void BeginLife(Block* block, DspOutbox* out);
  void WriteNextRows(Block* block, DspOutbox* out);
  static bool AskAnother(Union* merging);
  void OnFetched(Block* block, CallDone&& done, DspOutbox* out);
  void OnLifeStep(Block* block, const JobDone& done, DspOutbox* out);
  void EndLife(Block* block, DspOutbox* out);
  void OnLifeEnd(PendingJob&& job, Err err, DspOutbox* out);
  void EndUnion(Block* block, DspOutbox* out);
  void AbandonUnion(Block* block, Err err, DspOutbox* out);
  void DropScan(Block* block);
  void DropScans();

  // dsp_merge.cc
  struct Merging {         // of one block
    uint8_t told = 0;      // bit i: member i of the set has told all that it knows
    uint8_t answered = 0;  // ... or at least what it still has
    bool served = false;   // by one that serves the block
  };
  struct Merge {  // what is asked of one peer
    std::deque<uint64_t> queue;
    std::vector<uint64_t> asked;  // by the request under way, or in its next pages
    uint64_t call = 0;            // 0: none is
    uint32_t next_block = 0;
    uint32_t next_sequence = 0;
    uint64_t retry_ms = 0;
  };
  struct DeleteRange {
    uint64_t block_id = 0;
    uint32_t index = 0;
    uint32_t first_sequence = 0;
  };
  bool Gives(const Block& block) const;
  bool FillUp(const Block& block, google::protobuf::RepeatedPtrField<pb::Replica>* up) const;
  void NoteTime(Now now);
  void OnCountedHeartbeat(const pb::HeartbeatReply& message, uint64_t sent_ms, bool reported);
  void AdoptSet(const pb::BlockSet& set);
  void ServeFromNow(Block* block);
  void BeginMerges();
  void BeginMerge(const Block& block);
  void ContinueMerges(Now now, DspOutbox* out);
  void AskForDeletes(uint32_t dsp_id, Merge* merge, Now now, DspOutbox* out);
  void OnMergeAnswer(const PeerCall& call, const CallDone& done, Now now, DspOutbox* out);
  bool TakeDeletes(const Merge& merge, const pb::DeleteStateReply& reply, Bytes payload);
  void TakeSource(uint32_t dsp_id, uint64_t block_id, pb::DeleteSource source, Merge* merge);
  void JudgeMerge(uint64_t block_id);
  void OnMergesSynced(Err err);
  void OnDeleteState(const RpcRequest& request, Now now, DspOutbox* out);
  bool AppendRows(const DeleteRange& range, size_t* left, uint32_t* next, std::string* rows) const;
  pb::DeleteSource SourceOf(uint64_t block_id) const;
  bool FeedDoubtful() const;
  void OnDeleteFeed(const RpcRequest& request, DspOutbox* out);

  // dsp_read.cc
  void OnRead(const RpcRequest& request, Now now, DspOutbox* out);
  void OnStat(const RpcRequest& request, DspOutbox* out);
  void OnSetDelete(const RpcRequest& request, Now now, DspOutbox* out);
  Err PlanRead(uint64_t block_id, FileId file_id, ReadJob* job) const;
  void AnswerLive(const ReadJob& job, DspOutbox* out);
  void StartRead(ReadJob job, DspOutbox* out);
  void EndRead(const ReadDone& done, DspOutbox* out);
  bool ReadAgain(const ReadDone& done, DspOutbox* out);
  void UseFile(Block* block);
  void EvictFiles(DspOutbox* out);
  void QueueDelete(WaitingDelete&& waiting, Now now, DspOutbox* out);
  void StartDeleteCommit(Now now, DspOutbox* out);
  void TakeBackDeletes(Err err, DspOutbox* out);
  void OnDeletesDone(Err err, Now now, DspOutbox* out);
  void AnswerDelete(const WaitingDelete& waiting, DspOutbox* out);
  void ApplyDelete(const DeleteChange& change);

  // dsp_control.cc
  Err CheckOrder(const pb::CommandHead& head, Block* block);
  Err CheckHead(const pb::CommandHead& head, DspOutbox* out);
  void OnCreateBlock(const RpcRequest& request, Now now, DspOutbox* out);
  void OnCreateDone(PendingJob&& job, JobDone&& done, Now now, DspOutbox* out);
  void OnCloseBlock(const RpcRequest& request, DspOutbox* out);
  void FillPool(DspOutbox* out);
  void OnPoolDone(const PendingJob& job, const JobDone& done, DspOutbox* out);
  uint64_t UsableBytes() const;

  // dsp_report.cc
  void TickLink(NameserverLink* link, Now now, DspOutbox* out);
  void SendRegister(NameserverLink* link, Now now, DspOutbox* out);
  void SendHeartbeat(NameserverLink* link, Now now, DspOutbox* out);
  void SendReportPart(NameserverLink* link, DspOutbox* out);
  void OnRegistered(NameserverLink* link, const CallDone& done, Now now, DspOutbox* out);
  void OnHeartbeatDone(NameserverLink* link, const CallDone& done, Now now, DspOutbox* out);
  void OnReportDone(NameserverLink* link, const CallDone& done, DspOutbox* out);
  void Changed(const Block& block);  // every nameserver is told at the next heartbeat
  void Hurry();                      // ... which is sent at the next tick
  void FillSpace(pb::DspSpace* space) const;
  void FillInfo(const Block& block, pb::BlockInfo* info) const;

  // dsp_core.cc
  Err Promise(uint64_t epoch, const std::string& node, uint64_t block_range_end, DspOutbox* out);
  void StoreSuperblock(DspOutbox* out);
  void JudgeFailure(PendingJob::Kind kind, const JobDone& done, DspOutbox* out);
  void FailDisk(PendingJob::Kind kind, Err err, DspOutbox* out);
  void AbandonWrites(DspOutbox* out);
  void Discard(const std::string& name, DspOutbox* out);
  void Reply(const ReplyToken& token, MessageType type, Err err, DspOutbox* out);
  void ReplyInfo(const ReplyToken& token, MessageType type, const Block& block, DspOutbox* out);
  uint64_t Issue(PendingJob pending, IoLane lane, std::vector<IoStep> steps, DspOutbox* out);
  struct Callee {
    std::string address;
    MessageType type = MessageType::kPing;
    uint32_t timeout_ms = 0;
  };
  uint64_t Call(const Callee& callee, std::string message, DspOutbox* out);
  uint64_t CallPeer(PeerCall call, const Callee& callee, std::string message, DspOutbox* out);
  Block* FindBlock(uint64_t block_id);
  bool Writable() const { return superblock_.disk_state == DiskState::kHealthy && !read_only_; }

  const DspOptions options_;
  Random* const random_;
  bool read_only_ = false;
  Superblock superblock_;
  SuperblockFiles superblock_files_;
  std::map<uint64_t, Block> blocks_;
  std::set<uint64_t> unreadable_blocks_;  // their files are here and could not be understood
  std::set<uint64_t> creating_;
  std::map<uint64_t, uint64_t> open_sealed_;  // when last used -> sealed block with an open file
  uint64_t next_use_ = 1;
  std::set<uint64_t> blocks_to_commit_;  // with options_.commits_wait
  std::vector<PoolFile> pool_;
  bool pool_filling_ = false;
  uint64_t pool_retry_ms_ = 0;
  uint64_t last_commit_ms_ = 0;
  uint64_t next_pool_number_ = 0;
  DiskStatus disk_;

  DeleteState deletes_;
  DeleteFeed feed_;
  DeleteLog delete_log_;
  std::vector<WaitingDelete> waiting_deletes_;
  std::vector<WaitingDelete> committing_deletes_;
  std::vector<DeleteChange> committing_changes_;
  bool delete_job_ = false;               // a commit or a rewrite of the log is under way
  uint64_t delete_rewrite_after_ms_ = 0;  // not before: the disk was full

  std::map<uint64_t, PendingJob> jobs_;
  uint64_t next_job_id_ = 1;
  std::vector<NameserverLink> links_;
  uint64_t next_call_id_ = 1;
  std::map<uint64_t, PeerCall> peer_calls_;
  UnreachablePeers unreachable_;

  PeerView peers_;
  bool in_doubt_ = true;     // no heartbeat was answered for too long, or none since the start
  uint64_t doubts_ = 1;      // counts them
  bool sets_known_ = false;  // the nameserver has said which sets are other than those on the disk
  std::map<uint64_t, Merging> unmerged_;      // blocks that are not served yet
  std::map<uint32_t, Merge> merges_;          // by peer
  uint64_t merged_view_ = 0;                  // the version of peers_ that merges were judged by
  std::vector<DeleteChange> merged_changes_;  // taken from others, to be synced
  std::vector<uint64_t> merged_blocks_;       // to be served then
  std::vector<uint64_t> committing_merged_;   // by the commit of deletes under way
  uint64_t committing_doubt_ = 0;
  std::set<uint64_t> scanned_blocks_;  // that keep what a scan found
  uint64_t now_mono_ms_ = 0;
  DspStats stats_;  // the counters; Stats() adds what is derived
};

}  // namespace hayloft
