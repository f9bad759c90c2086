#include "gateway/worker_shell.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "common/io/socket_address.h"
#include "common/io/system_clock.h"
#include "common/log.h"
#include "gateway/answers.h"

namespace hayloft {

namespace {

constexpr size_t kScratchBytes = 256 << 10;
constexpr uint64_t kTickMs = 100;
constexpr uint64_t kProbeMs = 1'000;
constexpr uint64_t kReadyMs = 10'000;  // after the last sign of life from the cluster
// Refused connections that are let in for their 503; beyond so many they are just closed.
constexpr size_t kRefusalsMax = 256;

PeerAddress PeerOf(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof(storage);
  PeerAddress peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return peer;
  if (storage.ss_family == AF_INET6) {
    std::memcpy(peer.bytes.data(), &reinterpret_cast<sockaddr_in6*>(&storage)->sin6_addr,
                peer.bytes.size());
  } else if (storage.ss_family == AF_INET) {
    std::array<uint8_t, 4> v4;
    std::memcpy(&v4, &reinterpret_cast<sockaddr_in*>(&storage)->sin_addr, sizeof(v4));
    peer = PeerAddress::OfV4(v4);
  }
  return peer;
}

RequestKind KindOf(Route::Kind kind) {
  switch (kind) {
    case Route::Kind::kRead:
    case Route::Kind::kReadName:
      return RequestKind::kRead;
    case Route::Kind::kUpload:
    case Route::Kind::kPutName:
      return RequestKind::kUpload;
    case Route::Kind::kDescribe:
    case Route::Kind::kListNames:
      return RequestKind::kDescribe;
    case Route::Kind::kDelete:
    case Route::Kind::kDeleteName:
      return RequestKind::kDelete;
    case Route::Kind::kUndelete:
      return RequestKind::kUndelete;
    default:
      return RequestKind::kOther;
  }
}

}  // namespace

bool ConnectionCount::TryEnter(const PeerAddress& peer, const GatewayOptions& options) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (total_ >= options.connections_max) return false;
  uint32_t& of_peer = by_peer_[peer.LimitKey()];
  if (of_peer >= options.connections_per_address_max) return false;
  ++of_peer;
  ++total_;
  return true;
}

bool ConnectionCount::TryRefuse() {
  if (++refused_ <= kRefusalsMax) return true;
  --refused_;
  return false;
}

void ConnectionCount::Leave(const PeerAddress& peer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto entry = by_peer_.find(peer.LimitKey());
  ASSERT(entry != by_peer_.end());
  ASSERT(total_ > 0);
  --total_;
  if (--entry->second == 0) by_peer_.erase(entry);
}

const char* GatewayShared::NotReady(uint64_t now_ms) const {
  if (stopping.load()) return "The gateway is stopping.";
  if (!was_writable.load()) return "The cluster has had no writable block yet.";
  const uint64_t last_ms = last_success_ms.load(std::memory_order_relaxed);
  return now_ms < last_ms + kReadyMs ? nullptr : "Nothing of the cluster answers.";
}

GatewayWorker::GatewayWorker(GatewayShared* shared, UniqueFd listener, uint32_t number)
    : shared_(shared),
      number_(number),
      probes_(number == 0),
      client_(&loop_, shared->client_options),
      cached_(&loop_, &client_, shared->client_options.rpc, CachedReadsOptionsOf(shared, number),
              shared->cache.get(), &shared->feeds,
              [this](ReadDelivery&& delivery) {
                const uint32_t loop = delivery.to.loop;
                loop == number_ ? OnRead(delivery) : shared_->readers[loop](std::move(delivery));
              }),
      rights_(shared->rights),
      reads_(shared->options.queue_ms),
      writes_(shared->options.queue_ms),
      scratch_(kScratchBytes),
      reap_(&loop_, [this] { closed_.clear(); }),
      last_tick_ms_(loop_.now().mono_ms) {
  connection_shared_.loop = &loop_;
  connection_shared_.handler = this;
  connection_shared_.scratch = scratch_.mutable_bytes();
  connection_shared_.request = &request_;
  connection_shared_.options = &shared_->options;
  connection_shared_.metrics = &shared_->http_metrics;
  connection_shared_.times = &shared_->times;
  if (shared_->access_writer != nullptr) {
    const bool json = shared_->options.access_log_format == "json";
    access_log_.emplace(shared_->access_writer.get(),
                        json ? AccessFormat::kJson : AccessFormat::kCombined);
    connection_shared_.access_log = &*access_log_;
  }
  connection_shared_.stopping = &shared_->stopping;
  connection_shared_.unsent_memory = &shared_->download_memory;
  connection_shared_.next_request_id = random_.Next64();
  acceptor_ = std::make_unique<Acceptor>(&loop_, std::move(listener),
                                         &shared_->http_metrics.accept_pauses_total,
                                         [this](UniqueFd fd) { Accept(std::move(fd)); });
  tick_ = loop_.Every(kTickMs, [this] { Tick(); });
}

