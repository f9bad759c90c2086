#include "common/codec.h"

#include <isa-l/crc.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <zstd.h>

#include <algorithm>
#include <array>

#include "common/limits.h"
#include "common/sha_pair.h"

namespace hayloft {

namespace {

struct DigestFree {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using UniqueDigest = std::unique_ptr<EVP_MD_CTX, DigestFree>;

// Fetching an algorithm in OpenSSL 3 takes a lock and a look-up: done once for the process.
const EVP_MD* FetchedSha1() {
  static const EVP_MD* const md = EVP_MD_fetch(nullptr, "SHA1", nullptr);
  return md;
}
const EVP_MD* FetchedSha256() {
  static const EVP_MD* const md = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return md;
}

const EVP_MD* FetchedMd5() {
  static const EVP_MD* const md = EVP_MD_fetch(nullptr, "MD5", nullptr);
  return md;
}
const EVP_MD* FetchedSha512() {
  static const EVP_MD* const md = EVP_MD_fetch(nullptr, "SHA512", nullptr);
  return md;
}

constexpr int kZstdLevel = 1;

// Making a context costs more than what is done with it (48 against 14 us for 16 KiB), so each
// thread keeps one of either kind: some 1 MiB at this level, whatever the sizes.
struct ZstdFree {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};
ZSTD_CCtx* CompressContext() {
  static thread_local const std::unique_ptr<ZSTD_CCtx, ZstdFree> context(ZSTD_createCCtx());
  ASSERT(context != nullptr);
  return context.get();
}
ZSTD_DCtx* DecompressContext() {
  static thread_local const std::unique_ptr<ZSTD_DCtx, ZstdFree> context(ZSTD_createDCtx());
  ASSERT(context != nullptr);
  return context.get();
}

constexpr std::string_view kBase64Url =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr std::string_view kBase64 =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

template <size_t kWords>
void PutBigEndian(const std::array<uint32_t, kWords>& words, uint8_t* out) {
  for (const uint32_t word : words) {
    for (int shift = 24; shift >= 0; shift -= 8) *out++ = static_cast<uint8_t>(word >> shift);
  }
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Both without padding, in the given alphabet.
std::string ToBase64Digits(Bytes bytes, std::string_view alphabet) {
  std::string text;
  text.reserve((bytes.size() * 8 + 5) / 6);
  uint32_t bits = 0;
  int held = 0;
  for (uint8_t byte : bytes) {
    bits = bits << 8 | byte;
    for (held += 8; held >= 6; held -= 6) text.push_back(alphabet[bits >> (held - 6) & 63]);
  }
  if (held > 0) text.push_back(alphabet[bits << (6 - held) & 63]);
  return text;
}

bool FromBase64Digits(std::string_view text, std::string_view alphabet, MutableBytes out) {
  if (text.size() != (out.size() * 8 + 5) / 6) return false;
  uint32_t bits = 0;
  int held = 0;
  size_t done = 0;
  for (char c : text) {
    const size_t digit = alphabet.find(c);
    if (digit == std::string_view::npos) return false;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    out[done++] = static_cast<uint8_t>(bits >> held);
  }
  ASSERT(done == out.size());
  return (bits & ((1u << held) - 1)) == 0;
}

}  // namespace

uint32_t Crc32c(Bytes bytes, uint32_t previous) {
  // ISA-L takes a length of 31 bits; what we check is never near it. Its function is the raw
  // register, without the inversions of the standard.
  ASSERT(bytes.size() <= kBlockBytesMax);
  auto* data = const_cast<uint8_t*>(bytes.data());
  return ~crc32_iscsi(data, static_cast<int>(bytes.size()), ~previous);
}

// With the processor's help both at once, whole blocks where they lie; else by OpenSSL.
struct Hasher::State {
  const bool pair = ShaPairSupported();
  ShaPairState sums;
  uint64_t total = 0;                          // bytes so far
  std::array<uint8_t, kShaBlockBytes> rest{};  // those behind the last whole block
  UniqueDigest sha1{pair ? nullptr : EVP_MD_CTX_new()};
  UniqueDigest sha256{pair ? nullptr : EVP_MD_CTX_new()};

