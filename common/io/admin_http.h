// The admin port of a server: /healthz, /readyz, /metrics (Prometheus), /version. GET only.
//
// Served by the loop that it reports on: a loop that hangs does not answer /healthz. libevent's
// evhttp: never on a hot path, never reached by users.
//
// Threads: its loop's. Ownership: borrows the loop.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/io/loop.h"
#include "common/metrics.h"
#include "common/result.h"

struct evhttp;
struct evhttp_request;

namespace hayloft {

class AdminHttp {
 public:
  AdminHttp(Loop* loop, std::string listen);  // "IP:PORT"
  ~AdminHttp();
  AdminHttp(const AdminHttp&) = delete;  // evhttp holds its address
  AdminHttp& operator=(const AdminHttp&) = delete;

  // kConfig with one line of cause in `why`.
  Err Listen(std::string* why);
  const std::string& address() const { return address_; }
  // The reason why it is not ready, or empty. Default: ready.
  void OnReady(std::function<std::string()> fn) { on_ready_ = std::move(fn); }
  void OnMetrics(std::function<void(MetricsText*)> fn) { on_metrics_ = std::move(fn); }

 private:
  struct HttpFree {
    void operator()(evhttp* http) const;
  };
  static void OnRequest(evhttp_request* request, void* self);
  void Answer(evhttp_request* request);

  Loop* loop_;
  const std::string listen_;
  std::string address_;
  std::function<std::string()> on_ready_;
  std::function<void(MetricsText*)> on_metrics_;
  std::unique_ptr<evhttp, HttpFree> http_;
  Loop::Handle retry_;  // accepts again after there were no descriptors
};

}  // namespace hayloft
