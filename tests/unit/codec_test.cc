#include "common/codec.h"

#include <doctest/doctest.h>
#include <openssl/evp.h>
#include <zstd.h>

#include <memory>

#include "common/delete_token.h"
#include "common/file_address.h"
#include "common/limits.h"
#include "common/needle.h"
#include "tests/sim/sim_random.h"
#include "tests/unit/no_memory.h"

using namespace hayloft;

TEST_CASE("codec: checksums and hashes agree with the standards' test vectors") {
  CHECK(Crc32c(AsBytes("123456789")) == 0xe3069283);
  CHECK(Crc32c(AsBytes("56789"), Crc32c(AsBytes("1234"))) == 0xe3069283);
  CHECK(Crc32c({}) == 0);
  Hasher hasher;
  Sha1 sha1;
  Sha256 sha256;
  for (int round = 0; round < 2; ++round) {  // the object serves many streams
    hasher.Update(AsBytes("a"));
    hasher.Update(AsBytes("bc"));
    hasher.Finish(&sha1, &sha256);
    CHECK(ToHex(sha1) == "a9993e364706816aba3e25717850c26c9cd0d89d");
    CHECK(ToHex(sha256) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hasher.Reset();
  }
  // RFC 4231, test case 2.
  const Bytes parts[] = {AsBytes("what do ya want "), AsBytes("for nothing?")};
  CHECK(ToHex(HmacSha256(AsBytes("Jefe"), parts)) ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  // Test case 6: a key that is longer than a block.
  const Bytes large[] = {AsBytes("Test Using Larger Than Block-Size Key - Hash Key First")};
  CHECK(ToHex(HmacSha256(std::vector<uint8_t>(131, 0xaa), large)) ==
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST_CASE("codec: hashes are OpenSSL's, whatever the length and however it is cut") {
  SimRandom random(5);
  Hasher hasher;
  for (size_t size = 0; size < 400; ++size) {
    std::vector<uint8_t> data(size < 300 ? size : random.Below(100'000));
    random.Fill(data);
    hasher.Reset();
    for (Bytes rest = data; !rest.empty();) {
      const size_t piece = 1 + random.Below(rest.size());
      hasher.Update(rest.first(piece));
      rest = rest.subspan(piece);
    }
    Sha1 sha1, wanted1;
    Sha256 sha256, wanted256;
    hasher.Finish(&sha1, &sha256);
    REQUIRE(EVP_Digest(data.data(), data.size(), wanted1.data(), nullptr, EVP_sha1(), nullptr) ==
            1);
    REQUIRE(EVP_Digest(data.data(), data.size(), wanted256.data(), nullptr, EVP_sha256(),
                       nullptr) == 1);
    REQUIRE(sha1 == wanted1);
    REQUIRE(sha256 == wanted256);
  }
}

TEST_CASE("codec: what compresses comes back; what does not is left alone") {
  const std::string plain(100'000, 'x');
  const Buffer stored = CompressIfWorthIt(AsBytes(plain));
  REQUIRE_FALSE(stored.empty());
  CHECK(AsText(Decompress(stored.bytes(), plain.size())->bytes()) == plain);
  SimRandom random(1);
  std::vector<uint8_t> noise(10'000);
  random.Fill(noise);
  CHECK(CompressIfWorthIt(noise).empty());
}

TEST_CASE("codec: S07: a bomb, a cut and a lie about the size are corrupt, and cost no memory") {
  const std::string plain(1 << 20, 'x');
  const Buffer bomb = CompressIfWorthIt(AsBytes(plain));
  CHECK(Decompress(bomb.bytes(), 100).err() == Err::kCorrupt);
  CHECK(Decompress(bomb.bytes(), plain.size() + 1).err() == Err::kCorrupt);
  CHECK(Decompress(bomb.bytes().first(bomb.size() - 1), plain.size()).err() == Err::kCorrupt);
  CHECK(Decompress({}, 10).err() == Err::kCorrupt);
  const NoMemory no_memory(0, 100'000);
  CHECK(Decompress(bomb.bytes(), kFileBytesMax).err() == Err::kCorrupt);
  CHECK_FALSE(no_memory.reached());
}

// A frame that does not say how much it holds, and asks for 128 MiB to be decoded in.
TEST_CASE("codec: S07: a frame of unknown size and a large window gives what the needle says") {
  const std::string plain(1 << 20, 'x');
  std::string frame(4'096, '\0');
  const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                     &ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_windowLog, 27);
  ZSTD_inBuffer in{plain.data(), plain.size() / 2, 0};
  ZSTD_outBuffer out{frame.data(), frame.size(), 0};
  REQUIRE_EQ(ZSTD_compressStream2(context.get(), &out, &in, ZSTD_e_flush), 0);
  in.size = plain.size();
  REQUIRE_EQ(ZSTD_compressStream2(context.get(), &out, &in, ZSTD_e_end), 0);
  frame.resize(out.pos);
  REQUIRE_EQ(ZSTD_getFrameContentSize(frame.data(), frame.size()), ZSTD_CONTENTSIZE_UNKNOWN);
  CHECK(AsText(Decompress(AsBytes(frame), plain.size())->bytes()) == plain);
  CHECK(Decompress(AsBytes(frame), plain.size() - 1).err() == Err::kCorrupt);
  CHECK(Decompress(AsBytes(frame), plain.size() + 1).err() == Err::kCorrupt);
}

TEST_CASE("codec: hex, base64url and base64 have one spelling each") {
  uint8_t bytes[3];
  CHECK(FromHex("00ffA0", bytes));
  CHECK(ToHex(bytes) == "00ffa0");
  CHECK_FALSE(FromHex("00ffa", bytes));
  CHECK_FALSE(FromHex("00ffg0", bytes));
  uint8_t two[2];
  CHECK(FromBase64Url(ToBase64Url(AsBytes("hi")), two));
  CHECK(AsText(two) == "hi");
  CHECK_FALSE(FromBase64Url("aGl", bytes));
  CHECK_FALSE(FromBase64Url("aGm", two));  // spare bits set would be a second spelling
  CHECK_FALSE(FromBase64Url("aG+", two));
  CHECK(FromBase64("aGk=", two));
  CHECK(AsText(two) == "hi");
  CHECK(FromBase64("+/+/", bytes));
  for (const char* text : {"aGk", "aGl=", "aG+", "aGk==", "=", "", "aGkx"}) {
    CHECK_FALSE(FromBase64(text, two));
  }
}

TEST_CASE("file_address: every address has one text of 18 characters") {
  SimRandom random(3);
  for (int i = 0; i < 1000; ++i) {
    const FileAddress address{.block_id = random.Next64() & kBlockIdMax,
                              .file_id = FileId{random.Next64()}};
    const std::string text = ToText(address);
    CHECK(text.size() == kAddressTextLength);
    CHECK(ParseFileAddress(text) == address);
    std::string other = text;
    other.back() = static_cast<char>(other.back() + 1);  // spare bits
    CHECK_FALSE(ParseFileAddress(other) == address);
  }
  CHECK(ToText({}) == "AAAAAAAAAAAAAAAAAA");
  for (const char* bad : {"", "AAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAB",
                          "AAAAAAAAAAAAAAAAA=", "AAAAAAAA/AAAAAAAAA", "AAAAAAAA+AAAAAAAAA"}) {
    CAPTURE(bad);
    CHECK_FALSE(ParseFileAddress(bad).has_value());
  }
  CHECK(WhyNoFileAddress("AAAAAAAAAAAAAAAAA") == "an id has 18 characters");
  CHECK(WhyNoFileAddress("AAAAAAAAAAAAAAAAAB") == "an id ends in A, Q, g or w");
  CHECK(WhyNoFileAddress("AAAAAAAA+AAAAAAAAA") == "an id has only letters, digits, '-' and '_'");
}

TEST_CASE("delete_token: S08: only the right key, file and nonce make one") {
  const ClusterKey key{.number = 1, .bytes = std::string(32, 'k')};
  const FileAddress address{.block_id = 5, .file_id = FileId::Of(1, 2)};
  const std::string token = MakeDeleteToken(key, address, {9});
  CHECK(token.size() == kDeleteTokenLength);
  CHECK(CheckDeleteToken(key, address, token) == Nonce{9});
  CHECK_FALSE(CheckDeleteToken({.number = 1, .bytes = std::string(32, 'x')}, address, token));
  CHECK_FALSE(CheckDeleteToken({.number = 2, .bytes = key.bytes}, address, token));
  CHECK_FALSE(CheckDeleteToken(key, {.block_id = 6, .file_id = address.file_id}, token));
  for (size_t i = 0; i < token.size(); ++i) {
    std::string wrong = token;
    wrong[i] = wrong[i] == 'A' ? 'B' : 'A';
    CHECK_FALSE(CheckDeleteToken(key, address, wrong).has_value());
  }
  CHECK_FALSE(CheckDeleteToken(key, address, "").has_value());
}

TEST_CASE("delete_token: a name's token is of that name and its nonce only") {
  const ClusterKey key{.number = 1, .bytes = std::string(32, 'k')};
  const std::string token = MakeNameToken(key, "a/b", {9});
  CHECK(CheckNameToken(key, "a/b", {9}, token));
  CHECK_FALSE(CheckNameToken(key, "a/b", {8}, token));  // the name was deleted, and made again
  CHECK_FALSE(CheckNameToken(key, "a/c", {9}, token));
  CHECK_FALSE(CheckNameToken({.number = 2, .bytes = key.bytes}, "a/b", {9}, token));
  CHECK_FALSE(CheckNameToken(key, "a/b", {9}, token.substr(1)));
  CHECK_FALSE(CheckNameToken(key, "a/b", {9}, ""));
  // Not even a name that looks like a file's id.
  const FileAddress address{.block_id = 5, .file_id = FileId::Of(1, 2)};
  CHECK_FALSE(CheckNameToken(key, ToText(address), {9}, MakeDeleteToken(key, address, {9})));
}

TEST_CASE("needle: metadata with a wrong length or size is corrupt, unknown tags are skipped") {
  Metadata metadata;
  metadata.content_type = "image/png";
  metadata.fields["a"] = "b";
  const std::string encoded = EncodeMetadata(metadata);
  REQUIRE(ParseMetadata(AsBytes(encoded)).ok());
  CHECK(ParseMetadata(AsBytes(encoded))->fields == metadata.fields);
  const std::string unknown = encoded + std::string("\x99\x00\x01\x00z", 5);
  CHECK(ParseMetadata(AsBytes(unknown))->content_type == "image/png");
  CHECK_FALSE(ParseMetadata(AsBytes(encoded).first(encoded.size() - 1)).ok());
  const std::string short_sha1("\x02\x00\x01\x00z", 5);
  CHECK_FALSE(ParseMetadata(AsBytes(short_sha1)).ok());
}