GatewayWorker::~GatewayWorker() {
  ASSERT(!thread_.joinable());
  slots_.clear();
}

void GatewayWorker::Start() {
  ++shared_->loops_running;
  thread_ = std::thread([this] {
    (void)pthread_setname_np(pthread_self(), "gateway-loop");  // for people and tests
    if (probes_) {
      ProbeCluster();
      probe_ = loop_.Every(kProbeMs, [this] { ProbeCluster(); });
    }
    loop_.Run();
    // What the loop's handles belong to must go on the loop's thread.
    probe_.reset();
    tick_.reset();
    acceptor_.reset();
    for (Slot& slot : slots_) slot.connection.reset();
    closed_.clear();
    if (shared_->loops_running.fetch_sub(1) == 1 && shared_->on_stopped) shared_->on_stopped();
  });
}

void GatewayWorker::BeginStop(uint64_t delay_ms, uint64_t patience_ms) {
  loop_.Post([this, delay_ms, patience_ms] {
    listen_until_ms_ = loop_.now().mono_ms + delay_ms;
    stop_deadline_ms_ = listen_until_ms_ + patience_ms;
    Tick();
  });
}

// Again and again: a connection whose last answer began before the stop was not told of it.
void GatewayWorker::CloseIdle() {
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].connection != nullptr) slots_[i].connection->CloseIfIdle();
  }
}

void GatewayWorker::StopListening() {
  acceptor_->AcceptWaiting();
  acceptor_.reset();
}

void GatewayWorker::Join() {
  if (thread_.joinable()) thread_.join();
}

// --- connections
// ----------------------------------------------------------------------------------

void GatewayWorker::Accept(UniqueFd fd) {
  HttpMetrics& metrics = shared_->http_metrics;
  const PeerAddress peer = PeerOf(fd.get());
  const bool counted = shared_->connections.TryEnter(peer, shared_->options);
  if (!counted) {
    metrics.refused_total.Add();
    // A 503 is not worth a handshake.
    if (shared_->tls != nullptr || !shared_->connections.TryRefuse()) return;
  }
  std::unique_ptr<TlsStream> tls;
  if (shared_->tls != nullptr) {
    tls = shared_->tls->Accept(fd.get());
    if (tls == nullptr) return shared_->connections.Leave(peer);  // no memory
  }
  TuneSocket(fd.get());
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const uint32_t index = free_slots_.back();
  free_slots_.pop_back();
  Slot& slot = slots_[index];
  slot.connection =
      std::make_unique<HttpConnection>(&connection_shared_, std::move(fd), std::move(tls));
  HttpConnection* connection = slot.connection.get();
  connection->id = uint64_t{++slot.generation} << 32 | index;
  connection->peer = peer;
  connection->counted = counted;
  ++open_connections_;
  metrics.accepted_total.Add();
  metrics.connections.Add(1);
  if (!counted) connection->Refuse(503, "Too many connections; try again later.");
}

HttpConnection* GatewayWorker::Find(uint64_t connection_id) {
  const Slot& slot = slots_[connection_id & UINT32_MAX];
  return slot.generation == connection_id >> 32 ? slot.connection.get() : nullptr;
}

void GatewayWorker::OnClosed(HttpConnection* connection) {
  const auto index = static_cast<uint32_t>(connection->id & UINT32_MAX);
  ASSERT(slots_[index].connection.get() == connection);
  connection->exchange.upload.reset();
  connection->exchange.form.reset();
  connection->exchange.warm.reset();
  if (connection->counted) {
    shared_->connections.Leave(connection->peer);
  } else {
    shared_->connections.LeaveRefused();
  }
  shared_->http_metrics.connections.Add(-1);
  closed_.push_back(std::move(slots_[index].connection));
  free_slots_.push_back(index);
  --open_connections_;
  reap_.Schedule();
}

