#include "common/needle.h"

#include <algorithm>

namespace hayloft {

namespace {

enum Tag : uint16_t {
  kTagContentType = 1,
  kTagSha1 = 2,
  kTagSha256 = 3,
  kTagNonce = 4,
  kTagField = 16
};

struct TlvHeader {
  le16 tag;
  le16 length;
};

void PutTlv(Tag tag, Bytes value, std::string* out) {
  ASSERT(value.size() <= kMetadataBytesMax);
  const TlvHeader header{.tag = tag, .length = static_cast<uint16_t>(value.size())};
  out->append(AsText(StructBytes(header)));
  out->append(AsText(value));
}

template <size_t kSize>
Err TakeFixed(Bytes value, std::array<uint8_t, kSize>* out) {
  if (value.size() != kSize) return Err::kCorrupt;
  std::copy(value.begin(), value.end(), out->begin());
  return Err::kOk;
}

Err TakeField(Bytes value, Metadata* metadata) {
  ByteReader reader(value);
  const le16 name_size = reader.TakeStruct<le16>();
  const Bytes name = reader.Take(name_size);
  if (!reader.ok()) return Err::kCorrupt;
  metadata->fields[std::string(AsText(name))] = std::string(AsText(reader.Take(reader.size())));
  return Err::kOk;
}

uint32_t HeaderCrc(const NeedleHeader& header, Bytes piece_crcs, const NeedlePlace& place) {
  const le64 prefix[2] = {place.life, place.offset};
  uint32_t crc = Crc32c({reinterpret_cast<const uint8_t*>(prefix), sizeof(prefix)});
  crc = Crc32c(StructBytes(header).subspan(offsetof(NeedleHeader, block_id)), crc);
  return Crc32c(piece_crcs, crc);
}

}  // namespace

std::string EncodeMetadata(const Metadata& metadata) {
  std::string out;
  out.reserve(4 * sizeof(TlvHeader) + metadata.content_type.size() + sizeof(metadata.sha1) +
              sizeof(metadata.sha256) + sizeof(metadata.nonce));
  PutTlv(kTagContentType, AsBytes(metadata.content_type), &out);
  PutTlv(kTagSha1, metadata.sha1, &out);
  PutTlv(kTagSha256, metadata.sha256, &out);
  PutTlv(kTagNonce, metadata.nonce, &out);
  for (const auto& [name, value] : metadata.fields) {
    const le16 name_size = static_cast<uint16_t>(name.size());
    std::string field(AsText(StructBytes(name_size)));
    PutTlv(kTagField, AsBytes(field.append(name).append(value)), &out);
  }
  return out;
}

Result<Metadata> ParseMetadata(Bytes bytes) {
  if (bytes.size() > kMetadataBytesMax) return Err::kTooLarge;
  Metadata metadata;
  ByteReader reader(bytes);
  while (reader.size() > 0) {
    const TlvHeader header = reader.TakeStruct<TlvHeader>();
    const Bytes value = reader.Take(header.length);
    if (!reader.ok()) return Err::kCorrupt;
    switch (uint16_t{header.tag}) {
      case kTagContentType:
        metadata.content_type = AsText(value);
        break;
      case kTagSha1:
        TRY(TakeFixed(value, &metadata.sha1));
        break;
      case kTagSha256:
        TRY(TakeFixed(value, &metadata.sha256));
        break;
      case kTagNonce:
        TRY(TakeFixed(value, &metadata.nonce));
        break;
      case kTagField:
        TRY(TakeField(value, &metadata));
        break;
      default:
        break;  // written by a later version
    }
  }
  return metadata;
}

uint32_t NeedleHead::piece_crc(size_t piece) const {
  ASSERT((piece + 1) * sizeof(le32) <= piece_crcs.size());
  le32 crc;
  std::memcpy(&crc, piece_crcs.data() + piece * sizeof(le32), sizeof(crc));
  return crc;
}

uint64_t NeedleHeadBytes(uint64_t stored_size, uint64_t metadata_size) {
  ASSERT(stored_size > 0 && stored_size <= kFileBytesMax);
  ASSERT(metadata_size <= kMetadataBytesMax);
  return sizeof(NeedleHeader) + PieceCount(stored_size) * sizeof(le32) + metadata_size;
}

uint64_t NeedleBytes(uint64_t stored_size, uint64_t metadata_size) {
  const uint64_t bytes = NeedleHeadBytes(stored_size, metadata_size) + stored_size;
  return (bytes + kNeedleAlign - 1) / kNeedleAlign * kNeedleAlign;
}

std::vector<uint32_t> PieceCrcs(Bytes data) {
  std::vector<uint32_t> crcs;
  crcs.reserve(PieceCount(data.size()));
  for (size_t begin = 0; begin < data.size(); begin += kPieceBytes) {
    crcs.push_back(Crc32c(data.subspan(begin, std::min<size_t>(kPieceBytes, data.size() - begin))));
  }
  return crcs;
}

std::string EncodeNeedleHead(NeedleHeader header, std::span<const uint32_t> piece_crcs,
                             Bytes metadata, const NeedlePlace& place) {
  ASSERT(piece_crcs.size() == PieceCount(header.stored_size));
  ASSERT(place.offset % kNeedleAlign == 0);
  std::string crcs;
  crcs.reserve(piece_crcs.size() * sizeof(le32));
  for (uint32_t crc : piece_crcs) crcs.append(AsText(StructBytes(le32{crc})));
  header.magic = kNeedleMagic;
  header.metadata_size = static_cast<uint16_t>(metadata.size());
  header.metadata_crc = Crc32c(metadata);
  header.header_crc = HeaderCrc(header, AsBytes(crcs), place);
  std::string head;
  head.reserve(NeedleHeadBytes(header.stored_size, metadata.size()));
  head.append(AsText(StructBytes(header))).append(crcs).append(AsText(metadata));
  return head;
}

std::string MoveNeedleHead(const NeedleHead& head, const NeedlePlace& place) {
  ASSERT(place.offset % kNeedleAlign == 0);
  NeedleHeader header = head.header;
  header.header_crc = HeaderCrc(header, head.piece_crcs, place);
  std::string moved;
  moved.reserve(head.data_offset);
  moved.append(AsText(StructBytes(header)));
  return moved.append(AsText(head.piece_crcs)).append(AsText(head.metadata));
}

Result<NeedleHead> ParseNeedleHead(Bytes bytes) {
  ByteReader reader(bytes);
  NeedleHead head;
  head.header = reader.TakeStruct<NeedleHeader>();
  const NeedleHeader& header = head.header;
  if (!reader.ok() || header.magic != kNeedleMagic || header.flags != 0) return Err::kCorrupt;
  if (header.stored_size == 0 || header.stored_size > kFileBytesMax) return Err::kCorrupt;
  if (header.raw_size == 0 || header.raw_size > kFileBytesMax) return Err::kCorrupt;
  if (header.metadata_size > kMetadataBytesMax) return Err::kCorrupt;
  if (header.encoding > static_cast<uint8_t>(Encoding::kZstd)) return Err::kCorrupt;
  const bool identity = header.encoding == static_cast<uint8_t>(Encoding::kIdentity);
  if (identity && header.raw_size != header.stored_size) return Err::kCorrupt;
  head.piece_crcs = reader.Take(PieceCount(header.stored_size) * sizeof(le32));
  head.metadata = reader.Take(header.metadata_size);
  if (!reader.ok() || Crc32c(head.metadata) != header.metadata_crc) return Err::kCorrupt;
  head.data_offset = NeedleHeadBytes(header.stored_size, header.metadata_size);
  head.needle_bytes = NeedleBytes(header.stored_size, header.metadata_size);
  return head;
}

Result<NeedleHead> CheckNeedleHead(Bytes bytes, uint64_t block_id, const NeedlePlace& place) {
  TRY_ASSIGN(NeedleHead head, ParseNeedleHead(bytes));
  if (head.header.header_crc != HeaderCrc(head.header, head.piece_crcs, place))
    return Err::kCorrupt;
  if (head.header.block_id != block_id) return Err::kCorrupt;
  return head;
}

Err CheckPieces(const NeedleHead& head, uint64_t first_piece, Bytes data) {
  const uint64_t stored_size = head.header.stored_size;
  const uint64_t begin = first_piece * kPieceBytes;
  if (begin > stored_size || data.size() > stored_size - begin) return Err::kInvalid;
  if (data.size() % kPieceBytes != 0 && begin + data.size() != stored_size) return Err::kInvalid;
  for (uint64_t piece = first_piece; !data.empty(); ++piece) {
    const size_t size = std::min<size_t>(kPieceBytes, data.size());
    if (Crc32c(data.first(size)) != head.piece_crc(piece)) return Err::kCorrupt;
    data = data.subspan(size);
  }
  return Err::kOk;
}

}  // namespace hayloft