  size_t rest_size() const { return total % kShaBlockBytes; }
  void Add(Bytes bytes);
  void Pad();
};

void Hasher::State::Add(Bytes bytes) {
  if (const size_t had = rest_size(); had > 0) {
    const size_t count = std::min(bytes.size(), rest.size() - had);
    std::copy_n(bytes.begin(), count, rest.begin() + static_cast<ptrdiff_t>(had));
    total += count;
    bytes = bytes.subspan(count);
    if (rest_size() != 0) return;
    ShaPairBlocks(&sums, rest.data(), 1);
  }
  const size_t blocks = bytes.size() / kShaBlockBytes;
  ShaPairBlocks(&sums, bytes.data(), blocks);
  std::copy(bytes.begin() + static_cast<ptrdiff_t>(blocks * kShaBlockBytes), bytes.end(),
            rest.begin());
  total += bytes.size();
}

// FIPS 180-4 section 5.1.1: a bit, zeros, the length in bits.
void Hasher::State::Pad() {
  std::array<uint8_t, 2 * kShaBlockBytes> padding{0x80};
  const size_t size = kShaBlockBytes + (rest_size() < 56 ? 0 : kShaBlockBytes) - rest_size();
  for (size_t i = 0; i < 8; ++i) {
    padding[size - 1 - i] = static_cast<uint8_t>(total * 8 >> (8 * i));
  }
  Add(Bytes(padding).first(size));
  ASSERT(rest_size() == 0);
}

Hasher::Hasher() : state_(std::make_unique<State>()) { Reset(); }
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::Reset() {
  state_->sums = ShaPairState();
  state_->total = 0;
  if (state_->pair) return;
  ASSERT(EVP_DigestInit_ex2(state_->sha1.get(), FetchedSha1(), nullptr) == 1);
  ASSERT(EVP_DigestInit_ex2(state_->sha256.get(), FetchedSha256(), nullptr) == 1);
}

void Hasher::Update(Bytes bytes) {
  if (state_->pair) return state_->Add(bytes);
  ASSERT(EVP_DigestUpdate(state_->sha1.get(), bytes.data(), bytes.size()) == 1);
  ASSERT(EVP_DigestUpdate(state_->sha256.get(), bytes.data(), bytes.size()) == 1);
}

void Hasher::Finish(Sha1* sha1, Sha256* sha256) {
  if (!state_->pair) {
    ASSERT(EVP_DigestFinal_ex(state_->sha1.get(), sha1->data(), nullptr) == 1);
    ASSERT(EVP_DigestFinal_ex(state_->sha256.get(), sha256->data(), nullptr) == 1);
    return;
  }
  state_->Pad();
  PutBigEndian(state_->sums.sha1, sha1->data());
  PutBigEndian(state_->sums.sha256, sha256->data());
}

struct StreamHash::State {
  UniqueDigest context{EVP_MD_CTX_new()};
  size_t bytes = 0;  // of the result
};

size_t HashBytes(HashKind kind) { return kind == HashKind::kMd5 ? 16 : 64; }

StreamHash::StreamHash(HashKind kind) : state_(std::make_unique<State>()) {
  const EVP_MD* md = kind == HashKind::kMd5 ? FetchedMd5() : FetchedSha512();
  ASSERT(EVP_DigestInit_ex2(state_->context.get(), md, nullptr) == 1);
  state_->bytes = HashBytes(kind);
}
StreamHash::~StreamHash() = default;
StreamHash::StreamHash(StreamHash&&) noexcept = default;
StreamHash& StreamHash::operator=(StreamHash&&) noexcept = default;

void StreamHash::Update(Bytes bytes) {
  ASSERT(EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()) == 1);
}

void StreamHash::Finish(MutableBytes out) {
  ASSERT(out.size() == state_->bytes);
  ASSERT(EVP_DigestFinal_ex(state_->context.get(), out.data(), nullptr) == 1);
}

Sha256 Sha256Of(Bytes bytes) {
  Sha256 digest;
  ASSERT(EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, FetchedSha256(), nullptr) ==
         1);
  return digest;
}

Sha256 HmacSha256(Bytes key, std::span<const Bytes> parts) {
  // Not OpenSSL's, which looks its algorithm up each time: 2 us where the hashing takes 0.3. Our
  // hasher's SHA-1 of these few blocks costs less than what OpenSSL allocates for a digest.
  std::array<uint8_t, kShaBlockBytes> block{};
  if (key.size() > block.size()) {
    const Sha256 shorter = Sha256Of(key);
    std::copy(shorter.begin(), shorter.end(), block.begin());
  } else {
    std::copy(key.begin(), key.end(), block.begin());
  }
  Hasher hasher;
  Sha1 unused;
  Sha256 digest;
  for (uint8_t& byte : block) byte ^= 0x36;
  hasher.Update(block);
  for (const Bytes part : parts) hasher.Update(part);
  hasher.Finish(&unused, &digest);
  hasher.Reset();
  for (uint8_t& byte : block) byte ^= 0x36 ^ 0x5c;
  hasher.Update(block);
  hasher.Update(digest);
  hasher.Finish(&unused, &digest);
  return digest;
}

bool EqualInConstantTime(Bytes a, Bytes b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

Buffer CompressIfWorthIt(Bytes raw) {
  ASSERT(raw.size() <= kFileBytesMax);
  const size_t worth = raw.size() - raw.size() / 10;
  if (worth < 64) return {};
  Buffer out(worth);  // too small for a result that is not worth it: zstd stops early
  const size_t size = ZSTD_compressCCtx(CompressContext(), out.mutable_bytes().data(), out.size(),
                                        raw.data(), raw.size(), kZstdLevel);
  if (ZSTD_isError(size) != 0) return {};
  out.Narrow(0, size);
  return out;
}

Result<Buffer> Decompress(Bytes stored, uint64_t raw_size) {
  ASSERT(raw_size <= kFileBytesMax);
  // Where the frame itself says its size, that is compared before any memory is taken. In one call
  // the output is zstd's window: however large a one a frame asks for, none is allocated.
  const unsigned long long claimed = ZSTD_getFrameContentSize(stored.data(), stored.size());
  const bool known = claimed != ZSTD_CONTENTSIZE_UNKNOWN;
  if (known && claimed != raw_size) return Err::kCorrupt;
  Buffer raw(raw_size);
  const size_t size = ZSTD_decompressDCtx(DecompressContext(), raw.mutable_bytes().data(),
                                          raw.size(), stored.data(), stored.size());
  if (ZSTD_isError(size) != 0 || size != raw_size) return Err::kCorrupt;
  return raw;
}

std::string ToHex(Bytes bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (uint8_t byte : bytes) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

bool FromHex(std::string_view text, MutableBytes out) {
  if (text.size() != out.size() * 2) return false;
  for (size_t i = 0; i < out.size(); ++i) {
    const int high = HexDigit(text[2 * i]);
    const int low = HexDigit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return true;
}

std::string ToBase64Url(Bytes bytes) { return ToBase64Digits(bytes, kBase64Url); }

std::string ToBase64(Bytes bytes) {
  std::string text = ToBase64Digits(bytes, kBase64);
  text.append((4 - text.size() % 4) % 4, '=');
  return text;
}

bool FromBase64Url(std::string_view text, MutableBytes out) {
  return FromBase64Digits(text, kBase64Url, out);
}

bool FromBase64(std::string_view text, MutableBytes out) {
  const size_t padding = (3 - out.size() % 3) % 3;
  if (text.size() < padding) return false;
  for (char c : text.substr(text.size() - padding)) {
    if (c != '=') return false;
  }
  text.remove_suffix(padding);
  return FromBase64Digits(text, kBase64, out);
}

}  // namespace hayloft