void GatewayWorker::Tick() {
  const uint64_t now_ms = loop_.now().mono_ms;
  last_tick_ms_.store(now_ms, std::memory_order_relaxed);
  for (const Slot& slot : slots_) {
    if (slot.connection != nullptr) slot.connection->OnTick(now_ms);
  }
  TickAdmission(now_ms);
  for (const uint64_t id : std::exchange(starved_, {})) {
    if (HttpConnection* connection = Find(id)) ReadNextRun(connection);
  }
  TellUnchecked(now_ms);
  if (access_log_) access_log_->Flush();
  shared_->metrics.upload_memory_bytes.Set(
      static_cast<int64_t>(shared_->upload_memory.used_bytes()));
  shared_->metrics.download_memory_bytes.Set(
      static_cast<int64_t>(shared_->download_memory.used_bytes()));
  if (stop_deadline_ms_ > 0 && acceptor_ != nullptr && now_ms >= listen_until_ms_) StopListening();
  if (acceptor_ == nullptr) CloseIdle();
  if (stop_deadline_ms_ > 0 && acceptor_ == nullptr &&
      ((open_connections_ == 0 && cached_.fetches() == 0) || now_ms >= stop_deadline_ms_)) {
    loop_.Stop();
  }
}

// --- requests
// -------------------------------------------------------------------------------------

void GatewayWorker::OnRequest(HttpConnection* connection, const HttpRequest& request) {
  const Route route = RouteOf(request.method, request.path, shared_->pages);
  connection->NoteKind(KindOf(route.kind));
  Exchange& exchange = connection->exchange;
  exchange.address = route.address;
  exchange.seconds_left.reset();
  exchange.name_rate_key.reset();
  exchange.uploader.clear();
  exchange.name.reset();
  exchange.warm.reset();
  if (!route.id.empty()) {
    exchange.etag.front() = exchange.etag.back() = '"';
    route.id.copy(&exchange.etag[1], kAddressTextLength);
  }
  SetCors(connection, request, route);
  if (shared_->address_rates != nullptr && !PassesAddressRate(connection, request, route)) return;
  if (route.writes() &&
      !PassesGuard(connection, shared_->browser_guard.CheckWrite(request, shared_->cors))) {
    return;
  }
  if (route.sends_file() && shared_->referer_list.is_on() && !PassesReferer(connection, request)) {
    return;
  }
  if (rights_ != nullptr && !PassesRights(connection, request, route)) return;
  switch (route.kind) {
    case Route::Kind::kRead:
      return BeginDownload(connection, request);
    case Route::Kind::kUpload:
      return BeginUpload(connection, request);
    case Route::Kind::kDescribe:
      return Admit(connection, Work::kDescribe);
    case Route::Kind::kDelete:
      if (CheckToken(connection, request)) Admit(connection, Work::kDelete);
      return;
    case Route::Kind::kUndelete:
      if (CheckToken(connection, request)) Admit(connection, Work::kUndelete);
      return;
    case Route::Kind::kReadName:
      if (TakeName(connection, request, route)) Admit(connection, Work::kReadName);
      return;
    case Route::Kind::kPutName:
      return BeginPutName(connection, request, route);
    case Route::Kind::kDeleteName:
      if (TakeName(connection, request, route)) Admit(connection, Work::kDeleteName);
      return;
    case Route::Kind::kListNames:
      return BeginListNames(connection, request);
    case Route::Kind::kWarm:
      return BeginWarm(connection, request);
    case Route::Kind::kHealth:
      return AnswerText(connection, 200, "ok\n");
    case Route::Kind::kReady:
      return AnswerReady(connection);
    case Route::Kind::kPage:
      return AnswerPage(connection, request, *route.page);
    case Route::Kind::kStatus:
      return AnswerStatus(connection, request);
    case Route::Kind::kOptions:
      return AnswerOptions(connection, request, route);
    case Route::Kind::kError:
      return AnswerNoRoute(connection, request.method, route);
  }
}

// What is read is the same for every page; what changes something says so to its own page only.
void GatewayWorker::SetCors(HttpConnection* connection, const HttpRequest& request,
                            const Route& route) {
  if (route.reads_file()) {
    connection->AddToAnswer(shared_->cors.ReadLines());
  } else if (route.writes() && request.Count(HttpField::kOrigin) == 1) {
    connection->AddToAnswer(shared_->cors.WriteLines(request.Value(HttpField::kOrigin)));
  }
}

