// A nameserver in either role: NsCore's decisions as a service of a pair (common/ha/ha_server.h).
//
// A standby keeps what dsps say of themselves, so that the first grant after a promotion need not
// wait for them.
//
// Threads: one owner. Pure; borrows `random`.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/ha/ha_server.h"
#include "nameserver/ns_core.h"
#include "nameserver/ns_gateways.h"

namespace hayloft {

class NsService : public HaService {
 public:
  NsService(const NsOptions& options, NsState state, Random* random)
      : options_(options), random_(random), state_(std::move(state)) {}

  bool Knows(const pb::HaRecord& record) const override;
  bool KnowsRows(const pb::SnapshotRequest& snapshot) const override;
  Err Follow(const pb::HaRecord& record) override;
  uint64_t AnswerAsStandby(const RpcRequest& request, Now now, RpcReply* reply) override;
  void Promote(const Promotion& promotion, std::vector<pb::HaRecord> tail, Now now,
               ServiceOutbox* out) override;
  void OnRequest(RpcRequest&& request, Now now, ServiceOutbox* out) override;
  void OnCallDone(CallDone&& done, Now now, ServiceOutbox* out) override;
  void OnTick(Now now, ServiceOutbox* out) override;
  void OnCommitted(uint64_t index, Now now, ServiceOutbox* out) override;
  void OnEpochRaised(uint64_t epoch, ServiceOutbox* out) override;
  void LogNothing(ServiceOutbox* out) override;
  uint64_t last_index() const override { return state().last_index; }

  void OnReloaded(NsState state);
  // Null of one that is not active.
  const NsCore* core() const { return core_.get(); }
  // What was committed; of an active one, what it decided.
  const NsState& state() const { return core_ != nullptr ? core_->state() : state_; }
  bool Answers(Now now) const;
  pb::ClusterStatusReply Status(Now now) const;

 private:
  struct Registration {
    pb::RegisterRequest message;
    uint64_t heard_ms = 0;
  };
  uint64_t NoteRegistration(const RpcRequest& request, Now now);
  void HearGateway(const RpcRequest& request, Now now, RpcReply* reply);

  const NsOptions options_;
  Random* const random_;
  NsState state_;  // of a standby; moved into the core by a promotion
  std::unique_ptr<NsCore> core_;
  std::map<std::string, Registration, std::less<>> registrations_;  // by disk id
  NsGateways gateways_;
};

struct NsServiceHolder {  // so that it is made before the server that borrows it
  NsService service;
};

class NsServer : private NsServiceHolder, public HaServer {
 public:
  NsServer(const NsOptions& options, RoleOptions role, NsState state, RoleDisk disk, Random* random)
      : NsServiceHolder{NsService(options, std::move(state), random)},
        HaServer(&service, std::move(role), std::move(disk), random->Next64()) {}

  // After HaOutbox::reload.
  void OnReloaded(NsState state) { service.OnReloaded(std::move(state)); }
  const NsCore* core() const { return service.core(); }
  const NsState& state() const { return service.state(); }
  // It answers: active, its epoch is safe, its lease young.
  bool Answers(Now now) const { return service.Answers(now); }
  pb::ClusterStatusReply Status(Now now) const { return service.Status(now); }
};

}  // namespace hayloft
