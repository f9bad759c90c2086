#include "common/codec.h"

#include <isa-l/crc.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <zstd.h>

#include "common/limits.h"

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

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

uint32_t Crc32c(Bytes bytes, uint32_t previous) {
  // ISA-L takes a length of 31 bits; what we check is never near it. Its function is the raw
  // register, without the inversions of the standard.
  ASSERT(bytes.size() <= kBlockBytesMax);
  auto* data = const_cast<uint8_t*>(bytes.data());
  return ~crc32_iscsi(data, static_cast<int>(bytes.size()), ~previous);
}

struct Hasher::State {
  UniqueDigest sha1{EVP_MD_CTX_new()};
  UniqueDigest sha256{EVP_MD_CTX_new()};
};

Hasher::Hasher() : state_(std::make_unique<State>()) { Reset(); }
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::Reset() {
  ASSERT(EVP_DigestInit_ex2(state_->sha1.get(), FetchedSha1(), nullptr) == 1);
  ASSERT(EVP_DigestInit_ex2(state_->sha256.get(), FetchedSha256(), nullptr) == 1);
}

void Hasher::Update(Bytes bytes) {
  ASSERT(EVP_DigestUpdate(state_->sha1.get(), bytes.data(), bytes.size()) == 1);
  ASSERT(EVP_DigestUpdate(state_->sha256.get(), bytes.data(), bytes.size()) == 1);
}

void Hasher::Finish(Sha1* sha1, Sha256* sha256) {
  ASSERT(EVP_DigestFinal_ex(state_->sha1.get(), sha1->data(), nullptr) == 1);
  ASSERT(EVP_DigestFinal_ex(state_->sha256.get(), sha256->data(), nullptr) == 1);
}

Sha256 Sha256Of(Bytes bytes) {
  Sha256 digest;
  ASSERT(EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, FetchedSha256(), nullptr) ==
         1);
  return digest;
}

Sha256 HmacSha256(Bytes key, std::span<const Bytes> parts) {
  std::string joined;  // what we sign is short: ids, nonces, names
  for (Bytes part : parts) joined += AsText(part);
  Sha256 mac;
  unsigned length = 0;
  const Bytes message = AsBytes(joined);
  ASSERT(HMAC(FetchedSha256(), key.data(), static_cast<int>(key.size()), message.data(),
              message.size(), mac.data(), &length) != nullptr);
  ASSERT(length == mac.size());
  return mac;
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

std::string ToBase64Url(Bytes bytes) {
  std::string text;
  uint32_t bits = 0;
  int held = 0;
  for (uint8_t byte : bytes) {
    bits = bits << 8 | byte;
    for (held += 8; held >= 6; held -= 6) text.push_back(kBase64Url[bits >> (held - 6) & 63]);
  }
  if (held > 0) text.push_back(kBase64Url[bits << (6 - held) & 63]);
  return text;
}

bool FromBase64Url(std::string_view text, MutableBytes out) {
  if (text.size() != (out.size() * 8 + 5) / 6) return false;
  uint32_t bits = 0;
  int held = 0;
  size_t done = 0;
  for (char c : text) {
    const size_t digit = kBase64Url.find(c);
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

}  // namespace hayloft
