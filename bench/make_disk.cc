// Makes a dsp's disk that holds many images without storing their bytes: make_disk DIR CLUSTER_ID
// IMAGES UNSEALED. For measuring starts and memory at a size that would take hours to upload.
//
// Heads, block headers and footers are real; the data of each image is a hole in the file, which
// reads as zeros, and its CRCs are those of zeros. Sizes are log-normal with a mean of 16 KB and
// half below 8 KB (TFS, 2010: mean 17 KB, 61 % below 8 KB). The last UNSEALED blocks have no
// footer, as after a kill. A real dsp cannot tell the difference.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "common/io/posix_device.h"
#include "common/io/system_clock.h"
#include "common/needle.h"
#include "dataserver/dsp/block_format.h"
#include "dataserver/dsp/block_scan.h"
#include "dataserver/dsp/superblock.h"

namespace hayloft {
namespace {

constexpr double kMeanBytes = 16384;
constexpr double kSigma = 1.2;
constexpr uint32_t kImagesPerCommit = 8;

class DiskMaker {
 public:
  DiskMaker(Device* device, uint64_t images) : device_(device), left_(images) {}

  Err Run(const Id16& cluster_id, uint32_t unsealed) {
    Superblock superblock;
    superblock.cluster_id = cluster_id;
    superblock.disk_id = {0xd1, 0x5c};
    superblock.created_ms = SystemWallMs();
    superblock.block_range_end = 1 << 20;
    TRY(FormatDisk(device_, superblock));
    // How many blocks there will be is known only at the end: footers are written one behind.
    std::vector<ScanResult> scans;
    while (left_ > 0) {
      TRY_ASSIGN(ScanResult scan, MakeBlock(scans.size() + 1));
      scans.push_back(std::move(scan));
    }
    const size_t sealed = scans.size() - std::min<size_t>(unsealed, scans.size());
    for (size_t i = 0; i < sealed; ++i) TRY(Seal(i + 1, scans[i]));
    std::printf("blocks=%zu sealed=%zu\n", scans.size(), sealed);
    return device_->SyncDir();
  }

 private:
  Result<ScanResult> MakeBlock(uint64_t block_id) {
    TRY_ASSIGN(const FileHandle file, device_->Create(BlockFileName(block_id)));
    const BlockHeader header{.block_id = block_id,
                             .opening_epoch = 1,
                             .life = Life(block_id),
                             .created_ms = SystemWallMs(),
                             .set_version = 1,
                             .set_dsp_ids = {1}};
    TRY(Write(file, 0, EncodeBlockHeader(header)));
    ScanResult scan;
    uint64_t offset = kFirstNeedleOffset;
    for (uint32_t sequence = 0; left_ > 0; ++sequence) {
      const uint64_t size = Size();
      if (sequence % kImagesPerCommit == 0) offset = PageCeil(offset);
      if (PageCeil(offset + NeedleBytes(size, metadata_.size())) + FooterBytesMax(sequence + 1) >
          kBlockBytes) {
        break;
      }
      TRY(WriteHead(file, block_id, FileId::Of(sequence, sequence), size, offset, &scan));
      offset += NeedleBytes(size, metadata_.size());
      --left_;
    }
    scan.end = offset;
    TRY(device_->Truncate(file, kBlockBytes));
    device_->Close(file);
    return scan;
  }

  Err WriteHead(FileHandle file, uint64_t block_id, FileId file_id, uint64_t size, uint64_t offset,
                ScanResult* scan) {
    std::vector<uint32_t> crcs;
    for (uint64_t at = 0; at < size; at += kPieceBytes) {
      crcs.push_back(Crc32c(Bytes(zeros_).first(std::min(kPieceBytes, size - at))));
    }
    NeedleHeader header{};
    header.block_id = block_id;
    header.file_id = file_id.value;
    header.created_ms = SystemWallMs();
    header.stored_size = header.raw_size = static_cast<uint32_t>(size);
    const std::string head = EncodeNeedleHead(header, crcs, AsBytes(metadata_),
                                              {.life = Life(block_id), .offset = offset});
    const Result<NeedleHead> parsed = ParseNeedleHead(AsBytes(head));
    scan->intact.push_back({.file_id = file_id,
                            .offset = offset,
                            .stored_size = static_cast<uint32_t>(size),
                            .pieces_crc = Crc32c(parsed->piece_crcs)});
    return Write(file, offset, head);
  }

  Err Seal(uint64_t block_id, const ScanResult& scan) {
    TRY_ASSIGN(const FileHandle file, device_->Open(BlockFileName(block_id)));
    Footer footer;
    footer.block_id = block_id;
    footer.life = Life(block_id);
    footer.opening_epoch = 1;
    footer.block_epoch = 2;
    footer.data_end = scan.end;
    footer.offsets = FillGaps(scan, 0).offsets;
    footer.digest = DigestOf(scan);
    const std::string encoded = EncodeFooter(footer);
    TRY(Write(file, PageCeil(scan.end), encoded));
    TRY(device_->Truncate(file, PageCeil(scan.end) + encoded.size()));
    device_->Close(file);
    return Err::kOk;
  }

  Err Write(FileHandle file, uint64_t offset, const std::string& bytes) {
    const Bytes part = AsBytes(bytes);
    return device_->Write(file, offset, {&part, 1});
  }
  uint64_t Size() {
    const double bytes = sizes_(random_);
    return std::clamp<uint64_t>(static_cast<uint64_t>(bytes), 1, 8 << 20);
  }
  static uint64_t Life(uint64_t block_id) { return 0x9e3779b97f4a7c15 * block_id; }

  Device* device_;
  uint64_t left_;
  std::mt19937_64 random_{1};
  std::lognormal_distribution<double> sizes_{std::log(kMeanBytes) - kSigma * kSigma / 2, kSigma};
  const std::vector<uint8_t> zeros_ = std::vector<uint8_t>(kPieceBytes, 0);
  const std::string metadata_ = EncodeMetadata(Metadata());
};

int Main(int argc, char** argv) {
  Id16 cluster_id;
  if (argc != 5 || !FromHex(argv[2], cluster_id)) {
    std::fprintf(stderr, "usage: make_disk DIR CLUSTER_ID IMAGES UNSEALED_BLOCKS\n");
    return 2;
  }
  const Result<std::unique_ptr<PosixDevice>> device = PosixDevice::OpenFolder(argv[1]);
  if (!device.ok()) {
    std::fprintf(stderr, "make_disk: %s is no folder\n", argv[1]);
    return 1;
  }
  DiskMaker maker(device->get(), std::strtoull(argv[3], nullptr, 10));
  const Err err = maker.Run(cluster_id, static_cast<uint32_t>(std::strtoul(argv[4], nullptr, 10)));
  if (err == Err::kOk) return 0;
  std::fprintf(stderr, "make_disk: %s\n", std::string(ErrName(err)).c_str());
  return 1;
}

}  // namespace
}  // namespace hayloft

int main(int argc, char** argv) { return hayloft::Main(argc, argv); }
