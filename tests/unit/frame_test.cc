// Frames: round trip, golden bytes, each byte flipped, each length cut, hostile headers (S05).
#include "common/frame.h"

#include <doctest/doctest.h>

#include <optional>

#include "common/io/frame_reader.h"
#include "common/limits.h"
#include "common/proto/hayloft.pb.h"
#include "tests/unit/golden.h"

using namespace hayloft;

namespace {

std::string FrameBytes(FrameParts parts, std::string_view message, std::string_view payload) {
  parts.message = AsBytes(message);
  parts.payload_size = static_cast<uint32_t>(payload.size());
  parts.payload_crc = Crc32c(AsBytes(payload));
  const FrameHeader header = MakeFrameHeader(parts);
  return std::string(AsText(StructBytes(header))) + std::string(message) + std::string(payload);
}

// The answer to a read: three bytes of an image.
std::string Sample() {
  pb::ReadReply reply;
  reply.set_head("HEAD");
  reply.set_delete_counter(2);
  return FrameBytes(
      {.type = MessageType::kRead, .request_id = 0x0102030405060708, .reply = true, .message = {}},
      reply.SerializeAsString(), "hay");
}

// Feeds the bytes in pieces of `step`; the frame, or what was wrong, or nothing when they end
// early.
struct Read {
  std::optional<Frame> frame;
  Err err = Err::kOk;
};
Read ReadFrame(std::string_view bytes, size_t step) {
  FrameReader reader;
  while (!bytes.empty()) {
    Bytes input = AsBytes(bytes.substr(0, step));
    bytes.remove_prefix(input.size());
    while (true) {
      const Result<FrameReader::Step> got = reader.Next(&input);
      if (!got.ok()) return {.frame = std::nullopt, .err = got.err()};
      if (*got == FrameReader::Step::kFrame) return {.frame = reader.Take()};
      if (*got == FrameReader::Step::kMore) break;
    }
  }
  return {};
}

FrameHeader HeaderOf(const std::string& bytes) {
  FrameHeader header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  return header;
}

Err CheckWithCrc(FrameHeader header) {
  header.header_crc = Crc32c(StructBytes(header).first(offsetof(FrameHeader, header_crc)));
  return CheckFrameHeader(header);
}

}  // namespace

TEST_CASE("frame: the golden bytes are what is written and read today") {
  CHECK_EQ(ToHex(AsBytes(Golden("frame_read_v1.hex"))), ToHex(AsBytes(Sample())));
  const Read read = ReadFrame(Golden("frame_read_v1.hex"), 1000);
  REQUIRE(read.frame.has_value());
  CHECK_EQ(read.frame->header.request_id, 0x0102030405060708);
  CHECK_EQ(read.frame->header.flags, kFrameReply);
  pb::ReadReply reply;
  REQUIRE(reply.ParseFromString(read.frame->message));
  CHECK_EQ(reply.head(), "HEAD");
  CHECK_EQ(reply.delete_counter(), 2);
  CHECK_EQ(AsText(read.frame->payload.bytes()), "hay");
}

TEST_CASE("frame: it comes out the same however the bytes are cut") {
  const std::string bytes = Sample();
  for (size_t step = 1; step <= bytes.size(); ++step) {
    const Read read = ReadFrame(bytes, step);
    REQUIRE(read.frame.has_value());
    CHECK_EQ(AsText(read.frame->payload.bytes()), "hay");
  }
}

TEST_CASE("frame: every flipped byte is noticed, every shorter frame is not yet one (S05)") {
  const std::string bytes = Sample();
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string hurt = bytes;
      hurt[i] = static_cast<char>(hurt[i] ^ (1 << bit));
      const Read read = ReadFrame(hurt, 7);
      CHECK_FALSE(read.frame.has_value());
      CHECK_NE(read.err, Err::kOk);
    }
    const Read cut = ReadFrame(bytes.substr(0, i), 7);
    CHECK_FALSE(cut.frame.has_value());
    CHECK_EQ(cut.err, Err::kOk);
  }
}

TEST_CASE(
    "frame: sizes are held to the bounds of their message, before anything is allocated (S05)") {
  const FrameHeader sound = HeaderOf(Sample());
  CHECK_EQ(CheckWithCrc(sound), Err::kOk);
  const auto with = [&](auto change) {
    FrameHeader header = sound;
    change(&header);
    return CheckWithCrc(header);
  };
  CHECK_EQ(with([](FrameHeader* h) { h->message_size = 0; }), Err::kOk);
  CHECK_EQ(with([](FrameHeader* h) { h->message_size = 4096; }), Err::kOk);
  CHECK_EQ(with([](FrameHeader* h) { h->message_size = (16 << 10) + 1; }), Err::kTooLarge);
  CHECK_EQ(with([](FrameHeader* h) { h->message_size = UINT32_MAX; }), Err::kTooLarge);
  CHECK_EQ(with([](FrameHeader* h) { h->payload_size = kFileBytesMax; }), Err::kOk);
  CHECK_EQ(with([](FrameHeader* h) { h->payload_size = kFileBytesMax + 1; }), Err::kTooLarge);
  CHECK_EQ(with([](FrameHeader* h) { h->payload_size = UINT32_MAX; }), Err::kTooLarge);
  CHECK_EQ(with([](FrameHeader* h) { h->type = 0x7f; }), Err::kUnsupported);
  CHECK_EQ(with([](FrameHeader* h) { h->version = 2; }), Err::kUnsupported);
  CHECK_EQ(with([](FrameHeader* h) { h->flags = 2; }), Err::kCorrupt);
  CHECK_EQ(with([](FrameHeader* h) { h->magic = 1; }), Err::kCorrupt);
}
