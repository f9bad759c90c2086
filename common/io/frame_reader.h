// Takes frames out of a stream of bytes. Knows no socket; the fuzzer feeds it directly.
//
// Nothing is allocated by a number from outside before that number is checked against the
// message's bounds *and* the owner has said yes to the header (it may be short of memory and want
// to wait). A large payload is received straight into its Buffer: PayloadRoom, then PayloadFilled.
//
// After an error the stream has no meaning any more and the reader must not be used again.
#pragma once

#include <string>

#include "common/buffer.h"
#include "common/frame.h"

namespace hayloft {

struct Frame {
  FrameHeader header;
  std::string message;  // both CRCs have been checked
  Buffer payload;
};

class FrameReader {
 public:
  enum class Step { kMore, kHeader, kFrame };

  // Takes from the front of `input` until something happens:
  //   kMore    all of it is taken; feed more
  //   kHeader  header() is complete and valid; calling Step again accepts it
  //   kFrame   a frame is complete: Take it
  // Errors: as CheckFrameHeader; kCorrupt for a wrong CRC of message or payload.
  Result<Step> Next(Bytes* input);
  const FrameHeader& header() const { return header_; }
  Frame Take();
  // What is still missing of a payload that has begun; else empty.
  MutableBytes PayloadRoom();
  void PayloadFilled(size_t count);  // so many bytes of PayloadRoom were written

 private:
  enum class State { kHeader, kMessage, kPayload, kComplete };
  Err CheckMessage();
  Err CheckPayload() const;

  State state_ = State::kHeader;
  FrameHeader header_;
  size_t filled_ = 0;  // bytes of the current part
  std::string message_;
  Buffer payload_;
};

}  // namespace hayloft
