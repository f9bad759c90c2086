#include "dataserver/dsp/io_job.h"

#include <algorithm>

#include "common/log.h"
#include "common/mutant.h"
#include "common/needle.h"
#include "dataserver/dsp/block_format.h"

namespace hayloft {

namespace {

constexpr uint64_t kZeroChunkBytes = 1 << 20;
constexpr uint64_t kZeroSyncBytes = 8 << 20;  // one flush of 64 MiB would hold up commits for long

Err WriteOwned(const IoStep& step, FileHandle file, Device* device) {
  std::vector<Bytes> parts;
  parts.reserve(step.owned.size());
  for (const Buffer& buffer : step.owned) parts.push_back(buffer.bytes());
  return device->Write(file, step.offset, parts);
}

Err WriteZeros(const IoStep& step, FileHandle file, Device* device) {
  const std::vector<uint8_t> zeros(std::min(kZeroChunkBytes, step.size), 0);
  uint64_t unsynced = 0;
  for (uint64_t done = 0; done < step.size;) {
    const Bytes part = Bytes(zeros).first(std::min<uint64_t>(zeros.size(), step.size - done));
    TRY(device->Write(file, step.offset + done, {&part, 1}));
    done += part.size();
    unsynced += part.size();
    if (unsynced < kZeroSyncBytes) continue;
    TRY(device->Sync(file));
    unsynced = 0;
  }
  return Err::kOk;
}

Err CreateInto(Result<FileHandle> created, JobDone* done) {
  if (!created.ok()) return created.err();
  done->file = *created;
  return Err::kOk;
}

bool IsDiskFailure(IoStep::Op op, Err err) {
  if (err == Err::kReadOnly || op == IoStep::Op::kScan) return false;
  if (op == IoStep::Op::kCreate && err == Err::kExists) return false;  // what a failed job left
  if (op == IoStep::Op::kMove && err == Err::kCorrupt) return false;
  const bool sync = op == IoStep::Op::kSync || op == IoStep::Op::kSyncDir;
  return sync || (err != Err::kFull && err != Err::kBusy);
}

Err Scan(const ScanTarget& target, Device* device, JobDone* done) {
  ScanTarget open = target;
  if (!open.file.valid()) {  // of a sealed block that was not read lately
    TRY_ASSIGN(open.file, device->Open(BlockFileName(target.block_id)));
  }
  Result<ScanResult> scan = ScanBlock(device, open);
  if (!target.file.valid()) device->Close(open.file);
  if (!scan.ok()) return scan.err();
  done->scan = std::make_unique<ScanResult>(std::move(*scan));
  return Err::kOk;
}

// A needle whose bytes are not what they were when the block was scanned fails the job: it must be
// taken from another replica.
Err MoveNeedles(const IoStep& step, FileHandle from, FileHandle file, Device* device) {
  for (const NeedleMove& move : step.moves) {
    Buffer needle(move.bytes);
    const Err err = device->Read(from, move.from, needle.mutable_bytes());
    if (err != Err::kOk) return Err::kCorrupt;  // a failed read says nothing of what was written
    const NeedlePlace place{.life = step.from.life, .offset = move.from};
    TRY_ASSIGN(const NeedleHead head, CheckNeedleHead(needle.bytes(), step.from.block_id, place));
    if (head.data_offset + head.header.stored_size > needle.size()) return Err::kCorrupt;
    const Bytes data = needle.bytes().subspan(head.data_offset, head.header.stored_size);
    TRY(CheckPieces(head, 0, data));
    const std::string moved = MoveNeedleHead(head, {.life = step.life, .offset = move.to});
    const Bytes rest = needle.bytes().subspan(head.data_offset);  // with the padding
    const Bytes parts[] = {AsBytes(moved), rest};
    TRY(device->Write(file, move.to, parts));
  }
  return Err::kOk;
}

Err Move(const IoStep& step, FileHandle file, Device* device) {
  if (step.from.file.valid()) return MoveNeedles(step, step.from.file, file, device);
  // Of a sealed block that was not read lately.
  const Result<FileHandle> from = device->Open(BlockFileName(step.from.block_id));
  if (!from.ok()) return from.err() == Err::kBusy ? Err::kBusy : Err::kCorrupt;
  const Err err = MoveNeedles(step, *from, file, device);
  device->Close(*from);
  return err;
}

Err RunStep(const IoStep& step, Device* device, Kv* kv, JobDone* done) {
  const FileHandle file = step.file.valid() ? step.file : done->file;
  switch (step.op) {
    case IoStep::Op::kCreate:
      return CreateInto(device->Create(step.name), done);
    case IoStep::Op::kWrite:
      return WriteOwned(step, file, device);
    case IoStep::Op::kWriteZeros:
      return WriteZeros(step, file, device);
    case IoStep::Op::kSync:
      return device->Sync(file);
    case IoStep::Op::kAllocate:
      return device->Allocate(file, step.size);
    case IoStep::Op::kTruncate:
      return device->Truncate(file, step.size);
    case IoStep::Op::kRename:
      return device->Rename(step.name, step.target);
    case IoStep::Op::kRemove: {
      const Err err = device->Remove(step.name);
      return err == Err::kNotFound ? Err::kOk : err;  // gone already
    }
    case IoStep::Op::kSyncDir:
      if (IsMutant(Mutant::kForgetDirSync)) return Err::kOk;
      return device->SyncDir();
    case IoStep::Op::kKvWrite:
      if (const Err err = kv->Write(step.changes, /*sync=*/false); err != Err::kOk) {
        LOG_WARN("fast_start_write_failed", "err=%s", ErrName(err).data());
      }
      return Err::kOk;
    case IoStep::Op::kMove:
      return Move(step, file, device);
    case IoStep::Op::kScan:
      return Scan(step.scan_target, device, done);
  }
  ASSERT(!"a step has a known operation");
  return Err::kInternal;
}

}  // namespace

JobDone RunJob(const IoJob& job, Device* device, Kv* kv) {
  JobDone done;
  done.id = job.id;
  for (const IoStep& step : job.steps) {
    done.err = RunStep(step, device, kv, &done);
    if (done.err == Err::kOk) continue;
    done.disk_failed = IsDiskFailure(step.op, done.err);
    if (done.file.valid()) device->Close(done.file);  // a file that a failed job opened is nobody's
    done.file = FileHandle{};
    break;
  }
  return done;
}

}  // namespace hayloft
