#include "common/io/rpc_peer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "common/check.h"
#include "common/io/failpoint.h"
#include "common/io/rpc_handshake.h"
#include "common/log.h"
#include "common/proto/hayloft.pb.h"
#include "common/version.h"

namespace hayloft {

namespace {

uint64_t BytesOf(const RpcCall& call) {
  return sizeof(FrameHeader) + call.message.size() + call.payload.size();
}

MessageType TypeOf(const FrameHeader& header) {
  return static_cast<MessageType>(static_cast<uint16_t>(header.type));
}

}  // namespace

RpcPeer::RpcPeer(Shared shared, std::string address)
    : shared_(std::move(shared)),
      address_(std::move(address)),
      reap_(shared_.loop, [this] { closed_.clear(); }),
      last_used_ms_(shared_.loop->now().mono_ms) {}

RpcPeer::~RpcPeer() = default;

bool RpcPeer::idle_since(uint64_t now_ms) const {
  return !busy() && now_ms > last_used_ms_ + shared_.options->idle_ms;
}

void RpcPeer::Call(RpcCall&& call) {
  const uint64_t now_ms = shared_.loop->now().mono_ms;
  last_used_ms_ = now_ms;
  const auto refuse = [&](Err err, Counter* counter) {
    counter->Add();
    shared_.done_later({.call_id = call.call_id, .err = err});
  };
  const uint64_t queued_bytes =
      waiting_bytes_ + (connection_ != nullptr ? connection_->outbox_bytes() : 0);
  if (calls_ >= shared_.options->in_flight_max ||
      queued_bytes + BytesOf(call) > shared_.options->outbox_bytes_max) {
    PROBE("rpc_client: too much in flight to one peer");
    return refuse(Err::kBusy, &shared_.metrics->busy_total);
  }
  if (state_ == State::kDown) {
    if (now_ms < retry_at_ms_) {
      return refuse(Err::kUnavailable, &shared_.metrics->unavailable_total);
    }
    Connect();
    if (state_ == State::kDown) {
      return refuse(Err::kUnavailable, &shared_.metrics->unavailable_total);
    }
  }
  const uint64_t request_id = NewSlot(call.call_id, call.type, call.timeout_ms);
  if (state_ == State::kReady) return SendCall(request_id, std::move(call));
  waiting_bytes_ += BytesOf(call);
  waiting_.push_back({request_id, std::move(call)});
}

uint64_t RpcPeer::NewSlot(uint64_t call_id, MessageType type, uint32_t timeout_ms) {
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const uint32_t number = free_slots_.back();
  free_slots_.pop_back();
  Slot& slot = slots_[number];
  ASSERT(!slot.used);
  slot.used = true;
  slot.ping = false;
  slot.call_id = call_id;
  slot.type = type;
  slot.started_ms = shared_.loop->now().mono_ms;
  slot.deadline_ms = slot.started_ms + timeout_ms;
  calls_ += 1;
  return (uint64_t{slot.generation} << 32) | number;
}

RpcPeer::Slot* RpcPeer::FindSlot(uint64_t request_id) {
  const auto number = static_cast<uint32_t>(request_id);
  if (number >= slots_.size()) return nullptr;
  Slot* slot = &slots_[number];
  if (!slot->used || slot->generation != static_cast<uint32_t>(request_id >> 32)) return nullptr;
  return slot;
}

void RpcPeer::FreeSlot(Slot* slot) {
  ASSERT(slot->used);
  ASSERT(calls_ > 0);
  if (slot->ping) ping_in_flight_ = false;
  slot->used = false;
  slot->generation += 1;
  calls_ -= 1;
  free_slots_.push_back(static_cast<uint32_t>(slot - slots_.data()));
}

void RpcPeer::End(Slot* slot, Err err) {
  const uint64_t call_id = slot->call_id;
  const bool ping = slot->ping;
  FreeSlot(slot);
  if (!ping) shared_.done_later({.call_id = call_id, .err = err});
}

void RpcPeer::SendCall(uint64_t request_id, RpcCall&& call) {
  const Slot* slot = FindSlot(request_id);
  ASSERT(slot != nullptr);
  ASSERT(state_ == State::kReady);
  FAILPOINT_OF("rpc_call_", call.type);
  const uint64_t now_ms = shared_.loop->now().mono_ms;
  const uint64_t left_ms = slot->deadline_ms > now_ms ? slot->deadline_ms - now_ms : 1;
  if (!call.payload_crc_known) call.payload_crc = Crc32c(call.payload.bytes());
  const FrameHeader header =
      MakeFrameHeader({.type = call.type,
                       .request_id = request_id,
                       .deadline_ms = static_cast<uint32_t>(left_ms),
                       .message = AsBytes(call.message),
                       .payload_size = static_cast<uint32_t>(call.payload.size()),
                       .payload_crc = call.payload_crc});
  connection_->Send(header, std::move(call.message), std::move(call.payload));
}

void RpcPeer::Ping() {
  ping_in_flight_ = true;
  const uint64_t request_id = NewSlot(0, MessageType::kPing, shared_.options->ping_ms);
  FindSlot(request_id)->ping = true;
  SendCall(request_id, RpcCall{.type = MessageType::kPing});
}

void RpcPeer::Tick() {
  const uint64_t now_ms = shared_.loop->now().mono_ms;
  if ((state_ == State::kConnecting || in_handshake()) &&
      now_ms > connect_started_ms_ + shared_.options->connect_ms) {
    PROBE("rpc_client: a connection took too long");
    return ConnectFailed(Err::kUnavailable);
  }
  bool silent = false;  // nothing arrived while a call waited for all of its time
  bool hung = false;
  for (Slot& slot : slots_) {
    if (!slot.used || now_ms < slot.deadline_ms) continue;
    const bool heard = connection_ != nullptr && connection_->last_received_ms() > slot.started_ms;
    if (slot.ping) {
      hung = hung || !heard;
    } else {
      silent = silent || !heard;
      shared_.metrics->timeouts_total.Add();
    }
    End(&slot, Err::kTimeout);
  }
  if (state_ != State::kReady) return;
  if (hung) {
    PROBE("rpc_client: a peer that hangs is broken off");
    shared_.metrics->hung_total.Add();
    LOG_WARN("rpc_peer_hung", "address=%s action=break_off", LogText(address_).c_str());
    return connection_->Close(Err::kUnavailable);
  }
  if (silent && !ping_in_flight_) Ping();
}

// --- connecting ---------------------------------------------------------------------------------

void RpcPeer::Connect() {
  ASSERT(state_ == State::kDown);
  const Result<SocketAddress> address = ParseSocketAddress(address_);
  if (!address.ok()) {
    LOG_WARN("rpc_bad_address", "address=%s", LogText(address_).c_str());
    return;
  }
  candidates_.assign(1, *address);
  if (address->loopback && shared_.options->unix_sockets) {
    candidates_.push_back(UnixAddressOf(address_));
  }
  connect_started_ms_ = shared_.loop->now().mono_ms;
  state_ = State::kConnecting;
  TryNextAddress();
}

void RpcPeer::TryNextAddress() {
  while (!candidates_.empty()) {
    Result<UniqueFd> fd = StartConnect(candidates_.back());
    candidates_.pop_back();
    if (!fd.ok()) continue;
    connecting_ = *std::move(fd);
    connect_event_ = shared_.loop->OnWritable(connecting_.get(), [this] { ConnectEnded(); });
    return;
  }
  ConnectFailed(Err::kUnavailable);
}

void RpcPeer::ConnectEnded() {
  connect_event_.reset();
  if (FinishConnect(connecting_.get()) == Err::kOk) return Connected();
  connecting_.Reset();
  TryNextAddress();
}

void RpcPeer::Connected() {
  TuneSocket(connecting_.get());
  RpcConnection::Handler* const handler = this;
  connection_ = std::make_unique<RpcConnection>(shared_.loop, handler, shared_.scratch,
                                                std::move(connecting_));
  state_ = State::kHello;
  std::array<uint8_t, kHandshakeNonceBytes> nonce;
  random_.Fill(nonce);
  client_nonce_ = AsText(nonce);
  pb::HelloRequest hello;
  hello.set_version(kWireVersion);
  hello.set_role(shared_.options->role);
  hello.set_client_nonce(client_nonce_);
  std::string message = hello.SerializeAsString();
  const FrameHeader header =
      MakeFrameHeader({.type = MessageType::kHello, .message = AsBytes(message)});
  connection_->Send(header, std::move(message), Buffer());
}

void RpcPeer::OnHelloReply(const Frame& frame) {
  pb::HelloReply hello;
  if (TypeOf(frame.header) != MessageType::kHello || !hello.ParseFromString(frame.message) ||
      hello.server_nonce().size() != kHandshakeNonceBytes) {
    return connection_->Close(Err::kCorrupt);
  }
  const std::string& key = shared_.options->cluster_key;
  if (key.empty()) {
    // It asks for a proof that we cannot give.
    if (!hello.server_mac().empty()) return connection_->Close(Err::kDenied);
    return Ready();
  }
  const std::string wanted = ServerMac(key, client_nonce_, hello.server_nonce());
  if (!EqualInConstantTime(AsBytes(hello.server_mac()), AsBytes(wanted))) {
    return connection_->Close(Err::kDenied);
  }
  state_ = State::kAuth;
  pb::AuthRequest auth;
  auth.set_client_mac(ClientMac(key, hello.server_nonce(), client_nonce_));
  std::string message = auth.SerializeAsString();
  const FrameHeader header =
      MakeFrameHeader({.type = MessageType::kAuth, .message = AsBytes(message)});
  connection_->Send(header, std::move(message), Buffer());
}

void RpcPeer::OnAuthReply(const Frame& frame) {
  if (TypeOf(frame.header) != MessageType::kAuth) return connection_->Close(Err::kCorrupt);
  if (frame.header.err != 0) return connection_->Close(Err::kDenied);
  Ready();
}

void RpcPeer::Ready() {
  state_ = State::kReady;
  failures_ = 0;
  shared_.metrics->connects_total.Add();
  std::vector<Waiting> waiting;
  waiting.swap(waiting_);
  waiting_bytes_ = 0;
  for (Waiting& entry : waiting) {
    if (FindSlot(entry.request_id) == nullptr) continue;  // its time ran out meanwhile
    SendCall(entry.request_id, std::move(entry.call));
  }
}

void RpcPeer::ConnectFailed(Err err) {
  ASSERT(state_ != State::kDown && state_ != State::kReady);
  shared_.metrics->connect_failures_total.Add();
  connect_event_.reset();
  connecting_.Reset();
  candidates_.clear();
  state_ = State::kDown;
  const RpcClientOptions& options = *shared_.options;
  const uint64_t pause_ms =
      std::min<uint64_t>(options.backoff_ms_max,
                         uint64_t{options.backoff_ms_min} << std::min<uint32_t>(failures_, 16));
  failures_ += 1;
  // Half of it by chance: many clients of a restarted server must not all come back at once.
  retry_at_ms_ =
      shared_.loop->now().mono_ms + pause_ms / 2 + random_.Below(std::max<uint64_t>(pause_ms, 1));
  EndAll(err);
  if (connection_ != nullptr) connection_->Close(Err::kUnavailable);
}

void RpcPeer::EndAll(Err err) {
  waiting_.clear();
  waiting_bytes_ = 0;
  for (Slot& slot : slots_) {
    if (!slot.used) continue;
    if (!slot.ping) shared_.metrics->unavailable_total.Add();
    End(&slot, err);
  }
  ASSERT(calls_ == 0);
}

// --- what the connection says -------------------------------------------------------------------

bool RpcPeer::OnHeader(RpcConnection* connection, const FrameHeader& header) {
  ASSERT(connection == connection_.get());
  if ((header.flags & kFrameReply) != 0) return true;
  connection->Close(Err::kCorrupt);
  return false;
}

void RpcPeer::OnFrame(RpcConnection* connection, Frame frame) {
  ASSERT(connection == connection_.get());
  if (state_ == State::kHello) return OnHelloReply(frame);
  if (state_ == State::kAuth) return OnAuthReply(frame);
  ASSERT(state_ == State::kReady);
  Slot* slot = FindSlot(frame.header.request_id);
  if (slot == nullptr) {
    shared_.metrics->late_replies_total.Add();
    return;
  }
  if (slot->type != TypeOf(frame.header)) return connection->Close(Err::kCorrupt);
  FAILPOINT_OF("rpc_done_", slot->type);
  const bool ping = slot->ping;
  CallDone done{.call_id = slot->call_id,
                .err = ErrFromWire(frame.header.err),
                .message = std::move(frame.message),
                .payload = std::move(frame.payload)};
  FreeSlot(slot);
  if (!ping) shared_.done_now(std::move(done));
}

void RpcPeer::OnOutboxLow(RpcConnection*) {}

void RpcPeer::OnClosed(RpcConnection* connection, Err why) {
  ASSERT(connection == connection_.get());
  closed_.push_back(std::move(connection_));
  reap_.Schedule();
  if (state_ == State::kDown) return;  // ConnectFailed closes it
  if (why == Err::kDenied) {
    LOG_WARN("rpc_key_denied", "address=%s", LogText(address_).c_str());
  } else if (why != Err::kUnavailable) {
    shared_.metrics->bad_frames_total.Add();
    LOG_WARN("rpc_bad_reply", "address=%s err=%.*s action=close", LogText(address_).c_str(),
             static_cast<int>(ErrName(why).size()), ErrName(why).data());
  }
  const bool plain = why == Err::kDenied || why == Err::kUnavailable || why == Err::kBusy;
  const Err err = plain ? why : Err::kCorrupt;
  if (state_ != State::kReady) return ConnectFailed(err);
  shared_.metrics->broken_total.Add();
  state_ = State::kDown;
  retry_at_ms_ = 0;  // at once: most breaks are restarts
  EndAll(err);
}

}  // namespace hayloft
