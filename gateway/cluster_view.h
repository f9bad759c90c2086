// What the nameservers told of the cluster, kept as the JSON that GET /v1/status gives.
//
// A gateway asks them each second anyhow, to know whether it can serve. What they told last is kept
// while none answers, with its age, so that a reader sees both: that they are silent, and how it
// was. The text is made when they answer and not for each reader: it is as long as there are disks.
//
// Threads: its owner's, who locks. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "client/client_types.h"

namespace hayloft {

class ClusterView {
 public:
  void Note(const StatusDone& done, uint64_t now_ms);
  // `gateway` is a JSON object: what the gateway says of itself.
  std::string Json(std::string_view gateway, uint64_t now_ms) const;

 private:
  std::string nameservers_ = "[]";
  std::string cluster_ = "null";  // until an active one has answered
  uint64_t told_ms_ = 0;          // when it did
};

}  // namespace hayloft
