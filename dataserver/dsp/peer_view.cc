#include "dataserver/dsp/peer_view.h"

#include <algorithm>

namespace hayloft {

void PeerView::CountAsUp(const pb::Replica& replica, uint64_t now_ms) {
  Peer& peer = peers_[replica.dsp_id()];
  if (!replica.address().empty()) peer.address = replica.address();
  peer.met_ms = std::max(peer.met_ms, now_ms);
}

void PeerView::OnHeartbeatDone(const pb::HeartbeatReply& reply, uint64_t sent_ms) {
  if (heard_ && sent_ms < sent_ms_) return;  // of two that know the same, the later one spoke
  heard_ = true;
  sent_ms_ = sent_ms;
  if (reply.peers_version() == version_) return;
  version_ = reply.peers_version();
  // Who was met since the heartbeat was sent need not be in its answer.
  std::erase_if(peers_, [&](const auto& one) { return one.second.met_ms < sent_ms; });
  for (const pb::Peer& told : reply.peers()) {
    Peer& peer = peers_[told.dsp_id()];
    peer.listed = true;
    peer.told = told.state();
    if (!told.address().empty()) peer.address = told.address();
  }
}

// An answer without a list is a word too: who is on the last one is as it says there.
pb::PeerState PeerView::StateOf(const Peer& peer) const {
  const bool met_since = peer.met_ms != 0 && peer.met_ms >= sent_ms_;
  return met_since || !peer.listed ? pb::PEER_UP : peer.told;
}

const PeerView::Peer* PeerView::Find(uint32_t dsp_id) const {
  const auto found = peers_.find(dsp_id);
  return found == peers_.end() ? nullptr : &found->second;
}

}  // namespace hayloft
