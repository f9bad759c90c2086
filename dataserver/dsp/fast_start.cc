#include "dataserver/dsp/fast_start.h"

namespace hayloft {

namespace {

std::string Key(uint64_t block_id) {
  uint8_t number[8];
  PutBigEndian64(block_id, number);
  return std::string("b").append(AsText(number));
}

}  // namespace

Kv::Change FastStartEntry(const BlockHeader& header, uint64_t file_bytes,
                          std::string_view encoded_footer) {
  const std::string page = EncodeBlockHeader(header);
  Kv::Change change;
  change.key = Key(header.block_id);
  change.value.append(AsText(StructBytes(le64{file_bytes})));
  change.value.append(page, 0, sizeof(BlockHeaderPage)).append(encoded_footer);
  return change;
}

Result<FastStart> FindFastStart(Kv* kv, uint64_t block_id, uint64_t file_bytes) {
  const Result<std::string> value = kv->Get(Key(block_id));
  if (!value.ok()) return value.err();
  ByteReader reader(AsBytes(*value));
  const le64 remembered_bytes = reader.TakeStruct<le64>();
  std::string page(AsText(reader.Take(sizeof(BlockHeaderPage))));
  if (!reader.ok()) return Err::kCorrupt;
  if (remembered_bytes != file_bytes) return Err::kNotFound;
  page.resize(kPageBytes, '\0');
  TRY_ASSIGN(BlockHeader header, DecodeBlockHeader(AsBytes(page)));
  uint64_t needed = 0;
  TRY_ASSIGN(Footer footer, DecodeFooter(reader.Take(reader.size()), &needed));
  if (header.block_id != block_id || footer.block_id != block_id) return Err::kCorrupt;
  if (header.life != footer.life) return Err::kCorrupt;
  return FastStart{.header = std::move(header), .footer = std::move(footer)};
}

}  // namespace hayloft
