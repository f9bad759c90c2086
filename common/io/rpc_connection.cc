#include "common/io/rpc_connection.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>

namespace hayloft {

namespace {
constexpr size_t kPartsMax = 192;    // of one sendmsg: 64 frames
constexpr int kReadsPerTurnMax = 4;  // then other connections have their turn
}  // namespace

RpcConnection::RpcConnection(Loop* loop, Handler* handler, MutableBytes scratch, UniqueFd fd)
    : loop_(loop),
      handler_(handler),
      scratch_(scratch),
      fd_(std::move(fd)),
      last_received_ms_(loop->now().mono_ms),
      flush_(loop, [this] { Flush(); }) {
  ASSERT(fd_.valid());
  ASSERT(scratch_.size() >= sizeof(FrameHeader));
  readable_ = loop_->OnReadable(fd_.get(), [this] { OnReadable(); });
}

void RpcConnection::Send(const FrameHeader& header, std::string message, Buffer payload) {
  ASSERT(!closed());
  ASSERT(header.message_size == message.size());
  ASSERT(header.payload_size == payload.size());
  outbox_.push_back(OutFrame{header, std::move(message), std::move(payload)});
  outbox_bytes_ += outbox_.back().size();
  if (writable_ == nullptr) flush_.Schedule();
}

void RpcConnection::Close(Err why) {
  if (closed()) return;
  readable_.reset();
  writable_.reset();
  fd_.Reset();
  outbox_.clear();
  outbox_bytes_ = 0;
  handler_->OnClosed(this, why);
}

void RpcConnection::CloseWhenSent() {
  if (closed()) return;
  close_when_sent_ = true;
  Loop::Pause(readable_);
  flush_.Schedule();
}

void RpcConnection::OnReadable() {
  for (int round = 0; round < kReadsPerTurnMax; ++round) {
    const MutableBytes room = reader_.PayloadRoom();
    const std::array<iovec, 2> parts{
        {{room.data(), room.size()}, {scratch_.data(), scratch_.size()}}};
    const size_t asked = room.size() + scratch_.size();
    const ssize_t got = ::readv(fd_.get(), parts.data(), 2);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return Close(Err::kUnavailable);
    last_received_ms_ = loop_->now().mono_ms;
    const auto count = static_cast<size_t>(got);
    const size_t direct = std::min(count, room.size());
    if (direct > 0) reader_.PayloadFilled(direct);
    const Bytes rest = Digest(Bytes(scratch_).first(count - direct));
    if (paused_) stashed_ = Buffer::CopyOf(rest);
    if (closed() || paused_ || close_when_sent_ || count < asked) return;
  }
}

Bytes RpcConnection::Digest(Bytes input) {
  while (!closed() && !close_when_sent_) {
    const Result<FrameReader::Step> step = reader_.Next(&input);
    if (!step.ok()) {
      Close(step.err());
      return {};
    }
    switch (*step) {
      case FrameReader::Step::kMore:
        return {};
      case FrameReader::Step::kHeader:
        if (handler_->OnHeader(this, reader_.header()) || closed()) break;
        paused_ = true;
        Loop::Pause(readable_);
        return input;
      case FrameReader::Step::kFrame:
        handler_->OnFrame(this, reader_.Take());
        break;
    }
  }
  return {};
}

void RpcConnection::Resume() {
  ASSERT(paused_);
  if (closed() || close_when_sent_ || !handler_->OnHeader(this, reader_.header())) return;
  paused_ = false;
  Loop::Resume(readable_);
  Buffer stashed = std::move(stashed_);
  const Bytes rest = Digest(stashed.bytes());
  if (!paused_) return;
  stashed.Narrow(stashed.size() - rest.size(), rest.size());
  stashed_ = std::move(stashed);
}

void RpcConnection::Flush() {
  while (!closed() && !outbox_.empty()) {
    if (!SendSome()) break;
  }
  if (closed()) return;
  if (outbox_.empty()) {
    writable_.reset();
    if (close_when_sent_) return Close(Err::kUnavailable);
  }
  if (paused_ && outbox_bytes_ < kOutboxLowBytes) handler_->OnOutboxLow(this);
}

// False when the socket takes no more for now, or is closed.
bool RpcConnection::SendSome() {
  std::array<iovec, kPartsMax> parts;
  size_t count = 0;
  size_t skip = front_sent_;
  const auto add = [&](const void* data, size_t size) {
    const size_t begin = std::min(skip, size);
    skip -= begin;
    if (begin == size) return;
    parts[count++] = {static_cast<char*>(const_cast<void*>(data)) + begin, size - begin};
  };
  for (const OutFrame& frame : outbox_) {
    if (count + 3 > kPartsMax) break;
    add(&frame.header, sizeof(frame.header));
    add(frame.message.data(), frame.message.size());
    add(frame.payload.data(), frame.payload.size());
  }
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = count;
  const ssize_t sent = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
  if (sent > 0) {
    OutboxSent(static_cast<size_t>(sent));
    return true;
  }
  if (errno == EINTR) return true;
  if (errno != EAGAIN && errno != ENOBUFS) {
    Close(Err::kUnavailable);
    return false;
  }
  if (send_blocked_since_ms_ == 0) send_blocked_since_ms_ = loop_->now().mono_ms;
  if (writable_ == nullptr) writable_ = loop_->OnWritable(fd_.get(), [this] { Flush(); });
  return false;
}

void RpcConnection::OutboxSent(size_t count) {
  send_blocked_since_ms_ = 0;
  ASSERT(count <= outbox_bytes_);
  front_sent_ += count;
  while (!outbox_.empty() && front_sent_ >= outbox_.front().size()) {
    front_sent_ -= outbox_.front().size();
    outbox_bytes_ -= outbox_.front().size();
    outbox_.pop_front();
  }
  ASSERT(!outbox_.empty() || front_sent_ == 0);
}

}  // namespace hayloft
