#include "common/io/rpc_client.h"

#include "common/check.h"
#include "common/messages.h"

namespace hayloft {

namespace {
constexpr uint64_t kTickMs = 20;
constexpr uint64_t kIdleCheckMs = 5'000;
}  // namespace

RpcClient::RpcClient(Loop* loop, RpcClientOptions options)
    : loop_(loop),
      options_(std::move(options)),
      metrics_(options_.metrics != nullptr ? options_.metrics : &own_metrics_),
      scratch_(RpcConnection::kScratchBytes),
      deliver_(loop, [this] { DeliverLater(); }) {
  idle_timer_ = loop_->Every(kIdleCheckMs, [this] { DropIdle(); });
}

RpcClient::~RpcClient() = default;

void RpcClient::Call(RpcCall&& call) {
  ASSERT(on_done_ != nullptr);
  ASSERT(call.timeout_ms > 0);
  const MessageRow* row = FindMessage(static_cast<uint16_t>(call.type));
  ASSERT(row != nullptr);
  metrics_->calls_total.Add();
  std::unique_ptr<RpcPeer>& peer = peers_[static_cast<size_t>(row->queue)][call.address];
  if (peer == nullptr) {
    RpcPeer::Shared shared{.loop = loop_,
                           .options = &options_,
                           .metrics = metrics_,
                           .scratch = scratch_.mutable_bytes(),
                           .done_now = [this](CallDone&& done) { on_done_(std::move(done)); },
                           .done_later =
                               [this](CallDone&& done) {
                                 later_.push_back(std::move(done));
                                 deliver_.Schedule();
                               }};
    peer = std::make_unique<RpcPeer>(std::move(shared), call.address);
  }
  peer->Call(std::move(call));
  if (tick_ == nullptr) tick_ = loop_->Every(kTickMs, [this] { Tick(); });
}

void RpcClient::DeliverLater() {
  std::vector<CallDone> batch;
  batch.swap(later_);
  for (CallDone& done : batch) on_done_(std::move(done));
}

void RpcClient::Tick() {
  bool busy = false;
  for (auto& by_address : peers_) {
    for (auto& [address, peer] : by_address) {
      peer->Tick();
      busy = busy || peer->busy();
    }
  }
  if (!busy) tick_.reset();
}

void RpcClient::DropIdle() {
  const uint64_t now_ms = loop_->now().mono_ms;
  for (auto& by_address : peers_) {
    std::erase_if(by_address, [&](const auto& entry) { return entry.second->idle_since(now_ms); });
  }
}

}  // namespace hayloft
