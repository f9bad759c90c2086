// One dsp on a simulated disk, driven by hand: requests in, jobs run when the test says, replies
// kept by request id. For tests of the core alone; whole clusters are in sim_cluster.h.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>

#include "common/delete_token.h"
#include "common/needle.h"
#include "common/proto/hayloft.pb.h"
#include "dataserver/dsp/dsp_core.h"
#include "tests/sim/mem_kv.h"
#include "tests/sim/sim_device.h"

namespace hayloft {

class DspHarness {
 public:
  explicit DspHarness(uint64_t seed, uint64_t block_bytes = kBlockBytesMin)
      : device_(seed, SimDevice::kDefaultBytes, &power_),
        kv_(seed + 1, &power_),
        random_(seed + 2),
        core_number_(seed) {
    Superblock superblock;
    superblock.cluster_id = kCluster;
    superblock.disk_id[0] = static_cast<uint8_t>(seed);
    superblock.block_bytes = block_bytes;
    superblock.dsp_id = static_cast<uint32_t>(seed);
    format_err_ = FormatDisk(&device_, superblock);
  }

  // Makes a new core on the disk as it is.
  Err Start(bool read_only = false) {
    DspOptions options;
    options.cluster_id = kCluster;
    options.address = std::to_string(core_number_);
    options.pool_files = pool_files;
    options.commits_wait = commits_wait;
    options.read_only = read_only;
    options.nameservers = nameservers;
    options.delete_log_rewrite_bytes = delete_log_rewrite_bytes;
    core_ = std::make_unique<DspCore>(options, &random_);
    jobs_.clear();
    replies_.clear();
    const Err err = core_->Start(&device_, &kv_, now);
    if (err == Err::kOk) Tick();
    return err;
  }
  // The process ends at this point, by power cut or kill; the next is started by Start.
  void Crash(CrashMode mode) {
    core_.reset();
    device_.Crash(mode);
    kv_.Crash(mode);
    power_.Restore();
  }

  uint64_t Send(MessageType type, const std::string& message, Buffer payload = {}) {
    RpcRequest request;
    request.token = {.connection = 1, .request_id = ++last_request_};
    request.type = type;
    request.message = message;
    request.payload_crc = Crc32c(payload.bytes());
    request.payload = std::move(payload);
    DspOutbox out;
    core_->OnRequest(std::move(request), now, &out);
    Take(&out);
    return last_request_;
  }
  void StartCommits() {
    DspOutbox out;
    core_->StartCommits(now, &out);
    Take(&out);
  }
  void CloseAll() {
    DspOutbox out;
    core_->CloseAll(&out);
    Take(&out);
  }
  void Tick() {
    DspOutbox out;
    core_->OnTick({.space = *device_.Space()}, now, &out);
    Take(&out);
  }
  // Runs the oldest job. False when there is none.
  bool RunOneJob() {
    if (jobs_.empty()) return false;
    const IoJob job = std::move(jobs_.front());
    jobs_.pop_front();
    DspOutbox out;
    core_->OnJobDone(RunJob(job, &device_, &kv_), now, &out);
    Take(&out);
    return true;
  }
  void RunJobs() {
    while (RunOneJob()) {
    }
  }
  size_t jobs() const { return jobs_.size(); }

  const RpcReply* FindReply(uint64_t request) const {
    const auto found = replies_.find(request);
    return found == replies_.end() ? nullptr : &found->second;
  }
  // The reply of a request after all jobs were run. Must be there.
  const RpcReply& Reply(uint64_t request) {
    RunJobs();
    const RpcReply* reply = FindReply(request);
    ASSERT(reply != nullptr);
    return *reply;
  }

  pb::CommandHead Head() const {
    pb::CommandHead head;
    head.set_epoch(epoch);
    head.set_node(std::string(16, node));
    head.set_block_range_end(1000);
    head.set_log_index(log_index);
    return head;
  }
  Err Create(uint64_t block_id) { return Create(block_id, {1}, 0); }
  Err Create(uint64_t block_id, const std::vector<uint32_t>& set, uint64_t life) {
    pb::CreateBlockRequest message;
    *message.mutable_head() = Head();
    message.set_block_id(block_id);
    message.set_opening_epoch(epoch);
    message.set_incarnation(core_->superblock().incarnation);
    message.set_set_version(1);
    for (const uint32_t dsp_id : set) message.add_set_dsp_ids(dsp_id);
    message.set_life(life);
    return Reply(Send(MessageType::kCreateBlock, message.SerializeAsString())).err;
  }
  Err Close(uint64_t block_id) {
    pb::CloseBlockRequest message;
    *message.mutable_head() = Head();
    message.set_block_id(block_id);
    message.set_opening_epoch(core_->blocks().at(block_id).opening_epoch);
    message.set_block_epoch(core_->blocks().at(block_id).block_epoch + 1);
    return Reply(Send(MessageType::kCloseBlock, message.SerializeAsString())).err;
  }
  Err Seal(uint64_t block_id) {
    pb::SealBlockRequest message;
    *message.mutable_head() = Head();
    message.set_block_id(block_id);
    message.set_opening_epoch(core_->blocks().at(block_id).opening_epoch);
    return Reply(Send(MessageType::kSealBlock, message.SerializeAsString())).err;
  }

