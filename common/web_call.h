// An HTTP request that a core wants sent, to a party that is none of ours. Answered by exactly one
// CallDone with the same id, as an RpcCall is: kOk with the answer's status, three digits, as its
// message; else kTimeout, kUnavailable or kCorrupt (what came is no HTTP/1.x).
#pragma once

#include <cstdint>
#include <string>

namespace hayloft {

struct WebCall {
  uint64_t call_id = 0;
  std::string address{};  // IP:PORT
  std::string request{};  // HTTP/1.1, head and body, as it is sent
  uint32_t timeout_ms = 0;
};

}  // namespace hayloft
