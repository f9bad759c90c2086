// libFuzzer target: frames from a hostile peer.
// covers: common/frame.cc CheckFrameHeader
// covers: common/io/frame_reader.cc
//
// Half of the inputs get right checksums first, or nothing behind the magic would ever be reached.
// Promises: the outcome does not depend on how the bytes were cut, and what comes out is within its
// message's bounds.
#include <string>
#include <vector>

#include "common/io/frame_reader.h"

namespace hayloft {
namespace {

// Makes the checksums of the frames in `bytes` right, as far as their sizes make sense.
void Mend(std::string* bytes) {
  size_t at = 0;
  while (bytes->size() - at >= sizeof(FrameHeader)) {
    FrameHeader header;
    std::memcpy(&header, bytes->data() + at, sizeof(header));
    header.magic = kFrameMagic;
    const size_t behind = bytes->size() - at - sizeof(header);
    const auto message_size = static_cast<uint32_t>(header.message_size % (behind + 1));
    const auto payload_size =
        static_cast<uint32_t>(header.payload_size % (behind - message_size + 1));
    header.message_size = message_size;
    header.payload_size = payload_size;
    const Bytes rest = AsBytes(*bytes).subspan(at + sizeof(header));
    header.message_crc = Crc32c(rest.first(message_size));
    header.payload_crc = Crc32c(rest.subspan(message_size, payload_size));
    header.header_crc = Crc32c(StructBytes(header).first(offsetof(FrameHeader, header_crc)));
    std::memcpy(bytes->data() + at, &header, sizeof(header));
    at += sizeof(header) + message_size + payload_size;
  }
}

struct Outcome {
  std::vector<std::string> frames;
  Err err = Err::kOk;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

void Keep(const Frame& frame, Outcome* outcome) {
  const MessageRow* row = FindMessage(frame.header.type);
  ASSERT(row != nullptr);
  ASSERT(frame.message.size() <= row->message_bytes_max);
  ASSERT(frame.payload.size() <= row->payload_bytes_max);
  ASSERT(CheckFrameHeader(frame.header) == Err::kOk);
  outcome->frames.push_back(frame.message + "|" + std::string(AsText(frame.payload.bytes())));
}

// As a connection reads: the rest of a payload straight into its place, all else through Next.
Outcome Read(std::string_view bytes, size_t step) {
  FrameReader reader;
  Outcome outcome;
  while (!bytes.empty()) {
    const std::string_view part = bytes.substr(0, step);
    bytes.remove_prefix(part.size());
    Bytes input = AsBytes(part);
    const MutableBytes room = reader.PayloadRoom();
    const size_t direct = std::min(room.size(), input.size());
    if (direct > 0) {
      std::memcpy(room.data(), input.data(), direct);
      reader.PayloadFilled(direct);
      input = input.subspan(direct);
    }
    while (true) {
      const Result<FrameReader::Step> got = reader.Next(&input);
      outcome.err = got.err();
      if (!got.ok()) return outcome;
      if (*got == FrameReader::Step::kFrame) Keep(reader.Take(), &outcome);
      if (*got == FrameReader::Step::kMore) break;
    }
  }
  return outcome;
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  if (size < 2) return 0;
  std::string bytes(AsText({data + 2, size - 2}));
  if ((data[0] & 1) != 0) Mend(&bytes);
  ASSERT(Read(bytes, bytes.size() + 1) == Read(bytes, 1 + data[1]));
  return 0;
}
