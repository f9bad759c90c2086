// Everything that lies in a dsp's folder besides needles (common/needle.h) and LevelDB.
//
//   superblock.a, .b   one page each, written in turn, the greater generation counts
//   blk-<id>           0 header page | 4096 close page | 8192 needles ... | footer, when sealed
//   pool-<n>           a block file to be: block_bytes of zeros
//   deletes            0 header page | pages of delete records
//
// A group commit, a log commit and every header fill whole pages of 4 KiB, so that no acknowledged
// byte shares one with a later write. Each struct has a magic whose last digit is its version and a
// CRC32C; a layout never changes under its version. docs/formats.md is the page for people. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/codec.h"
#include "common/le.h"
#include "common/limits.h"
#include "common/result.h"

namespace hayloft {

using Id16 = std::array<uint8_t, 16>;  // random names of clusters, disks, nameserver data folders

// --- Superblock ---------------------------------------------------------------------------------
inline constexpr uint32_t kSuperblockMagic = 0x31425348;  // "HSB1"
inline constexpr const char* kSuperblockNames[2] = {"superblock.a", "superblock.b"};

enum class DiskState : uint8_t { kHealthy = 0, kReadOnly = 1, kFailed = 2 };  // DO NOT CHANGE

struct SuperblockPage {
  le32 magic;                 //  0  "HSB1"
  le32 crc;                   //  4  crc32c of bytes 8..144
  le64 generation;            //  8  counts writes; superblock.a holds the even ones
  uint8_t cluster_id[16];     // 16
  uint8_t disk_id[16];        // 32
  le64 incarnation;           // 48  raised at every start
  le64 promised_epoch;        // 56  highest nameserver epoch heard, and its node
  uint8_t promised_node[16];  // 64
  le64 block_range_end;       // 80  block ids below it may be in use
  le64 block_bytes;           // 88  size of every block file
  le64 created_ms;            // 96
  le32 format_version;        // 104
  le32 dsp_id;                // 108 given by the nameserver, named in replica sets; 0: none yet
  uint8_t disk_state;         // 112 DiskState
  uint8_t reserved[31];       // 113 zeros
};
static_assert(sizeof(SuperblockPage) == 144 && alignof(SuperblockPage) == 1);
static_assert(offsetof(SuperblockPage, format_version) == 104);

struct Superblock {
  uint64_t generation = 0;
  Id16 cluster_id{};
  Id16 disk_id{};
  uint64_t incarnation = 0;
  uint64_t promised_epoch = 0;
  Id16 promised_node{};
  uint64_t block_range_end = 0;
  uint64_t block_bytes = kBlockBytes;
  uint64_t created_ms = 0;
  uint32_t dsp_id = 0;
  DiskState disk_state = DiskState::kHealthy;
};
std::string EncodeSuperblock(const Superblock& superblock);  // one page
// kCorrupt; kUnsupported for a format that a later version wrote.
Result<Superblock> DecodeSuperblock(Bytes page);

// --- Block file: header page and close page
// -------------------------------------------------------
inline constexpr uint32_t kBlockMagic = 0x314b4248;  // "HBK1"
inline constexpr uint32_t kCloseMagic = 0x314c4348;  // "HCL1"
inline constexpr uint64_t kCloseOffset = kPageBytes;
inline constexpr uint64_t kFirstNeedleOffset = 2 * kPageBytes;

struct BlockHeaderPage {
  le32 magic;           //  0  "HBK1"
  le32 crc;             //  4  crc32c of bytes 8..72
  le64 block_id;        //  8
  le64 opening_epoch;   // 16  with the id it names the block
  le64 life;            // 24  random; covered by the CRC of every needle in this file
  le64 created_ms;      // 32
  le32 set_version;     // 40
  le32 set_size;        // 44  1 to kReplicasMax
  le32 set_dsp_ids[5];  // 48
  le32 reserved;        // 68
};
static_assert(sizeof(BlockHeaderPage) == 72 && alignof(BlockHeaderPage) == 1);
static_assert(offsetof(BlockHeaderPage, set_dsp_ids) == 48);

struct BlockHeader {
  uint64_t block_id = 0;
  uint64_t opening_epoch = 0;
  uint64_t life = 0;
  uint64_t created_ms = 0;
  uint32_t set_version = 0;
  std::vector<uint32_t> set_dsp_ids;
};
std::string EncodeBlockHeader(const BlockHeader& header);  // both pages: the close page zeroed
// kCorrupt; kUnsupported for a layout that a later version wrote. So for all that follow.
Result<BlockHeader> DecodeBlockHeader(Bytes page);

// Written when the block closes. Its CRC covers the life number, so that the record of a file's
// former life says nothing about this one.
struct ClosePage {
  le32 magic;        //  0  "HCL1"
  le32 crc;          //  4  crc32c of life (8) and bytes 8..40
  le64 block_id;     //  8
  le64 block_epoch;  // 16  appends below it are refused
  le64 end;          // 24  behind the last committed needle
  le32 needles;      // 32  committed; a scan that finds fewer has lost some
  le32 reserved;     // 36
};
static_assert(sizeof(ClosePage) == 40 && alignof(ClosePage) == 1);

struct CloseRecord {
  uint64_t block_id = 0;
  uint64_t block_epoch = 0;
  uint64_t end = 0;
  uint32_t needles = 0;
};
std::string EncodeCloseRecord(const CloseRecord& record, uint64_t life);
// kCorrupt also for more needles, or an end elsewhere, than a block can have.
Result<CloseRecord> DecodeCloseRecord(Bytes page, uint64_t life);

// --- Footer
// ---------------------------------------------------------------------------------------
//   page-aligned:  | offset/8 of each sequence, le32 | purged bitmap | trailer |  end of the file
//
// Offsets never decrease; a sequence whose next offset equals its own has no needle here: purged if
// its bit is set, else lost.
inline constexpr uint32_t kFooterMagic = 0x31544648;  // "HFT1"

struct FooterTrailer {
  le32 magic;            //   0  "HFT1"
  le32 crc;              //   4  crc32c of bytes 8..128
  le64 block_id;         //   8
  le64 life;             //  16
  le64 opening_epoch;    //  24
  le64 block_epoch;      //  32
  le64 data_end;         //  40  behind the last needle; the offset after the last sequence
  le32 needles;          //  48  sequences, lost and purged ones included
  le32 lost;             //  52
  le32 purged;           //  56
  le32 body_crc;         //  60  crc32c of offsets and bitmap
  uint8_t digest[32];    //  64  of all that is neither purged nor lost, see NeedleDigestRow
  le32 body_bytes;       //  96
  uint8_t without_all;   // 100  1: a member of the set was missing
  uint8_t reserved[27];  // 101
};
static_assert(sizeof(FooterTrailer) == 128 && alignof(FooterTrailer) == 1);
static_assert(offsetof(FooterTrailer, digest) == 64);

struct Footer {
  uint64_t block_id = 0;
  uint64_t life = 0;
  uint64_t opening_epoch = 0;
  uint64_t block_epoch = 0;
  uint64_t data_end = kFirstNeedleOffset;
  std::vector<uint32_t> offsets;  // in units of kNeedleAlign, one a sequence
  std::vector<uint32_t> purged;   // sequences, ascending
  uint32_t lost = 0;
  bool without_all = false;
  Sha256 digest{};
};
std::string EncodeFooter(const Footer& footer);
// Upper bound of an encoded footer: appends keep so much of the block free.
uint64_t FooterBytesMax(uint32_t needles);
// `tail` is the end of the file, at least the trailer. kCorrupt; kTooLarge when `tail` must be
// longer, with *needed set to how long.
Result<Footer> DecodeFooter(Bytes tail, uint64_t* needed);

// --- Delete log
// -----------------------------------------------------------------------------------
inline constexpr uint32_t kDeleteLogMagic = 0x31484448;     // "HDH1"
inline constexpr uint32_t kDeleteRecordMagic = 0x31524448;  // "HDR1"

struct DeleteLogPage {
  le32 magic;   // 0  "HDH1"
  le32 crc;     // 4  crc32c of bytes 8..16
  le64 log_id;  // 8  random; covered by every record's CRC
};
static_assert(sizeof(DeleteLogPage) == 16);

struct DeleteRecord {
  le32 magic;       //  0  "HDR1"
  le32 crc;         //  4  crc32c of log id (8), offset in the file (8), bytes 8..40
  le64 block_id;    //  8
  le32 sequence;    // 16
  le32 counter;     // 20  odd: deleted
  le64 changed_ms;  // 24  wall clock
  le32 kind;        // 32  1: counter
  le32 reserved;    // 36
};
static_assert(sizeof(DeleteRecord) == 40 && alignof(DeleteRecord) == 1);
inline constexpr uint32_t kDeleteKindCounter = 1;
inline constexpr size_t kDeleteRecordsPerPage = kPageBytes / sizeof(DeleteRecord);

std::string EncodeDeleteLogHeader(uint64_t log_id);                             // one page
Result<uint64_t> DecodeDeleteLogHeader(Bytes page);                             // the log id
void SealDeleteRecord(DeleteRecord* record, uint64_t log_id, uint64_t offset);  // magic and CRC
// kCorrupt; kUnsupported for a record or a kind that a later version wrote.
Err CheckDeleteRecord(const DeleteRecord& record, uint64_t log_id, uint64_t offset);

// --- Names
// ----------------------------------------------------------------------------------------
std::string BlockFileName(uint64_t block_id);
std::string PoolFileName(uint64_t number);
std::optional<uint64_t> ParseBlockFileName(std::string_view name);
std::optional<uint64_t> ParsePoolFileName(std::string_view name);
inline constexpr std::string_view kTemporarySuffix = ".tmp";  // what a crash left unfinished

inline uint64_t PageCeil(uint64_t bytes) {
  return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

}  // namespace hayloft
