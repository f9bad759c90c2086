// One keep-alive HTTP/1.1 connection that carries one request at a time, as cheap as it can be: a
// load generator must not be what is measured. Understands the answers of our own gateway only:
// Content-Length, no chunks. Threads: the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "common/io/loop.h"
#include "common/io/unique_fd.h"
#include "common/le.h"

namespace hayloft {

struct LoadAnswer {
  int status = 0;            // 0: the connection broke, or the answer was malformed
  bool retry_after = false;  // it says when to come again
  std::string_view body;
};

class LoadConnection {
 public:
  // `address`: "IP:PORT". `on_answer` is called once for each Send, never from inside of it.
  LoadConnection(Loop* loop, std::string address, std::function<void(const LoadAnswer&)> on_answer);
  LoadConnection(const LoadConnection&) = delete;  // its events hold its address
  LoadConnection& operator=(const LoadConnection&) = delete;

  // Speaks memcached's text protocol instead, of which it knows "get".
  void SpeakMemcached() { memcached_ = true; }
  // Header lines of each POST from now on, with their CRLF.
  void SetPostLines(std::string lines) { post_lines_ = std::move(lines); }
  // An empty body: GET, else POST. `body` must stay until the answer. REQUIRES: none is under way.
  void Send(std::string_view path, Bytes body);
  // Closes the connection; an answer under way never comes. The next Send connects anew.
  void GiveUp();

 private:
  bool Connect();
  void WriteMore();
  void ReadMore();
  bool TakeAnswer();
  bool TakeValue();
  void Break();
  void Answer(const LoadAnswer& answer);

  Loop* const loop_;
  const std::string address_;
  const std::function<void(const LoadAnswer&)> on_answer_;
  UniqueFd fd_;
  Loop::Handle readable_, writable_, broken_;
  std::string post_lines_;
  std::string head_;
  Bytes body_;
  size_t written_ = 0;  // of head and body together
  std::string in_;
  bool busy_ = false;
  bool memcached_ = false;
};

}  // namespace hayloft
