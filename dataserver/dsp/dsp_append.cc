// Appends: many wait, one commit is under way.
//
// While a commit is being written and synced, all appends that arrive wait; the next commit takes
// them all. So one fdatasync serves whoever came meanwhile, the more the slower the disk, and a
// lone uploader never waits for company. (Group commit: DeWitt et al. 1984.)
#include <algorithm>

#include "common/check.h"
#include "common/log.h"
#include "common/mutant.h"
#include "common/needle.h"
#include "dataserver/dsp/dsp_core.h"

namespace hayloft {

void DspCore::OnAppend(RpcRequest&& request, Now now, DspOutbox* out) {
  pb::AppendRequest message;
  Block* block = nullptr;
  const Err err = message.ParseFromString(request.message) ? CheckAppend(message, request, &block)
                                                           : Err::kInvalid;
  if (err != Err::kOk) {
    ++stats_.appends_refused;
    return Reply(request.token, request.type, err, out);
  }
  WaitingAppend append{.token = request.token,
                       .deadline_ms = request.deadline_ms,
                       .raw_size = message.raw_size(),
                       .encoding = static_cast<uint8_t>(message.encoding()),
                       .metadata = std::move(*message.mutable_metadata()),
                       .piece_crcs = {message.piece_crcs().begin(), message.piece_crcs().end()},
                       .data = std::move(request.payload)};
  stats_.append_queue_bytes += append.data.size();
  block->waiting.push_back(std::move(append));
  if (block->committing.empty()) WantCommit(block, now, out);
}

Err DspCore::CheckAppend(const pb::AppendRequest& message, const RpcRequest& request,
                         Block** block) {
  if (!Writable()) return Err::kReadOnly;
  const uint64_t size = request.payload.size();
  if (size == 0 || message.raw_size() == 0) return Err::kInvalid;
  if (size > kFileBytesMax || message.raw_size() > kFileBytesMax) return Err::kTooLarge;
  if (message.metadata().size() > kMetadataBytesMax) return Err::kTooLarge;
  if (message.encoding() > static_cast<uint32_t>(Encoding::kZstd)) return Err::kUnsupported;
  const bool identity = message.encoding() == static_cast<uint32_t>(Encoding::kIdentity);
  if (identity && message.raw_size() != size) return Err::kInvalid;
  if (static_cast<uint64_t>(message.piece_crcs_size()) != PieceCount(size)) return Err::kInvalid;
  *block = FindBlock(message.block_id());
  if (*block == nullptr || (*block)->state != pb::BLOCK_OPEN) return Err::kClosed;
  const bool stale = message.block_epoch() != (*block)->block_epoch;
  if (stale && !IsMutant(Mutant::kStaleGrant)) return Err::kStaleEpoch;
  if ((*block)->closing && !IsMutant(Mutant::kStaleGrant)) return Err::kClosed;
  TRY(CheckReplicas(message, *block));
  const uint64_t needle_bytes = NeedleBytes(size, message.metadata().size());
  if (kFirstNeedleOffset + needle_bytes + FooterBytesMax(1) > superblock_.block_bytes) {
    return Err::kTooLarge;
  }
  const bool waits = stats_.append_queue_bytes > 0;  // a lone append is taken whatever its size
  if (waits && stats_.append_queue_bytes + size > options_.append_queue_bytes) return Err::kBusy;
  // The transport has checked the payload against its CRC, which for one piece is the piece's.
  if (PieceCount(size) == 1) {
    return request.payload_crc == message.piece_crcs(0) ? Err::kOk : Err::kCorrupt;
  }
  const std::vector<uint32_t> crcs = PieceCrcs(request.payload.bytes());
  return std::equal(crcs.begin(), crcs.end(), message.piece_crcs().begin()) ? Err::kOk
                                                                            : Err::kCorrupt;
}

void DspCore::WantCommit(Block* block, Now now, DspOutbox* out) {
  if (!options_.commits_wait) return StartCommit(block, now, out);
  blocks_to_commit_.insert(block->id);
}

void DspCore::StartCommits(Now now, DspOutbox* out) {
  NoteTime(now);
  for (const uint64_t block_id : std::exchange(blocks_to_commit_, {})) {
    Block* block = FindBlock(block_id);
    // It may have been closed meanwhile, and what waited was answered.
    if (block == nullptr || block->waiting.empty() || !block->committing.empty()) continue;
    StartCommit(block, now, out);
  }
}

void DspCore::StartCommit(Block* block, Now now, DspOutbox* out) {
  ASSERT(block->state == pb::BLOCK_OPEN);
  ASSERT(block->committing.empty());
  ASSERT(block->end % kPageBytes == 0);
  if (block->closing) return FinishCloseIfIdle(block, out);
  std::vector<Buffer> parts;
  uint64_t offset = block->end;
  bool full = false;
  while (!block->waiting.empty() && !full) {
    WaitingAppend& next = block->waiting.front();
    const bool late = next.deadline_ms != 0 && next.deadline_ms <= now.mono_ms;
    if (!late) {
      const bool enough =
          block->committing.size() >= kCommitNeedlesMax || offset - block->end >= kCommitBytesMax;
      if (enough) break;
      full = !TakeWaiting(block, &offset, now.wall_ms, &parts);
      if (full) break;
    } else {  // its client has gone to another block; a needle nobody knows of would stay for ever
      Reply(next.token, MessageType::kAppend, Err::kTimeout, out);
    }
    stats_.append_queue_bytes -= next.data.size();
    block->waiting.pop_front();
  }
  if (block->committing.empty()) {
    if (full) BeginClose(block, block->block_epoch + 1, out);
    if (full) FinishCloseIfIdle(block, out);
    return;
  }
  block->commit_end = PageCeil(offset);
  Buffer padding(block->commit_end - offset);
  if (!padding.empty()) std::memset(padding.mutable_bytes().data(), 0, padding.size());
  parts.push_back(std::move(padding));
  if (block->replication) parts = SendCommit(block, std::move(parts), out);
  // Behind SendCommit: the last commit belongs to the epoch in which the secondaries still are.
  if (full) BeginClose(block, block->block_epoch + 1, out);
  std::vector<IoStep> steps(1);
  steps[0] = {.op = IoStep::Op::kWrite, .file = block->file, .offset = block->end};
  steps[0].owned = std::move(parts);
  if (!IsMutant(Mutant::kSkipCommitSync)) {
    steps.push_back({.op = IoStep::Op::kSync, .file = block->file});
  }
  ++stats_.commits;
  last_commit_ms_ = now.mono_ms;
  (void)Issue({.kind = PendingJob::Kind::kCommit, .block_id = block->id}, IoLane::kCommit,
              std::move(steps), out);  // found again by its kind and block
  if (IsMutant(Mutant::kAckBeforeSync)) PublishCommit(block, out);
}

// Adds the first waiting append to the commit that is being built. False when the block is full.
bool DspCore::TakeWaiting(Block* block, uint64_t* offset, uint64_t now_wall_ms,
                          std::vector<Buffer>* parts) {
  WaitingAppend& append = block->waiting.front();
  const uint64_t begin = (*offset + kNeedleAlign - 1) / kNeedleAlign * kNeedleAlign;
  const uint64_t end = begin + NeedleBytes(append.data.size(), append.metadata.size());
  const uint32_t sequence = block->next_sequence;
  const uint64_t footer_bytes = FooterBytesMax(sequence + 1);
  if (PageCeil(end) + footer_bytes > superblock_.block_bytes) return false;
  if (sequence >= kNeedlesPerBlockMax) return false;
  ++block->next_sequence;
  const FileId file_id = FileId::Of(sequence, random_->Next64() & kCookieMax);
  NeedleHeader header;
  header.block_id = block->id;
  header.file_id = file_id.value;
  header.created_ms = now_wall_ms;
  header.stored_size = static_cast<uint32_t>(append.data.size());
  header.raw_size = append.raw_size;
  header.encoding = append.encoding;
  header.flags = 0;
  // The zeros between the needle before and this one go in front of the head.
  std::string head(begin - *offset, '\0');
  head += EncodeNeedleHead(header, append.piece_crcs, AsBytes(append.metadata),
                           {.life = block->life, .offset = begin});
  parts->push_back(Buffer::CopyOf(AsBytes(head)));
  block->committing.push_back(
      {.token = append.token, .file_id = file_id, .offset = begin, .created_ms = now_wall_ms});
  *offset =
      begin + NeedleHeadBytes(append.data.size(), append.metadata.size()) + append.data.size();
  stats_.append_bytes += append.data.size();
  stats_.append_queue_bytes -= append.data.size();
  parts->push_back(std::move(append.data));  // from here on of size 0
  return true;
}

void DspCore::OnCommitDone(Block* block, Err err, Now now, DspOutbox* out) {
  ASSERT(block != nullptr);
  if (err != Err::kOk) {
    // The bytes may or may not be on the disk. The sequences stay used and the block never grows
    // again; what of them a later scan finds intact stays as a file that nobody was told of.
    AnswerCommit(block, err, out);
    block->committing.clear();
    BeginClose(block, block->block_epoch + 1, out);
    return FinishCloseIfIdle(block, out);
  }
  if (block->replication) block->replication->synced = true;
  EndCommit(block, now, out);
}

// A commit that is synced here; it is published once every secondary has answered, or was doubted.
void DspCore::EndCommit(Block* block, Now now, DspOutbox* out) {
  if (block->replication) {
    const Replication& replication = *block->replication;
    if (!replication.synced) return;
    const uint32_t enough = IsMutant(Mutant::kAckAfterTwo) ? 1 : 0;
    if (replication.awaited > enough && !replication.doubted) return;
  }
  if (!IsMutant(Mutant::kAckBeforeSync)) PublishCommit(block, out);
  if (block->closing) return FinishCloseIfIdle(block, out);
  if (block->end > superblock_.block_bytes / 4 * 3 && !block->nearly_full_told) {
    block->nearly_full_told = true;  // so that another one is open before this one is full
    Changed(*block);
    Hurry();
  }
  if (!block->waiting.empty()) WantCommit(block, now, out);
}

void DspCore::PublishCommit(Block* block, DspOutbox* out) {
  for (const CommittingAppend& append : block->committing) {
    ASSERT(append.file_id.sequence() == block->open_index->size());
    block->open_index->Add(append.offset);
  }
  AnswerCommit(block, Err::kOk, out);
  if (!block->committing.empty()) block->end = block->commit_end;
  block->committing.clear();
}

// Tells whoever waits for the commit under way how it went: at a secondary its primary, else the
// uploads, unless they were told before that it is doubted.
void DspCore::AnswerCommit(Block* block, Err err, DspOutbox* out) {
  if (block->primary_waits) {
    return Reply(*std::exchange(block->primary_waits, {}), MessageType::kReplicaAppend, err, out);
  }
  if (block->replication && block->replication->doubted) return;
  for (const CommittingAppend& append : block->committing) {
    pb::AppendReply message;
    Reply(append.token, MessageType::kAppend, err, out);
    if (err == Err::kOk) {
      message.set_file_id(append.file_id.value);
      message.set_created_ms(append.created_ms);
      ++stats_.appends;
    } else {
      message.set_late_dsp_id(block->late_dsp_id);
    }
    out->replies.back().message = message.SerializeAsString();
  }
}

// From here on no append is taken. What waits is answered at once: its client goes elsewhere.
void DspCore::BeginClose(Block* block, uint64_t block_epoch, DspOutbox* out) {
  ASSERT(block->state == pb::BLOCK_OPEN);
  block->block_epoch = std::max(block->block_epoch, block_epoch);
  if (block->closing) return;
  block->closing = true;
  for (WaitingAppend& append : block->waiting) {
    stats_.append_queue_bytes -= append.data.size();
    Reply(append.token, MessageType::kAppend, Err::kClosed, out);
    pb::AppendReply message;
    message.set_late_dsp_id(block->late_dsp_id);
    out->replies.back().message = message.SerializeAsString();
  }
  block->waiting.clear();
}

// Writes the close record once no commit is under way.
void DspCore::FinishCloseIfIdle(Block* block, DspOutbox* out) {
  ASSERT(block->closing);
  if (!block->committing.empty() || block->close_issued) return;
  block->close_issued = true;
  const CloseRecord record{.block_id = block->id,
                           .block_epoch = block->block_epoch,
                           .end = block->end,
                           .needles = block->needles()};
  if (!Writable()) return OnCloseDone(block, out);
  std::vector<IoStep> steps(2);
  steps[0] = {.op = IoStep::Op::kWrite, .file = block->file, .offset = kCloseOffset};
  steps[0].owned.push_back(Buffer::CopyOf(AsBytes(EncodeCloseRecord(record, block->life))));
  steps[1] = {.op = IoStep::Op::kSync, .file = block->file};
  (void)Issue({.kind = PendingJob::Kind::kClose, .block_id = block->id}, IoLane::kCommit,
              std::move(steps), out);  // found again by its kind and block
}

// The close record is not what keeps appends out (a start closes whatever was open): when it cannot
// be written, the block is closed all the same.
void DspCore::OnCloseDone(Block* block, DspOutbox* out) {
  ASSERT(block != nullptr);
  ASSERT(block->committing.empty());
  block->state = pb::BLOCK_CLOSED;
  for (const ReplyToken& token : block->close_waiters) {
    ReplyInfo(token, MessageType::kCloseBlock, *block, out);
  }
  block->close_waiters.clear();
  // No append will come that makes it serve.
  if (!in_doubt_ && sets_known_ && !unmerged_.contains(block->id)) BeginMerge(*block);
  Changed(*block);
  Hurry();
}

}  // namespace hayloft
