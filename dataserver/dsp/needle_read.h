// Reading one needle: what is asked of the disk, and what is checked of what comes back.
//
// One pread brings header, metadata and data of any needle up to 64 KiB, and of a longer one up to
// the run that was asked for; only a range behind the first 64 KiB of a file costs a second one,
// because the pieces' CRCs lie in the head. Runs on the loop when the page cache has the bytes,
// else on a reader thread: no state of its own.
#pragma once

#include <cstdint>
#include <string>

#include "common/core_io.h"
#include "common/file_address.h"
#include "common/ports.h"
#include "dataserver/dsp/block_index.h"

namespace hayloft {

struct ReadJob {
  enum class Purpose : uint8_t { kRead, kStat };
  Purpose purpose = Purpose::kRead;
  ReplyToken token;
  // The needle.
  FileHandle file;  // invalid: the block's is not open; the read opens it
  uint64_t block_id = 0;
  uint64_t life = 0;
  FileId file_id;
  NeedleSpan span;
  // What is wanted of it, in stored bytes; see ReadRequest.
  uint64_t offset = 0;
  uint64_t length = 0;
  uint64_t suffix = 0;
  bool head_only = false;
  // What the core knows of it when the read begins.
  Err delete_err = Err::kOk;  // kGone or kNotFound for a deleted file, told only if the cookie fits
  uint32_t delete_counter = 0;
  uint64_t delete_changed_ms = 0;
  bool block_open = false;
  bool serves = true;  // false: its bytes are to be used only if no other replica answers
};

struct ReadDone {
  ReadJob job;
  // kOk; kNotFound (the cookie is wrong), job.delete_err, kRange, kCorrupt, kIo; kBusy only when
  // `cached_only` and the bytes are not in memory.
  Err err = Err::kOk;
  FileHandle opened{};  // the block's file, if the read had to open it; the core closes it
  RpcReply reply;       // filled for kRead and kStat when err is kOk; else only token, type and err
};

// Reads and checks. Blocks unless `cached_only`; then a file that is not open is kBusy too.
// Threads: any; the file must stay open meanwhile.
ReadDone ReadNeedle(Device* device, ReadJob job, bool cached_only);

}  // namespace hayloft