  uint64_t SendAppend(uint64_t block_id, const std::string& data) {
    pb::Replica only;
    only.set_incarnation(core_->superblock().incarnation);
    return SendAppend(block_id, data, {only});
  }
  // `replicas` as in a grant, the primary first.
  uint64_t SendAppend(uint64_t block_id, const std::string& data,
                      const std::vector<pb::Replica>& replicas) {
    pb::AppendRequest message;
    message.set_block_id(block_id);
    const auto block = core_->blocks().find(block_id);
    if (block != core_->blocks().end()) message.set_block_epoch(block->second.block_epoch);
    for (const pb::Replica& replica : replicas) *message.add_replicas() = replica;
    message.set_raw_size(static_cast<uint32_t>(data.size()));
    Metadata metadata;
    metadata.content_type = "image/png";
    message.set_metadata(EncodeMetadata(metadata));
    for (uint32_t crc : PieceCrcs(AsBytes(data))) message.add_piece_crcs(crc);
    return Send(MessageType::kAppend, message.SerializeAsString(), Buffer::CopyOf(AsBytes(data)));
  }
  Result<FileAddress> Append(uint64_t block_id, const std::string& data) {
    const RpcReply& reply = Reply(SendAppend(block_id, data));
    if (reply.err != Err::kOk) return reply.err;
    return AddressOf(block_id, reply);
  }
  static FileAddress AddressOf(uint64_t block_id, const RpcReply& reply) {
    pb::AppendReply message;
    ASSERT(message.ParseFromString(reply.message));
    return {.block_id = block_id, .file_id = FileId{message.file_id()}};
  }

  struct Range {
    uint64_t offset = 0;
    uint64_t length = 0;
    uint64_t suffix = 0;
  };
  Result<std::string> Read(const FileAddress& address) { return Read(address, Range{}); }
  Result<std::string> Read(const FileAddress& address, Range range) {
    pb::ReadRequest message;
    message.set_block_id(address.block_id);
    message.set_file_id(address.file_id.value);
    message.set_offset(range.offset);
    message.set_length(range.length);
    message.set_suffix(range.suffix);
    const RpcReply& reply = Reply(Send(MessageType::kRead, message.SerializeAsString()));
    if (reply.err != Err::kOk) return reply.err;
    return std::string(AsText(reply.payload.bytes()));
  }
  uint64_t SendSetDelete(const FileAddress& address, uint32_t counter) {
    pb::SetDeleteRequest message;
    message.set_block_id(address.block_id);
    message.set_file_id(address.file_id.value);
    message.set_counter(counter);
    return Send(MessageType::kSetDelete, message.SerializeAsString());
  }
  Err SetDelete(const FileAddress& address, uint32_t counter) {
    return Reply(SendSetDelete(address, counter)).err;
  }

  // What the core has called since the last time.
  std::vector<RpcCall> TakeCalls() { return std::exchange(calls_, {}); }
  void AnswerCall(uint64_t call_id, Err err, std::string message = "", Buffer payload = {}) {
    DspOutbox out;
    core_->OnCallDone({.call_id = call_id,
                       .err = err,
                       .message = std::move(message),
                       .payload = std::move(payload)},
                      now, &out);
    Take(&out);
  }

  void RunHeldReads() {
    hold_reads = false;
    DspOutbox out;
    out.reads = std::exchange(held_reads_, {});
    Take(&out);
  }

  SimPower& power() { return power_; }
  DspCore& core() { return *core_; }
  SimDevice& device() { return device_; }
  MemKv& kv() { return kv_; }
  bool disk_failed() const { return disk_failed_; }
  Err format_err() const { return format_err_; }

  Now now{.mono_ms = 1000, .wall_ms = 1'700'000'000'000};
  uint64_t epoch = 7;  // of the orders, with the next two
  char node = 'n';
  uint64_t log_index = 0;
  uint32_t pool_files = 0;
  bool hold_reads = false;  // until RunHeldReads
  bool commits_wait = false;
  std::vector<std::string> nameservers{};
  uint64_t delete_log_rewrite_bytes = 64 << 10;
  static constexpr Id16 kCluster = {1, 2, 3};

 private:
  void Take(DspOutbox* out) {
    for (RpcReply& reply : out->replies) {
      const bool first = replies_.emplace(reply.token.request_id, std::move(reply)).second;
      ASSERT(first);  // each request is answered once
    }
    for (RpcCall& call : out->calls) calls_.push_back(std::move(call));
    for (IoJob& job : out->jobs) jobs_.push_back(std::move(job));
    for (FileHandle file : out->closes) device_.Close(file);
    disk_failed_ |= out->disk_failed;
    for (ReadJob& read : out->reads) {
      if (hold_reads) {
        held_reads_.push_back(std::move(read));
        continue;
      }
      ReadDone done = ReadNeedle(&device_, std::move(read), /*cached_only=*/false);
      DspOutbox next;
      core_->OnReadDone(std::move(done), now, &next);
      Take(&next);
    }
  }

  SimPower power_;
  SimDevice device_;
  MemKv kv_;
  SimRandom random_;
  const uint64_t core_number_;
  std::unique_ptr<DspCore> core_;
  std::deque<IoJob> jobs_;
  std::map<uint64_t, RpcReply> replies_;
  std::vector<RpcCall> calls_;
  std::vector<ReadJob> held_reads_;
  uint64_t last_request_ = 0;
  bool disk_failed_ = false;
  Err format_err_ = Err::kOk;
};

}  // namespace hayloft
