// Sends the HTTP requests of a core (common/web_call.h), each on a connection of its own, and looks
// at nothing of an answer but its status.
//
// evhttp, which http_client.h goes by, knows no method of others', such as PURGE. Redirects are not
// followed, TLS is not spoken. An answer is over with its head; what follows is not waited for, and
// no more than 16 KiB of a head are read.
//
// Threads: the loop's. Bounded by its caller, who has so many calls under way and no more.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "common/core_io.h"
#include "common/io/loop.h"
#include "common/web_call.h"

namespace hayloft {

class WebClient {
 public:
  // `done` is called from the loop, never from inside of Call. Borrows `loop`.
  WebClient(Loop* loop, std::function<void(CallDone&&)> done);
  ~WebClient();                          // calls that are under way are never answered
  WebClient(const WebClient&) = delete;  // callbacks hold its address
  WebClient& operator=(const WebClient&) = delete;

  // REQUIRES: no call of this id is under way.
  void Call(WebCall&& call);

 private:
  struct Exchange;
  void OnWritable(Exchange* exchange);
  void OnReadable(Exchange* exchange);
  void Finish(Exchange* exchange, Err err, std::string status);

  Loop* const loop_;
  const std::function<void(CallDone&&)> done_;
  std::map<uint64_t, std::unique_ptr<Exchange>> exchanges_;  // by call
};

}  // namespace hayloft
