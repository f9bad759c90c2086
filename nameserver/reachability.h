// Which dsps others can't reach, although their heartbeats come here: a fault of the network
// between two peers, which silence alone never shows (as Ceph's daemons report each other).
//
// Clients and dsps name those that they can't reach now. A dsp counts as unreachable while at least
// kReportersNeeded of them named it within kRecentMs; or the only one, when no other has spoken for
// kReporterMs. What follows is a preference and a closing of blocks, never a loss.
// Bounds: reporters, and names of one report. A reporter too many is not heard.
// Threads: one owner. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>

namespace hayloft {

class Reachability {
 public:
  static constexpr uint64_t kRecentMs = 10'000;
  static constexpr uint64_t kReporterMs = 60'000;
  static constexpr size_t kReportersNeeded = 2;
  static constexpr size_t kReportersMax = 4'096;
  static constexpr size_t kNamedMax = 64;  // by one reporter at a time; others wait

  // What `reporter` can't reach now; nothing at all is a word too. Takes nothing back: the workers
  // of a gateway speak under one name.
  void Hear(uint64_t reporter, std::span<const uint32_t> dsp_ids, uint64_t now_ms);
  std::set<uint32_t> Unreachable(uint64_t now_ms);
  size_t reporters() const { return reporters_.size(); }

 private:
  struct Word {
    uint64_t spoke_ms = 0;
    std::map<uint32_t, uint64_t> named;  // dsp -> when last
  };
  std::map<uint64_t, Word> reporters_;
};

}  // namespace hayloft
