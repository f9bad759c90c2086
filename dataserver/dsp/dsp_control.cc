// What the nameserver orders: create, close and seal blocks; and the pool of files for new ones.
#include <algorithm>

#include "common/check.h"
#include "common/log.h"
#include "dataserver/dsp/dsp_core.h"
#include "dataserver/dsp/fast_start.h"

namespace hayloft {

namespace {

constexpr uint64_t kPoolRetryMs = 10'000;
constexpr uint64_t kPoolQuietMs = 2'000;  // without a commit

template <typename Message>
bool Parse(const RpcRequest& request, Message* message) {
  return message->ParseFromString(request.message);
}

}  // namespace

Err DspCore::CheckHead(const pb::CommandHead& head, DspOutbox* out) {
  const Err err = Promise(head.epoch(), head.node(), head.block_range_end(), out);
  if (err == Err::kStaleEpoch) ++stats_.commands_stale;
  if (err != Err::kOk) return err;
  return Writable() ? Err::kOk : Err::kReadOnly;
}

// A command that was overtaken by a later one of the same nameserver does nothing (F42).
Err DspCore::CheckOrder(const pb::CommandHead& head, Block* block) {
  if (head.log_index() == 0) return Err::kOk;  // of an older nameserver
  if (head.epoch() == block->command_epoch && head.log_index() < block->command_index) {
    ++stats_.commands_stale;
    return Err::kStaleEpoch;
  }
  block->command_epoch = head.epoch();
  block->command_index = head.log_index();
  return Err::kOk;
}

// Bytes that new blocks may still take: what the reserve leaves. It keeps the delete log, the index
// and later compaction alive on a full disk.
uint64_t DspCore::UsableBytes() const {
  const uint64_t reserve =
      2 * superblock_.block_bytes + disk_.space.total_bytes / 100 * options_.reserve_percent;
  return disk_.space.free_bytes - std::min(disk_.space.free_bytes, reserve);
}

void DspCore::OnCreateBlock(const RpcRequest& request, Now now, DspOutbox* out) {
  pb::CreateBlockRequest message;
  const auto refuse = [&](Err err) { Reply(request.token, request.type, err, out); };
  if (!Parse(request, &message) || message.block_id() > kBlockIdMax) return refuse(Err::kInvalid);
  if (message.set_dsp_ids_size() < 1 ||
      message.set_dsp_ids_size() > static_cast<int>(kReplicasMax)) {
    return refuse(Err::kInvalid);
  }
  if (message.incarnation() != superblock_.incarnation) return refuse(Err::kStaleEpoch);
  if (const Err err = CheckHead(message.head(), out); err != Err::kOk) return refuse(err);
  // Who has not heard its own number yet could lose it, and with it its place in the set.
  const bool named = std::find(message.set_dsp_ids().begin(), message.set_dsp_ids().end(),
                               superblock_.dsp_id) != message.set_dsp_ids().end();
  if (message.set_dsp_ids_size() > 1 && !named) return refuse(Err::kStaleEpoch);
  if (const Block* block = FindBlock(message.block_id()); block != nullptr) {
    const bool same = block->opening_epoch == message.opening_epoch();
    if (!same) return refuse(Err::kExists);
    return ReplyInfo(request.token, request.type, *block, out);  // its answer was lost
  }
  // Its file must not be replaced: what lies in it may be read another day.
  if (unreadable_blocks_.contains(message.block_id())) return refuse(Err::kExists);
  if (creating_.contains(message.block_id())) return refuse(Err::kBusy);
  if (pool_.empty() && UsableBytes() < superblock_.block_bytes) return refuse(Err::kFull);

  for (int i = 0; i < std::min(message.set_dsp_ids_size(), message.set_addresses_size()); ++i) {
    pb::Replica member;
    member.set_dsp_id(message.set_dsp_ids(i));
    member.set_address(message.set_addresses(i));
    if (member.dsp_id() != superblock_.dsp_id) peers_.CountAsUp(member, now.mono_ms);
  }
  PendingJob job{.kind = PendingJob::Kind::kCreate, .block_id = message.block_id()};
  job.token = request.token;
  job.header = {.block_id = message.block_id(),
                .opening_epoch = message.opening_epoch(),
                .life = message.life() != 0 ? message.life() : random_->Next64(),
                .created_ms = now.wall_ms,
                .set_version = message.set_version(),
                .set_dsp_ids = {message.set_dsp_ids().begin(), message.set_dsp_ids().end()}};
  const std::string name = BlockFileName(message.block_id());
  std::string from = name + std::string(kTemporarySuffix);
  std::vector<IoStep> steps;
  if (!pool_.empty()) {  // written beforehand: appends to it change no metadata of the file system
    job.file = pool_.front().file;
    from = PoolFileName(pool_.front().number);
    pool_.erase(pool_.begin());
  } else {
    steps.push_back({.op = IoStep::Op::kCreate, .name = from});
    steps.push_back({.op = IoStep::Op::kAllocate, .size = superblock_.block_bytes});
  }
  // The header is durable before the name is, and the name before anybody hears of the block.
  steps.push_back({.op = IoStep::Op::kWrite, .file = job.file});
  steps.back().owned.push_back(Buffer::CopyOf(AsBytes(EncodeBlockHeader(job.header))));
  steps.push_back({.op = IoStep::Op::kSync, .file = job.file});
  steps.push_back({.op = IoStep::Op::kRename, .name = from, .target = name});
  steps.push_back({.op = IoStep::Op::kSyncDir});
  creating_.insert(message.block_id());
  job.temporary = from;
  (void)Issue(std::move(job), IoLane::kCommit, std::move(steps), out);  // the job has its own token
}

void DspCore::OnCreateDone(PendingJob&& job, JobDone&& done, Now, DspOutbox* out) {
  creating_.erase(job.block_id);
  if (done.err != Err::kOk) {
    Reply(job.token, MessageType::kCreateBlock, done.err, out);
    if (job.file.valid()) out->closes.push_back(job.file);
    return Discard(job.temporary, out);
  }
  Block& block = blocks_[job.block_id];
  block.id = job.block_id;
  block.opening_epoch = job.header.opening_epoch;
  block.block_epoch = job.header.opening_epoch;
  block.life = job.header.life;
  block.file = job.file.valid() ? job.file : done.file;
  block.set_version = job.header.set_version;
  block.set_dsp_ids = job.header.set_dsp_ids;
  block.open_index = std::make_unique<OpenIndex>();
  Changed(block);
  ReplyInfo(job.token, MessageType::kCreateBlock, block, out);
}

void DspCore::OnCloseBlock(const RpcRequest& request, DspOutbox* out) {
  pb::CloseBlockRequest message;
  const auto refuse = [&](Err err) { Reply(request.token, request.type, err, out); };
  if (!Parse(request, &message)) return refuse(Err::kInvalid);
  const Err err = CheckHead(message.head(), out);
  if (err != Err::kOk && err != Err::kReadOnly) return refuse(err);
  Block* block = FindBlock(message.block_id());
  if (block == nullptr || block->opening_epoch != message.opening_epoch()) {
    return refuse(Err::kNotFound);
  }
  if (const Err order = CheckOrder(message.head(), block); order != Err::kOk) return refuse(order);
  if (block->state != pb::BLOCK_OPEN) {
    return ReplyInfo(request.token, request.type, *block, out);
  }
  block->close_waiters.push_back(request.token);
  BeginClose(block, message.block_epoch(), out);
  FinishCloseIfIdle(block, out);
}

// Zeros are written beforehand because the first write to a fallocated extent makes the file system
// log that it holds data now: an fdatasync then costs twice as much. That serves a lone uploader;
// under load commits share their syncs, while the zeros would take half of what the disk can write.
// So files are written beforehand only while nothing is uploaded.
void DspCore::FillPool(DspOutbox* out) {
  if (!Writable() || pool_filling_ || pool_.size() >= options_.pool_files) return;
  if (now_mono_ms_ < pool_retry_ms_ || UsableBytes() < 2 * superblock_.block_bytes) return;
  if (last_commit_ms_ != 0 && now_mono_ms_ < last_commit_ms_ + kPoolQuietMs) return;
  pool_filling_ = true;
  const std::string name = PoolFileName(next_pool_number_);
  const std::string temporary = name + std::string(kTemporarySuffix);
  std::vector<IoStep> steps;
  steps.push_back({.op = IoStep::Op::kCreate, .name = temporary});
  steps.push_back({.op = IoStep::Op::kAllocate, .size = superblock_.block_bytes});
  steps.push_back({.op = IoStep::Op::kWriteZeros, .size = superblock_.block_bytes});
  steps.push_back({.op = IoStep::Op::kSync});
  steps.push_back({.op = IoStep::Op::kRename, .name = temporary, .target = name});
  steps.push_back({.op = IoStep::Op::kSyncDir});
  (void)Issue(
      {.kind = PendingJob::Kind::kPool, .temporary = temporary, .number = next_pool_number_},
      IoLane::kBackground, std::move(steps), out);  // one at a time
}

void DspCore::OnPoolDone(const PendingJob& job, const JobDone& done, DspOutbox* out) {
  pool_filling_ = false;
  if (done.err == Err::kOk) {
    pool_.push_back({.number = job.number, .file = done.file});
    next_pool_number_ = job.number + 1;
    return;
  }
  pool_retry_ms_ = now_mono_ms_ + kPoolRetryMs;
  Discard(job.temporary, out);
}

// Gives back the space of a file that a failed job left: it would be missing from the reserve.
void DspCore::Discard(const std::string& name, DspOutbox* out) {
  if (!Writable()) return;
  std::vector<IoStep> steps;
  steps.push_back({.op = IoStep::Op::kRemove, .name = name});
  (void)Issue({.kind = PendingJob::Kind::kCleanup}, IoLane::kBackground, std::move(steps),
              out);  // nothing waits for it
}

}  // namespace hayloft
