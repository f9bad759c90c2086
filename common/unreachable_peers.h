// Which dsps this process can't reach now, so that the nameserver can be told.
//
// A connection that broke or was refused says so at once; a call that timed out only if nothing was
// heard from that dsp while it waited, and that was long enough: a slow disk is not a broken
// network. Any answer, errors too, takes it back; so does time.
// Bounds: addresses named, addresses heard of. Threads: one owner. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>

#include "common/proto/hayloft.pb.h"
#include "common/result.h"

namespace hayloft {

class UnreachablePeers {
 public:
  static constexpr uint64_t kSilentMs = 1'000;
  static constexpr uint64_t kForgottenMs = 10'000;
  static constexpr size_t kNamedMax = 64;
  static constexpr size_t kHeardMax = 10'000;

  struct Ended {  // a call
    uint64_t sent_ms = 0;
    uint64_t now_ms = 0;
    Err err = Err::kOk;
  };
  void OnCallDone(const std::string& address, const Ended& call);
  bool empty() const { return failed_.empty(); }
  // The addresses; the reporter's name is the caller's.
  void Describe(uint64_t now_ms, pb::Unreachable* message);

 private:
  std::unordered_map<std::string, uint64_t> heard_;  // address -> when last; never iterated
  std::map<std::string, uint64_t> failed_;           // address -> when last
};

}  // namespace hayloft
