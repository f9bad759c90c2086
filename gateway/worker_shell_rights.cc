// Rights: what gateway/rights.h decides, told to the client, and to the rest of the request.
#include "gateway/worker_shell.h"

namespace hayloft {

namespace {

std::unique_ptr<UrlBounds> BoundsOf(const RightsVerdict& verdict) {
  if (!verdict.body_bytes_max && verdict.type.empty() && verdict.nonce.empty()) return nullptr;
  return std::make_unique<UrlBounds>(
      UrlBounds{.body_bytes_max = verdict.body_bytes_max.value_or(UINT64_MAX),
                .type = std::string(verdict.type),
                .key_id = std::string(verdict.key_name),
                .nonce = std::string(verdict.nonce),
                .until_s = verdict.honoured_until_s});
}

}  // namespace

void GatewayWorker::UseRights(std::shared_ptr<const Rights> rights) {
  loop_.Post([this, fresh = std::move(rights)] { rights_ = fresh; });
}

// False when it was refused and answered.
bool GatewayWorker::PassesRights(HttpConnection* connection, const HttpRequest& request,
                                 const Route& route) {
  const RightsVerdict verdict =
      rights_->Check({.kind = route.kind,
                      .method = request.method,
                      .path = request.path,
                      .query = request.query,
                      .authorization = request.Value(HttpField::kAuthorization),
                      .now_s = loop_.now().wall_ms / 1'000});
  connection->NoteUser(verdict.key_name);
  if (!verdict.allowed()) {
    RefuseRights(connection, verdict.kind);
    return false;
  }
  connection->exchange.seconds_left = verdict.seconds_left;
  connection->exchange.bounds = BoundsOf(verdict);
  connection->exchange.uploader = verdict.key_name;
  return PassesKeyRate(connection, verdict.key_name, route);
}

void GatewayWorker::RefuseRights(HttpConnection* connection, RightsVerdict::Kind kind) {
  using Kind = RightsVerdict::Kind;
  GatewayMetrics& metrics = shared_->metrics;
  ErrorAnswer answer{.status = 403};
  switch (kind) {
    case Kind::kAllowed:
      ASSERT(!"what is allowed is not refused");
      break;
    case Kind::kNoKey:
      metrics.rights_missing_total.Add();
      answer.status = 401;
      answer.message = "An upload key is needed, as Authorization: Bearer, or a signed URL.";
      answer.field = {"WWW-Authenticate", "Bearer realm=\"hayloft\""};
      break;
    case Kind::kNoUrl:
      metrics.rights_missing_total.Add();
      answer.message = "A signed URL is needed.";
      break;
    case Kind::kWrongKey:
      metrics.rights_wrong_total.Add();
      answer.message = "This upload key is not known here.";
      break;
    case Kind::kWrongUrl:
      metrics.rights_wrong_total.Add();
      answer.message = "This URL is not signed for this request by a key that is known here.";
      break;
    case Kind::kExpired:
      metrics.rights_expired_total.Add();
      answer = {.status = 410, .code = "expired", .message = "The signed URL has expired."};
      break;
  }
  AnswerError(connection, answer);
}

// Called last, when a body is about to be taken or the store to be asked for a delete: what is
// refused before costs no nonce. From here on it is spent, whatever comes of it, since nobody can
// say what did. False when it was refused and answered.
bool GatewayWorker::SpendNonce(HttpConnection* connection) {
  const UrlBounds* bounds = connection->exchange.bounds.get();
  if (bounds == nullptr || bounds->nonce.empty()) return true;
  const uint64_t now_s = loop_.now().wall_ms / 1'000;
  NonceTable::Outcome outcome = NonceTable::Outcome::kFresh;
  {
    const std::lock_guard<std::mutex> lock(shared_->nonces_mutex);
    outcome = shared_->nonces.Spend(bounds->key_id, bounds->nonce, bounds->until_s, now_s);
    shared_->metrics.nonces.Set(static_cast<int64_t>(shared_->nonces.size()));
  }
  switch (outcome) {
    case NonceTable::Outcome::kFresh:
      return true;
    case NonceTable::Outcome::kSpent:
      shared_->metrics.rights_spent_total.Add();
      AnswerError(
          connection,
          {.status = 403, .code = "spent", .message = "This URL was for once, and has been used."});
      return false;
    case NonceTable::Outcome::kFull:
      AnswerErr(connection, Err::kBusy);
      return false;
  }
  return false;
}

}  // namespace hayloft
