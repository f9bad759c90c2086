// Accepts connections from other processes, proves who they are, and hands their requests out.
//
//   socket -> frame -> [bound of its queue] -> OnRequest ... Reply -> socket
//
// Listens on TCP and, on a loopback address, on the abstract Unix socket beside it. Answers kHello,
// kAuth and kPing itself. A frame that breaks a rule closes its connection and is counted; nothing
// else is touched (FAULTS S05).
//
// Bounds: requests and bytes that were read and are not answered, for each RpcQueue apart. At the
// bound a connection is simply not read any further until there is room, so that a peer feels it;
// peers use a connection per queue, so that full client appends delay neither replica appends nor
// control (F66). Unsent replies are bounded per connection: beyond 128 MiB the answer is kBusy.
//
// Threads: its loop's. Ownership: borrows the loop.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/io/acceptor.h"
#include "common/io/rpc_connection.h"
#include "common/io/system_random.h"
#include "common/limits.h"
#include "common/metrics.h"

namespace hayloft {

inline constexpr size_t kRpcQueues = 3;

struct RpcServerOptions {
  std::string listen{};       // "IP:PORT"; port 0 takes any
  std::string cluster_key{};  // empty: no proof is asked for, which only a loopback address may do
  struct Bound {
    uint32_t requests_max = kRpcInFlightMax;
    uint64_t bytes_max = 256 << 20;
  };
  std::array<Bound, kRpcQueues> bounds{};  // by RpcQueue
  uint32_t connections_max = kRpcConnectionsMax;
};

#define RPC_SERVER_METRICS(X)                                                              \
  X(Gauge, connections, "connections now")                                                 \
  X(Counter, accepted_total, "connections accepted")                                       \
  X(Counter, refused_total, "connections refused: too many")                               \
  X(Counter, accept_pauses_total, "times without a descriptor for a new connection")       \
  X(Counter, bad_frames_total, "connections closed for a malformed frame")                 \
  X(Counter, denied_total, "connections closed because the peer did not prove the key")    \
  X(Counter, requests_total, "requests handed out")                                        \
  X(Counter, paused_total, "times a connection was not read further: its queue was full")  \
  X(Counter, replies_busy_total, "replies replaced by kBusy: the peer does not read them") \
  X(Counter, replies_dropped_total, "replies whose connection was gone")                   \
  X(Gauge, requests_unanswered, "requests handed out and not answered")                    \
  X(Gauge, request_bytes, "their bytes")
struct RpcServerMetrics {
  HAYLOFT_METRICS("hayloft_rpc_server_", RPC_SERVER_METRICS)
};

class RpcServer : private RpcConnection::Handler {
 public:
  RpcServer(Loop* loop, RpcServerOptions options);
  ~RpcServer() override;

  // kConfig with one line of cause in `why`: not an address, port in use, or beyond loopback
  // without a cluster key (of at least 32 bytes).
  Err Listen(std::string* why);
  // The address that it listens on, with the real port.
  const std::string& address() const { return address_; }
  void OnRequest(std::function<void(RpcRequest&&)> fn) { on_request_ = std::move(fn); }
  // Exactly once for each request. Never calls back.
  void Reply(RpcReply&& reply);
  const RpcServerMetrics& metrics() const { return metrics_; }

 private:
  struct Peer {
    std::unique_ptr<RpcConnection> connection;
    bool hello_done = false;
    bool ready = false;  // the key is proven, or none is needed
    uint64_t accepted_ms = 0;
    std::string client_nonce;
    std::string server_nonce;
    uint64_t charged_bytes = 0;  // of the request that is being received
    RpcQueue charged_queue = RpcQueue::kControl;
    bool waiting = false;  // in a queue's `waiting`, for so many bytes
    uint64_t waiting_bytes = 0;
  };
  struct Slot {  // a request that was handed out
    uint64_t connection_id = 0;
    uint64_t wire_id = 0;
    uint64_t charged_bytes = 0;
    uint32_t generation = 0;
    MessageType type = MessageType::kPing;
    bool used = false;
  };
  struct Queue {
    uint32_t requests = 0;
    uint64_t bytes = 0;
    std::deque<uint64_t> waiting;  // connections that are not read until there is room
  };

  bool OnHeader(RpcConnection* connection, const FrameHeader& header) override;
  void OnFrame(RpcConnection* connection, Frame frame) override;
  void OnOutboxLow(RpcConnection* connection) override;
  void OnClosed(RpcConnection* connection, Err why) override;

  void Accept(UniqueFd fd);
  Peer& PeerOf(const RpcConnection* connection);
  bool HasRoom(RpcQueue queue, uint64_t bytes) const;
  void Release(RpcQueue queue, uint64_t bytes);
  void HandOut(RpcConnection* connection, Frame frame);
  void Hello(RpcConnection* connection, Peer* peer, const Frame& frame);
  void Auth(RpcConnection* connection, Peer* peer, const Frame& frame);
  void AnswerHere(RpcConnection* connection, const Frame& frame, Err err, std::string message);
  void ResumeWaiting();
  void CloseStale();

  Loop* loop_;
  const RpcServerOptions options_;
  std::string address_;
  std::function<void(RpcRequest&&)> on_request_;
  RpcServerMetrics metrics_;
  SystemRandom random_;
  Buffer scratch_;
  std::unordered_map<uint64_t, Peer> peers_;  // by connection id
  uint64_t next_connection_id_ = 1;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  std::array<Queue, kRpcQueues> queues_;
  std::vector<std::unique_ptr<RpcConnection>> closed_;  // destroyed at the end of the turn
  Loop::TurnEnd reap_;
  Loop::TurnEnd resume_;
  Loop::Handle stale_timer_;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
};

}  // namespace hayloft
