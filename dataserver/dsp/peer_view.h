// What a dsp knows of the dsps that share blocks with it, and since when it has known nothing.
//
// The nameserver's answer to a heartbeat says who is up, as of the moment when the heartbeat was
// sent or later. A peer that asked for delete state since then was told so by the nameserver
// itself: it counts as up until a later heartbeat's answer says otherwise. So whoever may serve a
// block is counted by every replica from which it could have learned what was deleted, and a delete
// waits for it.
// A dsp whose heartbeats stay unanswered for kDoubtMs is not counted any more by others, or soon
// will not be: it doubts what it knows. It counts from the sending, the nameserver from the
// receipt, so that it doubts no later than others stop to count it.
// Threads: one owner. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "common/limits.h"
#include "common/proto/hayloft.pb.h"

namespace hayloft {

class PeerView {
 public:
  struct Peer {
    std::string address;  // empty: not known
    bool listed = false;  // by the nameserver; else it was met since
    pb::PeerState told = pb::PEER_UP;
    uint64_t met_ms = 0;  // when it last counted as up by a word that was not a heartbeat's answer
  };

  // It is to hold a block that was just created here, or it asks for delete state.
  void CountAsUp(const pb::Replica& peer, uint64_t now_ms);
  // Of a heartbeat that was sent at `sent_ms`, and counted.
  void OnHeartbeatDone(const pb::HeartbeatReply& reply, uint64_t sent_ms);

  const Peer* Find(uint32_t dsp_id) const;  // null: never heard of
  pb::PeerState StateOf(const Peer& peer) const;
  const std::map<uint32_t, Peer>& peers() const { return peers_; }
  uint64_t version() const { return version_; }
  // No heartbeat that was sent within kDoubtMs has been answered.
  bool Doubtful(uint64_t now_ms) const { return !heard_ || now_ms - sent_ms_ > kDoubtMs; }

 private:
  std::map<uint32_t, Peer> peers_;
  uint64_t version_ = 0;  // the nameserver's name for what it said last
  bool heard_ = false;
  uint64_t sent_ms_ = 0;  // of the last answered heartbeat
};

}  // namespace hayloft
