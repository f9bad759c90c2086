#include "tests/sim/dsp_driver.h"

#include <algorithm>

#include "common/needle.h"

namespace hayloft {

namespace {

const Id16 kClusterId{1, 2, 3};
const std::string kNode(16, 'n');

void SetHead(pb::CommandHead* head) {
  head->set_epoch(DspDriver::kEpoch);
  head->set_node(kNode);
  head->set_block_range_end(1'000'000);
}

}  // namespace

DspDriver::DspDriver(uint64_t seed, uint64_t total_bytes)
    : random_(seed), disk_(seed + 1, total_bytes, &power_), kv_(seed + 2, &power_) {
  options_.cluster_id = kClusterId;
  options_.address = "127.0.0.1:1";
  options_.machine = "machine";
  options_.pool_files = 0;
  options_.reserve_percent = 0;
}

Err DspDriver::Format(uint64_t block_bytes) {
  ASSERT(core_ == nullptr);
  Superblock superblock;
  superblock.cluster_id = kClusterId;
  random_.Fill(superblock.disk_id);
  superblock.block_bytes = block_bytes;
  return FormatDisk(&disk_, superblock);
}

Err DspDriver::Start() {
  if (core_ != nullptr) Crash(CrashMode::kKill);
  jobs_.clear();
  if (const Err err = disk_.Lock(); err != Err::kOk) return err;
  core_ = std::make_unique<DspCore>(options_, &random_);
  const Err err = core_->Start(&disk_, &kv_, now());
  if (disk_.dead()) {
    core_.reset();  // Crash says what its disk keeps
  } else if (err != Err::kOk) {
    Crash(CrashMode::kKill);
  }
  return err;
}

void DspDriver::Crash(CrashMode mode) {
  core_.reset();
  jobs_.clear();
  reads_.clear();
  disk_failed_ = false;
  disk_.Crash(mode);
  kv_.Crash(mode);
  power_.Restore();
}

uint64_t DspDriver::Send(MessageType type, std::string message, Buffer payload) {
  ASSERT(core_ != nullptr);
  RpcRequest request;
  request.token.request_id = next_request_++;
  request.type = type;
  request.message = std::move(message);
  request.payload_crc = Crc32c(payload.bytes());
  request.payload = std::move(payload);
  const uint64_t number = request.token.request_id;
  DspOutbox outbox;
  core_->OnRequest(std::move(request), now(), &outbox);
  Take(&outbox);
  return number;
}

RpcReply DspDriver::Ask(MessageType type, std::string message, Buffer payload) {
  const uint64_t number = Send(type, std::move(message), std::move(payload));
  RunJobs();
  auto found = replies_.extract(number);
  if (!found.empty()) return std::move(found.mapped());
  RpcReply none;
  none.err = Err::kCancelled;
  return none;
}

void DspDriver::Take(DspOutbox* outbox) {
  for (RpcReply& reply : outbox->replies) {
    const uint64_t number = reply.token.request_id;
    const bool first = replies_.emplace(number, std::move(reply)).second;
    ASSERT(first);  // each request is answered once
  }
  for (IoJob& job : outbox->jobs) jobs_.push_back(std::move(job));
  for (ReadJob& job : outbox->reads) reads_.push_back(std::move(job));
  if (outbox->disk_failed) disk_failed_ = true;
  for (const FileHandle file : outbox->closes) disk_.Close(file);
}

JobDone DspDriver::Run(const IoJob& job) {
  const bool only_writes = std::all_of(job.steps.begin(), job.steps.end(), [](const IoStep& step) {
    return step.op == IoStep::Op::kWrite || step.op == IoStep::Op::kSync;
  });
  if (!disk_taken_away_ || !only_writes) return RunJob(job, &disk_, &kv_);
  JobDone done;
  done.id = job.id;
  return done;
}

void DspDriver::RunJobs() {
  while (core_ != nullptr && (!jobs_.empty() || !reads_.empty())) {
    DspOutbox outbox;
    if (!reads_.empty()) {
      ReadJob read = std::move(reads_.front());
      reads_.pop_front();
      core_->OnReadDone(ReadNeedle(&disk_, std::move(read), /*cached_only=*/false), now(), &outbox);
    } else {
      const IoJob job = std::move(jobs_.front());
      jobs_.pop_front();
      JobDone done = Run(job);
      if (disk_.dead()) return;  // nobody is left to hear of it
      core_->OnJobDone(std::move(done), now(), &outbox);
    }
    Take(&outbox);
  }
}

void DspDriver::Tick(uint64_t ms) {
  clock_.Advance(ms);
  DiskStatus status;
  const Result<SpaceInfo> space = disk_.Space();
  if (space.ok()) status.space = *space;
  DspOutbox outbox;
  core_->OnTick(status, now(), &outbox);
  Take(&outbox);
  RunJobs();
}

void DspDriver::CloseAll() {
  DspOutbox outbox;
  core_->CloseAll(&outbox);
  Take(&outbox);
  RunJobs();
}

Err DspDriver::CreateBlock(uint64_t block_id) {
  pb::CreateBlockRequest message;
  SetHead(message.mutable_head());
  message.set_block_id(block_id);
  message.set_opening_epoch(kEpoch);
  message.set_incarnation(core_->superblock().incarnation);
  message.set_set_version(1);
  message.add_set_dsp_ids(1);
  return Ask(MessageType::kCreateBlock, message.SerializeAsString()).err;
}

uint64_t DspDriver::SendAppend(uint64_t block_id, std::string_view bytes) {
  const auto block = core_->blocks().find(block_id);
  pb::AppendRequest message;
  message.set_block_id(block_id);
  if (block != core_->blocks().end()) message.set_block_epoch(block->second.block_epoch);
  pb::Replica* replica = message.add_replicas();
  replica->set_dsp_id(1);
  replica->set_incarnation(core_->superblock().incarnation);
  message.set_raw_size(static_cast<uint32_t>(bytes.size()));
  for (const uint32_t crc : PieceCrcs(AsBytes(bytes))) message.add_piece_crcs(crc);
  return Send(MessageType::kAppend, message.SerializeAsString(), Buffer::CopyOf(AsBytes(bytes)));
}

Result<FileAddress> DspDriver::Append(uint64_t block_id, std::string_view bytes) {
  const uint64_t number = SendAppend(block_id, bytes);
  RunJobs();
  const auto found = replies_.extract(number);
  if (found.empty()) return Err::kCancelled;
  if (found.mapped().err != Err::kOk) return found.mapped().err;
  pb::AppendReply reply;
  ASSERT(reply.ParseFromString(found.mapped().message));
  return FileAddress{block_id, FileId{reply.file_id()}};
}

Result<std::string> DspDriver::Read(const FileAddress& address) {
  pb::ReadRequest message;
  message.set_block_id(address.block_id);
  message.set_file_id(address.file_id.value);
  const RpcReply reply = Ask(MessageType::kRead, message.SerializeAsString());
  if (reply.err != Err::kOk) return reply.err;
  return std::string(AsText(reply.payload.bytes()));
}

Err DspDriver::CloseBlock(uint64_t block_id) {
  pb::CloseBlockRequest message;
  SetHead(message.mutable_head());
  message.set_block_id(block_id);
  message.set_opening_epoch(kEpoch);
  message.set_block_epoch(core_->blocks().at(block_id).block_epoch + 1);
  return Ask(MessageType::kCloseBlock, message.SerializeAsString()).err;
}

Err DspDriver::SealBlock(uint64_t block_id) {
  pb::SealBlockRequest message;
  SetHead(message.mutable_head());
  message.set_block_id(block_id);
  message.set_opening_epoch(kEpoch);
  return Ask(MessageType::kSealBlock, message.SerializeAsString()).err;
}

Result<uint32_t> DspDriver::SetDelete(const FileAddress& address, uint32_t counter) {
  pb::SetDeleteRequest message;
  message.set_block_id(address.block_id);
  message.set_file_id(address.file_id.value);
  message.set_counter(counter);
  const RpcReply reply = Ask(MessageType::kSetDelete, message.SerializeAsString());
  if (reply.err != Err::kOk) return reply.err;
  pb::SetDeleteReply answer;
  ASSERT(answer.ParseFromString(reply.message));
  return answer.counter();
}

Result<uint32_t> DspDriver::DeleteCounter(const FileAddress& address) {
  pb::StatRequest message;
  message.set_block_id(address.block_id);
  message.set_file_id(address.file_id.value);
  const RpcReply reply = Ask(MessageType::kStat, message.SerializeAsString());
  if (reply.err != Err::kOk) return reply.err;
  pb::StatReply answer;
  ASSERT(answer.ParseFromString(reply.message));
  return answer.delete_counter();
}

}  // namespace hayloft
