#include "common/ha/lease_file.h"

#include <chrono>
#include <thread>

#include "common/codec.h"
#include "common/ha/lease_format.h"
#include "common/io/system_clock.h"
#include "common/log.h"

namespace hayloft {

namespace {

constexpr std::string_view kName = "lease";
// A first version says nothing to who saw a record that was lost.
constexpr uint64_t kFirstVersionBound = uint64_t{1} << 40;

std::string BootId() {
  std::string id = ReadWholeFile("/proc/sys/kernel/random/boot_id", 64).value();
  while (!id.empty() && id.back() == '\n') id.pop_back();
  return id;
}

std::string AlivePath(const LeaseFileOptions& options, const std::string& node) {
  return options.folder + "/alive-" + ToHex(AsBytes(node));
}

// kTimeout: a process was stopped with it, and holds it until it goes on or ends.
Result<FileLock> TakeWithin(const std::string& path, uint64_t timeout_ms) {
  const uint64_t end_ms = SystemMonotonicMs() + timeout_ms;
  for (;;) {
    Result<FileLock> lock = FileLock::TryTake(path);
    if (lock.err() != Err::kBusy) return lock;
    if (SystemMonotonicMs() >= end_ms) return Err::kTimeout;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

Result<std::string> ReadAll(Device* device, FileHandle file) {
  TRY_ASSIGN(const uint64_t size, device->Size(file));
  if (size > kLeaseFileBytesMax) return Err::kCorrupt;
  std::string text(size, '\0');
  TRY(device->Read(file, 0, {reinterpret_cast<uint8_t*>(text.data()), text.size()}));
  return text;
}

}  // namespace

LeaseFile::LeaseFile(LeaseFileOptions options, Device* device, Random* random)
    : options_(std::move(options)), device_(device), random_(random), boot_(BootId()) {}

Result<CoordinatorView> LeaseFile::Read() {
  const Result<pb::StoredLease> lease = Load();
  if (lease.err() == Err::kNotFound) return CoordinatorView{};
  if (!lease.ok()) return lease.err();
  return CoordinatorView{.identity = lease->record().identity(),
                         .record = lease->record(),
                         .version = lease->version(),
                         .held = Lives(*lease)};
}

Result<uint64_t> LeaseFile::Put(const pb::LeaseRecord& record, uint64_t version, bool renews) {
  ASSERT(record.holder().size() == kNodeIdBytes);
  if (failed_) return Err::kIo;
  // Before anything that may take long: this node must not think its lease longer than others do.
  const uint64_t ends_ms = SystemMonotonicMs() + options_.lease_ms;
  TRY(StayAlive(record.holder()));
  TRY_ASSIGN(pb::StoredLease lease, Next(record, version));
  if (renews) lease.set_ends_ms(ends_ms);
  TRY(Prepare(lease));
  {
    TRY_ASSIGN([[maybe_unused]] const FileLock lock,
               TakeWithin(options_.folder + "/lease.lock", options_.timeout_ms));
    TRY(Next(record, version).err());  // once more, now that nobody can change it
    TRY(device_->Rename(NewName(), kName));
  }
  if (const Err err = device_->SyncDir(); err != Err::kOk) return SyncFailed(err);
  return lease.version();
}

// The version stays: nothing that was decided has changed.
void LeaseFile::Release() {
  if (failed_ || !alive_.has_value()) return;
  Result<pb::StoredLease> lease = Load();
  if (!lease.ok() || lease->record().holder() != node_) return;
  const std::string seen = lease->SerializeAsString();
  lease->set_ends_ms(0);
  if (Prepare(*lease) != Err::kOk) return;
  const auto lock = TakeWithin(options_.folder + "/lease.lock", options_.timeout_ms);
  const Result<pb::StoredLease> now = Load();
  if (!lock.ok() || !now.ok() || now->SerializeAsString() != seen) return;
  if (device_->Rename(NewName(), kName) != Err::kOk) return;
  if (const Err err = device_->SyncDir(); err != Err::kOk) (void)SyncFailed(err);
}

Result<pb::StoredLease> LeaseFile::Load() {
  TRY_ASSIGN(const FileHandle file, device_->Open(kName));
  Result<std::string> text = ReadAll(device_, file);
  device_->Close(file);
  if (!text.ok()) return text.err();
  return DecodeLease(AsBytes(*text));
}

// What the commit makes of the file as it is now. kExists: nothing, as another was faster or lives.
Result<pb::StoredLease> LeaseFile::Next(const pb::LeaseRecord& record, uint64_t version) {
  const Result<pb::StoredLease> stored = Load();
  pb::StoredLease lease;
  *lease.mutable_record() = record;
  lease.set_boot(boot_);
  if (stored.err() == Err::kNotFound || stored.err() == Err::kCorrupt) {
    if (version != 0) return Err::kExists;
    std::string identity(kNodeIdBytes, '\0');
    random_->Fill({reinterpret_cast<uint8_t*>(identity.data()), identity.size()});
    lease.mutable_record()->set_identity(identity);
    lease.set_version(1 + random_->Below(kFirstVersionBound));
    return lease;
  }
  if (!stored.ok()) return stored.err();
  if (stored->version() != version) return Err::kExists;
  const bool own = stored->record().holder() == record.holder();
  if (!own && Lives(*stored)) return Err::kExists;
  if (own && stored->boot() == boot_) lease.set_ends_ms(stored->ends_ms());
  lease.mutable_record()->set_identity(stored->record().identity());
  lease.set_version(version + 1);
  return lease;
}

bool LeaseFile::Lives(const pb::StoredLease& lease) const {
  if (lease.boot() != boot_ || SystemMonotonicMs() >= lease.ends_ms()) return false;
  const Result<bool> locked = FileLock::IsTaken(AlivePath(options_, lease.record().holder()));
  return !locked.ok() || *locked;
}

// Only a look of another at the file, which takes no time, makes it wait for the lock.
Err LeaseFile::StayAlive(const std::string& node) {
  ASSERT(node_.empty() || node_ == node);
  if (alive_.has_value()) return Err::kOk;
  Result<FileLock> lock = TakeWithin(AlivePath(options_, node), options_.timeout_ms);
  if (lock.err() == Err::kTimeout) return Err::kExists;
  if (!lock.ok()) return lock.err();
  alive_ = std::move(lock).value();
  node_ = node;
  return Err::kOk;
}

Err LeaseFile::Prepare(const pb::StoredLease& lease) {
  const std::string name = NewName();
  if (const Err err = device_->Remove(name); err != Err::kOk && err != Err::kNotFound) return err;
  TRY_ASSIGN(const FileHandle file, device_->Create(name));
  const std::string bytes = EncodeLease(lease);
  const Bytes parts[] = {AsBytes(bytes)};
  Err err = device_->Write(file, 0, parts);
  if (err == Err::kOk) {
    err = device_->Sync(file);
    if (err != Err::kOk) err = SyncFailed(err);
  }
  device_->Close(file);
  return err;
}

Err LeaseFile::SyncFailed(Err err) {
  LOG_ERROR("lease_sync_failed", "action=no_more_commits err=%s",
            std::string(ErrName(err)).c_str());
  failed_ = true;
  return Err::kIo;
}

std::string LeaseFile::NewName() const { return "lease.new-" + ToHex(AsBytes(node_)); }

}  // namespace hayloft
