// The sample of each layout on disk that docs/formats.md shows and tests/golden/ holds in hex.
#pragma once

#include <string>

#include "common/needle.h"
#include "dataserver/dsp/block_format.h"

namespace hayloft::samples {

inline constexpr uint64_t kBlockId = 0x0102030405;
inline constexpr uint64_t kLife = 0x1122334455667788;
inline constexpr uint64_t kTimeMs = 1'700'000'000'000;

inline Metadata SampleMetadata() {
  Metadata metadata;
  metadata.content_type = "text/plain";
  Hasher hasher;
  hasher.Update(AsBytes("hay"));
  hasher.Finish(&metadata.sha1, &metadata.sha256);
  metadata.nonce = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  metadata.fields["x-hayloft-album"] = "7";
  return metadata;
}

// A whole needle with the data "hay", first in its block.
inline std::string Needle() {
  NeedleHeader header;
  header.block_id = kBlockId;
  header.file_id = FileId::Of(0, 0x0a0b0c0d0e).value;
  header.created_ms = kTimeMs;
  header.stored_size = 3;
  header.raw_size = 3;
  header.encoding = static_cast<uint8_t>(Encoding::kIdentity);
  header.flags = 0;
  std::string needle =
      EncodeNeedleHead(header, PieceCrcs(AsBytes("hay")), AsBytes(EncodeMetadata(SampleMetadata())),
                       {.life = kLife, .offset = kFirstNeedleOffset});
  needle += "hay";
  needle.resize((needle.size() + kNeedleAlign - 1) / kNeedleAlign * kNeedleAlign, '\0');
  return needle;
}

inline Superblock SampleSuperblock() {
  Superblock superblock;
  superblock.generation = 4;
  superblock.cluster_id = {0xc1};
  superblock.disk_id = {0xd1};
  superblock.incarnation = 2;
  superblock.promised_epoch = 9;
  superblock.promised_node = {0xa1};
  superblock.block_range_end = 1000;
  superblock.created_ms = kTimeMs;
  superblock.dsp_id = 3;
  return superblock;
}

inline BlockHeader SampleBlockHeader() {
  BlockHeader header;
  header.block_id = kBlockId;
  header.opening_epoch = 9;
  header.life = kLife;
  header.created_ms = kTimeMs;
  header.set_version = 1;
  header.set_dsp_ids = {3};
  return header;
}

inline CloseRecord SampleClose() {
  return {.block_id = kBlockId, .block_epoch = 10, .end = 12288, .needles = 2};
}

// Two needles, of which the second is lost.
inline Footer SampleFooter() {
  Footer footer;
  footer.block_id = kBlockId;
  footer.life = kLife;
  footer.opening_epoch = 9;
  footer.block_epoch = 10;
  footer.data_end = kFirstNeedleOffset + Needle().size();
  footer.offsets = {kFirstNeedleOffset / kNeedleAlign,
                    static_cast<uint32_t>(footer.data_end / kNeedleAlign)};
  footer.lost = 1;
  footer.digest = {0xdd};
  return footer;
}

inline std::string Deletes() {
  DeleteRecord record{};
  record.block_id = kBlockId;
  record.sequence = 0;
  record.counter = 1;
  record.changed_ms = kTimeMs;
  record.kind = kDeleteKindCounter;
  SealDeleteRecord(&record, kLife, kPageBytes);
  return std::string(AsText(StructBytes(record)));
}

// Without the zeros that fill a page.
inline std::string Unpadded(std::string page) {
  page.resize(page.find_last_not_of('\0') + 1);
  return page;
}

}  // namespace hayloft::samples
