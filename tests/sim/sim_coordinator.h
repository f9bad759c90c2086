// The coordinator of a simulated pair, as etcd is one: a record with a version, transactions that
// compare it, a lease that ends by the coordinator's own clock.
//
// A request can be lost on its way (it never happened), on its way back (it happened, and nobody
// knows), or be late (it happens when its caller has given up). While it is down nothing happens,
// and its leases live on when it comes back, as etcd prolongs them.
#pragma once

#include <functional>
#include <string>

#include "common/ha/role_core.h"
#include "tests/sim/sim_world.h"

namespace hayloft {

class SimCoordinator {
 public:
  static constexpr const char* kAddress = "10.0.0.9:2379";
  static constexpr uint64_t kTimeoutUs = 1'000'000;
  static constexpr uint64_t kLeaseUs = 3'000'000;

  explicit SimCoordinator(SimWorld* world) : world_(world) {}

  // `done` is called once, if only with kTimeout. It must not be called when its caller is dead:
  // that is the caller's to see to.
  void Ask(const std::string& from, CoordinatorCall call,
           std::function<void(CoordinatorDone&&)> done);
  void StopFor(uint64_t ms) { down_until_us_ = world_->events.now_us() + ms * 1000; }
  // A share of requests is late or lost from now on.
  void SetTroubled(bool troubled) { troubled_ = troubled; }
  // The process of this node died, which a lease file shows at once; etcd does not.
  void NodeDied(const std::string& node);
  void ShowDeaths(bool shows) { shows_deaths_ = shows; }

  const pb::LeaseRecord& record() const { return record_; }

 private:
  bool Down() const { return world_->events.now_us() < down_until_us_; }
  bool Held() const { return !lease_holder_.empty() && world_->events.now_us() < lease_end_us_; }
  CoordinatorDone Happen(const CoordinatorCall& call);

  SimWorld* world_;
  pb::LeaseRecord record_;
  uint64_t version_ = 0;
  std::string lease_holder_;
  uint64_t lease_end_us_ = 0;
  uint64_t down_until_us_ = 0;
  bool troubled_ = false;
  bool shows_deaths_ = false;
};

}  // namespace hayloft
