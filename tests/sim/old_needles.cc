#include "tests/sim/old_needles.h"

#include "common/needle.h"
#include "dataserver/dsp/block_format.h"

namespace hayloft {

std::string OldNeedle(uint64_t block_id, uint32_t sequence, uint64_t offset, SimRandom* random) {
  std::string data(random->Between(1, 600), '\0');
  random->Fill({reinterpret_cast<uint8_t*>(data.data()), data.size()});
  NeedleHeader header{};
  header.block_id = block_id;
  header.file_id = FileId::Of(sequence, random->Below(kCookieMax)).value;
  header.created_ms = 1;
  header.stored_size = static_cast<uint32_t>(data.size());
  header.raw_size = header.stored_size;
  std::string needle = EncodeNeedleHead(header, PieceCrcs(AsBytes(data)), {},
                                        {.life = random->Next(), .offset = offset});
  needle += data;
  needle.resize(NeedleBytes(data.size(), 0), '\0');
  return needle;
}

void FillWithOldNeedles(SimDevice* disk, std::string_view pool_file, uint64_t block_id,
                        SimRandom* random) {
  std::string needles;
  const uint64_t size = disk->FileImage(pool_file).size();
  for (uint32_t sequence = 0;; ++sequence) {
    const uint64_t offset = kFirstNeedleOffset + needles.size();
    const std::string needle = OldNeedle(block_id, sequence, offset, random);
    if (offset + needle.size() > size) break;
    needles += needle;
    // Their commits began on pages too, some of them.
    if (random->Chance(30)) needles.resize(PageCeil(needles.size()), '\0');
  }
  disk->SetBytes(pool_file, kFirstNeedleOffset, AsBytes(needles));
}

}  // namespace hayloft
