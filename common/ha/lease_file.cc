#include "common/ha/lease_file.h"

#include "common/ha/claim.h"
#include "common/ha/lease_format.h"

namespace hayloft {

namespace {

constexpr std::string_view kName = "lease";
constexpr std::string_view kNewName = "lease.new";

Result<std::string> ReadAll(Device* device, FileHandle file) {
  TRY_ASSIGN(const uint64_t size, device->Size(file));
  if (size > kLeaseFileBytesMax) return Err::kCorrupt;
  std::string text(size, '\0');
  TRY(device->Read(file, 0, {reinterpret_cast<uint8_t*>(text.data()), text.size()}));
  return text;
}

}  // namespace

Result<CoordinatorView> LeaseFile::Read() {
  const Result<pb::StoredLease> lease = Load();
  if (lease.err() == Err::kNotFound) return CoordinatorView{};
  if (!lease.ok()) return lease.err();
  return CoordinatorView{.identity = lease->record().identity(),
                         .record = lease->record(),
                         .version = lease->version(),
                         .held = locked_};
}

Result<uint64_t> LeaseFile::Commit(const pb::LeaseRecord& record, uint64_t version) {
  if (!locked_) TRY(device_->Lock());
  locked_ = true;
  const Result<pb::StoredLease> stored = Load();
  pb::StoredLease lease;
  *lease.mutable_record() = record;
  // What can't be understood is no record: an operator's word is needed to come this far.
  if (stored.err() == Err::kNotFound || stored.err() == Err::kCorrupt) {
    if (version != 0) return Err::kExists;
    std::string identity(kNodeIdBytes, '\0');
    random_->Fill({reinterpret_cast<uint8_t*>(identity.data()), identity.size()});
    lease.mutable_record()->set_identity(identity);
  } else if (!stored.ok()) {
    return stored.err();
  } else if (stored->version() != version) {
    return Err::kExists;
  } else {
    lease.mutable_record()->set_identity(stored->record().identity());
  }
  lease.set_version(version + 1);
  TRY(Store(lease));
  return lease.version();
}

Result<pb::StoredLease> LeaseFile::Load() {
  TRY_ASSIGN(const FileHandle file, device_->Open(kName));
  Result<std::string> text = ReadAll(device_, file);
  device_->Close(file);
  if (!text.ok()) return text.err();
  return DecodeLease(AsBytes(*text));
}

Err LeaseFile::Store(const pb::StoredLease& lease) {
  // What a crash left behind.
  if (const Err err = device_->Remove(kNewName); err != Err::kOk && err != Err::kNotFound) {
    return err;
  }
  TRY_ASSIGN(const FileHandle file, device_->Create(kNewName));
  const std::string bytes = EncodeLease(lease);
  const Bytes parts[] = {AsBytes(bytes)};
  Err err = device_->Write(file, 0, parts);
  if (err == Err::kOk) err = device_->Sync(file);
  device_->Close(file);
  TRY(err);
  TRY(device_->Rename(kNewName, kName));
  return device_->SyncDir();
}

}  // namespace hayloft
