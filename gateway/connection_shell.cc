#include "gateway/connection_shell.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "common/log.h"

namespace hayloft {

namespace {

// Of an unfinished head, or pipelined behind the current request. Never more is read, so that this
// is what a connection can make us hold for nothing.
constexpr size_t kPendingBytesMax = 40 << 10;
static_assert(kPendingBytesMax > kHttpHeadBytesMax);
constexpr int kReadsPerTurnMax = 4;  // then other connections have their turn
constexpr int kClientClosed = 499;   // in the log only, as nginx has it: gone before an answer
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

bool IsRequestId(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.';
  });
}

}  // namespace

HttpConnection::HttpConnection(Shared* shared, UniqueFd fd, std::unique_ptr<TlsStream> tls)
    : shared_(shared),
      fd_(std::move(fd)),
      tls_(std::move(tls)),
      state_since_ms_(shared->loop->now().mono_ms),
      unsent_(shared->unsent_memory) {
  ASSERT(fd_.valid());
  readable_ = shared_->loop->OnReadable(fd_.get(), [this] { OnTurn(); });
}

// --- input
// ----------------------------------------------------------------------------------------

// What would have to be kept if it all came now is within its bound.
size_t HttpConnection::ReadBytesMax() const {
  ASSERT(pending_.size() < kPendingBytesMax);
  const size_t all = shared_->scratch.size();
  const size_t room = kPendingBytesMax - pending_.size();
  if (state_ == State::kLingering) return all;  // thrown away
  if (state_ != State::kBody || chunked_) return room;
  return static_cast<size_t>(std::min<uint64_t>(all, body_wire_bytes_left_ + room));
}

// As recv has it. What is thrown away need not be decrypted.
ssize_t HttpConnection::Receive(MutableBytes into) {
  if (tls_ == nullptr || state_ == State::kLingering) {
    return ::recv(fd_.get(), into.data(), into.size(), 0);
  }
  const ssize_t got = tls_->Read(into);
  const int error = errno;
  if (!greeted_ && tls_->handshake_done()) NoteHandshake();
  errno = error;
  return got;
}

void HttpConnection::NoteHandshake() {
  greeted_ = true;
  state_since_ms_ = shared_->loop->now().mono_ms;
  shared_->metrics->tls_handshakes_total.Add();
  if (tls_->resumed()) shared_->metrics->tls_resumed_total.Add();
}

// The handshake's own bytes found the socket full.
void HttpConnection::WatchHandshake() {
  if (!tls_->wants_write() || writable_ != nullptr) return;
  writable_ = shared_->loop->OnWritable(fd_.get(), [this] {
    writable_.reset();
    OnReadable();
  });
}

// Also when the client's bytes end without close_notify: then somebody may have cut them off.
void HttpConnection::TlsFailed() {
  if (greeted_) return Close();
  shared_->metrics->tls_failures_total.Add();
  if (!tls_->spoke_http()) return Close();
  shared_->metrics->tls_plain_http_total.Add();
  tls_.reset();
  Refuse(400, "This port speaks HTTPS only.");
}

// The socket goes on to say that it is readable: who is not heard now is in the next turn again.
void HttpConnection::OnTurn() {
  const uint64_t now_ms = shared_->loop->now().mono_ms;
  if (unheard_since_ms_ == 0) unheard_since_ms_ = now_ms;
  if (!shared_->turn.Take(shared_->loop->now_us())) return shared_->metrics->put_off_total.Add();
  unheard_ms_ = now_ms - std::exchange(unheard_since_ms_, 0);
  OnReadable();
}

void HttpConnection::OnReadable() {
  // What a record held is read to its end: the socket would not say that there is more.
  const auto has_record = [this] {
    return tls_ != nullptr && state_ != State::kLingering && tls_->pending() > 0;
  };
  for (int round = 0; round < kReadsPerTurnMax || has_record(); ++round) {
    const MutableBytes scratch = shared_->scratch.first(ReadBytesMax());
    const ssize_t got = Receive(scratch);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
      if (tls_ != nullptr) WatchHandshake();
      return;
    }
    if (got < 0) return tls_ != nullptr ? TlsFailed() : Close();
    if (got == 0) return OnEof();
    const auto count = static_cast<size_t>(got);
    shared_->metrics->received_bytes_total.Add(count);
    if (state_ == State::kLingering) {
      lingered_bytes_ += count;
      if (lingered_bytes_ > kLingerBytesMax) return Close();
    } else {
      Take(AsText(scratch.first(count)));
    }
    if (closed() || reading_paused_) return;
    if (tls_ == nullptr && count < scratch.size()) return;
  }
}

