// What LevelDB remembers of each sealed block, so that a start opens files but reads none of them.
//
//   key   "b" block id, 8 bytes big-endian
//   value file size, le64 | BlockHeaderPage, 72 | footer as in the file
//
// Nothing rests on it: what does not fit the file is ignored, and the footer is read instead. Pure.
#pragma once

#include "common/ports.h"
#include "dataserver/dsp/block_format.h"

namespace hayloft {

struct FastStart {
  BlockHeader header;
  Footer footer;
};

Kv::Change FastStartEntry(const BlockHeader& header, uint64_t file_bytes,
                          std::string_view encoded_footer);

// kNotFound when nothing is remembered of this block with this size of file; kCorrupt, kIo.
Result<FastStart> FindFastStart(Kv* kv, uint64_t block_id, uint64_t file_bytes);

}  // namespace hayloft
