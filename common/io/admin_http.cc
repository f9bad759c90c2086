#include "common/io/admin_http.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/listener.h>

#include "common/check.h"
#include "common/io/socket_address.h"
#include "common/log.h"
#include "common/version.h"

namespace hayloft {

namespace {

constexpr int kTimeoutSeconds = 10;
constexpr ev_ssize_t kHeaderBytesMax = 8 << 10;
constexpr uint64_t kAcceptRetryMs = 500;

void Send(evhttp_request* request, int status, std::string_view type, std::string_view body) {
  evkeyvalq* headers = evhttp_request_get_output_headers(request);
  evhttp_add_header(headers, "Content-Type", std::string(type).c_str());
  evhttp_add_header(headers, "Cache-Control", "no-store");
  evbuffer* buffer = evhttp_request_get_output_buffer(request);
  evbuffer_add(buffer, body.data(), body.size());
  evhttp_send_reply(request, status, nullptr, buffer);
}

}  // namespace

AdminHttp::AdminHttp(Loop* loop, std::string listen) : loop_(loop), listen_(std::move(listen)) {}
AdminHttp::~AdminHttp() = default;
void AdminHttp::HttpFree::operator()(evhttp* http) const { evhttp_free(http); }

Err AdminHttp::Listen(std::string* why) {
  const Result<SocketAddress> asked = ParseSocketAddress(listen_);
  if (!asked.ok()) {
    *why = "admin_listen: \"" + LogText(listen_) + "\" is not IP:PORT";
    return Err::kConfig;
  }
  Result<UniqueFd> fd = ListenOn(*asked, {});
  if (!fd.ok()) {
    *why = "admin_listen: cannot bind " + listen_ + ": " + std::string(ErrName(fd.err()));
    return Err::kConfig;
  }
  address_ = SocketAddressText(BoundAddress(fd->get()));
  http_.reset(evhttp_new(loop_->base()));
  ASSERT(http_ != nullptr);
  evhttp_set_allowed_methods(http_.get(), EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
  evhttp_set_max_headers_size(http_.get(), kHeaderBytesMax);
  evhttp_set_max_body_size(http_.get(), 0);
  evhttp_set_timeout(http_.get(), kTimeoutSeconds);
  evhttp_set_gencb(http_.get(), OnRequest, this);
  evconnlistener* listener =
      evconnlistener_new(loop_->base(), nullptr, nullptr,
                         LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd->Release());
  ASSERT(listener != nullptr);
  const evhttp_bound_socket* bound = evhttp_bind_listener(http_.get(), listener);  // owns it now
  ASSERT(bound != nullptr);
  // Without a descriptor for a new connection the listening socket stays readable: it is silenced,
  // and asked again by the timer.
  evconnlistener_set_error_cb(
      listener, [](evconnlistener* failed, void*) { evconnlistener_disable(failed); });
  retry_ = loop_->Every(kAcceptRetryMs, [listener] { evconnlistener_enable(listener); });
  return Err::kOk;
}

void AdminHttp::OnRequest(evhttp_request* request, void* self) {
  static_cast<AdminHttp*>(self)->Answer(request);
}

void AdminHttp::Answer(evhttp_request* request) {
  const char* path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request));
  const std::string_view asked = path == nullptr ? "" : path;
  if (asked == "/healthz") return Send(request, 200, "text/plain", "ok\n");
  if (asked == "/readyz") {
    const std::string reason = on_ready_ == nullptr ? "" : on_ready_();
    if (reason.empty()) return Send(request, 200, "text/plain", "ready\n");
    return Send(request, 503, "text/plain", reason + "\n");
  }
  if (asked == "/version") {
    return Send(request, 200, "application/json",
                "{\"version\":\"" + std::string(kVersion) + "\"}\n");
  }
  if (asked != "/metrics") return Send(request, 404, "text/plain", "not found\n");
  MetricsText metrics;
  if (on_metrics_ != nullptr) on_metrics_(&metrics);
  Send(request, 200, "text/plain; version=0.0.4", metrics.text());
}

}  // namespace hayloft
