#include "dataserver/dsp/block_format.h"

#include <doctest/doctest.h>

#include "tests/unit/format_samples.h"
#include "tests/unit/golden.h"

using namespace hayloft;

namespace {

std::string Flipped(std::string bytes, size_t at) {
  bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
  return bytes;
}

// Every byte flipped, and every length cut, makes `decode` fail.
template <typename Decode>
void DetectsAll(const std::string& bytes, Decode decode) {
  REQUIRE(decode(bytes));
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (decode(Flipped(bytes, i))) FAIL_CHECK("flip not detected at " << i);
    if (decode(bytes.substr(0, i))) FAIL_CHECK("cut not detected at " << i);
  }
}

Result<NeedleHead> CheckSample(const std::string& bytes) {
  return CheckNeedleHead(AsBytes(bytes), samples::kBlockId,
                         {.life = samples::kLife, .offset = kFirstNeedleOffset});
}

}  // namespace

TEST_CASE("block_format: the golden bytes are what is written today") {
  CHECK(Golden("needle_v1.hex") == samples::Needle());
  CHECK(Golden("superblock_v1.hex") ==
        samples::Unpadded(EncodeSuperblock(samples::SampleSuperblock())));
  CHECK(Golden("block_header_v1.hex") ==
        samples::Unpadded(EncodeBlockHeader(samples::SampleBlockHeader())));
  CHECK(Golden("close_v1.hex") ==
        samples::Unpadded(EncodeCloseRecord(samples::SampleClose(), samples::kLife)));
  CHECK(Golden("footer_v1.hex") == EncodeFooter(samples::SampleFooter()));
  CHECK(Golden("delete_record_v1.hex") == samples::Deletes());
}

TEST_CASE("block_format: the golden bytes are read as what they mean") {
  std::string page = Golden("superblock_v1.hex");
  page.resize(kPageBytes, '\0');
  const Result<Superblock> superblock = DecodeSuperblock(AsBytes(page));
  REQUIRE(superblock.ok());
  CHECK(superblock->incarnation == 2);
  CHECK(superblock->promised_epoch == 9);
  CHECK(superblock->block_bytes == kBlockBytes);
  const std::string bytes = Golden("needle_v1.hex");
  const Result<NeedleHead> head = CheckSample(bytes);
  REQUIRE(head.ok());
  CHECK(head->file_id() == FileId::Of(0, 0x0a0b0c0d0e));
  CHECK(head->needle_bytes == bytes.size());
  CHECK(CheckPieces(*head, 0, AsBytes(bytes).subspan(head->data_offset, 3)) == Err::kOk);
  const Result<Metadata> metadata = ParseMetadata(head->metadata);
  REQUIRE(metadata.ok());
  CHECK(metadata->content_type == "text/plain");
  CHECK(ToHex(metadata->sha1) == "ebddd6b268d91849108444d7fc5c9941138e8ee0");
  CHECK(metadata->fields.at("x-hayloft-album") == "7");
}

TEST_CASE("block_format: F25: each byte of a needle flipped or cut is detected") {
  const std::string needle = samples::Needle();
  const size_t padding = needle.size() - (needle.find("hay", needle.size() - 12) + 3);
  DetectsAll(needle.substr(0, needle.size() - padding), [](const std::string& bytes) {
    const Result<NeedleHead> head = CheckSample(bytes);
    if (!head.ok() || head->data_offset + 3 > bytes.size()) return false;
    return CheckPieces(*head, 0, AsBytes(bytes).subspan(head->data_offset, 3)) == Err::kOk;
  });
}

TEST_CASE("block_format: F29: a needle of another life, offset or block is not taken") {
  const std::string needle = samples::Needle();
  const NeedlePlace place{.life = samples::kLife, .offset = kFirstNeedleOffset};
  CHECK(CheckNeedleHead(AsBytes(needle), samples::kBlockId, place).ok());
  CHECK_FALSE(CheckNeedleHead(AsBytes(needle), samples::kBlockId + 1, place).ok());
  CHECK_FALSE(CheckNeedleHead(AsBytes(needle), samples::kBlockId,
                              {.life = place.life + 1, .offset = place.offset})
                  .ok());
  CHECK_FALSE(CheckNeedleHead(AsBytes(needle), samples::kBlockId,
                              {.life = place.life, .offset = place.offset + 8})
                  .ok());
}

