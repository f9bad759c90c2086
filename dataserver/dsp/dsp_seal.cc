// Sealing: a closed block gets its footer, once all that its replicas hold has come together.
//
// The block is read once more and only what is intact is believed. With one replica that is all;
// with several, dsp_union.cc comes between reading and writing.
#include <algorithm>

#include "common/check.h"
#include "common/log.h"
#include "dataserver/dsp/dsp_core.h"
#include "dataserver/dsp/fast_start.h"

namespace hayloft {

void DspCore::OnSealBlock(const RpcRequest& request, DspOutbox* out) {
  pb::SealBlockRequest message;
  const auto refuse = [&](Err err) { Reply(request.token, request.type, err, out); };
  if (!message.ParseFromString(request.message)) return refuse(Err::kInvalid);
  if (const Err err = CheckHead(message.head(), out); err != Err::kOk) return refuse(err);
  Block* block = FindBlock(message.block_id());
  if (block == nullptr || block->opening_epoch != message.opening_epoch()) {
    return refuse(Err::kNotFound);
  }
  if (const Err order = CheckOrder(message.head(), block); order != Err::kOk) return refuse(order);
  const bool again = message.again() && message.replicas_size() > 1;
  if (block->state == pb::BLOCK_SEALED && !again) {
    return ReplyInfo(request.token, request.type, *block, out);
  }
  if (block->state == pb::BLOCK_OPEN) return refuse(Err::kInvalid);
  if (block->seal_waiters.size() >= kReplicasMax) return refuse(Err::kBusy);
  block->seal_waiters.push_back(request.token);
  if (block->sealing) return;
  block->sealing = true;
  if (message.replicas_size() > 1) {
    block->merging = std::make_unique<Union>();
    block->merging->without_all = message.without_all();
    for (const pb::Replica& replica : message.replicas()) {
      if (replica.dsp_id() != superblock_.dsp_id) block->merging->others.push_back(replica);
    }
  }
  // Read a moment ago for an attempt that another replica was not ready for, or for a list: a block
  // that takes no appends has not changed since.
  if (block->scan && block->scan->unreadable == 0) return UseScan(block, out);
  IssueScan(PendingJob::Kind::kSealScan, *block, out);
}

void DspCore::IssueScan(PendingJob::Kind kind, const Block& block, DspOutbox* out) {
  std::vector<IoStep> steps(1);
  steps[0] = {.op = IoStep::Op::kScan};
  steps[0].scan_target = {.file = block.file,
                          .block_id = block.id,
                          .life = block.life,
                          .limit = superblock_.block_bytes};
  (void)Issue({.kind = kind, .block_id = block.id}, IoLane::kBackground, std::move(steps),
              out);  // found again by its kind and block
}

void DspCore::OnSealScanned(Block* block, JobDone&& done, DspOutbox* out) {
  ASSERT(block != nullptr);
  // A page that cannot be read now may be readable later: what lies on it must not be entered as
  // lost. The block stays closed and readable, and the nameserver asks again.
  if (done.err != Err::kOk || done.scan->unreadable > 0) {
    PROBE("seal_put_off_unreadable");
    LOG_WARN("seal_put_off", "block=%llu err=%s unreadable_pages=%u",
             static_cast<unsigned long long>(block->id), ErrName(done.err).data(),
             done.scan ? done.scan->unreadable : 0);
    return RefuseSeal(block, Err::kIo, out);
  }
  block->scan = std::move(done.scan);
  scanned_blocks_.insert(block->id);
  UseScan(block, out);
}

void DspCore::UseScan(Block* block, DspOutbox* out) {
  block->scan_used_ms = now_mono_ms_;
  if (block->merging) return AskForList(block, out);
  WriteFooter(block, block->needles(), out);
}

Footer DspCore::FooterOf(const Block& block, const ScanResult& scan, uint32_t needles_min) const {
  DenseOffsets dense = FillGaps(scan, needles_min);
  if (dense.lost > 0 || scan.damaged > 0 || scan.repeated > 0) {
    PROBE("seal_found_damage");
    LOG_WARN("block_damaged", "block=%llu lost=%u damaged=%u repeated=%u",
             static_cast<unsigned long long>(block.id), dense.lost, scan.damaged, scan.repeated);
  }
  Footer footer;
  footer.block_id = block.id;
  footer.life = block.life;
  footer.opening_epoch = block.opening_epoch;
  footer.block_epoch = block.block_epoch;
  footer.data_end = scan.end;
  footer.lost = dense.lost;
  footer.without_all = block.merging && block.merging->without_all;
  footer.digest = DigestOf(scan);
  footer.offsets = std::move(dense.offsets);
  return footer;
}

// Behind the needles where they lie: this replica has all that any has.
void DspCore::WriteFooter(Block* block, uint32_t needles_min, DspOutbox* out) {
  // Behind all that was ever committed: what reads damaged today stays where it is.
  const uint64_t offset = PageCeil(std::max(block->scan->end, block->end));
  SealJob seal =
      FooterJob(*block, FooterOf(*block, *block->scan, needles_min), block->file, offset);
  seal.job.kind = PendingJob::Kind::kSealWrite;
  seal.steps.push_back(std::move(seal.remember));
  (void)Issue(std::move(seal.job), IoLane::kBackground, std::move(seal.steps), out);  // by its kind
}

// What both ways of sealing do with a footer: written, the rest of the file given back, synced; and
// what LevelDB is to remember once the file has its name.
DspCore::SealJob DspCore::FooterJob(const Block& block, Footer&& footer, FileHandle file,
                                    uint64_t offset) const {
  const std::string encoded = EncodeFooter(footer);
  const uint64_t file_bytes = offset + encoded.size();
  SealJob seal;
  seal.job.block_id = block.id;
  // Written before the rest is given back: in the other order the space could be gone.
  seal.steps.resize(3);
  seal.steps[0] = {.op = IoStep::Op::kWrite, .file = file, .offset = offset};
  seal.steps[0].owned.push_back(Buffer::CopyOf(AsBytes(encoded)));
  seal.steps[1] = {.op = IoStep::Op::kTruncate, .file = file, .size = file_bytes};
  seal.steps[2] = {.op = IoStep::Op::kSync, .file = file};
  seal.remember = {.op = IoStep::Op::kKvWrite};
  seal.remember.changes.push_back(
      FastStartEntry(HeaderOf(block, footer.life), file_bytes, encoded));
  seal.job.offsets = std::move(footer.offsets);
  seal.job.data_end = footer.data_end;
  seal.job.lost = footer.lost;
  seal.job.without_all = footer.without_all;
  seal.job.digest = footer.digest;
  return seal;
}

BlockHeader DspCore::HeaderOf(const Block& block, uint64_t life) {
  return {.block_id = block.id,
          .opening_epoch = block.opening_epoch,
          .life = life,
          .set_version = block.set_version,
          .set_dsp_ids = block.set_dsp_ids};
}

void DspCore::OnSealWritten(PendingJob&& job, Err err, DspOutbox* out) {
  Block* block = FindBlock(job.block_id);
  ASSERT(block != nullptr);
  if (err != Err::kOk) {
    return RefuseSeal(block, err, out);
  }
  block->sealing = false;
  if (block->merging) block->divergent = block->merging->divergent;
  block->merging.reset();
  if (block->set_dsp_ids.size() == 1) DropScan(block);
  block->sealed_index =
      SealedIndex(job.offsets, static_cast<uint32_t>(job.data_end / kNeedleAlign));
  block->open_index.reset();
  block->end = job.data_end;
  block->lost = job.lost;
  block->unread_pages = false;
  block->without_all = job.without_all;
  block->digest = job.digest;
  block->state = pb::BLOCK_SEALED;
  UseFile(block);
  EvictFiles(out);
  block->deleted = deletes_.DeletedIn(block->id);
  Changed(*block);
  for (const ReplyToken& token : std::exchange(block->seal_waiters, {})) {
    ReplyInfo(token, MessageType::kSealBlock, *block, out);
  }
}

void DspCore::RefuseSeal(Block* block, Err err, DspOutbox* out) {
  block->sealing = false;
  block->merging.reset();
  for (const ReplyToken& token : std::exchange(block->seal_waiters, {})) {
    Reply(token, MessageType::kSealBlock, err, out);
  }
}

}  // namespace hayloft
