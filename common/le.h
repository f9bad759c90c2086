// Little-endian fields for structs on disk and on the wire, and a bounded reader for byte strings.
//
// le16/le32/le64 have alignment 1, so a struct of them has no padding and needs no pragma; reading
// and writing one compiles to a plain move on a little-endian machine.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace hayloft {

template <typename T>
class LittleEndian {
 public:
  constexpr LittleEndian() = default;
  constexpr LittleEndian(T value) { *this = value; }  // NOLINT: implicit on purpose
  constexpr LittleEndian& operator=(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) bytes_[i] = static_cast<uint8_t>(value >> (8 * i));
    return *this;
  }
  constexpr operator T() const {  // NOLINT: implicit on purpose
    T value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) {
      value = static_cast<T>(value | static_cast<T>(static_cast<T>(bytes_[i]) << (8 * i)));
    }
    return value;
  }

 private:
  uint8_t bytes_[sizeof(T)] = {};
};

using le16 = LittleEndian<uint16_t>;
using le32 = LittleEndian<uint32_t>;
using le64 = LittleEndian<uint64_t>;
static_assert(sizeof(le64) == 8 && alignof(le64) == 1);

// Big-endian, for keys whose byte order must be their numeric order.
inline void PutBigEndian64(uint64_t value, uint8_t out[8]) {
  for (int i = 0; i < 8; ++i) out[i] = static_cast<uint8_t>(value >> (56 - 8 * i));
}
inline uint64_t GetBigEndian64(const uint8_t in[8]) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = (value << 8) | in[i];
  return value;
}

using Bytes = std::span<const uint8_t>;
using MutableBytes = std::span<uint8_t>;

inline Bytes AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view AsText(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
template <typename Struct>
Bytes StructBytes(const Struct& value) {
  static_assert(alignof(Struct) == 1);
  return {reinterpret_cast<const uint8_t*>(&value), sizeof(Struct)};
}

// Takes fields from the front of a byte string; every length is checked before it is used. After
// the first failure ok() stays false and everything returned is zero or empty.
class ByteReader {
 public:
  explicit ByteReader(Bytes bytes) : rest_(bytes) {}
  bool ok() const { return ok_; }
  size_t size() const { return rest_.size(); }
  Bytes Take(size_t count) {
    if (!ok_ || count > rest_.size()) {
      ok_ = false;
      return {};
    }
    const Bytes taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  template <typename Struct>
  Struct TakeStruct() {
    static_assert(alignof(Struct) == 1);
    Struct value{};
    const Bytes taken = Take(sizeof(Struct));
    if (!taken.empty()) std::memcpy(&value, taken.data(), sizeof(Struct));
    return value;
  }

 private:
  Bytes rest_;
  bool ok_ = true;
};

}  // namespace hayloft
