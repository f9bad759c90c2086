#include "common/io/frame_reader.h"

#include <algorithm>
#include <new>
#include <utility>

namespace hayloft {

namespace {

// What the peer sends may be more than there is memory for: that costs the connection, not the
// process.
template <typename Fn>
Err WithMemory(Fn fn) {
  try {
    fn();
    return Err::kOk;
  } catch (const std::bad_alloc&) {
    return Err::kBusy;
  }
}

}  // namespace

Result<FrameReader::Step> FrameReader::Next(Bytes* input) {
  ASSERT(state_ != State::kComplete);  // Take comes first
  if (state_ == State::kHeader) {
    const size_t count = std::min(input->size(), sizeof(FrameHeader) - filled_);
    if (count == 0) return Step::kMore;
    std::memcpy(reinterpret_cast<uint8_t*>(&header_) + filled_, input->data(), count);
    *input = input->subspan(count);
    filled_ += count;
    if (filled_ < sizeof(FrameHeader)) return Step::kMore;
    TRY(CheckFrameHeader(header_));
    state_ = State::kMessage;
    filled_ = 0;
    return Step::kHeader;
  }
  if (state_ == State::kMessage) {
    const size_t count = std::min(input->size(), header_.message_size - message_.size());
    TRY(WithMemory([this] { message_.reserve(header_.message_size); }));
    message_.append(AsText(input->first(count)));
    *input = input->subspan(count);
    if (message_.size() < header_.message_size) return Step::kMore;
    TRY(CheckMessage());
    TRY(WithMemory([this] { payload_ = Buffer(header_.payload_size); }));
    state_ = State::kPayload;
  }
  const MutableBytes room = PayloadRoom();
  const size_t count = std::min(input->size(), room.size());
  if (count > 0) std::memcpy(room.data(), input->data(), count);
  *input = input->subspan(count);
  filled_ += count;
  if (filled_ < payload_.size()) return Step::kMore;
  TRY(CheckPayload());
  state_ = State::kComplete;
  return Step::kFrame;
}

Err FrameReader::CheckMessage() {
  return Crc32c(AsBytes(message_)) == header_.message_crc ? Err::kOk : Err::kCorrupt;
}

Err FrameReader::CheckPayload() const {
  return Crc32c(payload_.bytes()) == header_.payload_crc ? Err::kOk : Err::kCorrupt;
}

Frame FrameReader::Take() {
  ASSERT(state_ == State::kComplete);
  state_ = State::kHeader;
  filled_ = 0;
  Frame frame{.header = header_, .message = std::move(message_), .payload = std::move(payload_)};
  message_.clear();
  return frame;
}

MutableBytes FrameReader::PayloadRoom() {
  if (state_ != State::kPayload) return {};
  return payload_.mutable_bytes().subspan(filled_);
}

void FrameReader::PayloadFilled(size_t count) {
  ASSERT(state_ == State::kPayload);
  ASSERT(count <= payload_.size() - filled_);
  filled_ += count;
}

}  // namespace hayloft
