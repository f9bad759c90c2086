#include "client/async_client.h"

#include <utility>

#include "common/check.h"

namespace hayloft {

namespace {

constexpr uint64_t kTickMs = 50;

template <typename Done>
void CallBack(std::vector<Done>* done,
              std::unordered_map<uint64_t, std::function<void(Done&&)>>* callbacks) {
  for (Done& one : std::exchange(*done, {})) {
    auto callback = callbacks->extract(one.op_id);
    ASSERT(!callback.empty());
    callback.mapped()(std::move(one));
  }
}

}  // namespace

AsyncClient::AsyncClient(Loop* loop, const AsyncClientOptions& options)
    : loop_(loop),
      core_(options.core, &random_),
      rpc_(loop, options.rpc),
      deliver_(loop, [this] { Deliver(&begun_); }),
      end_turn_(loop, [this] { EndTurn(); }) {
  rpc_.OnDone([this](CallDone&& done) {
    ClientOutbox outbox;
    core_.OnCallDone(std::move(done), loop_->now(), &outbox);
    Deliver(&outbox);
  });
  tick_ = loop_->Every(kTickMs, [this] { Wake(); });
}

void AsyncClient::Wake() {
  ClientOutbox outbox;
  core_.OnTick(loop_->now(), &outbox);
  Deliver(&outbox);
}

// A read that is to ask a second replica can't wait for the tick. A timer is set only for what is
// due before the one that runs: under load, one serves many reads.
void AsyncClient::SetWake() {
  const uint64_t due_ms = core_.NextWakeMs();
  const uint64_t now_ms = loop_->now().mono_ms;
  if (due_ms >= wake_at_ms_ || due_ms >= now_ms + kTickMs) return;
  wake_at_ms_ = due_ms;
  wake_ = loop_->After(due_ms > now_ms ? due_ms - now_ms : 1, [this] {
    wake_at_ms_ = UINT64_MAX;
    Wake();
  });
}

void AsyncClient::Put(PutRequest&& request, std::function<void(PutDone&&)> done) {
  const uint64_t op_id = core_.Put(std::move(request), loop_->now(), &begun_);
  puts_.emplace(op_id, std::move(done));
  Begun();
}

void AsyncClient::Get(GetRequest&& request, std::function<void(GetDone&&)> done) {
  const uint64_t op_id = core_.Get(std::move(request), loop_->now(), &begun_);
  gets_.emplace(op_id, std::move(done));
  Begun();
}

void AsyncClient::Stat(StatRequest&& request, std::function<void(StatDone&&)> done) {
  const uint64_t op_id = core_.Stat(std::move(request), loop_->now(), &begun_);
  stats_.emplace(op_id, std::move(done));
  Begun();
}

void AsyncClient::SetDelete(SetDeleteRequest&& request, std::function<void(SetDeleteDone&&)> done) {
  const uint64_t op_id = core_.SetDelete(std::move(request), loop_->now(), &begun_);
  set_deletes_.emplace(op_id, std::move(done));
  Begun();
}

void AsyncClient::Status(uint32_t timeout_ms, std::function<void(StatusDone&&)> done) {
  const uint64_t op_id = core_.Status(timeout_ms, loop_->now(), &begun_);
  statuses_.emplace(op_id, std::move(done));
  Begun();
}

void AsyncClient::Ask(AskRequest&& request, std::function<void(AskDone&&)> done) {
  const uint64_t op_id = core_.Ask(std::move(request), loop_->now(), &begun_);
  asks_.emplace(op_id, std::move(done));
  Begun();
}

void AsyncClient::SendCalls(ClientOutbox* outbox) {
  for (RpcCall& call : std::exchange(outbox->calls, {})) rpc_.Call(std::move(call));
  if (core_.gathers()) end_turn_.Schedule();
}

void AsyncClient::EndTurn() {
  ClientOutbox outbox;
  core_.EndTurn(&outbox);
  SendCalls(&outbox);
}

// Calls leave at once; an answer that is known already waits for the end of the turn.
void AsyncClient::Begun() {
  SendCalls(&begun_);
  SetWake();
  const bool answered = !begun_.puts.empty() || !begun_.gets.empty() || !begun_.stats.empty() ||
                        !begun_.set_deletes.empty() || !begun_.statuses.empty() ||
                        !begun_.asks.empty();
  if (answered) deliver_.Schedule();
}

// A callback may begin further operations: they come in through begun_.
void AsyncClient::Deliver(ClientOutbox* outbox) {
  SendCalls(outbox);
  SetWake();
  CallBack(&outbox->puts, &puts_);
  CallBack(&outbox->gets, &gets_);
  CallBack(&outbox->stats, &stats_);
  CallBack(&outbox->set_deletes, &set_deletes_);
  CallBack(&outbox->statuses, &statuses_);
  CallBack(&outbox->asks, &asks_);
}

}  // namespace hayloft
