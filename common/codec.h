// Checksums, hashes and compression: thin, typed faces of ISA-L, OpenSSL and zstd. Pure calls.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "common/buffer.h"
#include "common/le.h"
#include "common/result.h"

namespace hayloft {

// CRC-32C (Castagnoli; RFC 3720 appendix B.4), of `bytes` following bytes whose CRC is `previous`:
// Crc32c(b, Crc32c(a)) == Crc32c(a followed by b). The CRC of nothing is 0.
uint32_t Crc32c(Bytes bytes, uint32_t previous = 0);

using Sha1 = std::array<uint8_t, 20>;
using Sha256 = std::array<uint8_t, 32>;

// SHA-1 and SHA-256 of one stream, fed as it arrives. One object serves many streams, one at a
// time.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  void Reset();
  void Update(Bytes bytes);
  void Finish(Sha1* sha1, Sha256* sha256);  // then Reset before the next stream

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// What Hasher has not, for those who ask for it.
enum class HashKind : uint8_t { kMd5, kSha512 };
size_t HashBytes(HashKind kind);  // of its result: 16, 64

// One hash of one stream, fed as it arrives.
class StreamHash {
 public:
  explicit StreamHash(HashKind kind);
  ~StreamHash();
  StreamHash(StreamHash&&) noexcept;
  StreamHash& operator=(StreamHash&&) noexcept;
  void Update(Bytes bytes);
  void Finish(MutableBytes out);  // once; REQUIRES: out.size() == HashBytes(kind)

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Sha256 Sha256Of(Bytes bytes);
// HMAC-SHA256 (RFC 2104) of the parts one after the other.
Sha256 HmacSha256(Bytes key, std::span<const Bytes> parts);
bool EqualInConstantTime(Bytes a, Bytes b);  // false at once when the lengths differ

// zstd at its fastest useful level. Empty when that saves less than a tenth.
Buffer CompressIfWorthIt(Bytes raw);
// kCorrupt when the frame is damaged or does not hold exactly `raw_size` bytes; never allocates
// more than that, whatever the frame claims. REQUIRES: raw_size <= kFileBytesMax.
Result<Buffer> Decompress(Bytes stored, uint64_t raw_size);

std::string ToHex(Bytes bytes);                         // lower case
bool FromHex(std::string_view text, MutableBytes out);  // false unless exactly 2 digits a byte
// base64url without padding (RFC 4648 section 5).
std::string ToBase64Url(Bytes bytes);
// False unless `text` is the only spelling of exactly out.size() bytes.
bool FromBase64Url(std::string_view text, MutableBytes out);
// The same for base64 with its padding (RFC 4648 section 4).
std::string ToBase64(Bytes bytes);
bool FromBase64(std::string_view text, MutableBytes out);

}  // namespace hayloft
