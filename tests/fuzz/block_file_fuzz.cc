// libFuzzer target: the pages of a block's file and its footer, as a disk may give them.
// covers: dataserver/dsp/block_format.cc DecodeBlockHeader DecodeCloseRecord DecodeFooter
// covers: dataserver/dsp/block_index.cc
//
// First byte: which page, and whether its checksums are made right, so that what lies behind them
// is reached. Promises: whatever is accepted is within the bounds, encodes to the same meaning
// again, and an index of it finds what a plain array would.
#include <algorithm>
#include <memory>

#include "common/needle.h"
#include "dataserver/dsp/block_format.h"
#include "dataserver/dsp/block_index.h"

namespace hayloft {
namespace {

constexpr uint64_t kLife = 7;

// The struct at the front of a page gets its magic and CRC, the rest of the page zeros.
template <typename Struct>
void MendPage(uint32_t magic, uint32_t previous_crc, std::string* page) {
  page->resize(sizeof(Struct));
  page->resize(kPageBytes, '\0');
  Struct value;
  std::memcpy(&value, page->data(), sizeof(value));
  value.magic = magic;
  value.crc = Crc32c(StructBytes(value).subspan(sizeof(le64)), previous_crc);
  std::memcpy(page->data(), &value, sizeof(value));
}

void UseHeader(Bytes page) {
  const Result<BlockHeader> header = DecodeBlockHeader(page);
  if (!header.ok()) return;
  ASSERT(header->block_id <= kBlockIdMax);
  ASSERT(!header->set_dsp_ids.empty() && header->set_dsp_ids.size() <= kReplicasMax);
  const std::string again = EncodeBlockHeader(*header);
  const Result<BlockHeader> same = DecodeBlockHeader(AsBytes(again).first(kPageBytes));
  ASSERT(same.ok());
  ASSERT(EncodeBlockHeader(*same) == again);
}

void UseClose(Bytes page) {
  const Result<CloseRecord> close = DecodeCloseRecord(page, kLife);
  if (!close.ok()) return;
  // Recovery makes a list as long as `needles` and believes `end`.
  ASSERT(close->needles <= kNeedlesPerBlockMax);
  ASSERT(close->end >= kFirstNeedleOffset && close->end <= kBlockBytesMax);
  ASSERT(!DecodeCloseRecord(page, kLife + 1).ok());
  const std::string again = EncodeCloseRecord(*close, kLife);
  ASSERT(DecodeCloseRecord(AsBytes(again), kLife).ok());
}

// The trailer at the end gets sizes that fit and its checksums. With `ascending`, the offsets are
// read as distances, as random ones hardly ever ascend.
void MendFooter(bool ascending, std::string* tail) {
  if (tail->size() < sizeof(FooterTrailer)) return;
  FooterTrailer trailer;
  const size_t before = tail->size() - sizeof(trailer);
  std::memcpy(&trailer, tail->data() + before, sizeof(trailer));
  uint32_t needles = trailer.needles % (static_cast<uint32_t>(before / sizeof(le32)) + 1);
  while (needles * sizeof(le32) + (needles + 7) / 8 > before) --needles;
  const size_t body_bytes = needles * sizeof(le32) + (needles + 7) / 8;
  char* body = tail->data() + before - body_bytes;
  uint64_t offset = kFirstNeedleOffset / kNeedleAlign;
  uint32_t purged = 0;
  for (uint32_t i = 0; i < needles; ++i) {
    le32 value;
    std::memcpy(&value, body + i * sizeof(value), sizeof(value));
    offset += value % 2 == 0 ? 0 : value % 4096;
    value = static_cast<uint32_t>(offset);
    if (ascending) std::memcpy(body + i * sizeof(value), &value, sizeof(value));
    purged += static_cast<uint8_t>(body[needles * sizeof(le32) + i / 8]) >> i % 8 & 1;
  }
  trailer.magic = kFooterMagic;
  trailer.needles = needles;
  trailer.body_bytes = static_cast<uint32_t>(body_bytes);
  if (ascending) {
    trailer.data_end = (offset + trailer.data_end % 4096) * kNeedleAlign;
    trailer.purged = purged;
    trailer.lost = trailer.lost % (needles - purged + 1);
  }
  trailer.body_crc = Crc32c(AsBytes({body, body_bytes}));
  trailer.crc = Crc32c(StructBytes(trailer).subspan(sizeof(le64)));
  std::memcpy(tail->data() + before, &trailer, sizeof(trailer));
}

void UseIndex(const Footer& footer) {
  const auto end = static_cast<uint32_t>(footer.data_end / kNeedleAlign);
  const SealedIndex sealed(footer.offsets, end);
  OpenIndex open;
  for (uint32_t offset : footer.offsets) open.Add(uint64_t{offset} * kNeedleAlign);
  ASSERT(sealed.size() == footer.offsets.size() && open.size() == sealed.size());
  ASSERT(sealed.memory_bytes() > 0);
  ASSERT(open.memory_bytes() >= open.size() * sizeof(uint32_t));
  for (uint32_t i = 0; i < sealed.size(); ++i) {
    const uint32_t next = i + 1 < sealed.size() ? footer.offsets[i + 1] : end;
    for (const NeedleSpan& span : {sealed.Find(i), open.Find(i, footer.data_end)}) {
      ASSERT(span.offset == uint64_t{footer.offsets[i]} * kNeedleAlign);
      ASSERT(span.next == uint64_t{next} * kNeedleAlign);
      ASSERT(span.next <= footer.data_end);
    }
  }
}

void UseFooter(Bytes tail) {
  uint64_t needed = 0;
  const Result<Footer> footer = DecodeFooter(tail, &needed);
  ASSERT((footer.err() == Err::kTooLarge) == (needed > tail.size()));
  if (!footer.ok()) return;
  ASSERT(footer->offsets.size() <= kNeedlesPerBlockMax);
  ASSERT(footer->lost + footer->purged.size() <= footer->offsets.size());
  UseIndex(*footer);
  const std::string again = EncodeFooter(*footer);
  ASSERT(again.size() == needed &&
         again.size() <= FooterBytesMax(static_cast<uint32_t>(footer->offsets.size())));
  const Result<Footer> same = DecodeFooter(AsBytes(again), &needed);
  ASSERT(same.ok());
  ASSERT(EncodeFooter(*same) == again);
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  if (size < 1) return 0;
  std::string text(AsText({data + 1, size - 1}));
  const unsigned kind = data[0] % 3;
  const bool mend = (data[0] & 64) != 0;
  if (mend && kind == 0) MendPage<BlockHeaderPage>(kBlockMagic, 0, &text);
  if (mend && kind == 1) {
    MendPage<ClosePage>(kCloseMagic, Crc32c(StructBytes(le64{kLife})), &text);
  }
  if (mend && kind == 2) MendFooter((data[0] & 128) != 0, &text);
  // A copy without a byte to spare, so that the sanitizer sees a read behind the end.
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[text.size()]);
  std::copy(text.begin(), text.end(), exact.get());
  const Bytes bytes(exact.get(), text.size());
  if (kind == 0) UseHeader(bytes);
  if (kind == 1) UseClose(bytes);
  if (kind == 2) UseFooter(bytes);
  return 0;
}
