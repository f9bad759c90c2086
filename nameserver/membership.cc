#include "nameserver/membership.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "common/check.h"
#include "common/limits.h"
#include "common/log.h"

namespace hayloft {

namespace {
constexpr uint64_t kStallMs = 1'000;  // ticks come every 100 ms
}  // namespace

DspLive* Membership::Add(uint32_t dsp_id, const std::string& machine, Now now) {
  const auto [at, added] = dsps_.try_emplace(dsp_id);
  at->second.machine = machine;
  if (added) {
    at->second.heard_ms = now.mono_ms;
    ++changes_;
  }
  return &at->second;
}

DspLive* Membership::Find(uint32_t dsp_id) {
  const auto found = dsps_.find(dsp_id);
  return found == dsps_.end() ? nullptr : &found->second;
}

const DspLive* Membership::Find(uint32_t dsp_id) const {
  const auto found = dsps_.find(dsp_id);
  return found == dsps_.end() ? nullptr : &found->second;
}

pb::PeerState Membership::PeerStateOf(const DspLive& dsp) {
  if (dsp.counted && dsp.disk_state == pb::DISK_HEALTHY) return pb::PEER_UP;
  return dsp.state == DspState::kDown ? pb::PEER_DOWN : pb::PEER_SUSPECT;
}

void Membership::Heard(DspLive* dsp, Now now) {
  if (!dsp->counted || dsp->state == DspState::kDown) ++changes_;
  dsp->counted = true;
  dsp->heard_ms = now.mono_ms;
  dsp->state = DspState::kUp;
  dsp->suspicion_acted_on = false;
  dsp->given_up = false;
}

bool Membership::TooManyAtOnce(const std::set<uint32_t>& dsp_ids) const {
  size_t known = 0;
  size_t accused = 0;
  std::set<std::string_view> machines;
  for (const auto& [dsp_id, dsp] : dsps_) {
    if (dsp.state == DspState::kDown) continue;  // an old loss, not one at once
    ++known;
    if (!dsp_ids.contains(dsp_id)) continue;
    ++accused;
    machines.insert(dsp.machine);
  }
  return accused * 10 > known * 3 && machines.size() > 1;
}

// Who fell silent together was heard last at different moments of the same second. So when the
// first of them becomes suspect, the others are silent for longer than a heartbeat takes, too.
bool Membership::MassSilence(Now now) const {
  const uint64_t after_ms =
      std::max(options_.suspect_after_ms, 3 * kHeartbeatMs) - kHeartbeatMs - kHeartbeatMs / 10;
  std::set<uint32_t> silent;
  for (const auto& [dsp_id, dsp] : dsps_) {
    const bool missed = now.mono_ms - dsp.heard_ms > after_ms;
    if (dsp.state == DspState::kSuspect || missed) silent.insert(dsp_id);
  }
  return TooManyAtOnce(silent);
}

std::vector<uint32_t> Membership::OnTick(Now now) {
  const bool stalled = last_tick_ms_ != 0 && now.mono_ms - last_tick_ms_ > kStallMs;
  last_tick_ms_ = now.mono_ms;
  if (stalled) {
    PROBE("nameserver_stalled");
    LOG_WARN("nameserver_stalled", "action=restart_timers");
  }
  for (auto& [dsp_id, dsp] : dsps_) {
    if (stalled && dsp.state != DspState::kDown) dsp.heard_ms = now.mono_ms;
    const uint64_t silent_ms = now.mono_ms - dsp.heard_ms;
    if (dsp.given_up) continue;
    // Not sooner than it doubts itself, whatever the options say.
    if (silent_ms > kDoubtMs && std::exchange(dsp.counted, false)) ++changes_;
    if (silent_ms <= options_.suspect_after_ms) continue;
    const DspState state =
        silent_ms >= options_.down_after_ms ? DspState::kDown : DspState::kSuspect;
    if (state == dsp.state) continue;
    dsp.state = state;
    ++changes_;
    LOG_WARN(state == DspState::kDown ? "dsp_down" : "dsp_suspect", "dsp=%u silent_ms=%llu", dsp_id,
             static_cast<unsigned long long>(silent_ms));
  }
  std::vector<uint32_t> act_on;
  const bool mass_silence = MassSilence(now);
  for (auto& [dsp_id, dsp] : dsps_) {
    const bool silent = now.mono_ms - dsp.heard_ms > options_.suspect_after_ms;
    if (!silent || dsp.suspicion_acted_on) continue;
    if (mass_silence) {
      PROBE("nameserver_mass_silence");
      continue;
    }
    dsp.suspicion_acted_on = true;
    act_on.push_back(dsp_id);
  }
  return act_on;
}

}  // namespace hayloft
