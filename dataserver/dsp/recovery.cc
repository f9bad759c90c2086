// What a dsp does before it talks to anybody: make the disk its own and find out what lies on it.
//
//   sealed blocks   from LevelDB if the file has the size it remembers, else from the footer
//   all others      by scanning: they were open or closed when the last process ended; a closed
//                   one up to its recorded end. What is intact is fsynced before it is believed,
//                   the block is closed for ever
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
  Err err = Recover(device, kv);
  if (err == Err::kReadOnly && !read_only_ && superblock_.disk_state != DiskState::kFailed) {
    LOG_ERROR("disk_read_only", "at=start action=serve_reads");
    read_only_ = true;
    Forget(device);
    err = Recover(device, kv);
  }
  if (err == Err::kIo && !read_only_) MarkFailed(device, kv);
  return err;
}

// First looks, then changes: whatever refuses this disk, a later version's file too, leaves it as
// it was.
Err DspCore::Recover(Device* device, Kv* kv) {
  TRY(LoadOwnSuperblock(device));
  TRY(delete_log_.Load(device, kv, &deletes_));
  TRY_ASSIGN(const std::vector<FileInfo> files, device->List());
  for (const FileInfo& file : files) TRY(RecoverFile(device, kv, file));
  if (!read_only_) TRY(TakeOver(device, kv, files));
  TRY_ASSIGN(disk_.space, device->Space());
  LOG_INFO("disk_ready", "blocks=%zu incarnation=%llu disk=%s dsp=%u", blocks_.size(),
           static_cast<unsigned long long>(superblock_.incarnation),
           ToHex(superblock_.disk_id).c_str(), superblock_.dsp_id);
  return Err::kOk;
}

Err DspCore::LoadOwnSuperblock(Device* device) {
  TRY_ASSIGN(superblock_, LoadSuperblock(device));
  if (superblock_.cluster_id != options_.cluster_id) return Err::kConfig;
  if (!read_only_) {
    if (superblock_.disk_state == DiskState::kFailed) return Err::kReadOnly;
    superblock_.disk_state = DiskState::kHealthy;
  } else if (superblock_.disk_state == DiskState::kHealthy) {
    // The mark itself may have failed to be written; nobody shall take this for a sound disk.
    superblock_.disk_state = DiskState::kReadOnly;
  }
  return Err::kOk;
}

// Makes the disk this process's own, and durable what was found, before anybody hears of it. A
// failed sync here is a failure of the disk like any other: the next start would sync the same
// files with success, and their bytes gone.
Err DspCore::TakeOver(Device* device, Kv* kv, const std::vector<FileInfo>& files) {
  ++superblock_.incarnation;
  TRY(OpenSuperblock(device, &superblock_, &superblock_files_));
  TRY(delete_log_.Settle(device, kv, random_->Next64(), deletes_));
  for (const FileInfo& file : files) {
    if (!file.name.ends_with(kTemporarySuffix)) continue;
    const Err err = device->Remove(file.name);
    if (err != Err::kNotFound) TRY(err);  // the delete log's own is replaced already
  }
  for (auto& [id, block] : blocks_) {
    if (block.state != pb::BLOCK_SEALED) TRY(SettleClosed(device, &block));
  }
  // The process before may have died between a rename and its SyncDir. The name is there, but a
  // power cut would bring the old one back: a delete log without the latest deletes, or no block.
  return SyncErr(device->SyncDir());
}

// As when a running dsp fails: the next start must not believe what the page cache still shows.
void DspCore::MarkFailed(Device* device, Kv* kv) {
  ASSERT(superblock_.generation > 0);
  superblock_.disk_state = DiskState::kFailed;
  for (size_t i = 0; i < 2; ++i) {
    FileHandle& copy = superblock_files_.copies[i];
    if (copy.valid()) continue;
    const Result<FileHandle> opened = device->Open(kSuperblockNames[i]);
    if (!opened.ok()) return;  // the dataserver has a mark of its own
    copy = *opened;
  }
  (void)RunJob({.steps = SuperblockSteps(superblock_files_, &superblock_)}, device, kv)
      .err;  // best effort
}

// What a recovery that was given up had found.
void DspCore::Forget(Device* device) {
  for (const auto& [id, block] : blocks_) {
    if (block.file.valid()) device->Close(block.file);
  }
  for (const PoolFile& file : pool_) device->Close(file.file);
  for (const FileHandle copy : superblock_files_.copies) {
    if (copy.valid()) device->Close(copy);
  }
  superblock_files_ = {};
  blocks_.clear();
  unreadable_blocks_.clear();
  pool_.clear();
  deletes_ = {};
  delete_log_ = {};
  stats_ = {};
}

Err DspCore::RecoverFile(Device* device, Kv* kv, const FileInfo& file) {
  if (const std::optional<uint64_t> number = ParsePoolFileName(file.name)) {
    next_pool_number_ = std::max(next_pool_number_, *number + 1);
    if (read_only_ || file.size_bytes != superblock_.block_bytes) return Err::kOk;
    TRY_ASSIGN(const FileHandle handle, device->Open(file.name));
    pool_.push_back({.number = *number, .file = handle});
    return Err::kOk;
  }
  const std::optional<uint64_t> block_id = ParseBlockFileName(file.name);
  if (!block_id) return Err::kOk;
  Block block;
  std::string footer;
  const Err err =
      RecoverBlock(device, kv, {.id = *block_id, .bytes = file.size_bytes}, &block, &footer);
  if (err == Err::kCorrupt || err == Err::kIo) {
    PROBE("block_file_unreadable");
    ++stats_.blocks_unreadable;
    unreadable_blocks_.insert(*block_id);
    LOG_ERROR("block_unreadable", "block=%llu err=%s action=leave_it",
              static_cast<unsigned long long>(*block_id), ErrName(err).data());
    if (block.file.valid()) device->Close(block.file);
    return Err::kOk;
  }
  TRY(err);
  if (!footer.empty() && !read_only_) {
    // Its process may have been killed between the footer's write and its sync.
    TRY(SyncErr(device->Sync(block.file)));
    RememberFooter(footer, file.size_bytes, block, kv);
  }
  if (block.state == pb::BLOCK_SEALED && block.file.valid()) {
    device->Close(std::exchange(block.file, FileHandle{}));  // a read opens it
  }
  block.deleted = deletes_.DeletedIn(block.id);
  blocks_.emplace(block.id, std::move(block));
  return Err::kOk;
}

