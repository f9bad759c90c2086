#include "client/prepare.h"

#include <doctest/doctest.h>

namespace hayloft {
namespace {

Upload UploadOf(std::string_view raw, const std::string& content_type) {
  Upload upload;
  upload.raw = Buffer::CopyOf(AsBytes(raw));
  upload.content_type = content_type;
  return upload;
}

TEST_CASE("prepare: text is compressed where it pays, and comes back") {
  const std::string text(10'000, 'x');
  Result<PutRequest> put = PreparePut(UploadOf(text, "image/svg+xml; charset=utf-8"));
  REQUIRE(put.ok());
  CHECK_EQ(put->encoding, Encoding::kZstd);
  CHECK_EQ(put->raw_size, text.size());
  CHECK(put->stored.size() < text.size());
  const Result<Buffer> raw = Decompress(put->stored.bytes(), put->raw_size);
  REQUIRE(raw.ok());
  CHECK_EQ(AsText(raw->bytes()), text);
}

// Each range of a compressed file decodes all of it, on a loop that others wait for (S07).
TEST_CASE("prepare: a large file is stored as it is, whatever its type") {
  const std::string text((1 << 20) + 1, 'x');
  Result<PutRequest> put = PreparePut(UploadOf(text, "text/plain"));
  REQUIRE(put.ok());
  CHECK_EQ(put->encoding, Encoding::kIdentity);
}

TEST_CASE("prepare: types that are compressed already are stored as they are") {
  const std::string text(10'000, 'x');
  Result<PutRequest> put = PreparePut(UploadOf(text, "image/jpeg"));
  REQUIRE(put.ok());
  CHECK_EQ(put->encoding, Encoding::kIdentity);
  CHECK_EQ(AsText(put->stored.bytes()), text);
}

TEST_CASE("prepare: a content type that could forge a header line is refused, S12") {
  for (const char* type :
       {"", "image/png\r\nSet-Cookie: a=b", "image/png\n", " image/png", "\x01"}) {
    CHECK_EQ(PreparePut(UploadOf("x", type)).err(), Err::kInvalid);
  }
  CHECK_EQ(PreparePut(UploadOf("", "image/png")).err(), Err::kInvalid);
}

TEST_CASE(
    "prepare: a field that a gateway would send, and that could forge a line, is refused, S12") {
  using Field = std::pair<const std::string, std::string>;
  for (const Field& field : {Field{"x-hayloft-a", "b\r\nSet-Cookie: c"}, Field{"x-hayloft-a:", "b"},
                             Field{"cache-tag", "\n"}, Field{"x-hayloft-id", "b"}}) {
    Upload upload = UploadOf("x", "image/png");
    upload.fields.insert(field);
    CHECK_EQ(PreparePut(std::move(upload)).err(), Err::kInvalid);
  }
  Upload own = UploadOf("x", "image/png");
  own.fields = {{"name", "b\r\nc"}, {"x-hayloft-a", "b"}, {"surrogate-key", "a b"}};
  CHECK(PreparePut(std::move(own)).ok());
}

TEST_CASE("prepare: fields over the bound of the metadata are refused") {
  Upload upload = UploadOf("x", "image/png");
  upload.fields["note"] = std::string(kMetadataBytesMax, 'x');
  CHECK_EQ(PreparePut(std::move(upload)).err(), Err::kTooLarge);
  Upload many = UploadOf("x", "image/png");
  for (int i = 0; i < 2'000; ++i) many.fields[std::to_string(i)] = "";
  CHECK_EQ(PreparePut(std::move(many)).err(), Err::kTooLarge);
}

}  // namespace
}  // namespace hayloft
