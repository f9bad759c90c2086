// The open blocks that this client may append to, and those that it had better not.
//
// Puts keep company: what is in flight at the same time goes to one block, up to kCompanyBytes,
// because each of its replicas then writes and syncs once for all of it, where commits of several
// blocks would queue for the same disks. What is more, and all while that block gives no answer, is
// spread by what is in flight, so that a slow dsp gets fewer. Any doubt drops the grant, and the
// block is not taken again for kBadBlockMs: mostly it is full, and the nameserver hears so
// meanwhile. For longer it must not be: of open blocks there is a bound, and all may be dropped
// when a dsp halts. Threads: one owner.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "common/proto/hayloft.pb.h"

namespace hayloft {

class GrantCache {
 public:
  // Clients of one number prefer the same blocks, so that the threads of a process meet; those of
  // different ones different blocks.
  static constexpr uint64_t kBadBlockMs = 10'000;
  explicit GrantCache(uint64_t preference) : preference_(preference) {}

  // How many were new and not known to be bad.
  size_t Add(const pb::GrantReply& reply, uint64_t now_ms);
  struct Wish {
    const std::vector<uint64_t>& tried;        // blocks that won't do
    const std::vector<uint32_t>& failed_dsps;  // sets with fewer of them first
    uint64_t bytes = 0;                        // of the file
    uint64_t block_id = 0;                     // this one, if it will do
    bool late_too = false;                     // also one with a late dsp, if there is no other
  };
  // Counts its bytes in flight. Null if there is none. Valid until the next call of a method that
  // is not const.
  const pb::Grant* Take(const Wish& wish, uint64_t now_ms);
  // An append of so many bytes was answered, or has failed; the grant may be gone.
  void Answered(uint64_t block_id, uint64_t bytes, uint64_t now_ms);
  void Failed(uint64_t block_id, uint64_t bytes);
  void DropBlock(uint64_t block_id, uint64_t now_ms);
  // Sets with this dsp are skipped until then: its disk or the way to it is slow, or it restarts.
  void SkipDsp(uint32_t dsp_id, uint64_t late_until_ms);
  void SkipAddress(const std::string& address, uint64_t late_until_ms);
  // Drops all grants with this dsp, too.
  void DropDsp(uint32_t dsp_id, uint64_t late_until_ms);
  // What the nameserver should know: bad blocks and late dsps.
  void Describe(uint64_t now_ms, pb::GrantRequest* request) const;
  size_t usable(uint64_t now_ms) const;  // without a late dsp

 private:
  struct Held {
    pb::Grant grant;
    uint64_t bytes_in_flight = 0;
    uint64_t answered_ms = 0;  // when an append to it last succeeded; 0: not yet
  };
  // The less, the better.
  using Rank = std::tuple<bool, bool, size_t, bool, uint64_t, uint64_t>;
  Rank RankOf(const Held& held, const Wish& wish, uint64_t now_ms) const;
  struct BadBlock {
    uint64_t block_id = 0;
    uint64_t until_ms = 0;
  };
  bool IsBad(uint64_t block_id, uint64_t now_ms) const;
  bool IsLate(const pb::Grant& grant, uint64_t now_ms) const;

  const uint64_t preference_;
  std::map<uint64_t, Held> grants_;         // by block
  std::deque<BadBlock> bad_blocks_;         // the latest last
  std::map<uint32_t, uint64_t> late_dsps_;  // dsp id -> until when
};

}  // namespace hayloft
