#include "nameserver/lease_file.h"

#include <algorithm>

#include "common/check.h"
#include "common/codec.h"
#include "common/log.h"

namespace hayloft {

namespace {

constexpr std::string_view kName = "lease";
constexpr std::string_view kNewName = "lease.new";
constexpr uint32_t kMagic = 0x31534c48;  // "HLS1"
constexpr uint64_t kBytesMax = 4096;
constexpr size_t kIdBytes = 16;

struct LeaseHeader {
  le32 magic;  // 0
  le32 size;   // 4  of the record
  le32 crc;    // 8  crc32c of the record
};
static_assert(sizeof(LeaseHeader) == 12);

Result<std::string> ReadAll(Device* device, FileHandle file) {
  TRY_ASSIGN(const uint64_t size, device->Size(file));
  if (size > kBytesMax) return Err::kCorrupt;
  std::string text(size, '\0');
  TRY(device->Read(file, 0, {reinterpret_cast<uint8_t*>(text.data()), text.size()}));
  return text;
}

}  // namespace

std::string EncodeLease(const pb::LeaseRecord& record) {
  const std::string body = record.SerializeAsString();
  ASSERT(body.size() + sizeof(LeaseHeader) <= kBytesMax);
  const LeaseHeader header{
      .magic = kMagic, .size = static_cast<uint32_t>(body.size()), .crc = Crc32c(AsBytes(body))};
  return std::string(AsText(StructBytes(header))) + body;
}

Result<pb::LeaseRecord> DecodeLease(Bytes bytes) {
  ByteReader reader(bytes);
  const LeaseHeader header = reader.TakeStruct<LeaseHeader>();
  if (!reader.ok() || header.magic != kMagic || header.size != reader.size()) {
    return Err::kCorrupt;
  }
  const Bytes body = reader.Take(header.size);
  pb::LeaseRecord record;
  if (Crc32c(body) != header.crc || !record.ParseFromString(std::string(AsText(body)))) {
    return Err::kCorrupt;
  }
  return record;
}

Result<pb::LeaseRecord> LeaseFile::Read() {
  TRY_ASSIGN(const FileHandle file, device_->Open(kName));
  Result<std::string> text = ReadAll(device_, file);
  device_->Close(file);
  if (!text.ok()) return text.err();
  return DecodeLease(AsBytes(*text));
}

Result<uint64_t> LeaseFile::Acquire(const LeaseClaim& claim) {
  ASSERT(claim.node.size() == kIdBytes);
  if (!locked_) TRY(device_->Lock());
  locked_ = true;
  pb::LeaseRecord record;
  Result<pb::LeaseRecord> stored = Read();
  if (stored.ok()) {
    record = std::move(stored).value();
    const bool member = std::find(record.in_sync().begin(), record.in_sync().end(), claim.node) !=
                        record.in_sync().end();
    const bool may_win = member && claim.log_position >= record.log_position();
    if (!may_win && !claim.force) return Err::kNotActive;
  } else if (stored.err() == Err::kNotFound || (stored.err() == Err::kCorrupt && claim.force)) {
    // The first start; or it was lost. There is no other node that could know more than this one.
    if (claim.epoch_above > 0) LOG_WARN("lease_record_lost", "action=new_record");
    std::string identity(kIdBytes, '\0');
    random_->Fill({reinterpret_cast<uint8_t*>(identity.data()), identity.size()});
    record.set_identity(identity);
  } else {
    return stored.err();
  }
  record.set_epoch(std::max(record.epoch(), claim.epoch_above) + 1);
  record.set_holder(claim.node);
  record.clear_in_sync();
  record.add_in_sync(claim.node);
  record.set_log_position(claim.log_position);
  TRY(Store(record));
  return record.epoch();
}

Err LeaseFile::Renew(uint64_t log_position) {
  ASSERT(locked_);
  TRY_ASSIGN(pb::LeaseRecord record, Read());
  if (record.SerializeAsString() != held_.SerializeAsString()) return Err::kNotActive;
  if (log_position == record.log_position()) return Err::kOk;
  record.set_log_position(log_position);
  return Store(record);
}

Err LeaseFile::Store(const pb::LeaseRecord& record) {
  // What a crash left behind.
  if (const Err err = device_->Remove(kNewName); err != Err::kOk && err != Err::kNotFound) {
    return err;
  }
  TRY_ASSIGN(const FileHandle file, device_->Create(kNewName));
  const std::string bytes = EncodeLease(record);
  const Bytes parts[] = {AsBytes(bytes)};
  Err err = device_->Write(file, 0, parts);
  if (err == Err::kOk) err = device_->Sync(file);
  device_->Close(file);
  TRY(err);
  TRY(device_->Rename(kNewName, kName));
  TRY(device_->SyncDir());
  held_ = record;
  return Err::kOk;
}

}  // namespace hayloft
