#include "common/io/http_client.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>

#include <charconv>
#include <string_view>
#include <utility>

#include "common/check.h"

namespace hayloft {

namespace {

constexpr ev_ssize_t kAnswerBytesMax = 4 << 20;

struct HostPort {
  std::string host;
  uint16_t port = 0;  // 0: the address is none
};

HostPort SplitAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return {};
  HostPort split{.host = address.substr(0, colon)};
  if (split.host.size() > 2 && split.host.front() == '[') {
    split.host = split.host.substr(1, split.host.size() - 2);
  }
  std::from_chars(address.data() + colon + 1, address.data() + address.size(), split.port);
  return split;
}

}  // namespace

HttpCall::HttpCall(Loop* loop, const HttpCallRequest& request, std::function<void(HttpAnswer)> done)
    : loop_(loop), done_(std::move(done)) {
  timeout_ = loop->After(request.timeout_ms, [this] { FinishSoon(); });
  Send(request);
}

HttpCall::~HttpCall() {
  over_ = true;  // freeing calls OnAnswer
  if (connection_ != nullptr) evhttp_connection_free(connection_);
}

void HttpCall::Send(const HttpCallRequest& request) {
  const HostPort to = SplitAddress(request.address);
  if (to.port == 0) return FinishSoon();
  connection_ = evhttp_connection_base_new(loop_->base(), nullptr, to.host.c_str(), to.port);
  if (connection_ == nullptr) return FinishSoon();
  evhttp_connection_set_max_body_size(connection_, kAnswerBytesMax);
  evhttp_request* out = evhttp_request_new(OnAnswer, this);
  ASSERT(out != nullptr);
  evkeyvalq* headers = evhttp_request_get_output_headers(out);
  evhttp_add_header(headers, "Host", request.address.c_str());
  evhttp_add_header(headers, "Connection", "close");
  if (!request.content_type.empty()) {
    evhttp_add_header(headers, "Content-Type", request.content_type.c_str());
  }
  evbuffer_add(evhttp_request_get_output_buffer(out), request.body.data(), request.body.size());
  const evhttp_cmd_type method = request.body.empty() ? EVHTTP_REQ_GET : EVHTTP_REQ_POST;
  // Owns the request from here on, whatever it returns.
  if (evhttp_make_request(connection_, out, method, request.path.c_str()) != 0) FinishSoon();
}

void HttpCall::OnAnswer(evhttp_request* request, void* self) {
  auto* call = static_cast<HttpCall*>(self);
  if (call->over_) return;
  if (request != nullptr) {
    call->answer_.status = evhttp_request_get_response_code(request);
    evbuffer* body = evhttp_request_get_input_buffer(request);
    call->answer_.body.resize(evbuffer_get_length(body));
    evbuffer_copyout(body, call->answer_.body.data(), call->answer_.body.size());
  }
  call->FinishSoon();
}

// Not at once: a connection must not be freed inside its own callback, and `done` may do so.
void HttpCall::FinishSoon() {
  if (std::exchange(over_, true)) return;
  finish_ = loop_->After(0, [this] {
    timeout_.reset();
    const std::function<void(HttpAnswer)> done = std::move(done_);
    HttpAnswer answer = std::move(answer_);
    done(std::move(answer));  // may destroy this object
  });
}

uint64_t MetricValue(const std::string& text, const std::string& name, uint64_t absent) {
  const std::string line_start = "\n" + name + " ";
  const std::string whole = "\n" + text;
  const size_t at = whole.find(line_start);
  if (at == std::string::npos) return absent;
  uint64_t value = absent;
  const char* digits = whole.data() + at + line_start.size();
  std::from_chars(digits, whole.data() + whole.size(), value);
  return value;
}

}  // namespace hayloft
