// How a message-driven core talks: requests come in with a token, effects leave through an outbox.
//
//   production:  socket -> RpcServer -> Core::Step(event, now, &outbox) -> RpcServer / RpcClient /
//   disk simulation:  SimNet ----------------> Core::Step(event, now, &outbox) -> SimNet (late,
//   twice, never)
//
// The core cannot tell which one it is in.
#pragma once

#include <cstdint>
#include <string>

#include "common/buffer.h"
#include "common/messages.h"
#include "common/result.h"

namespace hayloft {

// Time as a core sees it: only as an argument.
struct Now {
  uint64_t mono_ms = 0;  // for every duration and deadline; never steps back
  uint64_t wall_ms = 0;  // since 1970, for people and for the trash time; may jump
};

// Names one request until it is answered. A reply to a connection that is gone is dropped by the
// shell.
struct ReplyToken {
  uint64_t connection = 0;
  uint64_t request_id = 0;
  friend bool operator==(const ReplyToken&, const ReplyToken&) = default;
};

struct RpcRequest {
  ReplyToken token;
  MessageType type = MessageType::kPing;
  uint64_t deadline_ms = 0;  // on the monotonic clock; 0: none
  std::string message{};     // Protocol Buffers, not decoded yet
  Buffer payload{};          // its CRC has been checked
  uint32_t payload_crc = 0;
};

struct RpcReply {
  ReplyToken token;
  MessageType type = MessageType::kPing;
  Err err = Err::kOk;
  std::string message{};
  Buffer payload{};
  // crc32c of the payload if the sender knows it already (a verified piece); else the shell
  // computes it.
  uint32_t payload_crc = 0;
  bool payload_crc_known = false;
};

// A request of the core's own. Answered by exactly one CallDone with the same id, if only kTimeout.
struct RpcCall {
  uint64_t call_id = 0;
  std::string address{};  // "IP:PORT"
  MessageType type = MessageType::kPing;
  uint32_t timeout_ms = 0;
  std::string message{};
  Buffer payload{};
  uint32_t payload_crc = 0;
  bool payload_crc_known = false;
};

struct CallDone {
  uint64_t call_id = 0;
  Err err = Err::kOk;  // the peer's, or kTimeout, kUnavailable, kBusy, kCorrupt of the transport
  std::string message{};
  Buffer payload{};  // its CRC has been checked
};

}  // namespace hayloft
