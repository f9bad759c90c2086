#include "nameserver/ns_server.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/log.h"
#include "nameserver/ns_store.h"

namespace hayloft {

namespace {

// Calls of the role core have this bit, so that answers find their core.
constexpr uint64_t kRoleCall = uint64_t{1} << 63;
constexpr size_t kRegistrationsMax = 10'000;

pb::LogRecord RecordOf(const pb::HaRecord& record) {
  pb::LogRecord parsed;
  // What the active proposed and every node has under its CRC.
  const bool good = parsed.ParseFromString(record.body()) && parsed.index() == record.index();
  ASSERT(good);
  return parsed;
}

}  // namespace

NsServer::NsServer(const NsOptions& options, RoleOptions role, NsState state, RoleDisk disk,
                   Random* random)
    : options_(options),
      random_(random),
      role_(std::move(role), std::move(disk), random->Next64()),
      state_(std::move(state)) {}

void NsServer::Start(Now now, ServerOutbox* out) {
  RoleOutbox role_out;
  role_.Start(now, &role_out);
  Take(&role_out, now, out);
}

void NsServer::OnTick(Now now, ServerOutbox* out) {
  RoleOutbox role_out;
  role_.OnTick(now, &role_out);
  Take(&role_out, now, out);
  if (core_ == nullptr) return;
  NsOutbox ns_out;
  core_->OnTick(now, &ns_out);
  Take(&ns_out, now, out);
}

bool NsServer::Answers(Now now) const {
  return core_ != nullptr && core_->Active() && role_.MayAnswer(now);
}

// --- Requests ---

void NsServer::OnRequest(RpcRequest&& request, Now now, ServerOutbox* out) {
  switch (request.type) {
    case MessageType::kShip:
    case MessageType::kSnapshot:
    case MessageType::kTakeOver: {
      if (!CanTake(request)) {  // before it is synced: nothing here could apply it
        RpcReply reply;
        reply.token = request.token;
        reply.type = request.type;
        reply.err = Err::kUnsupported;
        out->replies.push_back(std::move(reply));
        return;
      }
      RoleOutbox role_out;
      role_.OnRequest(std::move(request), now, &role_out);
      return Take(&role_out, now, out);
    }
    case MessageType::kFailover:
      return HandOver(request, now, out);
    case MessageType::kForcePromote:
      return ForcePromote(request, now, out);
    default:
      break;
  }
  if (core_ == nullptr || !role_.MayAnswer(now)) return AnswerAsStandby(request, now, out);
  if (request.type == MessageType::kClusterStatus) {
    RpcReply reply;
    reply.token = request.token;
    reply.type = request.type;
    reply.message = Status(now).SerializeAsString();
    out->replies.push_back(std::move(reply));
    return;
  }
  NsOutbox ns_out;
  core_->OnRequest(std::move(request), now, &ns_out);
  Take(&ns_out, now, out);
}

// Records and rows of a version that knows more, or nonsense.
bool NsServer::CanTake(const RpcRequest& request) const {
  if (request.type == MessageType::kSnapshot) {
    pb::SnapshotRequest snapshot;
    return snapshot.ParseFromString(request.message) && NsStore::CanTake(snapshot);
  }
  if (request.type != MessageType::kShip) return true;
  pb::ShipRequest ship;
  if (!ship.ParseFromString(request.message)) return false;
  return std::all_of(ship.records().begin(), ship.records().end(), [](const pb::HaRecord& record) {
    pb::LogRecord parsed;
    return parsed.ParseFromString(record.body()) && parsed.index() == record.index() &&
           parsed.operation_case() != pb::LogRecord::OPERATION_NOT_SET;
  });
}

RpcReply NsServer::NotActiveReply(const ReplyToken& token, MessageType type) const {
  RpcReply reply;
  reply.token = token;
  reply.type = type;
  reply.err = Err::kNotActive;
  reply.message = role_.Hint().SerializeAsString();
  return reply;
}

void NsServer::AnswerAsStandby(const RpcRequest& request, Now now, ServerOutbox* out) {
  RpcReply reply = NotActiveReply(request.token, request.type);
  if (request.type == MessageType::kRegister) NoteRegistration(request, now);
  if (request.type == MessageType::kClusterStatus) {
    reply.err = Err::kOk;
    reply.message = Status(now).SerializeAsString();
  }
  out->replies.push_back(std::move(reply));
}

void NsServer::NoteRegistration(const RpcRequest& request, Now now) {
  pb::RegisterRequest message;
  if (!message.ParseFromString(request.message) || !message.has_space()) return;
  if (message.cluster_id() != state().settings.cluster_id()) return;
  role_.OnHeardEpoch(message.promised_epoch());
  const bool known = registrations_.contains(message.disk_id());
  if (!known && registrations_.size() >= kRegistrationsMax) return;
  Registration& registration = registrations_[message.disk_id()];
  registration.message = std::move(message);
  registration.heard_ms = now.mono_ms;
}

void NsServer::HandOver(const RpcRequest& request, Now now, ServerOutbox* out) {
  if (core_ == nullptr || !role_.MayAnswer(now)) return AnswerAsStandby(request, now, out);
  RoleOutbox role_out;
  RpcReply reply;
  reply.token = request.token;
  reply.type = request.type;
  reply.err = role_.HandOver(now, &role_out) ? Err::kOk : Err::kUnavailable;
  out->replies.push_back(std::move(reply));
  Take(&role_out, now, out);
}

void NsServer::ForcePromote(const RpcRequest& request, Now now, ServerOutbox* out) {
  pb::ForcePromoteRequest message;
  RpcReply reply;
  reply.token = request.token;
  reply.type = request.type;
  if (!message.ParseFromString(request.message)) {
    reply.err = Err::kInvalid;
  } else if (core_ != nullptr) {
    reply.err = Err::kExists;
  } else {
    pb::ForcePromoteReply told;
    told.set_why_waiting(std::string(role_.why_waiting()));
    told.set_log_index(role_.last());
    told.set_record_position(role_.seen_record().log_position());
    told.set_in_set(role_.in_sync());
    told.set_record_known(role_.seen_record().epoch() != 0);
    reply.message = told.SerializeAsString();
    if (message.accept_loss()) role_.Force(now);
  }
  out->replies.push_back(std::move(reply));
}

pb::ClusterStatusReply NsServer::Status(Now now) const {
  pb::ClusterStatusReply reply;
  if (core_ != nullptr) reply = core_->Status(now);
  if (!Answers(now)) reply.set_role("standby");
  if (core_ == nullptr) reply.set_epoch(role_.Hint().epoch());
  reply.set_in_sync(role_.in_sync());
  reply.set_cluster_id(state().settings.cluster_id());
  return reply;
}

// --- Answers ---

void NsServer::OnCallDone(CallDone&& done, Now now, ServerOutbox* out) {
  if ((done.call_id & kRoleCall) != 0) {
    done.call_id &= ~kRoleCall;
    RoleOutbox role_out;
    role_.OnCallDone(std::move(done), now, &role_out);
    return Take(&role_out, now, out);
  }
  if (core_ == nullptr) return;
  NsOutbox ns_out;
  core_->OnCallDone(std::move(done), now, &ns_out);
  Take(&ns_out, now, out);
}

void NsServer::OnCoordinatorDone(CoordinatorDone&& done, Now now, ServerOutbox* out) {
  RoleOutbox role_out;
  role_.OnCoordinatorDone(std::move(done), now, &role_out);
  Take(&role_out, now, out);
}

void NsServer::OnWritten(Now now, ServerOutbox* out) {
  RoleOutbox role_out;
  role_.OnWritten(now, &role_out);
  Take(&role_out, now, out);
}

void NsServer::OnRecordsRead(std::vector<pb::HaRecord> records, Now now, ServerOutbox* out) {
  RoleOutbox role_out;
  role_.OnRecordsRead(std::move(records), now, &role_out);
  Take(&role_out, now, out);
}

void NsServer::OnSnapshotRead(RoleCore::SnapshotPart part, Now now, ServerOutbox* out) {
  RoleOutbox role_out;
  role_.OnSnapshotRead(std::move(part), now, &role_out);
  Take(&role_out, now, out);
}

// Its node is its own, not that of the rows.
void NsServer::OnReloaded(NsState state) {
  ASSERT(core_ == nullptr);
  state.node = state_.node;
  state_ = std::move(state);
}

// --- Between the two ---

void NsServer::Take(NsOutbox* from, Now now, ServerOutbox* out) {
  for (RpcReply& reply : from->replies) {
    // What was decided may be out of date by now (rule 5).
    const bool may = role_.MayAnswer(now) || role_.handing_over();
    out->replies.push_back(may ? std::move(reply) : NotActiveReply(reply.token, reply.type));
  }
  for (RpcCall& call : from->calls) out->calls.push_back(std::move(call));
  if (!from->records.empty()) {
    std::vector<std::string> bodies;
    for (const pb::LogRecord& record : from->records) {
      bodies.push_back(record.SerializeAsString());
    }
    RoleOutbox role_out;
    role_.Propose(from->records.front().index(), std::move(bodies), now, &role_out);
    Take(&role_out, now, out);
  }
  if (from->raise_epoch_above != 0) {
    RoleOutbox role_out;
    role_.RaiseEpoch(from->raise_epoch_above, now, &role_out);
    Take(&role_out, now, out);
  }
}

void NsServer::Take(RoleOutbox* from, Now now, ServerOutbox* out) {
  for (RpcReply& reply : from->replies) out->replies.push_back(std::move(reply));
  for (RpcCall& call : from->calls) {
    call.call_id |= kRoleCall;
    out->calls.push_back(std::move(call));
  }
  if (from->write.has_value()) {
    ASSERT(!out->write.has_value());
    out->write = std::move(from->write);
  }
  if (from->coordinator.has_value()) {
    ASSERT(!out->coordinator.has_value());
    out->coordinator = std::move(from->coordinator);
  }
  if (from->read_from != 0) out->read_from = from->read_from;
  if (from->snapshot_after.has_value()) out->snapshot_after = std::move(from->snapshot_after);
  out->reload |= from->reload;
  if (!from->exit.empty()) out->exit = std::move(from->exit);
  Commit(std::move(from->committed), now, out);
  if (from->promoted.has_value()) Promote(*from->promoted, now, out);
  if (from->raised_epoch != 0) {
    NsOutbox ns_out;
    core_->OnEpochRaised(from->raised_epoch, &ns_out);
    Take(&ns_out, now, out);
  }
  if (from->want_record) {
    NsOutbox ns_out;
    core_->LogNothing(&ns_out);
    Take(&ns_out, now, out);
  }
}

void NsServer::Commit(std::vector<pb::HaRecord> records, Now now, ServerOutbox* out) {
  if (records.empty()) return;
  const uint64_t last = records.back().index();
  for (const pb::HaRecord& record : records) {
    out->apply.push_back(RecordOf(record));
    if (core_ != nullptr) continue;
    if (ApplyRecord(out->apply.back(), &state_) == Err::kOk) continue;
    out->apply.clear();
    out->exit = "a record contradicts what was applied before it";
    return;
  }
  if (core_ == nullptr) return;
  NsOutbox ns_out;
  core_->OnCommitted(last, &ns_out);
  Take(&ns_out, now, out);
}

void NsServer::Promote(const Promotion& promotion, Now now, ServerOutbox* out) {
  ASSERT(core_ == nullptr);
  out->promoted_epoch = promotion.epoch;
  // With --strict, the end of the log is not committed yet: the core waits for it.
  const uint64_t committed = state_.last_index;
  for (uint64_t index = committed + 1; index <= role_.last(); ++index) {
    const Err err = ApplyRecord(RecordOf(role_.log().At(index)), &state_);
    ASSERT(err == Err::kOk);
  }
  LOG_INFO("active", "epoch=%llu blocks=%llu dsps=%zu",
           static_cast<unsigned long long>(promotion.epoch),
           static_cast<unsigned long long>(state_.blocks.size()), state_.dsps.size());
  core_ = std::make_unique<NsCore>(options_, std::exchange(state_, {}), random_);
  NsOutbox ns_out;
  core_->Start(promotion.epoch, promotion.forced, now, &ns_out);
  if (promotion.forced) role_.ForceLogged(core_->state().last_index);
  for (const auto& [disk_id, registration] : registrations_) {
    if (now.mono_ms - registration.heard_ms > options_.suspect_after_ms) continue;
    core_->TakeRegistration(registration.message, registration.heard_ms, now, &ns_out);
  }
  registrations_.clear();
  Take(&ns_out, now, out);
}

}  // namespace hayloft
