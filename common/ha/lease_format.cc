#include "common/ha/lease_format.h"

#include "common/check.h"
#include "common/codec.h"

namespace hayloft {

namespace {

constexpr uint32_t kMagicRecord = 0x31534c48;  // "HLS1"
constexpr uint32_t kMagic = 0x32534c48;        // "HLS2"

struct LeaseHeader {
  le32 magic;  // 0
  le32 size;   // 4  of what follows
  le32 crc;    // 8  crc32c of it
};
static_assert(sizeof(LeaseHeader) == 12);

}  // namespace

std::string EncodeLease(const pb::StoredLease& lease) {
  const std::string body = lease.SerializeAsString();
  ASSERT(body.size() + sizeof(LeaseHeader) <= kLeaseFileBytesMax);
  const LeaseHeader header{
      .magic = kMagic, .size = static_cast<uint32_t>(body.size()), .crc = Crc32c(AsBytes(body))};
  return std::string(AsText(StructBytes(header))) + body;
}

Result<pb::StoredLease> DecodeLease(Bytes bytes) {
  ByteReader reader(bytes);
  const LeaseHeader header = reader.TakeStruct<LeaseHeader>();
  const bool known = header.magic == kMagic || header.magic == kMagicRecord;
  if (!reader.ok() || !known || header.size != reader.size()) return Err::kCorrupt;
  const Bytes body = reader.Take(header.size);
  if (Crc32c(body) != header.crc) return Err::kCorrupt;
  pb::StoredLease lease;
  const std::string text(AsText(body));
  if (header.magic == kMagicRecord) {
    lease.set_version(1);
    if (!lease.mutable_record()->ParseFromString(text)) return Err::kCorrupt;
  } else if (!lease.ParseFromString(text) || lease.version() == 0 || !lease.has_record()) {
    return Err::kCorrupt;
  }
  return lease;
}

}  // namespace hayloft
