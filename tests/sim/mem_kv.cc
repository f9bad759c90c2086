#include "tests/sim/mem_kv.h"

#include <algorithm>

namespace hayloft {

Result<std::string> MemKv::Get(std::string_view key) {
  if (power_->off()) return Err::kIo;
  if (broken_ != Err::kOk) return broken_;
  const auto found = contents_.find(key);
  if (found == contents_.end()) return Err::kNotFound;
  return found->second;
}

Err MemKv::Write(std::span<const Change> changes, bool sync) {
  if (power_->off()) return Err::kIo;
  if (broken_ != Err::kOk) return broken_;
  if (full_) return Err::kFull;
  const bool alive = power_->Operate();
  if (!alive && random_.Chance(50)) return Err::kIo;
  if (const Err err = std::exchange(fail_write_, Err::kOk); err != Err::kOk) return err;
  std::vector<Undo> undo;
  for (const Change& change : changes) {
    ASSERT(!change.key.empty());
    const auto found = contents_.find(change.key);
    const bool existed = found != contents_.end();
    undo.push_back({change.key, existed ? found->second : "", existed});
    if (change.remove) {
      contents_.erase(change.key);
    } else {
      contents_[change.key] = change.value;
    }
  }
  std::reverse(undo.begin(), undo.end());
  unsynced_.push_back(std::move(undo));
  if (!alive) return Err::kIo;
  if (sync) unsynced_.clear();
  return Err::kOk;
}

Err MemKv::ScanFrom(std::string_view first, const Visit& visit) {
  if (power_->off()) return Err::kIo;
  if (broken_ != Err::kOk) return broken_;
  for (auto row = contents_.lower_bound(first); row != contents_.end(); ++row) {
    if (!visit(row->first, row->second)) break;
  }
  return Err::kOk;
}

void MemKv::Crash(CrashMode mode) {
  power_->Cut();
  if (mode == CrashMode::kKill) return;
  const size_t kept = mode == CrashMode::kClean ? 0 : random_.Below(unsynced_.size() + 1);
  while (unsynced_.size() > kept) {
    for (Undo& undo : unsynced_.back()) {
      if (undo.existed) {
        contents_[undo.key] = std::move(undo.value);
      } else {
        contents_.erase(undo.key);
      }
    }
    unsynced_.pop_back();
  }
  unsynced_.clear();  // what reached the medium stays there
}

void MemKv::Wipe() {
  contents_.clear();
  unsynced_.clear();
}

}  // namespace hayloft