TEST_CASE("block_format: F27: each byte of a superblock flipped or cut is detected") {
  DetectsAll(EncodeSuperblock(samples::SampleSuperblock()),
             [](const std::string& bytes) { return DecodeSuperblock(AsBytes(bytes)).ok(); });
}

TEST_CASE("block_format: each byte of a block's header and close page flipped is detected") {
  DetectsAll(EncodeBlockHeader(samples::SampleBlockHeader()).substr(0, kPageBytes),
             [](const std::string& bytes) { return DecodeBlockHeader(AsBytes(bytes)).ok(); });
  DetectsAll(EncodeCloseRecord(samples::SampleClose(), samples::kLife),
             [](const std::string& bytes) {
               return DecodeCloseRecord(AsBytes(bytes), samples::kLife).ok();
             });
  const std::string close = EncodeCloseRecord(samples::SampleClose(), samples::kLife);
  CHECK_FALSE(DecodeCloseRecord(AsBytes(close), samples::kLife + 1).ok());
}

// Recovery makes a list as long as `needles` says: a sound checksum is no reason to believe it.
TEST_CASE("block_format: a close record beyond what a block can hold is refused") {
  const auto decodes = [](const CloseRecord& record) {
    const std::string page = EncodeCloseRecord(record, samples::kLife);
    return DecodeCloseRecord(AsBytes(page), samples::kLife).ok();
  };
  CloseRecord record = samples::SampleClose();
  record.needles = kNeedlesPerBlockMax;
  record.end = kBlockBytesMax;
  CHECK(decodes(record));
  record.needles = kNeedlesPerBlockMax + 1;
  CHECK_FALSE(decodes(record));
  record = samples::SampleClose();
  record.end = kBlockBytesMax + 1;
  CHECK_FALSE(decodes(record));
  record.end = kFirstNeedleOffset - 1;
  CHECK_FALSE(decodes(record));
  record = samples::SampleClose();
  record.block_id = kBlockIdMax + 1;
  CHECK_FALSE(decodes(record));
}

TEST_CASE("block_format: a footer that contradicts itself is refused") {
  const auto decodes = [](const Footer& footer) {
    uint64_t needed = 0;
    return DecodeFooter(AsBytes(EncodeFooter(footer)), &needed).ok();
  };
  Footer footer = samples::SampleFooter();
  CHECK(decodes(footer));
  footer.lost = 3;  // of two
  CHECK_FALSE(decodes(footer));
  footer.lost = 2;
  footer.purged = {0};
  CHECK_FALSE(decodes(footer));
  footer = samples::SampleFooter();
  footer.data_end += 4;
  CHECK_FALSE(decodes(footer));
}

TEST_CASE("block_format: F25: each byte of a footer flipped or cut is detected") {
  DetectsAll(EncodeFooter(samples::SampleFooter()), [](const std::string& bytes) {
    uint64_t needed = 0;
    return DecodeFooter(AsBytes(bytes), &needed).ok();
  });
}

TEST_CASE("block_format: each byte of a delete record flipped is detected") {
  DetectsAll(samples::Deletes(), [](const std::string& bytes) {
    ByteReader reader(AsBytes(bytes));
    const DeleteRecord record = reader.TakeStruct<DeleteRecord>();
    return CheckDeleteRecord(record, samples::kLife, kPageBytes) == Err::kOk;
  });
}

TEST_CASE("block_format: a footer too long for what was read says how long it is") {
  const std::string footer = EncodeFooter(samples::SampleFooter());
  uint64_t needed = 0;
  CHECK(DecodeFooter(AsBytes(footer).last(sizeof(FooterTrailer)), &needed).err() == Err::kTooLarge);
  CHECK(needed == footer.size());
}

TEST_CASE("block_format: names of files are parsed back and nothing else is") {
  CHECK(ParseBlockFileName(BlockFileName(77)) == 77);
  CHECK(ParsePoolFileName(PoolFileName(3)) == 3);
  for (const char* name : {"blk-", "blk-1", "blk-00000000000000zz", "blk-0000000000000001.tmp",
                           "pool-0000000000000001x", "deletes", ""}) {
    CAPTURE(name);
    CHECK_FALSE(ParseBlockFileName(name).has_value());
    CHECK_FALSE(ParsePoolFileName(name).has_value());
  }
}