void GatewayWorker::AnswerOptions(HttpConnection* connection, const HttpRequest& request,
                                  const Route& route) {
  const std::string lines =
      shared_->cors.PreflightLines({.allow = route.allow,
                                    .origin = request.Value(HttpField::kOrigin),
                                    .method = request.Value(HttpField::kAccessMethod),
                                    .fields = request.Value(HttpField::kAccessFields)});
  ResponseHead head = connection->Head(204);
  head.Add("Allow", route.allow).Add("Cache-Control", "no-store");
  connection->out()->append(lines);
  head.End();
  connection->SendAll();
}

void GatewayWorker::AnswerNoRoute(HttpConnection* connection, HttpMethod method,
                                  const Route& route) {
  std::string message = "There is nothing at this path.";
  if (route.status == 400) {
    message = "This is no id: 18 characters of A-Z, a-z, 0-9, - and _, the last one A, Q, g or w.";
  }
  if (route.status == 405) message = "This path does not take this method; see Allow.";
  if (route.status == 501) message = "This method is not known here.";
  // Who sends or deletes a file to a wrong place is told the right one.
  if (method == HttpMethod::kPost || method == HttpMethod::kPut) {
    message += " Files are uploaded by POST to /v1/files, or by PUT to /v1/names/<name>.";
  } else if (method == HttpMethod::kDelete) {
    message += " Files are deleted by DELETE of /v1/files/<id>.";
  }
  ErrorAnswer answer{.status = route.status, .message = message};
  if (route.status == 405) answer.field = {"Allow", route.allow};
  AnswerError(connection, answer);
}

// False when it was refused and answered.
bool GatewayWorker::PassesGuard(HttpConnection* connection, BrowserVerdict verdict) {
  if (verdict == BrowserVerdict::kAllowed) return true;
  shared_->metrics.foreign_total.Add();
  ErrorAnswer answer{.status = 403,
                     .code = "foreign_page",
                     .message =
                         "Pages of another site may not do this here: their origin is not "
                         "among the gateway's cors_origins."};
  if (verdict == BrowserVerdict::kWrongHost) {
    answer = {.status = 421,
              .code = "wrong_host",
              .message =
                  "The gateway is not known to browsers by this name: it is not among its "
                  "hosts. An IP address or localhost will do."};
  }
  AnswerError(connection, answer);
  return false;
}

// False when it was refused and answered.
bool GatewayWorker::PassesReferer(HttpConnection* connection, const HttpRequest& request) {
  if (shared_->referer_list.Allows(request, shared_->browser_guard)) return true;
  shared_->metrics.referer_refused_total.Add();
  AnswerError(connection, {.status = 403,
                           .code = "referer_refused",
                           .message = "Files are not shown on this page: its host is not among "
                                      "the gateway's referers."});
  return false;
}

void GatewayWorker::AnswerErr(HttpConnection* connection, Err err) {
  ASSERT(err != Err::kOk);
  if (ErrHttpStatus(err) >= 500) {
    LOG_WARN("request_failed", "err=%s file=%s action=answer_%d", ErrName(err).data(),
             LogText(connection->exchange.id()).c_str(), ErrHttpStatus(err));
  }
  AnswerError(connection,
              {.status = ErrHttpStatus(err), .code = ErrName(err), .message = ErrSentence(err)});
}

void GatewayWorker::AnswerText(HttpConnection* connection, int status, std::string_view text) {
  connection->Head(status)
      .Add("Content-Type", "text/plain")
      .Add("Content-Length", text.size())
      .Add("Cache-Control", "no-store")
      .End();
  if (!connection->is_head()) connection->out()->append(text);
  connection->SendAll();
}

void GatewayWorker::AnswerJson(HttpConnection* connection, int status, std::string_view json) {
  connection->Head(status)
      .Add("Content-Type", "application/json")
      .Add("Content-Length", json.size())
      .Add("Cache-Control", "no-store")
      .End();
  if (!connection->is_head()) connection->out()->append(json);
  connection->SendAll();
}

// --- the cluster's state
// --------------------------------------------------------------------------

void GatewayWorker::NoteSuccess() {
  shared_->last_success_ms.store(loop_.now().mono_ms, std::memory_order_relaxed);
}

