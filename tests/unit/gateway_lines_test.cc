#include "gateway/file_lines.h"

#include "doctest/doctest.h"

namespace hayloft {
namespace {

struct Stored {
  std::string head;
  FileAddress address{7, FileId{0x0000010203040506}};
};

Metadata OfType(const char* type) {
  Metadata metadata;
  metadata.content_type = type;
  return metadata;
}

Stored StoredWith(const Metadata& metadata, Encoding encoding = Encoding::kIdentity) {
  Stored stored;
  NeedleHeader header{};
  header.block_id = stored.address.block_id;
  header.file_id = stored.address.file_id.value;
  header.created_ms = 1'700'000'000'123;
  header.stored_size = 5;
  header.raw_size = 5;
  header.encoding = static_cast<uint8_t>(encoding);
  const std::vector<uint32_t> crcs = PieceCrcs(AsBytes(std::string_view("hello")));
  stored.head = EncodeNeedleHead(header, crcs, AsBytes(EncodeMetadata(metadata)), {});
  return stored;
}

std::string LinesOf(const Stored& stored) {
  const Result<NeedleHead> head = ParseNeedleHead(AsBytes(stored.head));
  REQUIRE(head.ok());
  return WholeFileLines(stored.address, *head, "public, max-age=60");
}

TEST_CASE("file lines: all that is said of a whole file, ended by the empty line") {
  Metadata metadata = OfType("image/png");
  metadata.fields = {{"cache-tag", "cats"}, {"x-hayloft-who", "me"}};
  const Stored stored = StoredWith(metadata);
  CHECK_EQ(LinesOf(stored),
           "Content-Type: image/png\r\nContent-Length: 5\r\nETag: \"" + ToText(stored.address) +
               "\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nAccept-Ranges: bytes\r\n"
               "X-Cache: hit\r\nCache-Control: public, max-age=60\r\n"
               "cache-tag: cats\r\nx-hayloft-who: me\r\n\r\n");
}

TEST_CASE("file lines: what may do harm in a browser is confined") {
  CHECK(LinesOf(StoredWith(OfType("image/svg+xml"))).find("sandbox") != std::string::npos);
  CHECK(LinesOf(StoredWith(OfType("image/png"))).find("sandbox") == std::string::npos);
}

TEST_CASE("file lines: none for what is stored encoded: its form depends on the client") {
  CHECK_EQ(LinesOf(StoredWith(OfType("image/bmp"), Encoding::kZstd)), "");
}

}  // namespace
}  // namespace hayloft
