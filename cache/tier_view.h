// Which gateways there are, from what the nameservers say.
//
// Each gateway tells all nameservers each second that it is there, and is told who else is. That is
// kept in memory only: a nameserver that has just started has not heard of all yet. So what one
// says that is not settled adds gateways and takes none away; and while none answers, the gateways
// stay as they were: one that is gone is noticed by who asks it (cached_reads.h).
//
// Who belongs to them need not be agreed on: see cached_reads.h. Pure. Times in ms of one clock.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cache/cached_reads.h"
#include "common/proto/hayloft.pb.h"

namespace hayloft {

class TierView {
 public:
  static constexpr uint64_t kAnswerMs = 3'000;  // an answer counts for so long

  explicit TierView(std::string own_address) : own_address_(std::move(own_address)) {}

  // A nameserver has answered.
  void Note(const std::string& nameserver, const pb::GatewayHelloReply& reply, uint64_t now_ms);
  // The gateways as they are now known, this one among them; null: as the last call said.
  std::shared_ptr<const CacheTier> Changed(uint64_t now_ms);

 private:
  struct Answer {
    std::vector<std::string> addresses;
    bool settled = false;
    uint64_t at_ms = 0;
  };
  const std::string own_address_;
  std::map<std::string, Answer> answers_;  // by nameserver
  std::set<std::string> known_;
};

}  // namespace hayloft
