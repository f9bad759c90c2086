// The numbers of all messages, and which queue of a server each waits in.
//
// A request and its reply carry the same number. Numbers are frozen; a retired one is never given
// again. The bodies are in common/proto/; the bytes of an image travel as the frame's payload,
// never inside one.
#pragma once

#include <cstdint>
#include <string_view>

namespace hayloft {

// Client appends must not delay replica appends (each dsp is primary of some blocks and secondary
// of others: with one queue two full dsps would wait for each other), nor may either delay control.
enum class RpcQueue : uint8_t { kControl, kClient, kReplica };

// X(name, number, queue, message bytes max, payload bytes max)
#define HAYLOFT_MESSAGES(X)                                           \
  X(kHello, 0x01, kControl, 4096, 0)                                  \
  X(kAuth, 0x02, kControl, 4096, 0)                                   \
  X(kPing, 0x03, kControl, 4096, 0)                                   \
  /* client -> dsp */                                                 \
  X(kAppend, 0x10, kClient, 64 << 10, kFileBytesMax)                  \
  X(kReplicaAppend, 0x11, kReplica, 64 << 10, kReplicaAppendBytesMax) \
  X(kRead, 0x12, kClient, 16 << 10, kFileBytesMax)                    \
  X(kStat, 0x13, kClient, 64 << 10, 0)                                \
  X(kSetDelete, 0x14, kControl, 4096, 0)                              \
  /* gateway -> dsp */                                                \
  X(kDeleteFeed, 0x17, kControl, 64 << 10, 0)                         \
  /* dsp -> dsp */                                                    \
  X(kNeedleList, 0x15, kClient, 4096, 1 << 20)                        \
  X(kDeleteState, 0x16, kControl, 64 << 10, 1 << 20)                  \
  /* nameserver -> dsp */                                             \
  X(kCreateBlock, 0x20, kControl, 64 << 10, 0)                        \
  X(kCloseBlock, 0x21, kControl, 4096, 0)                             \
  X(kSealBlock, 0x22, kControl, 64 << 10, 0)                          \
  /* dsp -> nameserver */                                             \
  X(kRegister, 0x40, kControl, 64 << 10, 0)                           \
  X(kHeartbeat, 0x41, kControl, 4 << 20, 0)                           \
  X(kBlockReport, 0x42, kControl, 4 << 20, 0)                         \
  /* client -> nameserver */                                          \
  X(kGrant, 0x50, kControl, 64 << 10, 0)                              \
  X(kLocate, 0x51, kControl, 1 << 20, 0)                              \
  X(kClusterStatus, 0x52, kControl, 4 << 20, 0)                       \
  /* operator -> nameserver */                                        \
  X(kDeclareGone, 0x53, kControl, 4096, 0)                            \
  X(kFailover, 0x54, kControl, 4096, 0)                               \
  X(kForcePromote, 0x55, kControl, 4096, 0)                           \
  /* directory -> nameserver */                                       \
  X(kDeclareDirectory, 0x56, kControl, 4096, 0)                       \
  /* gateway -> nameserver */                                         \
  X(kGatewayHello, 0x57, kControl, 64 << 10, 0)                       \
  /* nameserver -> its standby */                                     \
  X(kShip, 0x60, kControl, 4 << 20, 0)                                \
  X(kSnapshot, 0x61, kControl, 4 << 20, 0)                            \
  X(kTakeOver, 0x62, kControl, 4096, 0)                               \
  /* client -> directory */                                           \
  X(kDirLookup, 0x70, kClient, 64 << 10, 0)                           \
  X(kDirUpload, 0x71, kClient, 256 << 10, 0)                          \
  X(kDirReference, 0x72, kClient, 4096, 0)                            \
  X(kDirDelete, 0x73, kClient, 4096, 0)                               \
  X(kDirUndelete, 0x74, kClient, 4096, 0)                             \
  X(kDirAdopt, 0x75, kClient, 64 << 10, 0)                            \
  X(kDirPin, 0x76, kClient, 64 << 10, 0)                              \
  X(kDirNameGet, 0x77, kClient, 4096, 0)                              \
  X(kDirNamePut, 0x78, kClient, 4096, 0)                              \
  X(kDirNameDelete, 0x79, kClient, 4096, 0)                           \
  X(kDirNameList, 0x7a, kClient, 2 << 20, 0)                          \
  X(kDirStatus, 0x7b, kControl, 4096, 0)                              \
  /* gateway -> gateway */                                            \
  X(kHottest, 0x80, kControl, 256 << 10, 0)

enum class MessageType : uint16_t {
#define X(name, number, queue, message_max, payload_max) name = number,
  HAYLOFT_MESSAGES(X)
#undef X
};

struct MessageRow {
  MessageType type;
  std::string_view name;
  RpcQueue queue;
  uint32_t message_bytes_max;  // bounds hold for the request and for its reply
  uint32_t payload_bytes_max;
};

// The row of a number from the wire; null when this version does not know it.
const MessageRow* FindMessage(uint16_t number);

}  // namespace hayloft
