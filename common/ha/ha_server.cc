#include "common/ha/ha_server.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace hayloft {

namespace {

// Calls of the role core have this bit, so that answers find their core.
constexpr uint64_t kRoleCall = uint64_t{1} << 63;

RpcReply ReplyTo(const RpcRequest& request, Err err) {
  RpcReply reply;
  reply.token = request.token;
  reply.type = request.type;
  reply.err = err;
  return reply;
}

}  // namespace

HaServer::HaServer(HaService* service, RoleOptions role, RoleDisk disk, uint64_t process)
    : service_(service), role_(std::move(role), std::move(disk), process) {
  service_->role_ = &role_;
}

void HaServer::Start(Now now, HaOutbox* out) {
  RoleOutbox role_out;
  role_.Start(now, &role_out);
  Take(&role_out, now, out);
}

void HaServer::OnTick(Now now, HaOutbox* out) {
  RoleOutbox role_out;
  role_.OnTick(now, &role_out);
  Take(&role_out, now, out);
  if (!promoted_) return;
  ServiceOutbox service_out;
  service_->OnTick(now, &service_out);
  Take(&service_out, now, out);
}

// --- Requests ---

void HaServer::OnRequest(RpcRequest&& request, Now now, HaOutbox* out) {
  switch (request.type) {
    case MessageType::kShip:
    case MessageType::kSnapshot:
    case MessageType::kTakeOver: {
      if (!CanTake(request)) {  // before it is synced: nothing here could apply it
        out->replies.push_back(ReplyTo(request, Err::kUnsupported));
        return;
      }
      RoleOutbox role_out;
      role_.OnRequest(std::move(request), now, &role_out);
      return Take(&role_out, now, out);
    }
    case MessageType::kFailover:
      return OnFailover(request, now, out);
    case MessageType::kForcePromote:
      return ForcePromote(request, now, out);
    default:
      break;
  }
  if (!promoted_ || !role_.MayAnswer(now)) return AnswerAsStandby(request, now, out);
  ServiceOutbox service_out;
  service_->OnRequest(std::move(request), now, &service_out);
  Take(&service_out, now, out);
}

// Records and rows of a version that knows more, or nonsense.
bool HaServer::CanTake(const RpcRequest& request) const {
  if (request.type == MessageType::kSnapshot) {
    pb::SnapshotRequest snapshot;
    return snapshot.ParseFromString(request.message) && service_->KnowsRows(snapshot);
  }
  if (request.type != MessageType::kShip) return true;
  pb::ShipRequest ship;
  if (!ship.ParseFromString(request.message)) return false;
  return std::all_of(ship.records().begin(), ship.records().end(),
                     [&](const pb::HaRecord& record) { return service_->Knows(record); });
}

RpcReply HaServer::NotActiveReply(const ReplyToken& token, MessageType type) const {
  RpcReply reply;
  reply.token = token;
  reply.type = type;
  reply.err = Err::kNotActive;
  reply.message = role_.Hint().SerializeAsString();
  return reply;
}

void HaServer::AnswerAsStandby(const RpcRequest& request, Now now, HaOutbox* out) {
  RpcReply reply = NotActiveReply(request.token, request.type);
  role_.OnHeardEpoch(service_->AnswerAsStandby(request, now, &reply));
  out->replies.push_back(std::move(reply));
}

bool HaServer::HandOver(Now now, HaOutbox* out) {
  RoleOutbox role_out;
  const bool begun = role_.HandOver(now, &role_out);
  Take(&role_out, now, out);
  return begun;
}

void HaServer::OnFailover(const RpcRequest& request, Now now, HaOutbox* out) {
  if (!promoted_ || !role_.MayAnswer(now)) return AnswerAsStandby(request, now, out);
  out->replies.push_back(ReplyTo(request, HandOver(now, out) ? Err::kOk : Err::kUnavailable));
}

