#include "directory/dir_purges.h"

#include <algorithm>

#include "common/check.h"
#include "common/log.h"
#include "common/mutant.h"

namespace hayloft {

namespace {
constexpr uint64_t kPurgeCall = uint64_t{1} << 60;  // no other call's number has this bit
constexpr std::string_view kKind = "u";
}  // namespace

void DirPurges::Put(const FileAddress& file, const std::vector<std::string>& tags, Now now) {
  pb::DirPurge row;
  for (const std::string& tag : tags) row.add_tags(tag);
  row.set_since_ms(now.wall_ms);
  rows_->Put(PurgeKey(file), row);
}

void DirPurges::Enter(const FileAddress& file, const std::vector<std::string>& tags, Now now) {
  if (!on()) return;
  Put(file, tags, now);
  const auto found = window_.find(file);
  if (found == window_.end()) return;  // it comes into it once it may be sent
  found->second.again = found->second.in_flight;
  found->second.pause_ms = 0;
  SetDue(file, &found->second, kHeld);
}

Err DirPurges::EnterAgain(const FileAddress& file, const std::vector<std::string>& tags, Now now) {
  if (!on()) return Err::kOk;
  TRY_ASSIGN(const std::optional<pb::DirPurge> row, rows_->Get<pb::DirPurge>(PurgeKey(file)));
  if (row.has_value()) return Err::kOk;
  Put(file, tags, now);
  Allow(file, now);
  return Err::kOk;
}

void DirPurges::Allow(const FileAddress& file, Now now) {
  if (!on()) return;
  const auto found = window_.find(file);
  if (found == window_.end() && window_.size() >= kWindowMax) return;  // the scan comes by
  SetDue(file, found == window_.end() ? &window_[file] : &found->second,
         now.mono_ms + options_.delay_ms);
}

void DirPurges::SetDue(const FileAddress& file, Item* item, uint64_t due_ms) {
  if (item->due_ms != kHeld) queue_.erase({item->due_ms, file});
  item->due_ms = due_ms;
  if (due_ms != kHeld && !item->in_flight) queue_.emplace(due_ms, file);
}

void DirPurges::Forget(const FileAddress& file) {
  const auto found = window_.find(file);
  ASSERT(found != window_.end() && !found->second.in_flight);
  SetDue(file, &found->second, kHeld);
  window_.erase(found);
}

Err DirPurges::OnTick(const IsDying& is_dying, Now now, std::vector<WebCall>* out) {
  if (!on()) return Err::kOk;
  TRY(Scan(is_dying, now));
  return SendDue(now, out);
}

// Rows of before this node was active, and those that the window had no room for.
Err DirPurges::Scan(const IsDying& is_dying, Now now) {
  const std::string first = scanned_.empty() ? std::string(kKind) : scanned_;
  std::vector<std::string> keys;
  TRY(rows_->ScanFrom(first, [&](std::string_view key, std::string_view) {
    if (!key.starts_with(kKind)) return false;
    keys.emplace_back(key);
    return keys.size() < kLookedAtPerTick;
  }));
  counted_so_far_ += keys.size();
  for (const std::string& key : keys) {
    TRY_ASSIGN(const FileAddress file, ParsePurgeKey(key));
    if (window_.size() >= kWindowMax) break;
    if (!window_.contains(file) && !is_dying(file)) Allow(file, now);
  }
  if (keys.size() == kLookedAtPerTick) {
    scanned_ = keys.back() + '\0';
    return Err::kOk;
  }
  scanned_.clear();
  counted_ = std::exchange(counted_so_far_, 0);
  return Err::kOk;
}

Err DirPurges::SendDue(Now now, std::vector<WebCall>* out) {
  while (!queue_.empty() && queue_.begin()->first <= now.mono_ms && flight_.size() < kFlightMax) {
    const FileAddress file = queue_.begin()->second;
    Item* item = &window_.at(file);
    SetDue(file, item, kHeld);
    TRY_ASSIGN(const bool sent, SendOne(file, item, now, out));
    if (!sent) Forget(file);
  }
  return Err::kOk;
}

// False: there is nothing to be sent.
Result<bool> DirPurges::SendOne(const FileAddress& file, Item* item, Now now,
                                std::vector<WebCall>* out) {
  const std::string key = PurgeKey(file);
  TRY_ASSIGN(const std::optional<pb::DirPurge> row, rows_->Get<pb::DirPurge>(key));
  if (!row.has_value()) return false;  // deleted, but by nobody who had its id: a loser
  if (row->since_ms() + kGiveUpMs < now.wall_ms) {
    LOG_ERROR("purge_given_up", "file=%s action=purge_it_by_hand", ToText(file).c_str());
    metrics_.purges_given_up_total.Add();
    rows_->Remove(key);
    return false;
  }
  WebCall call;
  call.call_id = kPurgeCall | ++last_call_;
  call.address = PurgeAddress(options_);
  call.request = PurgeRequest(options_, ToText(file), {row->tags().begin(), row->tags().end()});
  call.timeout_ms = options_.timeout_ms;
  flight_[call.call_id] = file;
  item->in_flight = true;
  out->push_back(std::move(call));
  if (IsMutant(Mutant::kDirForgetPurge)) rows_->Remove(key);
  return true;
}

Err DirPurges::OnDone(const CallDone& done, Now now, std::vector<WebCall>* out) {
  const auto call = flight_.find(done.call_id);
  ASSERT(call != flight_.end());
  const FileAddress file = call->second;
  flight_.erase(call);
  Item* item = &window_.at(file);
  item->in_flight = false;
  const bool purged = done.err == Err::kOk && IsPurged(done.message);
  (purged ? metrics_.purges_total : metrics_.purge_failures_total).Add();
  if (std::exchange(item->again, false)) {  // it waits for the newer delete's time, known or not
    SetDue(file, item, item->due_ms);
  } else if (purged) {
    rows_->Remove(PurgeKey(file));
    Forget(file);
  } else {
    Fail(file, item, done, now);
  }
  return SendDue(now, out);
}

void DirPurges::Fail(const FileAddress& file, Item* item, const CallDone& done, Now now) {
  if (item->pause_ms == 0) {
    LOG_WARN("purge_failed", "file=%s err=%s status=%s action=again", ToText(file).c_str(),
             std::string(ErrName(done.err)).c_str(), LogText(done.message).c_str());
  }
  const bool waits_long = item->pause_ms >= kMostPauseMs;
  item->pause_ms = std::clamp(2 * item->pause_ms, kFirstPauseMs, kMostPauseMs);
  SetDue(file, item, now.mono_ms + item->pause_ms);
  // Others have their turn; it has its next one when the scan comes by.
  if (waits_long && window_.size() >= kWindowMax) Forget(file);
}

}  // namespace hayloft
