// Commands are straight-line programs over an event loop: Await starts something and runs the loop
// until its callback was called.
#pragma once

#include <functional>
#include <optional>
#include <utility>

#include "common/io/http_client.h"
#include "common/io/loop.h"

namespace hayloft {

// `start` gets the callback to hand on; what it starts must call it exactly once.
template <typename T, typename Start>
T Await(Loop* loop, const Start& start) {
  std::optional<T> result;
  start([&](T&& value) {
    result.emplace(std::move(value));
    loop->Stop();
  });
  while (!result.has_value()) loop->Run();
  return std::move(*result);
}

inline HttpAnswer AwaitHttp(Loop* loop, const HttpCallRequest& request) {
  std::optional<HttpCall> call;
  return Await<HttpAnswer>(loop, [&](auto done) {
    call.emplace(loop, request, [done](HttpAnswer answer) { done(std::move(answer)); });
  });
}

// Lets the loop do its work for so long.
inline void AwaitTime(Loop* loop, uint64_t ms) {
  const Loop::Handle timer = loop->After(ms, [loop] { loop->Stop(); });
  loop->Run();
}

}  // namespace hayloft
