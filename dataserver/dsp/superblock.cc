#include "dataserver/dsp/superblock.h"

#include <algorithm>

#include "common/log.h"

namespace hayloft {

namespace {

Result<Superblock> LoadCopy(Device* device, const char* name) {
  TRY_ASSIGN(const FileHandle file, device->Open(name));
  std::vector<uint8_t> page(kPageBytes);
  const Err err = device->Read(file, 0, page);
  device->Close(file);
  TRY(err);
  return DecodeSuperblock(page);
}

}  // namespace

Result<Superblock> LoadSuperblock(Device* device) {
  const Result<Superblock> copies[2] = {LoadCopy(device, kSuperblockNames[0]),
                                        LoadCopy(device, kSuperblockNames[1])};
  const Result<Superblock>* best = nullptr;
  for (const Result<Superblock>& copy : copies) {
    if (!copy.ok()) continue;
    if (best == nullptr || copy->generation > (*best)->generation) best = &copy;
  }
  for (int i = 0; i < 2; ++i) {
    if (copies[i].err() == Err::kUnsupported) return Err::kUnsupported;
    if (best != nullptr && !copies[i].ok()) {
      LOG_WARN("superblock_copy_bad", "copy=%s err=%s action=use_other", kSuperblockNames[i],
               ErrName(copies[i].err()).data());
    }
  }
  if (best != nullptr) return **best;
  const bool none = copies[0].err() == Err::kNotFound && copies[1].err() == Err::kNotFound;
  return none ? Err::kNotFound : Err::kCorrupt;
}

std::vector<IoStep> SuperblockSteps(const SuperblockFiles& files, Superblock* superblock) {
  ++superblock->generation;
  const FileHandle file = files.copies[superblock->generation % 2];
  std::vector<IoStep> steps(2);
  steps[0] = {.op = IoStep::Op::kWrite, .file = file};
  steps[0].owned.push_back(Buffer::CopyOf(AsBytes(EncodeSuperblock(*superblock))));
  steps[1] = {.op = IoStep::Op::kSync, .file = file};
  return steps;
}

Err OpenSuperblock(Device* device, Superblock* superblock, SuperblockFiles* files) {
  for (int copy = 0; copy < 2; ++copy) {
    Result<FileHandle> file = device->Open(kSuperblockNames[copy]);
    if (file.err() == Err::kNotFound) {
      file = device->Create(kSuperblockNames[copy]);
      if (file.ok()) TRY(SyncErr(device->SyncDir()));
    }
    if (!file.ok()) return file.err();
    files->copies[copy] = *file;
  }
  for (int copy = 0; copy < 2; ++copy) {
    IoJob job;
    job.steps = SuperblockSteps(*files, superblock);
    TRY(JobErr(RunJob(job, device, nullptr)));
  }
  return Err::kOk;
}

Err ClearFailed(Device* device, const Id16& cluster_id) {
  TRY_ASSIGN(Superblock superblock, LoadSuperblock(device));
  if (superblock.cluster_id != cluster_id) return Err::kConfig;
  superblock.disk_state = DiskState::kHealthy;
  SuperblockFiles files;
  return OpenSuperblock(device, &superblock, &files);
}

Err RebuildSuperblock(Device* device, Superblock known) {
  const Result<Superblock> found = LoadSuperblock(device);
  if (found.ok()) return Err::kExists;
  if (found.err() != Err::kCorrupt && found.err() != Err::kNotFound) return found.err();
  TRY_ASSIGN(const std::vector<FileInfo> files, device->List());
  std::vector<uint32_t> in_all_sets;
  size_t blocks = 0;
  for (const FileInfo& info : files) {
    if (!ParseBlockFileName(info.name)) continue;
    TRY_ASSIGN(const FileHandle file, device->Open(info.name));
    std::vector<uint8_t> page(kPageBytes);
    const Err err = device->Read(file, 0, page);
    device->Close(file);
    const Result<BlockHeader> header =
        err == Err::kOk ? DecodeBlockHeader(page) : Result<BlockHeader>(err);
    if (header.err() == Err::kUnsupported) return Err::kUnsupported;
    if (!header.ok()) continue;
    const std::vector<uint32_t>& set = header->set_dsp_ids;
    if (blocks++ == 0) in_all_sets = set;
    std::erase_if(in_all_sets,
                  [&](uint32_t id) { return std::find(set.begin(), set.end(), id) == set.end(); });
    known.block_range_end = std::max(known.block_range_end, header->block_id + 1);
    // Its node is not known: so that the nameserver of this very epoch is obeyed, the one before.
    known.promised_epoch =
        std::max(known.promised_epoch, header->opening_epoch - (header->opening_epoch > 0));
  }
  if (blocks == 0) return Err::kNotFound;
  if (in_all_sets.size() == 1) known.dsp_id = in_all_sets.front();
  SuperblockFiles copies;
  return OpenSuperblock(device, &known, &copies);
}

Err FormatDisk(Device* device, Superblock superblock) {
  TRY_ASSIGN(const std::vector<FileInfo> found, device->List());
  for (const FileInfo& file : found) {
    if (file.name != "LOCK" && file.name != "lost+found") return Err::kExists;
  }
  SuperblockFiles files;
  TRY(OpenSuperblock(device, &superblock, &files));
  for (const FileHandle copy : files.copies) device->Close(copy);
  return device->SyncDir();
}

}  // namespace hayloft
