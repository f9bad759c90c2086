// The superblock's two copies: written in turn, so that a power cut tears at most the older one.
#pragma once

#include "common/ports.h"
#include "dataserver/dsp/block_format.h"
#include "dataserver/dsp/io_job.h"

namespace hayloft {

// The valid copy with the greater generation. kNotFound: neither file is there (an empty folder, a
// disk that is not mounted). kCorrupt: no copy is valid. kUnsupported: a later version wrote it.
Result<Superblock> LoadSuperblock(Device* device);

struct SuperblockFiles {
  FileHandle copies[2];
};
// Opens both copies, making one that is missing, and writes both, so that each start begins with
// two good ones. Raises the generation. kIo: a write or a sync failed; `files` may be open then.
Err OpenSuperblock(Device* device, Superblock* superblock, SuperblockFiles* files);

// Steps that write the next generation durably over the older copy. Raises the generation.
std::vector<IoStep> SuperblockSteps(const SuperblockFiles& files, Superblock* superblock);

// Takes the mark of a failure off. kConfig: another cluster's disk; else as LoadSuperblock, kIo.
Err ClearFailed(Device* device, const Id16& cluster_id);

// Makes a superblock where both copies are damaged or gone: `known`, and from the headers of the
// block files the highest epoch and block id, and the disk's number if it is the only one that is
// in all their sets. kExists when a copy is sound; kNotFound when no block file is here; kIo.
Err RebuildSuperblock(Device* device, Superblock known);

// Makes both copies in an empty folder and syncs it. kExists when the folder holds anything.
Err FormatDisk(Device* device, Superblock superblock);

}  // namespace hayloft
