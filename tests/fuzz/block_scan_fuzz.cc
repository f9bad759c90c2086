// libFuzzer target: a block's file with sound needles, torn ones, old ones and anything between.
// covers: dataserver/dsp/block_scan.cc
// covers: dataserver/dsp/needle_read.cc
//
// The input is a program that writes the file: see Build. Promises: the scan finds each needle that
// was written whole and not damaged later, in order, within the file; what it finds reads back, and
// what it does not is never served; the offsets make a sound footer.
#include <algorithm>

#include "common/log.h"
#include "common/needle.h"
#include "dataserver/dsp/block_format.h"
#include "dataserver/dsp/block_scan.h"
#include "dataserver/dsp/needle_read.h"
#include "tests/sim/sim_device.h"

namespace hayloft {
namespace {

constexpr uint64_t kBlockId = 5;
constexpr uint64_t kLife = 7;
constexpr const char* kName = "blk-0000000000000005";
constexpr uint64_t kFileBytesLimit = 512 << 10;

class Builder {
 public:
  explicit Builder(Bytes program) : reader_(program) {}

  // One needle, whose data is `size` times one byte, of this life or the one before.
  void Needle() {
    const auto op = reader_.TakeStruct<le64>();
    NeedleHeader header{};
    header.block_id = (op >> 60 & 7) == 7 ? kBlockId + 1 : kBlockId;
    sequence_ += static_cast<uint32_t>(op >> 56 & 3);  // 0: given twice
    header.file_id = FileId::Of(sequence_, op & kCookieMax).value;
    // Mostly small, for speed; sometimes 0 to 3 whole pieces and a part.
    const bool large = (op >> 50 & 15) == 15;
    const uint64_t pieces = large ? op >> 54 & 3 : 0;
    const uint64_t part = op >> 40 & (large ? 0x3ff : 0xff);
    header.stored_size = static_cast<uint32_t>(pieces * kPieceBytes + part + 1);
    header.raw_size = header.stored_size;
    if (pieces == 0 && (op >> 59 & 1) != 0) header.encoding = 1;
    const std::string data(header.stored_size, static_cast<char>(op & 255));
    const uint64_t life = (op >> 58 & 1) != 0 ? kLife - 1 : kLife;
    const Bytes metadata = AsBytes(std::string_view("\x10\x00\x03\x00\x01\x00x", 7));
    std::string needle = EncodeNeedleHead(header, PieceCrcs(AsBytes(data)), metadata,
                                          {.life = life, .offset = image_.size()});
    needle += data;
    needle.resize((needle.size() + kNeedleAlign - 1) / kNeedleAlign * kNeedleAlign, '\0');
    image_ += needle;
  }

  void Raw() {  // bytes of the input, up to the next place for a needle
    const le16 size = reader_.TakeStruct<le16>();
    image_ += AsText(reader_.Take(std::min<size_t>(size % 512, reader_.size())));
    Pad(kNeedleAlign);
  }

  void Flip() {
    const le32 at = reader_.TakeStruct<le32>();
    if (image_.size() == kFirstNeedleOffset) return;
    const uint64_t offset = kFirstNeedleOffset + at % (image_.size() - kFirstNeedleOffset);
    image_[offset] = static_cast<char>(image_[offset] ^ (1 << (at >> 29)));
  }

  void Cut() {  // as a torn tail: zeros, or the end of the file
    const le16 size = reader_.TakeStruct<le16>();
    const uint64_t cut = std::min<uint64_t>(size, image_.size() - kFirstNeedleOffset);
    image_.resize(image_.size() - cut);
    Pad(kNeedleAlign);
  }

  void Pad(uint64_t align) { image_.resize((image_.size() + align - 1) / align * align, '\0'); }

  std::string Build() {
    while (reader_.ok() && reader_.size() > 0 && image_.size() < kFileBytesLimit) {
      const uint8_t op = reader_.Take(1)[0];
      if (op % 8 <= 3) Needle();
      if (op % 8 == 4) Raw();
      if (op % 8 == 5) Flip();
      if (op % 8 == 6) Cut();
      if (op % 8 == 7) Pad(kPageBytes);
    }
    return image_;
  }