void HaServer::ForcePromote(const RpcRequest& request, Now now, HaOutbox* out) {
  pb::ForcePromoteRequest message;
  RpcReply reply = ReplyTo(request, Err::kOk);
  if (!message.ParseFromString(request.message)) {
    reply.err = Err::kInvalid;
  } else if (promoted_) {
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

// --- Answers ---

void HaServer::OnCallDone(CallDone&& done, Now now, HaOutbox* out) {
  if ((done.call_id & kRoleCall) != 0) {
    done.call_id &= ~kRoleCall;
    RoleOutbox role_out;
    role_.OnCallDone(std::move(done), now, &role_out);
    return Take(&role_out, now, out);
  }
  if (!promoted_) return;
  ServiceOutbox service_out;
  service_->OnCallDone(std::move(done), now, &service_out);
  Take(&service_out, now, out);
}

void HaServer::OnCoordinatorDone(CoordinatorDone&& done, Now now, HaOutbox* out) {
  RoleOutbox role_out;
  role_.OnCoordinatorDone(std::move(done), now, &role_out);
  Take(&role_out, now, out);
}

void HaServer::OnWritten(Now now, HaOutbox* out) {
  RoleOutbox role_out;
  role_.OnWritten(now, &role_out);
  Take(&role_out, now, out);
}

void HaServer::OnRecordsRead(std::vector<pb::HaRecord> records, Now now, HaOutbox* out) {
  RoleOutbox role_out;
  role_.OnRecordsRead(std::move(records), now, &role_out);
  Take(&role_out, now, out);
}

void HaServer::OnSnapshotRead(RoleCore::SnapshotPart part, Now now, HaOutbox* out) {
  RoleOutbox role_out;
  role_.OnSnapshotRead(std::move(part), now, &role_out);
  Take(&role_out, now, out);
}

void HaServer::OnApplied(uint64_t index, Now now, HaOutbox* out) {
  ServiceOutbox service_out;
  service_->OnApplied(index, now, &service_out);
  Take(&service_out, now, out);
}

// --- Between the two ---

void HaServer::Take(ServiceOutbox* from, Now now, HaOutbox* out) {
  if (!from->exit.empty()) {  // what it decided rests on something that can't be trusted
    return End(std::move(from->exit), from->exit_err, out);
  }
  for (RpcReply& reply : from->replies) {
    // What was decided may be out of date by now (rule 5).
    const bool may = role_.MayAnswer(now) || role_.handing_over();
    out->replies.push_back(may ? std::move(reply) : NotActiveReply(reply.token, reply.type));
  }
  for (RpcCall& call : from->calls) {
    ASSERT((call.call_id & kRoleCall) == 0);
    out->calls.push_back(std::move(call));
  }
  for (WebCall& call : from->web_calls) {
    ASSERT((call.call_id & kRoleCall) == 0);
    out->web_calls.push_back(std::move(call));
  }
  if (!from->records.empty() || from->hurry) {
    RoleOutbox role_out;
    const bool put_off = from->put_off && !from->hurry;
    role_.PutOff(role_.last() + 1, std::move(from->records));
    ASSERT(role_.last() == service_->last_index());  // both count alike
    if (!put_off) role_.Hurry(now, &role_out);
    Take(&role_out, now, out);
  }
  if (from->raise_epoch_above != 0) {
    RoleOutbox role_out;
    role_.RaiseEpoch(from->raise_epoch_above, now, &role_out);
    Take(&role_out, now, out);
  }
}

void HaServer::Take(RoleOutbox* from, Now now, HaOutbox* out) {
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
  if (!out->exit.empty()) return;
  if (from->promoted.has_value()) Promote(*from->promoted, now, out);
  if (from->raised_epoch != 0) {
    ServiceOutbox service_out;
    service_->OnEpochRaised(from->raised_epoch, &service_out);
    Take(&service_out, now, out);
  }
  if (from->want_record) {
    ServiceOutbox service_out;
    service_->LogNothing(&service_out);
    Take(&service_out, now, out);
  }
}

void HaServer::Commit(std::vector<pb::HaRecord> records, Now now, HaOutbox* out) {
  if (records.empty()) return;
  const uint64_t last = records.back().index();
  for (pb::HaRecord& record : records) {
    if (!promoted_ && service_->Follow(record) != Err::kOk) {
      return End(NotUnderstood(record.index()), Err::kCorrupt, out);
    }
    out->apply.push_back(std::move(record));
  }
  if (!promoted_) return;
  ServiceOutbox service_out;
  service_->OnCommitted(last, now, &service_out);
  Take(&service_out, now, out);
}

// kCorrupt, of a log: another version wrote it, or nobody. It is sound by its CRC, and says what
// can't be.
void HaServer::End(std::string why, Err err, HaOutbox* out) {
  if (!out->exit.empty()) return;
  RoleOutbox role_out;
  role_.Exit(why, &role_out);
  out->exit = std::move(why);
  out->exit_err = err;
}

void HaServer::Promote(const Promotion& promotion, Now now, HaOutbox* out) {
  ASSERT(!promoted_);
  // With --strict, the end of the log is not committed yet: the service waits for it.
  std::vector<pb::HaRecord> tail;
  for (uint64_t index = service_->last_index() + 1; index <= role_.last(); ++index) {
    tail.push_back(role_.log().At(index));
  }
  ServiceOutbox service_out;
  service_->Promote(promotion, std::move(tail), now, &service_out);
  if (!service_out.exit.empty()) return Take(&service_out, now, out);
  promoted_ = true;
  out->promoted_epoch = promotion.epoch;
  if (promotion.forced) role_.ForceLogged(service_->last_index());
  Take(&service_out, now, out);
}

}  // namespace hayloft
