// libFuzzer target: a disk's two superblocks.
// covers: dataserver/dsp/block_format.cc DecodeSuperblock
// covers: dataserver/dsp/superblock.cc LoadSuperblock LoadCopy
//
// The input is the first 144 bytes of each copy; its first byte says which copy exists and which
// gets a right checksum. Promises: the greatest sound generation is taken, a later version's disk
// is refused, and what is taken encodes to the same meaning again.
#include <algorithm>

#include "common/log.h"
#include "dataserver/dsp/superblock.h"
#include "tests/sim/sim_device.h"

namespace hayloft {
namespace {

void Mend(std::string* page) {
  SuperblockPage value;
  std::memcpy(&value, page->data(), sizeof(value));
  value.magic = kSuperblockMagic;
  value.crc = Crc32c(StructBytes(value).subspan(sizeof(le64)));
  std::memcpy(page->data(), &value, sizeof(value));
}

void Use(const Superblock& superblock) {
  ASSERT(superblock.block_bytes >= kBlockBytesMin && superblock.block_bytes <= kBlockBytesMax);
  const std::string again = EncodeSuperblock(superblock);
  const Result<Superblock> same = DecodeSuperblock(AsBytes(again));
  ASSERT(same.ok());
  ASSERT(EncodeSuperblock(*same) == again);
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  SetLogSink([](LogLevel, std::string_view) {}, LogLevel::kError);
  if (size < 1) return 0;
  const unsigned flags = data[0];
  std::string_view rest = AsText({data + 1, size - 1});
  SimDevice device(/*seed=*/1);
  const Superblock* best = nullptr;
  Result<Superblock> copies[2] = {Err::kNotFound, Err::kNotFound};
  for (unsigned i = 0; i < 2; ++i) {
    std::string page(rest.substr(0, sizeof(SuperblockPage)));
    rest.remove_prefix(page.size());
    if ((flags >> i & 1) != 0) continue;  // there is no such copy
    page.resize(kPageBytes, '\0');
    if ((flags >> (2 + i) & 1) != 0) Mend(&page);
    if ((flags >> (4 + i) & 1) != 0) page.resize(kPageBytes - 1);
    const Result<FileHandle> file = device.Create(kSuperblockNames[i]);
    ASSERT(file.ok());
    device.Close(*file);
    device.SetBytes(kSuperblockNames[i], 0, AsBytes(page));
    copies[i] = DecodeSuperblock(AsBytes(page));
    if (!copies[i].ok()) continue;
    Use(*copies[i]);
    if (best == nullptr || copies[i]->generation > best->generation) best = &*copies[i];
  }
  const Result<Superblock> loaded = LoadSuperblock(&device);
  const bool later = std::any_of(std::begin(copies), std::end(copies),
                                 [](const auto& copy) { return copy.err() == Err::kUnsupported; });
  ASSERT(loaded.ok() == (best != nullptr && !later));
  if (later) ASSERT(loaded.err() == Err::kUnsupported);
  if (loaded.ok()) ASSERT(EncodeSuperblock(*loaded) == EncodeSuperblock(*best));
  return 0;
}