void HttpConnection::OnEof() {
  peer_closed_ = true;
  PauseReading();
  // A client may shut its side and still wait for the answers to what it asked.
  if (state_ != State::kAnswering && state_ != State::kSending) return CloseInOrder();
  AskIfThere();
}

void HttpConnection::NoteWaits() {
  waits_ = true;
  AskIfThere();
}

void HttpConnection::AskIfThere() {
  if (!waits_ || !peer_closed_ || !takes_interim_ || state_ != State::kAnswering) return;
  if (std::exchange(asked_if_there_, true)) return;
  out_.append(kContinue);
  Flush();
}

bool HttpConnection::PeerGone() const {
  if (!peer_closed_) return false;
  tcp_info info{};
  socklen_t size = sizeof(info);
  const bool known = ::getsockopt(fd_.get(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0;
  return !asked_if_there_ || !known || info.tcpi_state == TCP_CLOSE;
}

void HttpConnection::Take(std::string_view bytes) {
  if (pending_.empty()) {
    const size_t used = Digest(bytes);
    if (!closed()) pending_.assign(bytes.substr(used));
  } else {
    pending_.append(bytes);
    DigestPending();
  }
  const bool busy = state_ == State::kAnswering || state_ == State::kSending;
  if (busy && pending_.size() >= kPendingBytesMax) PauseReading();
}

void HttpConnection::DigestPending() {
  ASSERT(!digesting_);
  const size_t used = Digest(pending_);
  if (closed()) return;
  pending_.erase(0, used);
  if (pending_.empty() && pending_.capacity() > kPendingBytesMax / 16) pending_ = std::string();
}

// Returns how many bytes are used up; the rest belongs to what comes next.
size_t HttpConnection::Digest(std::string_view input) {
  digesting_ = true;
  size_t used = 0;
  while (true) {
    const std::string_view rest = input.substr(used);
    size_t step = 0;
    if (state_ == State::kHead && !rest.empty()) {
      step = DigestHead(rest);
    } else if (state_ == State::kBody && !rest.empty()) {
      step = DigestBody(rest);
    } else if (state_ == State::kLingering) {
      step = rest.size();
    }
    used += step;
    if (step == 0) break;
  }
  digesting_ = false;
  return used;
}

size_t HttpConnection::DigestHead(std::string_view input) {
  if (parsed_size_ == 0) state_since_ms_ = shared_->loop->now().mono_ms;
  HttpRequest* request = shared_->request;
  const HttpParsed parsed = ParseHttpRequest(input, parsed_size_, request);
  switch (parsed.kind) {
    case HttpParsed::Kind::kMore:
      parsed_size_ = input.size();
      return 0;
    case HttpParsed::Kind::kError:
      shared_->metrics->malformed_total.Add();
      Fault(parsed.fault);
      return input.size();
    case HttpParsed::Kind::kRequest:
      break;
  }
  parsed_size_ = 0;
  shared_->metrics->requests_total.Add();
  NoteRequest(*request);
  state_ = State::kAnswering;
  shared_->handler->OnRequest(this, *request);
  return parsed.head_bytes;
}

void HttpConnection::BeginRequest() {
  in_request_ = true;
  stored_ = false;
  kind_ = RequestKind::kOther;
  status_ = 0;
  more_lines_ = {};
  waits_ = asked_if_there_ = false;
  began_us_ = asked_us_ = shared_->loop->now_us();
  first_byte_us_ = 0;
  answer_begin_bytes_ = written_bytes_;
  if (shared_->access_log != nullptr) access_ = std::make_unique<AccessRecord>();
}

void HttpConnection::EndRequest(bool broken) {
  if (!in_request_) return;
  in_request_ = false;
  const uint64_t whole_us = shared_->loop->now_us() - began_us_;
  if (!broken) shared_->times->NoteWhole(kind_, whole_us);
  if (access_ != nullptr) LogRequest(whole_us, broken);
}

void HttpConnection::LogRequest(uint64_t whole_us, bool broken) {
  const std::unique_ptr<AccessRecord> record = std::move(access_);
  record->peer = peer;
  record->wall_ms = shared_->loop->now().wall_ms;
  record->status = status_ == 0 ? kClientClosed : status_;
  record->sent_bytes = written_bytes_ - answer_begin_bytes_;
  record->whole_us = whole_us;
  record->first_byte_us = first_byte_us_;
  record->request_id.assign(request_id_.data(), request_id_size_);
  if (tls_ != nullptr) record->tls_version = tls_->version();
  record->broken = broken;
  shared_->access_log->Add(*record);
}

void HttpConnection::NoteStore(std::string_view dsp, std::string_view cache) {
  if (!stored_) store_us_ = shared_->loop->now_us() - asked_us_;
  stored_ = true;
  if (access_ == nullptr) return;
  access_->dsp = dsp;
  access_->cache = cache;
}

// In milliseconds (Server Timing, W3C). Not with errors: it would tell whoever guesses ids how far
// a guess has come.
void HttpConnection::AddServerTiming(ResponseHead* head) const {
  std::string text;
  const auto add = [&text](std::string_view name, uint64_t us) {
    if (!text.empty()) text.append(", ");
    AppendDecimal(us / 1'000, &text.append(name).append(";dur="));
    const std::string thousandths = std::to_string(1'000 + us % 1'000);
    text.append(".").append(thousandths.substr(1));
  };
  if (asked_us_ != began_us_) add("receive", asked_us_ - began_us_);
  if (stored_) add("store", store_us_);
  if (!text.empty()) head->Add("Server-Timing", text);
}

void HttpConnection::NoteRequest(const HttpRequest& request) {
  BeginRequest();
  if (access_ != nullptr) hayloft::NoteRequest(request, access_.get());
  keep_alive_ = request.keep_alive;
  is_head_ = request.method == HttpMethod::kHead;
  body_left_ = request.HasBody();
  expects_continue_ = request.expect_continue;
  takes_interim_ = request.minor_version > 0;
  chunked_ = request.chunked;
  body_wire_bytes_left_ = request.content_length;
  body_bytes_ = 0;
  NoteRequestId(request.Value(HttpField::kRequestId));
}

void HttpConnection::NoteRequestId(std::string_view wanted) {
  if (wanted.size() <= request_id_.size() && IsRequestId(wanted)) {
    wanted.copy(request_id_.data(), wanted.size());
    request_id_size_ = static_cast<uint8_t>(wanted.size());
    return;
  }
  static constexpr char kDigits[] = "0123456789abcdef";
  const uint64_t number = shared_->next_request_id++;
  request_id_size_ = 16;
  for (size_t i = 0; i < 16; ++i) request_id_[i] = kDigits[number >> (60 - 4 * i) & 15];
}

// Nobody knows where the next request begins: this answer is the last.
void HttpConnection::Fault(const HttpFault& fault) {
  const bool before_request = state_ == State::kHead;
  ASSERT(before_request || state_ == State::kBody);
  if (before_request) {
    BeginRequest();
    is_head_ = false;
    NoteRequestId({});
  }
  body_left_ = true;
  state_ = State::kAnswering;
  if (!before_request) return shared_->handler->OnBodyFault(this, fault);
  AnswerError(this, {.status = fault.status, .message = fault.reason});
}

void HttpConnection::AbandonBody() {
  ASSERT(state_ == State::kBody);
  body_left_ = true;
  state_ = State::kAnswering;
}

void HttpConnection::PauseBody() {
  if (state_ == State::kBody) PauseReading();
}

void HttpConnection::ResumeBody() {
  if (state_ != State::kBody) return;
  slow_peer_.Start(shared_->loop->now().mono_ms);
  body_before_pause_ = body_bytes_;
  ResumeReading();
}

void HttpConnection::Refuse(int status, std::string_view message) {
  ASSERT(state_ == State::kHead);
  BeginRequest();
  NoteRequestId({});
  body_left_ = true;
  state_ = State::kAnswering;
  AnswerError(this, {.status = status, .message = message});
}

void HttpConnection::ReadBody() {
  ASSERT(state_ == State::kAnswering);
  state_ = State::kBody;
  decoder_ = ChunkedDecoder();
  slow_peer_.Start(shared_->loop->now().mono_ms);
  body_before_pause_ = 0;
  if (!body_left_) return BodyEnded();
  if (expects_continue_) {
    out_.append(kContinue);
    Flush();
  }
}

size_t HttpConnection::DigestBody(std::string_view input) {
  if (!chunked_) {
    const std::string_view piece = input.substr(
        0, static_cast<size_t>(std::min<uint64_t>(input.size(), body_wire_bytes_left_)));
    body_wire_bytes_left_ -= piece.size();
    body_bytes_ += piece.size();
    shared_->handler->OnBody(this, AsBytes(piece));
    if (state_ == State::kBody && body_wire_bytes_left_ == 0) BodyEnded();
    return piece.size();
  }
  std::string_view rest = input;
  while (state_ == State::kBody) {
    std::string_view piece;
    switch (decoder_.Next(&rest, &piece)) {
      case ChunkedDecoder::Step::kData:
        body_bytes_ += piece.size();
        shared_->handler->OnBody(this, AsBytes(piece));
        break;
      case ChunkedDecoder::Step::kMore:
        return input.size();
      case ChunkedDecoder::Step::kDone:
        BodyEnded();
        break;
      case ChunkedDecoder::Step::kError:
        shared_->metrics->malformed_total.Add();
        Fault(decoder_.fault());
        return input.size();
    }
  }
  return input.size() - rest.size();
}

void HttpConnection::BodyEnded() {
  ASSERT(state_ == State::kBody);
  body_left_ = false;
  asked_us_ = shared_->loop->now_us();
  state_ = State::kAnswering;
  shared_->handler->OnBodyEnd(this);
}

// --- output
// ---------------------------------------------------------------------------------------

ResponseHead HttpConnection::Head(int status) {
  ASSERT(state_ == State::kAnswering || state_ == State::kBody);
  status_ = status;
  closes_ = !keep_alive_ || body_left_ || shared_->stopping->load(std::memory_order_relaxed);
  const Now now = shared_->loop->now();
  if (now.wall_ms / 1'000 != shared_->date_s) {
    shared_->date_s = now.wall_ms / 1'000;
    shared_->date = FormatHttpDate(shared_->date_s);
  }
  HttpMetrics* metrics = shared_->metrics;
  (status < 300   ? metrics->answers_2xx_total
   : status < 400 ? metrics->answers_3xx_total
   : status < 500 ? metrics->answers_4xx_total
                  : metrics->answers_5xx_total)
      .Add();
  ResponseHead head(&out_, status);
  head.Add("Date", {shared_->date.data(), shared_->date.size()});
  head.Add("X-Request-Id", {request_id_.data(), request_id_size_});
  out_.append("X-Content-Type-Options: nosniff\r\n").append(more_lines_);
  if (closes_) head.Add("Connection", "close");
  if (shared_->options->server_timing && status < 400) AddServerTiming(&head);
  return head;
}

void HttpConnection::Send(Buffer payload, Rest rest) {
  ASSERT(state_ != State::kHead);
  ASSERT(payload_.empty());
  if (closed()) return;
  if (state_ != State::kSending) {
    state_ = State::kSending;
    answer_begin_bytes_ = written_bytes_;
    first_byte_us_ = shared_->loop->now_us() - began_us_;
    shared_->times->NoteFirstByte(kind_, first_byte_us_);
    slow_peer_.Start(shared_->loop->now().mono_ms);
  }
  payload_ = std::move(payload);
  rest_ = rest;
  Flush();
}

void HttpConnection::Flush() {
  while (sent_ < out_.size() + payload_.size()) {
    if (!SendSome()) return;
  }
  writable_.reset();
  out_.clear();
  payload_ = Buffer();
  unsent_.Clear();
  sent_ = 0;
  if (state_ == State::kSending) Sent();
}

// False when the socket takes no more for now, or is closed.
bool HttpConnection::SendSome() {
  const size_t out_sent = std::min(sent_, out_.size());
  const size_t payload_sent = sent_ - out_sent;
  iovec parts[2] = {{out_.data() + out_sent, out_.size() - out_sent},
                    {const_cast<uint8_t*>(payload_.data()) + payload_sent,  // sendmsg only reads
                     payload_.size() - payload_sent}};
  const bool skip_out = parts[0].iov_len == 0;
  msghdr message{};
  message.msg_iov = skip_out ? &parts[1] : parts;
  message.msg_iovlen = skip_out || payload_.empty() ? 1 : 2;
  const ssize_t count = tls_ == nullptr
                            ? ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL)
                            : tls_->Write(AsBytes(std::string_view(out_).substr(out_sent)),
                                          payload_.bytes().subspan(payload_sent));
  if (count >= 0) {
    sent_ += static_cast<size_t>(count);
    written_bytes_ += static_cast<uint64_t>(count);
    shared_->metrics->sent_bytes_total.Add(static_cast<uint64_t>(count));
    return true;
  }
  if (errno == EINTR) return true;
  if (errno != EAGAIN && errno != ENOBUFS) {
    Close();
    return false;
  }
  if (unsent_.bytes() == 0 && !payload_.empty()) HoldUnsent();
  if (writable_ == nullptr) {
    writable_ = shared_->loop->OnWritable(fd_.get(), [this] { Flush(); });
  }
  return false;
}

// A reader who does not take his answer holds no more than its rest: of an image that is kept for
// others he gets a copy, else slow readers would pin the memory of the cache.
void HttpConnection::HoldUnsent() {
  if (payload_.shared()) {
    const size_t out_left = out_.size() - std::min(sent_, out_.size());
    const size_t payload_sent = sent_ - (out_.size() - out_left);
    payload_ = Buffer::CopyOf(payload_.bytes().subspan(payload_sent));
    out_.erase(0, out_.size() - out_left);
    sent_ = 0;
  }
  unsent_.Force(payload_.size());
}

void HttpConnection::Sent() {
  if (rest_ == Rest::kMoreFollows) return shared_->handler->OnSent(this);
  AnswerDone();
}

void HttpConnection::AnswerDone() {
  ASSERT(state_ == State::kSending);
  EndRequest(/*broken=*/false);
  state_since_ms_ = shared_->loop->now().mono_ms;
  if (closes_) {
    // With nothing unread a close sends no reset.
    if (!body_left_ && pending_.empty() && !digesting_) return CloseInOrder();
    return Linger();
  }
  state_ = State::kHead;
  if (digesting_) return;  // the caller goes on with what is left
  if (!pending_.empty()) DigestPending();
  if (closed()) return;
  if (peer_closed_ && (state_ == State::kHead || state_ == State::kBody)) {
    return CloseInOrder();
  }
  if (pending_.size() < kPendingBytesMax) ResumeReading();
}

void HttpConnection::Linger() {
  if (peer_closed_) return CloseInOrder();
  if (tls_ != nullptr) tls_->SendEnd();
  state_ = State::kLingering;
  (void)::shutdown(fd_.get(), SHUT_WR);  // fails only when the peer is gone: the read will tell
  if (!digesting_) pending_.clear();
  ResumeReading();
}

void HttpConnection::Reset() {
  if (closed()) return;
  shared_->metrics->resets_total.Add();
  const linger hard{.l_onoff = 1, .l_linger = 0};
  (void)::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
  Close();
}

void HttpConnection::Close() {
  if (closed()) return;
  EndRequest(/*broken=*/true);
  state_ = State::kClosed;
  readable_.reset();
  writable_.reset();
  resumed_.reset();
  fd_.Reset();
  payload_ = Buffer();
  unsent_.Clear();
  shared_->handler->OnClosed(this);
}

// Between two answers: a client that speaks TLS is told that nothing was cut off.
void HttpConnection::CloseInOrder() {
  if (tls_ != nullptr) tls_->SendEnd();
  Close();
}

void HttpConnection::CloseIfIdle() {
  const auto idle = [this] { return state_ == State::kHead && pending_.empty(); };
  if (idle()) OnReadable();  // a request that is here already gets its answer
  if (idle()) CloseInOrder();
}

void HttpConnection::PauseReading() {
  if (reading_paused_) return;
  reading_paused_ = true;
  Loop::Pause(readable_);
}

void HttpConnection::ResumeReading() {
  if (!reading_paused_ || peer_closed_) return;
  reading_paused_ = false;
  unheard_since_ms_ = 0;
  Loop::Resume(readable_);
  // What is left of a record, no socket announces.
  if (tls_ != nullptr && state_ != State::kLingering && tls_->pending() > 0) {
    resumed_ = shared_->loop->After(0, [this] {
      resumed_.reset();
      if (!closed() && !reading_paused_) OnReadable();
    });
  }
}

// --- time
// -----------------------------------------------------------------------------------------

// Of the current answer. What the kernel still holds has not reached the client.
uint64_t HttpConnection::AcknowledgedBytes() const {
  int queued = 0;
  if (::ioctl(fd_.get(), SIOCOUTQ, &queued) != 0) queued = 0;
  const uint64_t answer = written_bytes_ - answer_begin_bytes_;
  return answer - std::min<uint64_t>(answer, static_cast<uint64_t>(queued));
}

uint64_t HttpConnection::UnreadMs() const {
  if (written_bytes_ > 0) return unheard_ms_;
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (::getsockopt(fd_.get(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return unheard_ms_;
  return std::max<uint64_t>(info.tcpi_last_data_recv, unheard_ms_);
}

void HttpConnection::OnTick(uint64_t now_ms) {
  const GatewayOptions& options = *shared_->options;
  const uint64_t age_ms = now_ms - std::min(now_ms, state_since_ms_);
  const auto too_slow = [&](uint64_t bytes) {
    return slow_peer_.IsTooSlow(now_ms, bytes, options.body_bytes_per_s_min,
                                options.body_window_ms);
  };
  switch (state_) {
    case State::kHead:
      if (tls_ != nullptr && !greeted_) {
        if (age_ms < options.header_timeout_ms) return;
        shared_->metrics->tls_failures_total.Add();
        shared_->metrics->slow_clients_total.Add();
        return Close();
      }
      if (pending_.empty()) {
        if (age_ms < options.idle_timeout_ms) return;
        shared_->metrics->idle_closed_total.Add();
        return CloseInOrder();
      }
      if (age_ms < options.header_timeout_ms) return;
      shared_->metrics->slow_clients_total.Add();
      return Fault({408, "The request's head took too long."});
    case State::kBody:
      if (reading_paused_ || !too_slow(body_bytes_ - body_before_pause_)) return;
      shared_->metrics->slow_clients_total.Add();
      return Fault({408, "The body came too slowly."});
    case State::kSending:
      // Waiting for our own next bytes is not the client's fault.
      if (writable_ == nullptr) return slow_peer_.Start(now_ms);
      if (!too_slow(AcknowledgedBytes())) return;
      shared_->metrics->slow_clients_total.Add();
      return Reset();
    case State::kLingering:
      if (age_ms >= kLingerMs) Close();
      return;
    case State::kAnswering:
    case State::kClosed:
      return;
  }
}

void AnswerError(HttpConnection* connection, const ErrorAnswer& answer) {
  const int status = answer.status;
  const std::string body =
      ErrorJson(answer.code.empty() ? StatusCodeName(status) : answer.code, answer.message);
  ResponseHead head = connection->Head(status);
  head.Add("Content-Type", "application/json").Add("Content-Length", body.size());
  head.Add("Cache-Control", answer.cache_control);
  if (status == 429 || status == 503) head.Add("Retry-After", answer.retry_after_s);
  if (!answer.field.name.empty()) head.Add(answer.field.name, answer.field.value);
  head.End();
  if (!connection->is_head()) connection->out()->append(body);
  connection->SendAll();
}

}  // namespace hayloft
