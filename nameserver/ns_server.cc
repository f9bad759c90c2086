#include "nameserver/ns_server.h"

#include <utility>

#include "common/check.h"
#include "common/log.h"
#include "nameserver/ns_store.h"

namespace hayloft {

namespace {

constexpr size_t kRegistrationsMax = 10'000;

// An NsOutbox whose content goes into a ServiceOutbox.
class Taken {
 public:
  explicit Taken(ServiceOutbox* out) : out_(out) {}
  Taken(const Taken&) = delete;
  Taken& operator=(const Taken&) = delete;
  ~Taken() {
    for (RpcReply& reply : from_.replies) out_->replies.push_back(std::move(reply));
    for (RpcCall& call : from_.calls) out_->calls.push_back(std::move(call));
    for (const pb::LogRecord& record : from_.records) {
      out_->records.push_back(record.SerializeAsString());
    }
    if (from_.raise_epoch_above != 0) out_->raise_epoch_above = from_.raise_epoch_above;
  }
  operator NsOutbox*() { return &from_; }  // NOLINT: implicit on purpose

 private:
  ServiceOutbox* const out_;
  NsOutbox from_;
};

}  // namespace

// --- A follower ---

bool NsService::Knows(const pb::HaRecord& record) const {
  pb::LogRecord parsed;
  return parsed.ParseFromString(record.body()) && parsed.index() == record.index() &&
         parsed.operation_case() != pb::LogRecord::OPERATION_NOT_SET;
}

bool NsService::KnowsRows(const pb::SnapshotRequest& snapshot) const {
  return NsStore::CanTake(snapshot);
}

Err NsService::Follow(const pb::HaRecord& record) {
  pb::LogRecord parsed;
  if (!parsed.ParseFromString(record.body()) || parsed.index() != record.index()) {
    return Err::kCorrupt;
  }
  return ApplyRecord(parsed, &state_);
}

uint64_t NsService::AnswerAsStandby(const RpcRequest& request, Now now, RpcReply* reply) {
  if (request.type == MessageType::kRegister) return NoteRegistration(request, now);
  if (request.type == MessageType::kGatewayHello) HearGateway(request, now, reply);
  if (request.type == MessageType::kClusterStatus) {
    reply->err = Err::kOk;
    reply->message = Status(now).SerializeAsString();
  }
  return 0;
}

void NsService::HearGateway(const RpcRequest& request, Now now, RpcReply* reply) {
  pb::GatewayHelloReply message;
  reply->err = gateways_.Hear(request.message, now, &message);
  reply->message = reply->err == Err::kOk ? message.SerializeAsString() : "";
}

uint64_t NsService::NoteRegistration(const RpcRequest& request, Now now) {
  pb::RegisterRequest message;
  if (!message.ParseFromString(request.message) || !message.has_space()) return 0;
  if (message.cluster_id() != state().settings.cluster_id()) return 0;
  const uint64_t promised = message.promised_epoch();
  const bool known = registrations_.contains(message.disk_id());
  if (!known && registrations_.size() >= kRegistrationsMax) return promised;
  Registration& registration = registrations_[message.disk_id()];
  registration.message = std::move(message);
  registration.heard_ms = now.mono_ms;
  return promised;
}

// Its node is its own, not that of the rows.
void NsService::OnReloaded(NsState state) {
  ASSERT(core_ == nullptr);
  state.node = state_.node;
  state_ = std::move(state);
}

void NsService::Promote(const Promotion& promotion, std::vector<pb::HaRecord> tail, Now now,
                        ServiceOutbox* out) {
  for (const pb::HaRecord& record : tail) {
    if (Follow(record) == Err::kOk) continue;
    out->exit = NotUnderstood(record.index());
    return;
  }
  if (promotion.epoch <= state_.epoch) {
    out->exit = RowsAhead(state_.epoch, promotion.epoch);
    return;
  }
  LOG_INFO("active", "epoch=%llu blocks=%llu dsps=%zu",
           static_cast<unsigned long long>(promotion.epoch),
           static_cast<unsigned long long>(state_.blocks.size()), state_.dsps.size());
  core_ = std::make_unique<NsCore>(options_, std::exchange(state_, {}), random_);
  Taken taken(out);
  core_->Start(promotion.epoch, promotion.forced, now, taken);
  for (const auto& [disk_id, registration] : registrations_) {
    if (now.mono_ms - registration.heard_ms > options_.suspect_after_ms) continue;
    core_->TakeRegistration(registration.message, registration.heard_ms, now, taken);
  }
  registrations_.clear();
}

// --- An active one ---

void NsService::OnRequest(RpcRequest&& request, Now now, ServiceOutbox* out) {
  const bool status = request.type == MessageType::kClusterStatus;
  if (status || request.type == MessageType::kGatewayHello) {  // in either role
    RpcReply reply;
    reply.token = request.token;
    reply.type = request.type;
    if (status) reply.message = Status(now).SerializeAsString();
    if (!status) HearGateway(request, now, &reply);
    out->replies.push_back(std::move(reply));
    return;
  }
  core_->OnRequest(std::move(request), now, Taken(out));
}

void NsService::OnCallDone(CallDone&& done, Now now, ServiceOutbox* out) {
  core_->OnCallDone(std::move(done), now, Taken(out));
}

void NsService::OnTick(Now now, ServiceOutbox* out) { core_->OnTick(now, Taken(out)); }

void NsService::OnCommitted(uint64_t index, Now, ServiceOutbox* out) {
  core_->OnCommitted(index, Taken(out));
}

void NsService::OnEpochRaised(uint64_t epoch, ServiceOutbox* out) {
  core_->OnEpochRaised(epoch, Taken(out));
}

void NsService::LogNothing(ServiceOutbox* out) { core_->LogNothing(Taken(out)); }

bool NsService::Answers(Now now) const {
  return core_ != nullptr && core_->Active() && role().MayAnswer(now);
}

pb::ClusterStatusReply NsService::Status(Now now) const {
  pb::ClusterStatusReply reply;
  if (core_ != nullptr) reply = core_->Status(now);
  if (!Answers(now)) reply.set_role("standby");
  if (core_ == nullptr) reply.set_epoch(role().Hint().epoch());
  reply.set_in_sync(role().in_sync());
  reply.set_cluster_id(state().settings.cluster_id());
  return reply;
}

}  // namespace hayloft
