#include "dataserver/dsp/block_format.h"

#include <algorithm>
#include <cstdio>

#include "common/check.h"
#include "common/needle.h"
#include "common/version.h"

namespace hayloft {

namespace {

template <size_t kSize>
void CopyIn(const std::array<uint8_t, kSize>& from, uint8_t (&to)[kSize]) {
  std::copy(from.begin(), from.end(), to);
}
template <size_t kSize>
void CopyOut(const uint8_t (&from)[kSize], std::array<uint8_t, kSize>* to) {
  std::copy(from, from + kSize, to->begin());
}

// The CRC of all that follows the magic and the CRC itself.
template <typename Struct>
uint32_t BodyCrc(const Struct& value, uint32_t previous = 0) {
  return Crc32c(StructBytes(value).subspan(offsetof(Struct, crc) + sizeof(le32)), previous);
}

uint32_t CrcOf64(uint64_t value, uint32_t previous = 0) {
  return Crc32c(StructBytes(le64{value}), previous);
}

template <typename Struct>
std::string Page(const Struct& value) {
  std::string page(AsText(StructBytes(value)));
  page.resize(kPageBytes, '\0');
  return page;
}

bool AllZero(Bytes bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

// What a struct with another magic is. The last character of a magic is its version; a later
// version covers its magic by its CRC, at whatever place that lies. So a flipped bit in a magic of
// ours leaves our CRC whole, and is damage; a later version's struct does not fit our CRC.
Err WrongMagic(uint32_t found, uint32_t ours, bool our_crc_fits) {
  const bool same_kind = (found & 0xffffff) == (ours & 0xffffff);
  const uint32_t version = found >> 24;
  const bool later = same_kind && version > ours >> 24 && version <= '9';
  return later && !our_crc_fits ? Err::kUnsupported : Err::kCorrupt;
}

// A page is exactly its struct and zeros, so that a flip anywhere in it is noticed. `crc_before` is
// the CRC of what the page's own covers in front of it.
template <typename Struct>
Result<Struct> TakePage(Bytes page, uint32_t magic, uint32_t crc_before = 0) {
  ByteReader reader(page);
  const Struct value = reader.TakeStruct<Struct>();
  if (!reader.ok()) return Err::kCorrupt;
  const bool crc_fits = value.crc == BodyCrc(value, crc_before);
  if (value.magic != magic) return WrongMagic(value.magic, magic, crc_fits);
  if (!crc_fits || page.size() < kPageBytes) return Err::kCorrupt;
  const Bytes rest = page.subspan(sizeof(Struct), kPageBytes - sizeof(Struct));
  if (!AllZero(rest)) return Err::kCorrupt;
  return value;
}

}  // namespace

std::string EncodeSuperblock(const Superblock& superblock) {
  SuperblockPage page{};
  page.magic = kSuperblockMagic;
  page.generation = superblock.generation;
  CopyIn(superblock.cluster_id, page.cluster_id);
  CopyIn(superblock.disk_id, page.disk_id);
  page.incarnation = superblock.incarnation;
  page.promised_epoch = superblock.promised_epoch;
  CopyIn(superblock.promised_node, page.promised_node);
  page.block_range_end = superblock.block_range_end;
  page.block_bytes = superblock.block_bytes;
  page.created_ms = superblock.created_ms;
  page.format_version = kDiskFormatVersion;
  page.dsp_id = superblock.dsp_id;
  page.disk_state = static_cast<uint8_t>(superblock.disk_state);
  page.crc = BodyCrc(page);
  return Page(page);
}

Result<Superblock> DecodeSuperblock(Bytes bytes) {
  TRY_ASSIGN(const SuperblockPage page, TakePage<SuperblockPage>(bytes, kSuperblockMagic));
  if (page.format_version > kDiskFormatVersion) return Err::kUnsupported;
  if (page.block_bytes < kBlockBytesMin || page.block_bytes > kBlockBytesMax) return Err::kCorrupt;
  if (page.disk_state > static_cast<uint8_t>(DiskState::kFailed)) return Err::kCorrupt;
  Superblock superblock;
  superblock.generation = page.generation;
  CopyOut(page.cluster_id, &superblock.cluster_id);
  CopyOut(page.disk_id, &superblock.disk_id);
  superblock.incarnation = page.incarnation;
  superblock.promised_epoch = page.promised_epoch;
  CopyOut(page.promised_node, &superblock.promised_node);
  superblock.block_range_end = page.block_range_end;
  superblock.block_bytes = page.block_bytes;
  superblock.created_ms = page.created_ms;
  superblock.dsp_id = page.dsp_id;
  superblock.disk_state = static_cast<DiskState>(page.disk_state);
  return superblock;
}

std::string EncodeBlockHeader(const BlockHeader& header) {
  ASSERT(!header.set_dsp_ids.empty());
  ASSERT(header.set_dsp_ids.size() <= kReplicasMax);
  BlockHeaderPage page{};
  page.magic = kBlockMagic;
  page.block_id = header.block_id;
  page.opening_epoch = header.opening_epoch;
  page.life = header.life;
  page.created_ms = header.created_ms;
  page.set_version = header.set_version;
  page.set_size = static_cast<uint32_t>(header.set_dsp_ids.size());
  std::copy(header.set_dsp_ids.begin(), header.set_dsp_ids.end(), page.set_dsp_ids);
  page.crc = BodyCrc(page);
  std::string pages = Page(page);
  pages.resize(kFirstNeedleOffset, '\0');
  return pages;
}

Result<BlockHeader> DecodeBlockHeader(Bytes bytes) {
  TRY_ASSIGN(const BlockHeaderPage page, TakePage<BlockHeaderPage>(bytes, kBlockMagic));
  if (page.block_id > kBlockIdMax) return Err::kCorrupt;
  if (page.set_size == 0 || page.set_size > kReplicasMax) return Err::kCorrupt;
  BlockHeader header;
  header.block_id = page.block_id;
  header.opening_epoch = page.opening_epoch;
  header.life = page.life;
  header.created_ms = page.created_ms;
  header.set_version = page.set_version;
  header.set_dsp_ids.assign(page.set_dsp_ids, page.set_dsp_ids + page.set_size);
  return header;
}

std::string EncodeCloseRecord(const CloseRecord& record, uint64_t life) {
  ClosePage page{};
  page.magic = kCloseMagic;
  page.block_id = record.block_id;
  page.block_epoch = record.block_epoch;
  page.end = record.end;
  page.needles = record.needles;
  page.crc = BodyCrc(page, CrcOf64(life));
  return Page(page);
}

Result<CloseRecord> DecodeCloseRecord(Bytes bytes, uint64_t life) {
  TRY_ASSIGN(const ClosePage page, TakePage<ClosePage>(bytes, kCloseMagic, CrcOf64(life)));
  if (page.block_id > kBlockIdMax || page.needles > kNeedlesPerBlockMax) return Err::kCorrupt;
  if (page.end < kFirstNeedleOffset || page.end > kBlockBytesMax) return Err::kCorrupt;
  return CloseRecord{.block_id = page.block_id,
                     .block_epoch = page.block_epoch,
                     .end = page.end,
                     .needles = page.needles};
}

namespace {

uint64_t FooterBodyBytes(uint64_t needles) { return needles * sizeof(le32) + (needles + 7) / 8; }

std::string EncodeFooterBody(const Footer& footer) {
  std::string body;
  body.reserve(FooterBodyBytes(footer.offsets.size()));
  for (uint32_t offset : footer.offsets) body.append(AsText(StructBytes(le32{offset})));
  std::string bitmap((footer.offsets.size() + 7) / 8, '\0');
  for (uint32_t sequence : footer.purged) {
    ASSERT(sequence < footer.offsets.size());
    bitmap[sequence / 8] = static_cast<char>(bitmap[sequence / 8] | 1 << sequence % 8);
  }
  return body.append(bitmap);
}

Err DecodeFooterBody(Bytes body, uint32_t needles, Footer* footer) {
  ByteReader reader(body);
  const uint64_t end = footer->data_end / kNeedleAlign;
  uint64_t previous = kFirstNeedleOffset / kNeedleAlign;
  footer->offsets.reserve(needles);
  for (uint32_t i = 0; i < needles; ++i) {
    const uint32_t offset = reader.TakeStruct<le32>();
    if (offset < previous || offset > end) return Err::kCorrupt;
    footer->offsets.push_back(offset);
    previous = offset;
  }
  const Bytes bitmap = reader.Take((needles + 7) / 8);
  if (!reader.ok() || reader.size() != 0) return Err::kCorrupt;
  for (uint32_t i = 0; i < needles; ++i) {
    if ((bitmap[i / 8] >> i % 8 & 1) != 0) footer->purged.push_back(i);
  }
  return Err::kOk;
}

}  // namespace

uint64_t FooterBytesMax(uint32_t needles) {
  return PageCeil(FooterBodyBytes(needles) + sizeof(FooterTrailer));
}

std::string EncodeFooter(const Footer& footer) {
  const std::string body = EncodeFooterBody(footer);
  FooterTrailer trailer{};
  trailer.magic = kFooterMagic;
  trailer.block_id = footer.block_id;
  trailer.life = footer.life;
  trailer.opening_epoch = footer.opening_epoch;
  trailer.block_epoch = footer.block_epoch;
  trailer.data_end = footer.data_end;
  trailer.needles = static_cast<uint32_t>(footer.offsets.size());
  trailer.lost = footer.lost;
  trailer.without_all = footer.without_all ? 1 : 0;
  trailer.purged = static_cast<uint32_t>(footer.purged.size());
  trailer.body_crc = Crc32c(AsBytes(body));
  trailer.body_bytes = static_cast<uint32_t>(body.size());
  CopyIn(footer.digest, trailer.digest);
  trailer.crc = BodyCrc(trailer);
  return body + std::string(AsText(StructBytes(trailer)));
}

Result<Footer> DecodeFooter(Bytes tail, uint64_t* needed) {
  *needed = sizeof(FooterTrailer);
  if (tail.size() < sizeof(FooterTrailer)) return Err::kTooLarge;
  ByteReader reader(tail.last(sizeof(FooterTrailer)));
  const FooterTrailer trailer = reader.TakeStruct<FooterTrailer>();
  const bool crc_fits = trailer.crc == BodyCrc(trailer);
  if (trailer.magic != kFooterMagic) return WrongMagic(trailer.magic, kFooterMagic, crc_fits);
  if (!crc_fits) return Err::kCorrupt;
  if (trailer.needles > kNeedlesPerBlockMax) return Err::kCorrupt;
  if (trailer.body_bytes != FooterBodyBytes(trailer.needles)) return Err::kCorrupt;
  if (trailer.data_end < kFirstNeedleOffset) return Err::kCorrupt;
  if (trailer.data_end > kBlockBytesMax || trailer.data_end % kNeedleAlign != 0) {
    return Err::kCorrupt;
  }
  if (uint64_t{trailer.lost} + trailer.purged > trailer.needles) return Err::kCorrupt;
  *needed += trailer.body_bytes;
  if (tail.size() < *needed) return Err::kTooLarge;
  const Bytes body = tail.subspan(tail.size() - *needed, trailer.body_bytes);
  if (Crc32c(body) != trailer.body_crc) return Err::kCorrupt;
  Footer footer;
  footer.block_id = trailer.block_id;
  footer.life = trailer.life;
  footer.opening_epoch = trailer.opening_epoch;
  footer.block_epoch = trailer.block_epoch;
  footer.data_end = trailer.data_end;
  footer.lost = trailer.lost;
  footer.without_all = trailer.without_all != 0;
  CopyOut(trailer.digest, &footer.digest);
  TRY(DecodeFooterBody(body, trailer.needles, &footer));
  if (footer.purged.size() != trailer.purged) return Err::kCorrupt;
  return footer;
}

std::string EncodeDeleteLogHeader(uint64_t log_id) {
  DeleteLogPage page{};
  page.magic = kDeleteLogMagic;
  page.log_id = log_id;
  page.crc = BodyCrc(page);
  return Page(page);
}

Result<uint64_t> DecodeDeleteLogHeader(Bytes bytes) {
  TRY_ASSIGN(const DeleteLogPage page, TakePage<DeleteLogPage>(bytes, kDeleteLogMagic));
  return uint64_t{page.log_id};
}

void SealDeleteRecord(DeleteRecord* record, uint64_t log_id, uint64_t offset) {
  record->magic = kDeleteRecordMagic;
  record->crc = BodyCrc(*record, CrcOf64(offset, CrcOf64(log_id)));
}

Err CheckDeleteRecord(const DeleteRecord& record, uint64_t log_id, uint64_t offset) {
  const bool crc_fits = record.crc == BodyCrc(record, CrcOf64(offset, CrcOf64(log_id)));
  if (record.magic != kDeleteRecordMagic) {
    return WrongMagic(record.magic, kDeleteRecordMagic, crc_fits);
  }
  if (!crc_fits) return Err::kCorrupt;
  return record.kind == kDeleteKindCounter ? Err::kOk : Err::kUnsupported;
}

namespace {

std::string HexName(const char* prefix, uint64_t number) {
  char text[32];
  std::snprintf(text, sizeof(text), "%s%016llx", prefix, static_cast<unsigned long long>(number));
  return text;
}

std::optional<uint64_t> ParseHexName(std::string_view prefix, std::string_view name) {
  if (!name.starts_with(prefix)) return std::nullopt;
  uint8_t bytes[8];
  if (!FromHex(name.substr(prefix.size()), bytes)) return std::nullopt;
  return GetBigEndian64(bytes);
}

}  // namespace

std::string BlockFileName(uint64_t block_id) { return HexName("blk-", block_id); }
std::string PoolFileName(uint64_t number) { return HexName("pool-", number); }
std::optional<uint64_t> ParseBlockFileName(std::string_view name) {
  return ParseHexName("blk-", name);
}
std::optional<uint64_t> ParsePoolFileName(std::string_view name) {
  return ParseHexName("pool-", name);
}

}  // namespace hayloft
