#include "common/io/rpc_server.h"

#include <array>
#include <utility>

#include "common/check.h"
#include "common/io/failpoint.h"
#include "common/io/rpc_handshake.h"
#include "common/io/socket_address.h"
#include "common/log.h"
#include "common/proto/hayloft.pb.h"
#include "common/version.h"

namespace hayloft {

namespace {

constexpr uint64_t kHandshakeMs = 5'000;          // then a silent stranger is shown the door
constexpr uint64_t kStalledMs = 30'000;           // amid a request, or amid replies to it
constexpr uint64_t kOutboxPauseBytes = 16 << 20;  // unsent replies; then no more requests are read
static_assert(kOutboxPauseBytes > RpcConnection::kOutboxLowBytes);
static_assert(kOutboxPauseBytes < kRpcOutboxBytesMax);

uint64_t ChargeOf(const FrameHeader& header) {
  return sizeof(header) + header.message_size + header.payload_size;
}

MessageType TypeOf(const FrameHeader& header) {
  return static_cast<MessageType>(static_cast<uint16_t>(header.type));
}

RpcQueue QueueOf(MessageType type) {
  const MessageRow* row = FindMessage(static_cast<uint16_t>(type));
  ASSERT(row != nullptr);
  return row->queue;
}

size_t Index(RpcQueue queue) { return static_cast<size_t>(queue); }

bool IsHandshake(MessageType type) {
  return type == MessageType::kHello || type == MessageType::kAuth;
}

}  // namespace

RpcServer::RpcServer(Loop* loop, RpcServerOptions options)
    : loop_(loop),
      options_(std::move(options)),
      scratch_(RpcConnection::kScratchBytes),
      reap_(loop, [this] { closed_.clear(); }),
      resume_(loop, [this] { ResumeWaiting(); }) {
  for (const RpcServerOptions::Bound& bound : options_.bounds) ASSERT(bound.requests_max > 0);
}

RpcServer::~RpcServer() = default;

Err RpcServer::Listen(std::string* why) {
  const Result<SocketAddress> asked = ParseSocketAddress(options_.listen);
  if (!asked.ok()) {
    *why = "listen: \"" + LogText(options_.listen) + "\" is not IP:PORT";
    return Err::kConfig;
  }
  if (!asked->loopback && options_.cluster_key.empty()) {
    *why = "listen: " + options_.listen + " can be reached from outside: a cluster key is needed";
    return Err::kConfig;
  }
  if (!options_.cluster_key.empty() && options_.cluster_key.size() < kClusterKeyBytesMin) {
    *why = "cluster key: shorter than 32 bytes";
    return Err::kConfig;
  }
  const auto accept = [this](UniqueFd fd) { Accept(std::move(fd)); };
  Result<UniqueFd> tcp = ListenOn(*asked, {});
  if (!tcp.ok()) {
    *why = "listen: cannot bind " + options_.listen + ": " + std::string(ErrName(tcp.err()));
    return Err::kConfig;
  }
  address_ = SocketAddressText(BoundAddress(tcp->get()));
  if (asked->loopback) {
    Result<UniqueFd> local = ListenOn(UnixAddressOf(address_), {});
    if (!local.ok()) {
      *why = "listen: the Unix socket beside " + address_ + " is in use";
      return Err::kConfig;
    }
    acceptors_.push_back(std::make_unique<Acceptor>(loop_, *std::move(local),
                                                    &metrics_.accept_pauses_total, accept));
  }
  acceptors_.push_back(
      std::make_unique<Acceptor>(loop_, *std::move(tcp), &metrics_.accept_pauses_total, accept));
  stale_timer_ = loop_->Every(1'000, [this] { CloseStale(); });
  return Err::kOk;
}

void RpcServer::Accept(UniqueFd fd) {
  if (peers_.size() >= options_.connections_max) {
    metrics_.refused_total.Add();
    return;
  }
  TuneSocket(fd.get());
  const uint64_t id = next_connection_id_++;
  Peer& peer = peers_[id];
  RpcConnection::Handler* const handler = this;
  peer.connection =
      std::make_unique<RpcConnection>(loop_, handler, scratch_.mutable_bytes(), std::move(fd));
  peer.connection->id = id;
  peer.accepted_ms = loop_->now().mono_ms;
  metrics_.accepted_total.Add();
  metrics_.connections.Add(1);
}

bool RpcServer::HasRoom(RpcQueue queue, uint64_t bytes) const {
  const Queue& state = queues_[Index(queue)];
  const RpcServerOptions::Bound& bound = options_.bounds[Index(queue)];
  if (state.requests == 0) return true;  // a single request is never too large for an empty queue
  return state.requests < bound.requests_max && state.bytes + bytes <= bound.bytes_max;
}

void RpcServer::Release(RpcQueue queue, uint64_t bytes) {
  Queue& state = queues_[Index(queue)];
  ASSERT(state.requests > 0);
  ASSERT(state.bytes >= bytes);
  state.requests -= 1;
  state.bytes -= bytes;
  metrics_.request_bytes.Add(-static_cast<int64_t>(bytes));
  if (!state.waiting.empty()) resume_.Schedule();
}

RpcServer::Peer& RpcServer::PeerOf(const RpcConnection* connection) {
  const auto found = peers_.find(connection->id);
  ASSERT(found != peers_.end());
  return found->second;
}

bool RpcServer::OnHeader(RpcConnection* connection, const FrameHeader& header) {
  Peer& peer = PeerOf(connection);
  if ((header.flags & kFrameReply) != 0) {
    connection->Close(Err::kCorrupt);
    return false;
  }
  const MessageType type = TypeOf(header);
  if (IsHandshake(type)) return true;
  if (!peer.ready) {
    connection->Close(Err::kDenied);
    return false;
  }
  if (type == MessageType::kPing) return true;
  if (connection->outbox_bytes() > kOutboxPauseBytes) {
    metrics_.paused_total.Add();
    return false;  // OnOutboxLow resumes it
  }
  const RpcQueue queue = QueueOf(type);
  const uint64_t bytes = ChargeOf(header);
  if (!HasRoom(queue, bytes)) {
    PROBE("rpc_server: a connection waits for room in its queue");
    metrics_.paused_total.Add();
    peer.waiting = true;
    peer.waiting_bytes = bytes;
    queues_[Index(queue)].waiting.push_back(connection->id);
    return false;
  }
  // Charged before the bytes arrive: receiving them is what takes the memory.
  queues_[Index(queue)].requests += 1;
  queues_[Index(queue)].bytes += bytes;
  metrics_.request_bytes.Add(static_cast<int64_t>(bytes));
  peer.charged_bytes = bytes;
  peer.charged_queue = queue;
  return true;
}

void RpcServer::OnOutboxLow(RpcConnection* connection) {
  if (!PeerOf(connection).waiting) connection->Resume();
}

// In order of waiting: a large request must not be overtaken for ever by small ones.
void RpcServer::ResumeWaiting() {
  for (size_t i = 0; i < kRpcQueues; ++i) {
    std::deque<uint64_t>& waiting = queues_[i].waiting;
    while (!waiting.empty()) {
      const auto found = peers_.find(waiting.front());
      if (found != peers_.end()) {
        Peer& peer = found->second;
        ASSERT(peer.waiting);
        if (!HasRoom(static_cast<RpcQueue>(i), peer.waiting_bytes)) break;
        peer.waiting = false;
        waiting.pop_front();
        peer.connection->Resume();
      } else {
        waiting.pop_front();  // it was closed while it waited
      }
    }
  }
}

void RpcServer::OnFrame(RpcConnection* connection, Frame frame) {
  Peer& peer = PeerOf(connection);
  switch (TypeOf(frame.header)) {
    case MessageType::kHello:
      return Hello(connection, &peer, frame);
    case MessageType::kAuth:
      return Auth(connection, &peer, frame);
    case MessageType::kPing:
      return AnswerHere(connection, frame, Err::kOk, "");
    default:
      return HandOut(connection, std::move(frame));
  }
}

void RpcServer::Hello(RpcConnection* connection, Peer* peer, const Frame& frame) {
  pb::HelloRequest hello;
  if (!hello.ParseFromString(frame.message) || peer->hello_done ||
      hello.client_nonce().size() != kHandshakeNonceBytes) {
    return connection->Close(Err::kCorrupt);
  }
  std::array<uint8_t, kHandshakeNonceBytes> nonce;
  random_.Fill(nonce);
  peer->hello_done = true;
  peer->client_nonce = hello.client_nonce();
  peer->server_nonce = AsText(nonce);
  pb::HelloReply reply;
  reply.set_version(kWireVersion);
  reply.set_server_nonce(peer->server_nonce);
  if (options_.cluster_key.empty()) {
    peer->ready = true;
  } else {
    reply.set_server_mac(ServerMac(options_.cluster_key, peer->client_nonce, peer->server_nonce));
  }
  AnswerHere(connection, frame, Err::kOk, reply.SerializeAsString());
}

void RpcServer::Auth(RpcConnection* connection, Peer* peer, const Frame& frame) {
  pb::AuthRequest auth;
  if (!auth.ParseFromString(frame.message) || !peer->hello_done || peer->ready) {
    return connection->Close(Err::kCorrupt);
  }
  const std::string wanted =
      ClientMac(options_.cluster_key, peer->server_nonce, peer->client_nonce);
  if (!EqualInConstantTime(AsBytes(auth.client_mac()), AsBytes(wanted))) {
    metrics_.denied_total.Add();
    LOG_WARN("rpc_peer_denied", "listen=%s action=close", address_.c_str());
    AnswerHere(connection, frame, Err::kDenied, "");
    return connection->CloseWhenSent();
  }
  peer->ready = true;
  AnswerHere(connection, frame, Err::kOk, pb::AuthReply().SerializeAsString());
}

void RpcServer::AnswerHere(RpcConnection* connection, const Frame& frame, Err err,
                           std::string message) {
  const FrameHeader header = MakeFrameHeader({.type = TypeOf(frame.header),
                                              .request_id = frame.header.request_id,
                                              .reply = true,
                                              .err = err,
                                              .message = AsBytes(message)});
  connection->Send(header, std::move(message), Buffer());
}

void RpcServer::HandOut(RpcConnection* connection, Frame frame) {
  Peer& peer = PeerOf(connection);
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const uint32_t number = free_slots_.back();
  free_slots_.pop_back();
  Slot& slot = slots_[number];
  ASSERT(!slot.used);
  slot.used = true;
  slot.connection_id = connection->id;
  slot.wire_id = frame.header.request_id;
  slot.type = TypeOf(frame.header);
  slot.charged_bytes = std::exchange(peer.charged_bytes, 0);
  ASSERT(slot.charged_bytes > 0);
  metrics_.requests_total.Add();
  metrics_.requests_unanswered.Add(1);
  RpcRequest request;
  request.token = {.connection = slot.connection_id,
                   .request_id = (uint64_t{slot.generation} << 32) | number};
  request.type = slot.type;
  if (frame.header.deadline_ms > 0) {
    request.deadline_ms = loop_->now().mono_ms + frame.header.deadline_ms;
  }
  request.message = std::move(frame.message);
  request.payload = std::move(frame.payload);
  request.payload_crc = frame.header.payload_crc;
  ASSERT(on_request_ != nullptr);
  on_request_(std::move(request));
}

void RpcServer::Reply(RpcReply&& reply) {
  FAILPOINT_OF("rpc_reply_", reply.type);
  const auto number = static_cast<uint32_t>(reply.token.request_id);
  ASSERT(number < slots_.size());
  Slot& slot = slots_[number];
  ASSERT(slot.used);  // answered twice, or never asked
  ASSERT(slot.generation == static_cast<uint32_t>(reply.token.request_id >> 32));
  ASSERT(slot.type == reply.type);
  const uint64_t wire_id = slot.wire_id;
  slot.used = false;
  slot.generation += 1;
  free_slots_.push_back(number);
  metrics_.requests_unanswered.Add(-1);
  Release(QueueOf(reply.type), slot.charged_bytes);
  const auto found = peers_.find(reply.token.connection);
  if (found == peers_.end()) {
    metrics_.replies_dropped_total.Add();
    return;
  }
  RpcConnection* connection = found->second.connection.get();
  if (connection->outbox_bytes() + reply.payload.size() > kRpcOutboxBytesMax) {
    PROBE("rpc_server: a peer does not read its replies");
    metrics_.replies_busy_total.Add();
    reply = RpcReply{.token = reply.token, .type = reply.type, .err = Err::kBusy};
  }
  if (!reply.payload_crc_known) reply.payload_crc = Crc32c(reply.payload.bytes());
  const FrameHeader header =
      MakeFrameHeader({.type = reply.type,
                       .request_id = wire_id,
                       .reply = true,
                       .err = reply.err,
                       .message = AsBytes(reply.message),
                       .payload_size = static_cast<uint32_t>(reply.payload.size()),
                       .payload_crc = reply.payload_crc});
  connection->Send(header, std::move(reply.message), std::move(reply.payload));
}

void RpcServer::OnClosed(RpcConnection* connection, Err why) {
  if (why == Err::kDenied) metrics_.denied_total.Add();
  if (why != Err::kUnavailable && why != Err::kDenied) {
    metrics_.bad_frames_total.Add();
    LOG_WARN("rpc_bad_frame", "listen=%s err=%.*s action=close", address_.c_str(),
             static_cast<int>(ErrName(why).size()), ErrName(why).data());
  }
  metrics_.connections.Add(-1);
  Peer& peer = PeerOf(connection);
  if (peer.charged_bytes > 0) Release(peer.charged_queue, peer.charged_bytes);
  closed_.push_back(std::move(peer.connection));
  peers_.erase(connection->id);
  reap_.Schedule();
}

void RpcServer::CloseStale() {
  const uint64_t now_ms = loop_->now().mono_ms;
  std::vector<RpcConnection*> stale;
  for (const auto& [id, peer] : peers_) {
    RpcConnection* connection = peer.connection.get();
    const bool stranger = !peer.ready && now_ms > peer.accepted_ms + kHandshakeMs;
    const bool half_sent = peer.charged_bytes > 0 && !connection->paused() &&
                           now_ms > connection->last_received_ms() + kStalledMs;
    const uint64_t blocked_ms = connection->send_blocked_since_ms();
    const bool deaf = blocked_ms > 0 && now_ms > blocked_ms + kStalledMs;
    if (stranger || half_sent || deaf) stale.push_back(connection);
  }
  for (RpcConnection* connection : stale) connection->Close(Err::kUnavailable);
}

}  // namespace hayloft