// `footer` is what was read of a sealed block's file, and empty if the file was not asked.
Err DspCore::RecoverBlock(Device* device, Kv* kv, const BlockFile& file, Block* block,
                          std::string* footer) {
  block->id = file.id;
  if (TakeFastStart(kv, file.bytes, block)) return Err::kOk;
  TRY_ASSIGN(block->file, device->Open(BlockFileName(file.id)));
  std::vector<uint8_t> page(kPageBytes);
  TRY(device->Read(block->file, 0, page));
  TRY_ASSIGN(const BlockHeader header, DecodeBlockHeader(page));
  if (header.block_id != file.id) return Err::kCorrupt;
  block->opening_epoch = header.opening_epoch;
  block->block_epoch = header.opening_epoch;
  block->life = header.life;
  block->set_version = header.set_version;
  block->set_dsp_ids = header.set_dsp_ids;
  const Err err = TakeFooter(device, file.bytes, block, footer);
  return err == Err::kNotFound ? TakeScan(device, file.bytes, block) : err;
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

// kNotFound when the file does not end in a sound footer of its life; kUnsupported.
Err DspCore::TakeFooter(Device* device, uint64_t size, Block* block, std::string* encoded) {
  uint64_t needed = kPageBytes;
  for (int attempt = 0; attempt < 2; ++attempt) {  // the trailer says how long it is
    if (needed > size) return Err::kNotFound;
    std::vector<uint8_t> tail(needed);
    if (device->Read(block->file, size - needed, tail) != Err::kOk) return Err::kNotFound;
    const Result<Footer> footer = DecodeFooter(tail, &needed);
    if (footer.err() == Err::kTooLarge) continue;
    if (footer.err() == Err::kUnsupported) return Err::kUnsupported;
    if (!footer.ok() || footer->block_id != block->id) return Err::kNotFound;
    if (footer->life != block->life) return Err::kNotFound;
    PROBE("block_recovered_by_footer");
    AdoptFooter(*footer, block);
    *encoded = AsText(Bytes(tail).last(needed));
    return Err::kOk;
  }
  return Err::kNotFound;
}

// LevelDB lacked the block: it is new, or another one after damage.
void DspCore::RememberFooter(std::string_view encoded, uint64_t size, const Block& block, Kv* kv) {
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
  block->without_all = footer.without_all;
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
    if (found.err() == Err::kUnsupported) return Err::kUnsupported;
    closed = found.ok();
    if (closed) close = *found;
  }
  // Behind the end of a closed block nothing was ever acknowledged.
  const uint64_t scan_limit = closed ? std::min(limit, close.end) : limit;
  TRY_ASSIGN(const ScanResult scan, ScanBlock(device, {.file = block->file,
                                                       .block_id = block->id,
                                                       .life = block->life,
                                                       .limit = scan_limit}));
  const DenseOffsets dense = FillGaps(scan, close.needles);
  if (dense.lost > 0) {
    PROBE("recovery_found_lost_needles");
    LOG_WARN("needles_lost", "block=%llu lost=%u damaged=%u",
             static_cast<unsigned long long>(block->id), dense.lost, scan.damaged);
  }
  block->state = pb::BLOCK_CLOSED;
  block->block_epoch = close.block_epoch;
  block->lost = dense.lost;
  block->unread_pages = scan.unreadable > 0;
  block->end = std::min(std::max(PageCeil(scan.end), close.end), PageCeil(limit));
  block->open_index = std::make_unique<OpenIndex>();
  for (uint32_t offset : dense.offsets) {
    block->open_index->Add(uint64_t{offset} * kNeedleAlign);
  }
  block->close_issued = closed;
  return Err::kOk;
}

// Makes durable what the scan found, and the close itself.
Err DspCore::SettleClosed(Device* device, Block* block) {
  TRY(SyncErr(device->Sync(block->file)));
  if (std::exchange(block->close_issued, false)) return Err::kOk;  // recorded already
  // Needles may lie behind what could be read this time. A record would hide them from the next
  // start, which scans up to its end: it shall look at all of the file again.
  if (block->unread_pages) return Err::kOk;
  const CloseRecord close{.block_id = block->id,
                          .block_epoch = block->block_epoch,
                          .end = block->end,
                          .needles = block->needles()};
  if (IsMutant(Mutant::kIgnoreIncarnation)) {
    block->state = pb::BLOCK_OPEN;
    block->block_epoch = block->opening_epoch;
    block->next_sequence = close.needles;
    return Err::kOk;
  }
  if (IsMutant(Mutant::kReuseSequence)) {
    block->state = pb::BLOCK_OPEN;
    block->next_sequence = close.needles > 0 ? close.needles - 1 : 0;
    return Err::kOk;
  }
  const std::string record = EncodeCloseRecord(close, block->life);
  const Bytes part = AsBytes(record);
  TRY(device->Write(block->file, kCloseOffset, {&part, 1}));
  return SyncErr(device->Sync(block->file));
}

}  // namespace hayloft
