#include "tests/sim/sim_coordinator.h"

#include <cinttypes>
#include <memory>
#include <utility>

namespace hayloft {

void SimCoordinator::Ask(const std::string& from, CoordinatorCall call,
                         std::function<void(CoordinatorDone&&)> done) {
  SimRandom& random = world_->random;
  // Whoever comes first ends the call: the answer or the time-out.
  auto caller = std::make_shared<std::function<void(CoordinatorDone &&)>>(std::move(done));
  const auto end = [caller](CoordinatorDone&& answer) {
    if (*caller) std::exchange(*caller, nullptr)(std::move(answer));
  };
  world_->events.After(kTimeoutUs, [end] {
    CoordinatorDone late;
    late.err = Err::kTimeout;
    end(std::move(late));
  });
  if (Down() || world_->net.IsCut(from, kAddress) || (troubled_ && random.Chance(5))) return;
  const bool late = troubled_ && random.Chance(5);
  const uint64_t there_us = late ? random.Below(4'000'000) : random.Between(100, 3'000);
  world_->events.After(there_us, [this, from, end, call = std::move(call)] {
    if (Down()) return;
    CoordinatorDone answer = Happen(call);
    if (world_->net.IsCut(kAddress, from) || (troubled_ && world_->random.Chance(5))) return;
    world_->events.After(world_->random.Between(100, 3'000),
                         [end, answer = std::move(answer)]() mutable { end(std::move(answer)); });
  });
}

CoordinatorDone SimCoordinator::Happen(const CoordinatorCall& call) {
  CoordinatorDone done;
  switch (call.kind) {
    case CoordinatorCall::Kind::kRead:
      done.view = {.identity = version_ == 0 ? "" : "one",
                   .record = record_,
                   .version = version_,
                   .held = Held()};
      return done;
    case CoordinatorCall::Kind::kRelease:
      lease_holder_.clear();
      return done;
    case CoordinatorCall::Kind::kCommit:
      break;
  }
  const bool free = !Held() || lease_holder_ == call.record.holder();
  if (call.version != version_ || !free) {
    done.err = Err::kExists;
    return done;
  }
  record_ = call.record;
  if (call.renews) {
    lease_holder_ = record_.holder();
    lease_end_us_ = world_->events.now_us() + kLeaseUs;
  }
  done.version = ++version_;
  world_->trace.Note("record %" PRIu64 ": epoch %" PRIu64 " of %s, set of %d, position %" PRIu64,
                     version_, record_.epoch(), record_.holder_address().c_str(),
                     record_.in_sync_size(), record_.log_position());
  return done;
}

void SimCoordinator::NodeDied(const std::string& node) {
  if (shows_deaths_ && lease_holder_ == node) lease_holder_.clear();
}

}  // namespace hayloft
