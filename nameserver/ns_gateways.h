// Which gateways there are: each says so to every nameserver once a second.
//
// Soft state: nothing of it is logged or shipped, and both nameservers of a pair answer, each with
// what it heard itself. A gateway that falls silent is left out after 3 s; one that says that it
// leaves, at once.
//
// Who acts on the list must not take it for complete too early: it is `settled` only once hellos
// have come in for 3 s without a pause of 2 s, so not soon after a start, nor when this process was
// stopped for a while.
//
// Threads: one owner. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "common/core_io.h"
#include "common/proto/hayloft.pb.h"

namespace hayloft {

inline constexpr uint64_t kGatewayHelloMs = 1'000;  // every gateway says hello so often
inline constexpr uint64_t kGatewayHeardMs = 3'000;  // silent for so long, it is gone

class NsGateways {
 public:
  static constexpr size_t kGatewaysMax = 1'024;  // further ones displace the longest silent

  // kInvalid: not a GatewayHelloRequest, or its address is none.
  Err Hear(const std::string& request, Now now, pb::GatewayHelloReply* reply);

 private:
  std::map<std::string, uint64_t, std::less<>> heard_ms_;  // by address
  bool any_heard_ = false;
  uint64_t last_ms_ = 0;   // any hello
  uint64_t since_ms_ = 0;  // hellos have come in
};

}  // namespace hayloft
