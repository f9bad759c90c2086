#include "dataserver/dsp/block_scan.h"

#include <algorithm>

#include "common/check.h"
#include "common/mutant.h"
#include "dataserver/dsp/block_format.h"

namespace hayloft {

namespace {

constexpr uint64_t kWindowBytes = 256 << 10;  // twice as much stays in a core's own cache
constexpr uint64_t kHeadBytesMax =
    sizeof(NeedleHeader) + kFileBytesMax / kPieceBytes * sizeof(le32) + kMetadataBytesMax;
static_assert(kHeadBytesMax < kWindowBytes && kPieceBytes < kWindowBytes);

// A moving window over the file. What cannot be read is zeros and counted: a bad sector hides what
// lies on it, nothing more.
class Window {
 public:
  Window(Device* device, const ScanTarget& target) : device_(device), target_(target) {}

  // Up to `size` bytes from `offset` on; fewer at the limit. REQUIRES: size <= kWindowBytes.
  Bytes At(uint64_t offset, uint64_t size) {
    ASSERT(size <= kWindowBytes);
    size = std::min(size, target_.limit - std::min(offset, target_.limit));
    if (offset < begin_ || offset + size > begin_ + bytes_.size()) Load(offset);
    return Bytes(bytes_).subspan(offset - begin_, size);
  }
  bool read_anything() const { return read_anything_; }
  uint32_t unreadable_pages() const { return unreadable_pages_; }

 private:
  void Load(uint64_t offset) {
    begin_ = offset / kPageBytes * kPageBytes;
    const uint64_t size = std::min(2 * kWindowBytes, target_.limit - begin_);
    bytes_.resize(size);
    if (device_->Read(target_.file, begin_, bytes_) == Err::kOk) {
      read_anything_ = true;
      return;
    }
    for (uint64_t done = 0; done < size; done += kPageBytes) {
      const MutableBytes page =
          MutableBytes(bytes_).subspan(done, std::min(kPageBytes, size - done));
      if (device_->Read(target_.file, begin_ + done, page) == Err::kOk) {
        read_anything_ = true;
        continue;
      }
      ++unreadable_pages_;
      std::fill(page.begin(), page.end(), uint8_t{0});
    }
  }

  Device* device_;
  const ScanTarget& target_;
  std::vector<uint8_t> bytes_;
  uint64_t begin_ = 0;
  bool read_anything_ = false;
  uint32_t unreadable_pages_ = 0;
};

class Scanner {
 public:
  Scanner(Device* device, const ScanTarget& target) : window_(device, target), target_(target) {}

  Result<ScanResult> Run() {
    result_.end = kFirstNeedleOffset;
    for (uint64_t offset = kFirstNeedleOffset; offset < target_.limit;) {
      offset = TakeNeedle(offset) ? offset + needle_bytes_ : FindHeader(offset + kNeedleAlign);
    }
    result_.unreadable = window_.unreadable_pages();
    if (target_.limit > kFirstNeedleOffset && !window_.read_anything()) return Err::kIo;
    return std::move(result_);
  }

 private:
  Result<NeedleHead> HeadAt(uint64_t offset) {
    const Bytes bytes = window_.At(offset, kHeadBytesMax);
    if (IsMutant(Mutant::kTrustLength)) return ParseNeedleHead(bytes);
    if (IsMutant(Mutant::kAcceptOldLife)) {
      const Result<NeedleHead> head = ParseNeedleHead(bytes);
      if (head.ok() && head->header.block_id == target_.block_id) return head;
    }
    return CheckNeedleHead(bytes, target_.block_id, {.life = target_.life, .offset = offset});
  }

