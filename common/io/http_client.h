// One HTTP/1.1 request to one of our own servers: a probe of an admin port, a sample upload.
//
// One connection a request, bounded answer, no redirects: not a client for the hot path or for
// servers of others. Threads: the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "common/io/loop.h"

struct evhttp_connection;
struct evhttp_request;

namespace hayloft {

struct HttpCallRequest {
  std::string address{};  // IP:PORT
  std::string path{"/"};
  std::string content_type{};
  std::string body{};  // not empty: POST, else GET
  uint32_t timeout_ms = 1'000;
};

struct HttpAnswer {
  int status = 0;  // 0: no answer within the time
  std::string body{};
};

// `done` is called once, from the loop, unless this object is destroyed before; it may be destroyed
// inside of `done`.
class HttpCall {
 public:
  HttpCall(Loop* loop, const HttpCallRequest& request, std::function<void(HttpAnswer)> done);
  ~HttpCall();
  HttpCall(const HttpCall&) = delete;  // libevent holds its address
  HttpCall& operator=(const HttpCall&) = delete;

 private:
  static void OnAnswer(evhttp_request* request, void* self);
  void Send(const HttpCallRequest& request);
  void FinishSoon();

  Loop* const loop_;
  std::function<void(HttpAnswer)> done_;
  HttpAnswer answer_;
  evhttp_connection* connection_ = nullptr;
  Loop::Handle timeout_;
  Loop::Handle finish_;
  bool over_ = false;  // nothing more is taken from libevent
};

// The value of a metric without labels in Prometheus text; `absent` if it is not there.
uint64_t MetricValue(const std::string& text, const std::string& name, uint64_t absent);

}  // namespace hayloft
