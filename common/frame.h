// The fixed header in front of every message between Hayloft's processes.
//
//   | FrameHeader, 44 | message (Protocol Buffers) | payload (bytes of an image) |
//
// Sizes are compared with the bounds of the message's row before anything is allocated. A frame
// that fails any check closes its connection: after a lie about a length nothing behind it can be
// trusted. Pure.
#pragma once

#include "common/codec.h"
#include "common/le.h"
#include "common/messages.h"
#include "common/result.h"

namespace hayloft {

inline constexpr uint32_t kFrameMagic = 0x31524648;  // "HFR1"
inline constexpr uint16_t kFrameReply = 1;           // the only flag; unknown bits are refused

struct FrameHeader {
  le32 magic;         //  0  "HFR1"
  le16 version;       //  4  kWireVersion
  le16 type;          //  6  MessageType
  le64 request_id;    //  8  chosen by the caller, repeated in the reply
  le16 flags;         // 16
  le16 err;           // 18  wire number of an Err; 0 in a request
  le32 deadline_ms;   // 20  what is left of the caller's time, 0: none; 0 in a reply
  le32 message_size;  // 24
  le32 payload_size;  // 28
  le32 message_crc;   // 32  crc32c
  le32 payload_crc;   // 36  crc32c; equals the piece's CRC when the payload is one whole piece
  le32 header_crc;    // 40  crc32c of bytes 0..40
};
static_assert(sizeof(FrameHeader) == 44 && alignof(FrameHeader) == 1);
static_assert(offsetof(FrameHeader, header_crc) == 40);

// A header for these parts, all fields set. `payload_crc` may come from elsewhere (already
// computed).
struct FrameParts {
  MessageType type;
  uint64_t request_id = 0;
  bool reply = false;
  Err err = Err::kOk;
  uint32_t deadline_ms = 0;
  Bytes message;
  uint32_t payload_size = 0;
  uint32_t payload_crc = 0;
};
FrameHeader MakeFrameHeader(const FrameParts& parts);

// kOk, or kCorrupt (magic, CRC, unknown flags), kUnsupported (version, type), kTooLarge (a size).
Err CheckFrameHeader(const FrameHeader& header);

}  // namespace hayloft