 private:
  ByteReader reader_;
  std::string image_ = std::string(kFirstNeedleOffset, '\0');
  uint32_t sequence_ = 0;
};

// What must be found, by the plainest means: try every place. A needle within another one's bytes
// doesn't count, nor does a sequence that was met.
std::vector<ScannedNeedle> Expected(const std::string& image, uint32_t* damaged) {
  std::vector<ScannedNeedle> found;
  for (uint64_t at = kFirstNeedleOffset; at + sizeof(NeedleHeader) <= image.size();) {
    const Bytes rest = AsBytes(image).subspan(at);
    const Result<NeedleHead> head = CheckNeedleHead(rest, kBlockId, {.life = kLife, .offset = at});
    if (!head.ok()) {
      at += kNeedleAlign;
      continue;
    }
    const uint64_t size = head->header.stored_size;
    const bool whole = head->data_offset + size <= rest.size() &&
                       CheckPieces(*head, 0, rest.subspan(head->data_offset, size)) == Err::kOk;
    if (!whole) ++*damaged;
    const bool repeated =
        !found.empty() && head->file_id().sequence() <= found.back().file_id.sequence();
    if (whole && !repeated) {
      found.push_back({.file_id = head->file_id(),
                       .offset = at,
                       .stored_size = head->header.stored_size,
                       .pieces_crc = Crc32c(head->piece_crcs)});
    }
    at += head->needle_bytes;
  }
  return found;
}

void UseOffsets(const ScanResult& scan, uint32_t needles_min) {
  const DenseOffsets dense = FillGaps(scan, needles_min);
  ASSERT(dense.offsets.size() >= needles_min);
  ASSERT(dense.lost + scan.intact.size() == dense.offsets.size());
  Footer footer;
  footer.data_end = scan.end;
  footer.offsets = dense.offsets;
  footer.lost = dense.lost;
  footer.digest = DigestOf(scan);
  uint64_t needed = 0;
  const std::string encoded = EncodeFooter(footer);
  ASSERT(DecodeFooter(AsBytes(encoded), &needed).ok());
}

// Reads each needle as a client would, with a range that the input chose.
void ReadBack(SimDevice* device, FileHandle file, const ScanResult& scan, le64 range) {
  for (const ScannedNeedle& needle : scan.intact) {
    ReadJob job;
    job.file = file;
    job.block_id = kBlockId;
    job.life = kLife;
    job.file_id = needle.file_id;
    job.span = {.offset = needle.offset, .next = scan.end};
    if ((range & 1) != 0) job.suffix = range >> 8 & 0xfffff;
    if ((range & 2) != 0) job.offset = range >> 8 & 0xfffff;
    if ((range & 4) != 0) job.length = range >> 28 & 0xfffff;
    job.head_only = (range & 8) != 0;
    if ((range & 16) != 0) job.purpose = ReadJob::Purpose::kStat;
    if ((range & 64) != 0) job.delete_err = Err::kGone;
    if ((range & 128) != 0) job.file_id.value ^= 1;
    const ReadDone done = ReadNeedle(device, job, /*cached_only=*/false);
    ASSERT(done.err == Err::kOk || done.err == Err::kRange || done.err == Err::kGone ||
           done.err == Err::kNotFound);
    ASSERT(done.err != Err::kRange || job.offset >= needle.stored_size);
    ASSERT((done.err == Err::kNotFound) == ((range & 128) != 0));
    ASSERT(done.reply.payload.size() <= needle.stored_size);
    const Bytes payload = done.reply.payload.bytes();
    const auto same = static_cast<uint8_t>(needle.file_id.value);  // see Needle
    ASSERT(std::all_of(payload.begin(), payload.end(), [same](uint8_t b) { return b == same; }));
    if (done.reply.payload_crc_known) ASSERT(done.reply.payload_crc == Crc32c(payload));
  }
}

// Any place at all: a sound needle or an error, never anything else.
void ReadAnywhere(SimDevice* device, FileHandle file, uint64_t offset, uint64_t next) {
  ReadJob job;
  job.file = file;
  job.block_id = kBlockId;
  job.life = kLife;
  job.span = {.offset = offset, .next = next};
  const ReadDone done = ReadNeedle(device, job, /*cached_only=*/true);
  ASSERT(done.err == Err::kCorrupt || done.err == Err::kNotFound || done.err == Err::kOk);
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  SetLogSink([](LogLevel, std::string_view) {}, LogLevel::kError);
  if (size < sizeof(le64)) return 0;
  le64 range;
  std::memcpy(&range, data, sizeof(range));
  std::string image = Builder({data + sizeof(range), size - sizeof(range)}).Build();
  SimDevice device(/*seed=*/1);
  const Result<FileHandle> file = device.Create(kName);
  ASSERT(file.ok());
  device.SetBytes(kName, 0, AsBytes(image));
  // A page that cannot be read hides what is on it and nothing else.
  const uint64_t bad_page = range >> 40 & 0xff;
  const uint64_t bad_begin = bad_page * kPageBytes;
  const bool bad = bad_page >= 2 && bad_begin + kPageBytes < image.size();
  if (bad) {
    device.FailReads(kName, {.begin = bad_begin, .end = bad_begin + kPageBytes});
    std::fill_n(image.begin() + static_cast<ptrdiff_t>(bad_begin), kPageBytes, '\0');
  }
  const Result<ScanResult> scan = ScanBlock(
      &device, {.file = *file, .block_id = kBlockId, .life = kLife, .limit = kFileBytesLimit * 2});
  device.HealReads();
  // Once it can be read again it holds what the scan took it for: whether it does is not this test.
  if (bad) {
    const std::string zeros(kPageBytes, '\0');
    device.SetBytes(kName, bad_begin, AsBytes(zeros));
  }
  ASSERT(scan.ok());
  ASSERT((scan->unreadable > 0) == bad);
  uint32_t damaged = 0;
  const std::vector<ScannedNeedle> expected = Expected(image, &damaged);
  ASSERT(scan->damaged == damaged);
  ASSERT(scan->intact.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT(scan->intact[i].offset == expected[i].offset);
    ASSERT(scan->intact[i].file_id == expected[i].file_id);
    ASSERT(scan->intact[i].stored_size == expected[i].stored_size);
    ASSERT(scan->intact[i].pieces_crc == expected[i].pieces_crc);
  }
  ASSERT(scan->end <= image.size());
  UseOffsets(*scan, static_cast<uint32_t>(range >> 48 & 0xfff));
  ReadBack(&device, *file, *scan, range);
  const uint64_t anywhere = (range >> 8 & 0xfff) * kNeedleAlign;
  ReadAnywhere(&device, *file, anywhere, anywhere + 1 + (range >> 20 & 0xffff));
  return 0;
}
