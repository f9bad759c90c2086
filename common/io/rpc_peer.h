// One connection of an RpcClient and its calls in flight. Part of rpc_client.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/core_io.h"
#include "common/io/rpc_connection.h"
#include "common/io/socket_address.h"
#include "common/io/system_random.h"
#include "common/limits.h"
#include "common/metrics.h"

namespace hayloft {

#define RPC_CLIENT_METRICS(X)                                                   \
  X(Counter, calls_total, "calls made")                                         \
  X(Counter, timeouts_total, "calls without an answer in time")                 \
  X(Counter, unavailable_total, "calls failed: peer unreachable or broken off") \
  X(Counter, busy_total, "calls refused here: too much in flight to that peer") \
  X(Counter, connects_total, "connections made")                                \
  X(Counter, connect_failures_total, "connections that could not be made")      \
  X(Counter, broken_total, "connections that broke")                            \
  X(Counter, hung_total, "connections broken off because the peer hung")        \
  X(Counter, bad_frames_total, "connections closed for a malformed reply")      \
  X(Counter, late_replies_total, "answers that came after their call had ended")
struct RpcClientMetrics {
  HAYLOFT_METRICS("hayloft_rpc_client_", RPC_CLIENT_METRICS)
};

struct RpcClientOptions {
  std::string role{};                        // told to the peer: "gateway", "dsp", "command"
  std::string cluster_key{};                 // empty: no proof is asked for or given
  uint32_t in_flight_max = kRpcInFlightMax;  // calls, a connection
  uint64_t outbox_bytes_max = kRpcOutboxBytesMax;
  uint32_t connect_ms = kRpcConnectMs;  // with the handshake
  uint32_t backoff_ms_min = 20;         // doubles at each failure in a row
  uint32_t backoff_ms_max = 1'000;
  uint32_t ping_ms = 3'000;   // a silent peer that does not answer a ping in this time is gone
  uint32_t idle_ms = 60'000;  // an unused connection is closed
  bool unix_sockets = true;   // towards loopback addresses
  // Borrowed: several clients of one process count together. Null: each for itself.
  RpcClientMetrics* metrics = nullptr;
};

class RpcPeer : private RpcConnection::Handler {
 public:
  struct Shared {  // with the other peers of one client; all borrowed
    Loop* loop;
    const RpcClientOptions* options;
    RpcClientMetrics* metrics;
    MutableBytes scratch;
    std::function<void(CallDone&&)> done_now;    // may call back into the client
    std::function<void(CallDone&&)> done_later;  // at the end of the turn
  };
  RpcPeer(Shared shared, std::string address);
  ~RpcPeer() override;

  void Call(RpcCall&& call);
  void Tick();  // ends what is out of time; every 20 ms while busy()
  bool busy() const { return calls_ > 0 || state_ == State::kConnecting || in_handshake(); }
  bool idle_since(uint64_t now_ms) const;

 private:
  enum class State { kDown, kConnecting, kHello, kAuth, kReady };
  struct Slot {  // a call in flight
    uint64_t call_id = 0;
    uint64_t started_ms = 0;
    uint64_t deadline_ms = 0;
    uint32_t generation = 0;
    MessageType type = MessageType::kPing;
    bool used = false;
    bool ping = false;  // our own
  };
  struct Waiting {  // until the connection is ready
    uint64_t request_id;
    RpcCall call;
  };

  bool OnHeader(RpcConnection* connection, const FrameHeader& header) override;
  void OnFrame(RpcConnection* connection, Frame frame) override;
  void OnOutboxLow(RpcConnection* connection) override;
  void OnClosed(RpcConnection* connection, Err why) override;

  bool in_handshake() const { return state_ == State::kHello || state_ == State::kAuth; }
  uint64_t NewSlot(uint64_t call_id, MessageType type, uint32_t timeout_ms);
  Slot* FindSlot(uint64_t request_id);  // null when it has ended
  void FreeSlot(Slot* slot);
  void End(Slot* slot, Err err);
  void SendCall(uint64_t request_id, RpcCall&& call);
  void Ping();

  void Connect();
  void TryNextAddress();
  void ConnectEnded();
  void Connected();
  void ConnectFailed(Err err);
  void EndAll(Err err);
  void OnHelloReply(const Frame& frame);
  void OnAuthReply(const Frame& frame);
  void Ready();

  const Shared shared_;
  const std::string address_;
  SystemRandom random_;
  State state_ = State::kDown;
  std::vector<SocketAddress> candidates_;  // still to be tried, last first
  UniqueFd connecting_;
  Loop::Handle connect_event_;
  uint64_t connect_started_ms_ = 0;
  uint64_t retry_at_ms_ = 0;  // while kDown
  uint32_t failures_ = 0;     // in a row
  std::string client_nonce_;
  std::unique_ptr<RpcConnection> connection_;
  std::vector<std::unique_ptr<RpcConnection>> closed_;  // destroyed at the end of the turn
  Loop::TurnEnd reap_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  uint32_t calls_ = 0;  // slots in use
  bool ping_in_flight_ = false;
  std::vector<Waiting> waiting_;
  uint64_t waiting_bytes_ = 0;
  uint64_t last_used_ms_ = 0;
};

}  // namespace hayloft