  // False when no needle's head holds here. Otherwise notes the needle, intact or not.
  bool TakeNeedle(uint64_t offset) {
    const Result<NeedleHead> head = HeadAt(offset);
    if (!head.ok()) return false;
    needle_bytes_ = head->needle_bytes;
    const ScannedNeedle needle{.file_id = head->file_id(),
                               .offset = offset,
                               .stored_size = head->header.stored_size,
                               .pieces_crc = Crc32c(head->piece_crcs),
                               .needle_bytes = head->needle_bytes};
    // The head's spans die with the next look through the window.
    std::vector<uint32_t> crcs(PieceCount(needle.stored_size));
    for (size_t i = 0; i < crcs.size(); ++i) crcs[i] = head->piece_crc(i);
    if (!DataIntact(offset + head->data_offset, needle.stored_size, crcs)) {
      ++result_.damaged;
      return true;
    }
    if (!result_.intact.empty() &&
        needle.file_id.sequence() <= result_.intact.back().file_id.sequence()) {
      ++result_.repeated;
      return true;
    }
    result_.intact.push_back(needle);
    result_.end = offset + needle_bytes_;
    return true;
  }

  bool DataIntact(uint64_t offset, uint64_t size, const std::vector<uint32_t>& crcs) {
    if (offset + size > target_.limit) return false;
    for (size_t i = 0; i < crcs.size(); ++i) {
      const uint64_t begin = i * kPieceBytes;
      const Bytes piece = window_.At(offset + begin, std::min(kPieceBytes, size - begin));
      if (Crc32c(piece) != crcs[i]) return false;
    }
    return true;
  }

  // The first offset from `offset` on where a magic stands; a multiple of 8, or the limit.
  uint64_t FindHeader(uint64_t offset) {
    while (offset < target_.limit) {
      const Bytes bytes = window_.At(offset, kWindowBytes);
      for (size_t i = 0; i + sizeof(le32) <= bytes.size(); i += kNeedleAlign) {
        uint32_t magic;
        std::memcpy(&magic, bytes.data() + i, sizeof(magic));
        if (magic == kNeedleMagic) return offset + i;
      }
      offset += bytes.size() / kNeedleAlign * kNeedleAlign;
      if (bytes.size() < kNeedleAlign) break;
    }
    return target_.limit;
  }

  Window window_;
  const ScanTarget& target_;
  ScanResult result_;
  uint64_t needle_bytes_ = 0;
};

}  // namespace

Result<ScanResult> ScanBlock(Device* device, const ScanTarget& target) {
  ASSERT(target.file.valid());
  TRY_ASSIGN(const uint64_t size, device->Size(target.file));
  ScanTarget within = target;
  within.limit = std::min(target.limit, size);
  return Scanner(device, within).Run();
}

DenseOffsets FillGaps(const ScanResult& scan, uint32_t needles_min) {
  DenseOffsets dense;
  const auto fill_to = [&dense](uint32_t sequence, uint64_t offset) {
    for (; dense.offsets.size() < sequence; ++dense.lost) {
      dense.offsets.push_back(static_cast<uint32_t>(offset / kNeedleAlign));
    }
  };
  for (const ScannedNeedle& needle : scan.intact) {
    if (needle.file_id.sequence() >= kNeedlesPerBlockMax) break;  // no block ever gave it out
    fill_to(needle.file_id.sequence(), needle.offset);
    dense.offsets.push_back(static_cast<uint32_t>(needle.offset / kNeedleAlign));
  }
  fill_to(needles_min, scan.end);
  return dense;
}

Sha256 DigestOf(const ScanResult& scan) {
  std::string rows;
  rows.reserve(scan.intact.size() * sizeof(NeedleDigestRow));
  for (const ScannedNeedle& needle : scan.intact) {
    const NeedleDigestRow row{.sequence = needle.file_id.sequence(),
                              .file_id = needle.file_id.value,
                              .stored_size = needle.stored_size,
                              .pieces_crc = needle.pieces_crc};
    rows.append(AsText(StructBytes(row)));
  }
  return Sha256Of(AsBytes(rows));
}

}  // namespace hayloft