void GatewayWorker::ProbeCluster() {
  client_.Status(static_cast<uint32_t>(kProbeMs), [this](StatusDone&& done) {
    if (shared_->pages.has_status()) {
      const std::lock_guard<std::mutex> lock(shared_->view_mutex);
      shared_->view.Note(done, loop_.now().mono_ms);
    }
    for (const NameserverStatus& nameserver : done.nameservers) {
      if (nameserver.err != Err::kOk || nameserver.status.role() != "active") continue;
      NoteSuccess();
      if (nameserver.status.writable()) shared_->was_writable.store(true);
    }
  });
}

void GatewayWorker::AnswerReady(HttpConnection* connection) {
  const char* reason = shared_->NotReady(loop_.now().mono_ms);
  if (reason == nullptr) return AnswerText(connection, 200, "ready\n");
  AnswerError(connection, {.status = 503, .code = "not_ready", .message = reason});
}

// --- JSON of a file, delete, undelete
// -------------------------------------------------------------

void GatewayWorker::Describe(HttpConnection* connection) {
  StatRequest request{.address = connection->exchange.address,
                      .timeout_ms = shared_->options.read_timeout_ms};
  connection->exchange.store_asked_ms = loop_.now().mono_ms;
  client_.Stat(std::move(request), [this, id = connection->id](StatDone&& done) {
    HttpConnection* waiting = Find(id);
    ReadEnded(waiting);
    if (waiting == nullptr) return;
    ASSERT(waiting->answering());
    waiting->NoteStore({}, {});
    if (done.err == Err::kOk && done.purged) done.err = Err::kNotFound;
    if (done.err != Err::kOk) return AnswerErr(waiting, done.err);
    NoteSuccess();
    const Result<std::string> json = FileJson(waiting->exchange.id(), done);
    if (!json.ok()) return AnswerErr(waiting, json.err());
    AnswerJson(waiting, 200, *json);
  });
}

// True when the request may delete its file; else it has been answered.
bool GatewayWorker::CheckToken(HttpConnection* connection, const HttpRequest& request) {
  const std::string_view token = request.Value(HttpField::kDeleteToken);
  const std::optional<Nonce> nonce =
      CheckDeleteToken(shared_->key, connection->exchange.address, token);
  if (nonce.has_value()) {
    connection->exchange.token_nonce = *nonce;
    return true;
  }
  shared_->metrics.denied_total.Add();
  ErrorAnswer answer{.status = 403, .message = "This is not the delete token of this file."};
  if (token.empty()) {
    answer = {.status = 401, .message = "The header Hayloft-Delete-Token is needed."};
    answer.field = {"WWW-Authenticate", "Hayloft-Delete-Token realm=\"hayloft\""};
  }
  AnswerError(connection, answer);
  return false;
}

void GatewayWorker::SetDelete(HttpConnection* connection, bool undelete) {
  SetDeleteRequest operation{.address = connection->exchange.address,
                             .undelete = undelete,
                             .timeout_ms = shared_->options.upload_timeout_ms,
                             .nonce = connection->exchange.token_nonce};
  client_.SetDelete(std::move(operation), [this, id = connection->id, undelete,
                                           asked_ms = loop_.now().mono_ms](SetDeleteDone&& done) {
    WorkEnded(&writes_, asked_ms);
    HttpConnection* waiting = Find(id);
    if (waiting != nullptr) OnSetDelete(waiting, undelete, done);
  });
}

void GatewayWorker::OnSetDelete(HttpConnection* connection, bool undelete,
                                const SetDeleteDone& done) {
  ASSERT(connection->answering());
  connection->NoteStore({}, {});
  if (done.err != Err::kOk) return AnswerErr(connection, done.err);
  NoteSuccess();
  // Before its client knows: his next read here must see it.
  const FileAddress& address = connection->exchange.address;
  shared_->cache->Change({.block_id = address.block_id, .sequence = address.file_id.sequence()},
                         SystemMonotonicMs());
  if (undelete) {
    shared_->metrics.undeletes_total.Add();
    return AnswerJson(connection, 200, UndeleteJson(connection->exchange.id()));
  }
  shared_->metrics.deletes_total.Add();
  connection->Head(204).Add("Cache-Control", "no-store").End();
  connection->SendAll();
}

}  // namespace hayloft
