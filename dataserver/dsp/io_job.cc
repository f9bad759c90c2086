#include "dataserver/dsp/io_job.h"

#include <algorithm>

#include "common/log.h"
#include "common/mutant.h"

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
  const bool sync = op == IoStep::Op::kSync || op == IoStep::Op::kSyncDir;
  return sync || (err != Err::kFull && err != Err::kBusy);
}

Err Scan(const ScanTarget& target, Device* device, JobDone* done) {
  Result<ScanResult> scan = ScanBlock(device, target);
  if (!scan.ok()) return scan.err();
  done->scan = std::make_unique<ScanResult>(std::move(*scan));
  return Err::kOk;
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
