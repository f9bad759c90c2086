// A needle: one stored image with all that is known of it, as it lies in a block and as a reader
// gets it.
//
//   offset, 8-aligned in the block
//   | NeedleHeader, 48 | piece CRCs, 4 each | metadata (TLV) | data | zeros to a multiple of 8 |
//   |<------------------- head ------------------------------>|
//
// One pread brings all of it. The header CRC covers the block's life number and the needle's own
// offset besides the header and the piece CRCs, so that an old needle in a recycled file, or a
// write that landed in the wrong place, is not taken for this one. Data has a CRC per 64 KiB piece
// (GFS section 5.2), so that a range reads and checks its pieces only. docs/formats.md shows one in
// hex. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/codec.h"
#include "common/file_address.h"
#include "common/le.h"
#include "common/limits.h"
#include "common/result.h"

namespace hayloft {

inline constexpr uint32_t kNeedleMagic = 0x31444e48;  // "HND1"
inline constexpr uint64_t kNeedleAlign = 8;

enum class Encoding : uint8_t { kIdentity = 0, kZstd = 1 };  // on disk: DO NOT CHANGE

struct NeedleHeader {
  le32 magic;  //  0  "HND1", the digit is the version; a scan finds needles by it
  le32
      header_crc;  //  4  crc32c of life number (8), offset in the file (8), bytes 8..48, piece CRCs
  le64 block_id;   //  8
  le64 file_id;    // 16  24 bits of sequence, 40 of cookie
  le64 created_ms;     // 24  wall clock of the primary, the same on every replica
  le32 stored_size;    // 32  bytes of data, 1 to kFileBytesMax
  le32 raw_size;       // 36  bytes after decoding; equal to stored_size with encoding identity
  le32 metadata_crc;   // 40  crc32c of the metadata
  le16 metadata_size;  // 44  at most kMetadataBytesMax
  uint8_t encoding;    // 46  Encoding
  uint8_t flags;       // 47  0; an unknown bit makes the needle kCorrupt
};
static_assert(sizeof(NeedleHeader) == 48 && alignof(NeedleHeader) == 1);
static_assert(offsetof(NeedleHeader, metadata_size) == 44);

// What of each needle a block's digest covers, and a list of its needles tells; in order of
// sequences.
struct NeedleDigestRow {
  le32 sequence;
  le64 file_id;
  le32 stored_size;
  le32 pieces_crc;  // crc32c of the needle's table of piece CRCs
};

// What is known of a file beside its bytes. TLV: le16 tag, le16 length, value; tags ascending.
struct Metadata {
  std::string content_type;                   // tag 1; visible ASCII, checked by whoever accepts it
  Sha1 sha1{};                                // tag 2, of the raw bytes
  Sha256 sha256{};                            // tag 3, of the raw bytes
  std::array<uint8_t, 16> nonce{};            // tag 4, the upload's; the delete token rests on it
  std::map<std::string, std::string> fields;  // tag 16, repeated: le16 name length, name, value
};
std::string EncodeMetadata(const Metadata& metadata);
// kCorrupt when a length or a tag's size is wrong; unknown tags are skipped. kTooLarge over the
// bound.
Result<Metadata> ParseMetadata(Bytes bytes);

// A needle's head taken apart. The spans point into the parsed bytes.
struct NeedleHead {
  NeedleHeader header;
  Bytes piece_crcs;  // le32 each
  Bytes metadata;
  uint64_t data_offset = 0;   // from the needle's start
  uint64_t needle_bytes = 0;  // with padding: the next needle of the same commit starts behind it
  FileId file_id() const { return FileId{header.file_id}; }
  uint32_t piece_crc(size_t piece) const;  // REQUIRES: piece < PieceCount(stored_size)
};

inline uint64_t PieceCount(uint64_t stored_size) {
  return (stored_size + kPieceBytes - 1) / kPieceBytes;
}
// Bytes from a needle's start to its data.
uint64_t NeedleHeadBytes(uint64_t stored_size, uint64_t metadata_size);
// Bytes of a whole needle with its padding. REQUIRES: both sizes within their bounds.
uint64_t NeedleBytes(uint64_t stored_size, uint64_t metadata_size);

// CRCs of the pieces of `data`, as AppendRequest and the needle carry them.
std::vector<uint32_t> PieceCrcs(Bytes data);

struct NeedlePlace {
  uint64_t life = 0;    // of the block's file
  uint64_t offset = 0;  // in the block's file
};

// The head's bytes. Sets magic, metadata_size, metadata_crc and header_crc; the caller sets the
// rest.
std::string EncodeNeedleHead(NeedleHeader header, std::span<const uint32_t> piece_crcs,
                             Bytes metadata, const NeedlePlace& place);

// The head of the same needle at another place: nothing but its CRC changes. REQUIRES: `head` was
// checked.
std::string MoveNeedleHead(const NeedleHead& head, const NeedlePlace& place);

// Takes a head apart and checks what can be checked without its place: bounds, flags, metadata CRC.
// kCorrupt when it is wrong or `bytes` end before the head does. `bytes` may go on behind the head.
Result<NeedleHead> ParseNeedleHead(Bytes bytes);
// The same, and the header CRC with the place, and the block.
Result<NeedleHead> CheckNeedleHead(Bytes bytes, uint64_t block_id, const NeedlePlace& place);

// Checks whole pieces of data, of which the first is number `first_piece`. kCorrupt, or kInvalid
// when `data` does not end at the end of a piece.
Err CheckPieces(const NeedleHead& head, uint64_t first_piece, Bytes data);

}  // namespace hayloft
