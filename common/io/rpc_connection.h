// One socket with frames both ways; RpcServer and RpcClient are made of these.
//
// Sent frames are queued and leave at the end of the loop's turn, as many as the socket takes in
// one sendmsg; EV_WRITE is watched only after EAGAIN. One read takes many small frames, or the rest
// of a large payload straight into its Buffer.
//
// Threads: its loop's. Ownership: borrows loop, handler and scratch. It is never destroyed inside
// one of its own calls: the owner waits for the end of the turn (OnClosed is the last call).
#pragma once

#include <cstdint>
#include <deque>

#include "common/io/frame_reader.h"
#include "common/io/loop.h"

namespace hayloft {

class RpcConnection {
 public:
  class Handler {
   public:
    virtual ~Handler() = default;
    // A valid header has arrived. False: read no further; Resume asks again.
    virtual bool OnHeader(RpcConnection* connection, const FrameHeader& header) = 0;
    virtual void OnFrame(RpcConnection* connection, Frame frame) = 0;
    // Reading is paused, and most of the outbox has left.
    virtual void OnOutboxLow(RpcConnection* connection) = 0;
    // kUnavailable: broken or closed by the peer; else what was wrong with the received bytes.
    virtual void OnClosed(RpcConnection* connection, Err why) = 0;
  };
  static constexpr size_t kScratchBytes = 256 << 10;
  static constexpr uint64_t kOutboxLowBytes = 4 << 20;

  // `scratch` may be shared by all connections of a loop.
  RpcConnection(Loop* loop, Handler* handler, MutableBytes scratch, UniqueFd fd);
  RpcConnection(const RpcConnection&) = delete;  // the loop holds its address
  RpcConnection& operator=(const RpcConnection&) = delete;

  // REQUIRES: not closed. `header` describes message and payload.
  void Send(const FrameHeader& header, std::string message, Buffer payload);
  void Close(Err why);  // OnClosed is called, once; unsent frames are dropped
  void CloseWhenSent();
  void Resume();  // after OnHeader returned false

  bool closed() const { return !fd_.valid(); }
  bool paused() const { return paused_; }
  uint64_t outbox_bytes() const { return outbox_bytes_; }
  uint64_t last_received_ms() const { return last_received_ms_; }
  // Since when the peer has taken nothing of a full outbox; 0 when it does.
  uint64_t send_blocked_since_ms() const { return send_blocked_since_ms_; }

  uint64_t id = 0;  // the owner's

 private:
  struct OutFrame {
    FrameHeader header;
    std::string message;
    Buffer payload;
    size_t size() const { return sizeof(header) + message.size() + payload.size(); }
  };
  void OnReadable();
  Bytes Digest(Bytes input);  // returns what lies behind a header that was not admitted
  void Flush();
  bool SendSome();
  void OutboxSent(size_t count);

  Loop* loop_;
  Handler* handler_;
  MutableBytes scratch_;
  UniqueFd fd_;
  FrameReader reader_;
  bool paused_ = false;
  Buffer stashed_;  // received behind the header that was not admitted
  std::deque<OutFrame> outbox_;
  uint64_t outbox_bytes_ = 0;
  size_t front_sent_ = 0;  // bytes of outbox_.front() that have left
  bool close_when_sent_ = false;
  uint64_t last_received_ms_ = 0;
  uint64_t send_blocked_since_ms_ = 0;
  Loop::Handle readable_;
  Loop::Handle writable_;  // only while the socket is full
  Loop::TurnEnd flush_;
};

}  // namespace hayloft
