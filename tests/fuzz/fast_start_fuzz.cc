// libFuzzer target: what LevelDB remembers of a sealed block.
// covers: dataserver/dsp/fast_start.cc
//
// First byte: which checksums are made right. Promises: what is believed is of this block, of one
// life and of this size of file, and what FastStartEntry writes is found.
#include <algorithm>

#include "common/needle.h"
#include "dataserver/dsp/fast_start.h"
#include "tests/sim/mem_kv.h"

namespace hayloft {
namespace {

constexpr uint64_t kBlockId = 5;
constexpr uint64_t kFileBytes = 65'536;

void Mend(unsigned flags, std::string* value) {
  constexpr size_t kHeaderAt = sizeof(le64);
  constexpr size_t kFooterAt = kHeaderAt + sizeof(BlockHeaderPage);
  if (value->size() < kFooterAt + sizeof(FooterTrailer)) return;
  BlockHeaderPage header;
  std::memcpy(&header, value->data() + kHeaderAt, sizeof(header));
  header.magic = kBlockMagic;
  header.set_size = 1 + header.set_size % kReplicasMax;
  if ((flags & 2) != 0) header.block_id = kBlockId;
  header.crc = Crc32c(StructBytes(header).subspan(sizeof(le64)));
  FooterTrailer trailer;
  const size_t trailer_at = value->size() - sizeof(trailer);
  std::memcpy(&trailer, value->data() + trailer_at, sizeof(trailer));
  trailer.magic = kFooterMagic;
  if ((flags & 4) != 0) {  // nothing is in the block
    trailer.needles = trailer.lost = trailer.purged = trailer.body_bytes = 0;
    trailer.data_end = kFirstNeedleOffset;
    trailer.body_crc = 0;
  }
  if ((flags & 8) != 0) trailer.block_id = kBlockId;
  if ((flags & 16) != 0) trailer.life = header.life;
  trailer.crc = Crc32c(StructBytes(trailer).subspan(sizeof(le64)));
  const le64 file_bytes = kFileBytes;
  if ((flags & 32) != 0) std::memcpy(value->data(), &file_bytes, sizeof(file_bytes));
  std::memcpy(value->data() + kHeaderAt, &header, sizeof(header));
  std::memcpy(value->data() + trailer_at, &trailer, sizeof(trailer));
}

void Use(const FastStart& found) {
  ASSERT(found.header.block_id == kBlockId && found.footer.block_id == kBlockId);
  ASSERT(found.header.life == found.footer.life);
  const Kv::Change entry = FastStartEntry(found.header, kFileBytes, EncodeFooter(found.footer));
  MemKv kv(/*seed=*/1);
  ASSERT(kv.Write({&entry, 1}, /*sync=*/true) == Err::kOk);
  const Result<FastStart> again = FindFastStart(&kv, kBlockId, kFileBytes);
  ASSERT(again.ok());
  ASSERT(EncodeFooter(again->footer) == EncodeFooter(found.footer));
  ASSERT(EncodeBlockHeader(again->header) == EncodeBlockHeader(found.header));
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  if (size < 1) return 0;
  Kv::Change entry;
  entry.key = std::string("b\0\0\0\0\0\0\0\5", 9);
  entry.value = AsText({data + 1, size - 1});
  if ((data[0] & 1) != 0) Mend(data[0], &entry.value);
  MemKv kv(/*seed=*/1);
  ASSERT(FindFastStart(&kv, kBlockId, kFileBytes).err() == Err::kNotFound);
  ASSERT(kv.Write({&entry, 1}, /*sync=*/true) == Err::kOk);
  const Result<FastStart> found = FindFastStart(&kv, kBlockId, kFileBytes);
  if (found.ok()) Use(*found);
  // A file of another size is not the one that was remembered.
  ASSERT(!found.ok() || FindFastStart(&kv, kBlockId, kFileBytes + 1).err() == Err::kNotFound);
  return 0;
}
