// Which needles really lie in a block file: what recovery and sealing believe.
//
// A scan walks from needle to needle and checks every byte. Where no needle begins (the end of a
// commit, damage, the torn tail of a crash) it goes on at the next place, in steps of 8 bytes,
// where a header's CRC holds for this block, this life of the file and this offset. So damage in
// the middle hides nothing behind it, and neither a length field nor an old needle is ever trusted.
#pragma once

#include <cstdint>
#include <vector>

#include "common/codec.h"
#include "common/needle.h"
#include "common/ports.h"

namespace hayloft {

struct ScanTarget {
  FileHandle file;
  uint64_t block_id = 0;
  uint64_t life = 0;
  uint64_t limit = 0;  // bytes that may hold needles; a shorter file ends earlier
};

struct ScannedNeedle {
  FileId file_id;
  uint64_t offset = 0;
  uint32_t stored_size = 0;
  uint32_t pieces_crc = 0;    // crc32c of the table of piece CRCs
  uint64_t needle_bytes = 0;  // with head and padding
};

struct ScanResult {
  std::vector<ScannedNeedle> intact;  // in order of sequences, which is the order in the file
  uint64_t end = 0;                   // behind the last intact one, or where needles begin
  uint32_t damaged = 0;               // heads that hold, with data that does not
  uint32_t repeated = 0;              // sequences met a second time; the first stays
  uint32_t unreadable = 0;            // pages that cannot be read at the moment (EIO)
};

// kIo only when nothing of the file can be read. Reads in windows of 1 MiB; blocks.
Result<ScanResult> ScanBlock(Device* device, const ScanTarget& target);

// Sequences 0 to needles-1 with those that the scan lacks filled in as lost: equal offsets.
struct DenseOffsets {
  std::vector<uint32_t> offsets;  // in units of kNeedleAlign
  uint32_t lost = 0;
};
// `needles_min`: how many sequences are known to have been given out; more may have been found.
DenseOffsets FillGaps(const ScanResult& scan, uint32_t needles_min);
Sha256 DigestOf(const ScanResult& scan);

}  // namespace hayloft
