#include "dataserver/dsp/peer_view.h"

#include <algorithm>

#include "common/check.h"

namespace hayloft {

void PeerView::CountAsUp(const pb::Replica& replica, uint64_t now_ms) {
  Peer& peer = peers_[replica.dsp_id()];
  if (!replica.address().empty()) peer.address = replica.address();
  peer.state = pb::PEER_UP;
  peer.met_ms = std::max(peer.met_ms, now_ms);
}

void PeerView::OnHeartbeatDone(const pb::HeartbeatReply& reply, uint64_t sent_ms) {
  ASSERT(!heard_ || sent_ms >= sent_ms_);
  heard_ = true;
  sent_ms_ = sent_ms;
  if (reply.peers_version() == version_) return;
  version_ = reply.peers_version();
  // Who was met since the heartbeat was sent need not be in its answer, or not as up.
  std::erase_if(peers_, [&](const auto& one) { return one.second.met_ms < sent_ms; });
  for (const pb::Peer& told : reply.peers()) {
    const auto [at, fresh] = peers_.try_emplace(told.dsp_id());
    if (fresh) at->second.state = told.state();
    if (!told.address().empty()) at->second.address = told.address();
  }
}

const PeerView::Peer* PeerView::Find(uint32_t dsp_id) const {
  const auto found = peers_.find(dsp_id);
  return found == peers_.end() ? nullptr : &found->second;
}

}  // namespace hayloft
