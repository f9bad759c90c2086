// What a dsp does before it talks to anybody: make the disk its own and find out what lies on it.
//
//   sealed blocks   from LevelDB if the file has the size it remembers, else from the footer
//   all others      by scanning: they were open or closed when the last process ended. What is
//                   intact is fsynced before it is believed, the block is closed for ever
//
// Nothing is deleted but unfinished files (*.tmp). A block file that cannot be understood stays
// where it is, is counted and not served.
#include <algorithm>

#include "common/check.h"
#include "common/log.h"
#include "common/mutant.h"
#include "dataserver/dsp/dsp_core.h"
#include "dataserver/dsp/fast_start.h"

namespace hayloft {

Err DspCore::Start(Device* device, Kv* kv, Now now) {
  now_mono_ms_ = now.mono_ms;
  TRY(LoadOwnSuperblock(device));
  if (read_only_) {
    const Err err = delete_log_.LoadReadOnly(device, kv, &deletes_);
    if (err != Err::kOk && err != Err::kNotFound) return err;
  } else {
    TRY(delete_log_.Load(device, kv, random_->Next64(), &deletes_));
  }
  const Err err = RecoverFiles(device, kv);
  if (err == Err::kIo && !read_only_) {
    // As when a running dsp fails: the next start must not believe what the page cache still shows.
    superblock_.disk_state = DiskState::kFailed;
    (void)RunJob({.steps = SuperblockSteps(superblock_files_, &superblock_)}, device, kv)
        .err;  // best effort
  }
  return err;
}

Err DspCore::LoadOwnSuperblock(Device* device) {
  TRY_ASSIGN(superblock_, LoadSuperblock(device));
  if (superblock_.cluster_id != options_.cluster_id) return Err::kConfig;
  if (superblock_.disk_state == DiskState::kFailed && !read_only_) return Err::kReadOnly;
  if (read_only_) {
    // The mark itself may have failed to be written; nobody shall take this for a sound disk.
    if (superblock_.disk_state == DiskState::kHealthy) {
      superblock_.disk_state = DiskState::kReadOnly;
    }
    return Err::kOk;
  }
  ++superblock_.incarnation;
  superblock_.disk_state = DiskState::kHealthy;
  TRY_ASSIGN(superblock_files_, OpenSuperblock(device, &superblock_));
  return Err::kOk;
}

Err DspCore::RecoverFiles(Device* device, Kv* kv) {
  TRY_ASSIGN(const std::vector<FileInfo> files, device->List());
  for (const FileInfo& file : files) {
    if (file.name.ends_with(kTemporarySuffix)) {
      if (!read_only_) TRY(device->Remove(file.name));
      continue;
    }
    if (const std::optional<uint64_t> number = ParsePoolFileName(file.name)) {
      next_pool_number_ = std::max(next_pool_number_, *number + 1);
      if (read_only_ || file.size_bytes != superblock_.block_bytes) continue;
      TRY_ASSIGN(const FileHandle handle, device->Open(file.name));
      pool_.push_back({.number = *number, .file = handle});
      continue;
    }
    const std::optional<uint64_t> block_id = ParseBlockFileName(file.name);
    if (!block_id) continue;
    Block block;
    const Err err = RecoverBlock(device, kv, *block_id, file.size_bytes, &block);
    if (err == Err::kCorrupt || err == Err::kIo) {
      PROBE("block_file_unreadable");
      ++stats_.blocks_unreadable;
      unreadable_blocks_.insert(*block_id);
      LOG_ERROR("block_unreadable", "block=%llu err=%s action=leave_it",
                static_cast<unsigned long long>(*block_id), ErrName(err).data());
      if (block.file.valid()) device->Close(block.file);
      continue;
    }
    TRY(err);
    if (block.state != pb::BLOCK_SEALED && !read_only_) TRY(SettleClosed(device, &block));
    block.deleted = deletes_.DeletedIn(block.id);
    blocks_.emplace(block.id, std::move(block));
  }
  // The process before may have died between a rename and its SyncDir. The name is there, but a
  // power cut would bring the old one back: a delete log without the latest deletes, or no block.
  if (!read_only_) TRY(device->SyncDir());
  TRY_ASSIGN(disk_.space, device->Space());
  LOG_INFO("disk_ready", "blocks=%zu incarnation=%llu", blocks_.size(),
           static_cast<unsigned long long>(superblock_.incarnation));
  return Err::kOk;
}

Err DspCore::RecoverBlock(Device* device, Kv* kv, uint64_t block_id, uint64_t size, Block* block) {
  TRY_ASSIGN(block->file, device->Open(BlockFileName(block_id)));
  block->id = block_id;
  if (TakeFastStart(kv, size, block)) return Err::kOk;
  std::vector<uint8_t> page(kPageBytes);
  TRY(device->Read(block->file, 0, page));
  TRY_ASSIGN(const BlockHeader header, DecodeBlockHeader(page));
  if (header.block_id != block_id) return Err::kCorrupt;
  block->opening_epoch = header.opening_epoch;
  block->block_epoch = header.opening_epoch;
  block->life = header.life;
  block->set_version = header.set_version;
  block->set_dsp_ids = header.set_dsp_ids;
  if (TakeFooter(device, kv, size, block)) {
    PROBE("block_recovered_by_footer");
    return Err::kOk;
  }
  return TakeScan(device, size, block);
}

bool DspCore::TakeFastStart(Kv* kv, uint64_t size, Block* block) {
  const Result<FastStart> remembered = FindFastStart(kv, block->id, size);
  if (!remembered.ok()) return false;
  block->life = remembered->header.life;
  block->set_version = remembered->header.set_version;
  block->set_dsp_ids = remembered->header.set_dsp_ids;
  AdoptFooter(remembered->footer, block);
  return true;
}

bool DspCore::TakeFooter(Device* device, Kv* kv, uint64_t size, Block* block) {
  uint64_t needed = kPageBytes;
  for (int attempt = 0; attempt < 2; ++attempt) {  // the trailer says how long it is
    if (needed > size) return false;
    std::vector<uint8_t> tail(needed);
    if (device->Read(block->file, size - needed, tail) != Err::kOk) return false;
    const Result<Footer> footer = DecodeFooter(tail, &needed);
    if (footer.err() == Err::kTooLarge) continue;
    if (!footer.ok() || footer->block_id != block->id) return false;
    if (footer->life != block->life) return false;
    AdoptFooter(*footer, block);
    RememberFooter(AsText(Bytes(tail).last(needed)), size, *block, kv);
    return true;
  }
  return false;
}

// LevelDB lacked the block: it is new, or another one after damage.
void DspCore::RememberFooter(std::string_view encoded, uint64_t size, const Block& block, Kv* kv) {
  if (read_only_) return;
  const BlockHeader header{.block_id = block.id,
                           .opening_epoch = block.opening_epoch,
                           .life = block.life,
                           .set_version = block.set_version,
                           .set_dsp_ids = block.set_dsp_ids};
  const Kv::Change change = FastStartEntry(header, size, encoded);
  if (const Err err = kv->Write({&change, 1}, /*sync=*/false); err != Err::kOk) {
    LOG_WARN("fast_start_write_failed", "err=%s", ErrName(err).data());
  }
}

void DspCore::AdoptFooter(const Footer& footer, Block* block) {
  block->opening_epoch = footer.opening_epoch;
  block->block_epoch = footer.block_epoch;
  block->state = pb::BLOCK_SEALED;
  block->end = footer.data_end;
  block->lost = footer.lost;
  block->digest = footer.digest;
  block->sealed_index =
      SealedIndex(footer.offsets, static_cast<uint32_t>(footer.data_end / kNeedleAlign));
}

// An open block becomes a closed one: sequences that a commit under way had taken may or may not be
// here, and what is not here must not be given out again.
Err DspCore::TakeScan(Device* device, uint64_t size, Block* block) {
  PROBE("block_recovered_by_scan");
  const uint64_t limit = std::min(size, superblock_.block_bytes);
  std::vector<uint8_t> page(kPageBytes);
  CloseRecord close{.block_id = block->id, .block_epoch = block->block_epoch + 1};
  bool closed = false;
  if (limit >= kFirstNeedleOffset && device->Read(block->file, kCloseOffset, page) == Err::kOk) {
    const Result<CloseRecord> found = DecodeCloseRecord(page, block->life);
    closed = found.ok();
    if (closed) close = *found;
  }
  TRY_ASSIGN(
      const ScanResult scan,
      ScanBlock(device,
                {.file = block->file, .block_id = block->id, .life = block->life, .limit = limit}));
  const DenseOffsets dense = FillGaps(scan, close.needles);
  if (dense.lost > 0) {
    PROBE("recovery_found_lost_needles");
    LOG_WARN("needles_lost", "block=%llu lost=%u damaged=%u",
             static_cast<unsigned long long>(block->id), dense.lost, scan.damaged);
  }
  block->state = pb::BLOCK_CLOSED;
  block->block_epoch = close.block_epoch;
  block->lost = dense.lost;
  block->doubtful = scan.unreadable > 0;
  block->end = std::min(std::max(PageCeil(scan.end), close.end), PageCeil(limit));
  block->open_index = std::make_unique<OpenIndex>();
  for (uint32_t offset : dense.offsets) {
    block->open_index->Add(uint64_t{offset} * kNeedleAlign);
  }
  block->close_issued = closed;
  return Err::kOk;
}

// Makes durable what the scan found, before anybody hears of it, and the close itself. An error
// here is the disk's.
Err DspCore::SettleClosed(Device* device, Block* block) {
  TRY(device->Sync(block->file));
  if (std::exchange(block->close_issued, false)) return Err::kOk;  // recorded already
  const CloseRecord close{.block_id = block->id,
                          .block_epoch = block->block_epoch,
                          .end = block->end,
                          .needles = block->needles()};
  if (IsMutant(Mutant::kReuseSequence)) {
    block->state = pb::BLOCK_OPEN;
    block->next_sequence = close.needles > 0 ? close.needles - 1 : 0;
    return Err::kOk;
  }
  const std::string record = EncodeCloseRecord(close, block->life);
  const Bytes part = AsBytes(record);
  TRY(device->Write(block->file, kCloseOffset, {&part, 1}));
  return device->Sync(block->file);
}

}  // namespace hayloft
