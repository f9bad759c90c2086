// libFuzzer target: a needle as a disk or a peer may give it.
// covers: common/needle.cc ParseNeedleHead CheckNeedleHead CheckPieces ParseMetadata
//
// Half of the inputs get right checksums first. Promises: whatever is accepted lies within the
// bytes, and encodes to the same bytes again.
#include <memory>
#include <string>

#include "common/needle.h"

namespace hayloft {
namespace {

constexpr NeedlePlace kPlace{.life = 7, .offset = 4096};
constexpr uint64_t kBlockId = 5;

// Makes block, metadata size and both checksums of the head right, as far as its sizes make sense.
void Mend(std::string* bytes) {
  NeedleHeader header;
  if (bytes->size() < sizeof(header)) return;
  std::memcpy(&header, bytes->data(), sizeof(header));
  const uint64_t crc_bytes = PieceCount(header.stored_size) * 4;
  const Bytes behind = AsBytes(*bytes).subspan(sizeof(header));
  if (crc_bytes + header.metadata_size > behind.size()) return;
  header.magic = kNeedleMagic;
  header.block_id = kBlockId;
  header.metadata_crc = Crc32c(behind.subspan(crc_bytes, header.metadata_size));
  struct Place {
    le64 life;
    le64 offset;
  };
  const Place place{kPlace.life, kPlace.offset};
  uint32_t crc = Crc32c(StructBytes(place));
  crc = Crc32c(StructBytes(header).subspan(offsetof(NeedleHeader, block_id)), crc);
  header.header_crc = Crc32c(behind.first(crc_bytes), crc);
  std::memcpy(bytes->data(), &header, sizeof(header));
}

void Use(Bytes bytes, const NeedleHead& head) {
  ASSERT(head.data_offset <= bytes.size());
  ASSERT(head.needle_bytes % kNeedleAlign == 0);
  ASSERT(head.needle_bytes >= head.data_offset + head.header.stored_size);
  const uint64_t pieces = PieceCount(head.header.stored_size);
  ASSERT(head.piece_crcs.size() == pieces * 4);
  (void)head.piece_crc(pieces - 1);
  (void)ParseMetadata(head.metadata);
  const Bytes rest = bytes.subspan(head.data_offset);
  (void)CheckPieces(head, 0, rest.first(std::min<size_t>(rest.size(), head.header.stored_size)));
  (void)CheckPieces(head, pieces - 1, rest.first(std::min<size_t>(rest.size(), 100)));
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  if (size < 1) return 0;
  std::string text(AsText({data + 1, size - 1}));
  if ((data[0] & 1) != 0) Mend(&text);
  // A copy without a byte to spare, so that the sanitizer sees a read behind the end.
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[text.size()]);
  std::copy(text.begin(), text.end(), exact.get());
  const Bytes bytes(exact.get(), text.size());
  const Result<NeedleHead> parsed = ParseNeedleHead(bytes);
  if (parsed.ok()) Use(bytes, *parsed);
  const Result<NeedleHead> checked = CheckNeedleHead(bytes, kBlockId, kPlace);
  if (!checked.ok()) return 0;
  ASSERT(parsed.ok());
  Use(bytes, *checked);
  std::vector<uint32_t> pieces;
  for (uint64_t i = 0; i < PieceCount(checked->header.stored_size); ++i) {
    pieces.push_back(checked->piece_crc(i));
  }
  const std::string again = EncodeNeedleHead(checked->header, pieces, checked->metadata, kPlace);
  ASSERT(again == AsText(bytes.first(checked->data_offset)));
  return 0;
}
