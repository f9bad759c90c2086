#include "common/frame.h"

#include "common/version.h"

namespace hayloft {

namespace {
uint32_t HeaderCrc(const FrameHeader& header) {
  return Crc32c(StructBytes(header).first(offsetof(FrameHeader, header_crc)));
}
}  // namespace

FrameHeader MakeFrameHeader(const FrameParts& parts) {
  FrameHeader header;
  header.magic = kFrameMagic;
  header.version = kWireVersion;
  header.type = static_cast<uint16_t>(parts.type);
  header.request_id = parts.request_id;
  header.flags = parts.reply ? kFrameReply : uint16_t{0};
  header.err = static_cast<uint16_t>(parts.err);
  header.deadline_ms = parts.deadline_ms;
  header.message_size = static_cast<uint32_t>(parts.message.size());
  header.payload_size = parts.payload_size;
  header.message_crc = Crc32c(parts.message);
  header.payload_crc = parts.payload_crc;
  header.header_crc = HeaderCrc(header);
  ASSERT(CheckFrameHeader(header) == Err::kOk);  // we never send what a peer must refuse
  return header;
}

Err CheckFrameHeader(const FrameHeader& header) {
  if (header.magic != kFrameMagic) return Err::kCorrupt;
  if (header.header_crc != HeaderCrc(header)) return Err::kCorrupt;
  if (header.version != kWireVersion) return Err::kUnsupported;
  if ((header.flags & ~kFrameReply) != 0) return Err::kCorrupt;
  const MessageRow* row = FindMessage(header.type);
  if (row == nullptr) return Err::kUnsupported;
  if (header.message_size > row->message_bytes_max) return Err::kTooLarge;
  if (header.payload_size > row->payload_bytes_max) return Err::kTooLarge;
  return Err::kOk;
}

}  // namespace hayloft
