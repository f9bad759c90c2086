// Where the needles of a dsp's disk lie: what another program must read to do the same work.
//
//   needle_places FOLDER       a line for each needle: block file, offset, bytes
#include <cinttypes>
#include <cstdio>
#include <vector>

#include "common/io/posix_device.h"
#include "dataserver/dsp/block_format.h"
#include "dataserver/dsp/block_scan.h"

namespace hayloft {
namespace {

Err PrintNeedles(Device* device, const FileInfo& info) {
  TRY_ASSIGN(const FileHandle file, device->Open(info.name));
  std::vector<uint8_t> page(kPageBytes);
  TRY(device->Read(file, 0, page));
  TRY_ASSIGN(const BlockHeader header, DecodeBlockHeader(page));
  TRY_ASSIGN(const ScanResult scan, ScanBlock(device, {.file = file,
                                                       .block_id = header.block_id,
                                                       .life = header.life,
                                                       .limit = info.size_bytes}));
  for (const ScannedNeedle& needle : scan.intact) {
    std::printf("%s %" PRIu64 " %" PRIu64 "\n", info.name.c_str(), needle.offset,
                needle.needle_bytes);
  }
  device->Close(file);
  return Err::kOk;
}

int Main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: needle_places FOLDER\n");
    return 2;
  }
  const Result<std::unique_ptr<PosixDevice>> device = PosixDevice::OpenFolder(argv[1]);
  if (!device.ok()) {
    std::fprintf(stderr, "needle_places: %s is no folder\n", argv[1]);
    return 1;
  }
  const Result<std::vector<FileInfo>> files = (*device)->List();
  if (!files.ok()) return 1;
  for (const FileInfo& info : *files) {
    if (!ParseBlockFileName(info.name)) continue;
    if (PrintNeedles(device->get(), info) == Err::kOk) continue;
    std::fprintf(stderr, "needle_places: %s cannot be read\n", info.name.c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace hayloft

int main(int argc, char** argv) { return hayloft::Main(argc, argv); }
