#include "tests/sim/sim_nameserver.h"

#include <cinttypes>

namespace hayloft {

SimNameserver::SimNameserver(SimWorld* world, SimNameserverOptions options)
    : world_(world),
      options_(std::move(options)),
      random_(world->random.Next()),
      kv_(world->random.Next()) {
  clock_.mono_offset_ms = world_->random.Below(1'000'000'000);
  Init(/*rebuild=*/false);
}

void SimNameserver::Init(bool rebuild) {
  std::string node(16, '\0');
  random_.Fill({reinterpret_cast<uint8_t*>(node.data()), node.size()});
  pb::LogSettings settings;
  settings.set_cluster_id(options_.cluster_id);
  settings.set_copies(options_.copies);
  settings.set_rebuilding(rebuild);
  if (rebuild) settings.set_rebuild_dsps(options_.dsps);
  const Err err = NsStore(&kv_).Init(node, settings);
  ASSERT(err == Err::kOk);
}

void SimNameserver::LoseStore() {
  ASSERT(core_ == nullptr);
  world_->trace.Note("nameserver loses its store");
  kv_.Wipe();
  Init(/*rebuild=*/true);
}

template <typename Task>
void SimNameserver::WhenAwake(Task&& task) {
  if (StallUs() == 0) return task();
  world_->events.After(StallUs(), [this, life = life_, task = std::move(task)]() mutable {
    if (life == life_) task();
  });
}

void SimNameserver::Start() {
  ASSERT(core_ == nullptr);
  store_ = std::make_unique<NsStore>(&kv_);
  Result<NsState> state = store_->Load();
  ASSERT(state.ok());  // nothing damages this store but the loss of all of it
  epoch_ = std::max(epoch_, state->epoch) + 1;
  world_->trace.Note("nameserver start epoch %" PRIu64 " blocks %" PRIu64, epoch_,
                     state->blocks.size());
  core_ = std::make_unique<NsCore>(NsOptions{}, std::move(*state), &random_);
  const uint64_t life = ++life_;
  const auto on_request = [this](RpcRequest&& request) {
    WhenAwake([this, request = std::move(request)]() mutable {
      NsOutbox outbox;
      core_->OnRequest(std::move(request), now(), &outbox);
      Flush(&outbox);
    });
  };
  const auto on_done = [this](CallDone&& done) {
    WhenAwake([this, done = std::move(done)]() mutable {
      NsOutbox outbox;
      core_->OnCallDone(std::move(done), now(), &outbox);
      Flush(&outbox);
    });
  };
  world_->net.Start(
      address(), {.now = [this] { return now(); }, .on_request = on_request, .on_done = on_done});
  NsOutbox outbox;
  core_->Start(epoch_, /*forced=*/false, now(), &outbox);
  Flush(&outbox);
  world_->events.After(world_->random.Below(kTickUs), [this, life] { Tick(life); });
}

void SimNameserver::Crash(CrashMode mode) {
  ASSERT(core_ != nullptr);
  world_->trace.Note("nameserver crash %d", static_cast<int>(mode));
  world_->net.Stop(address());
  core_.reset();
  store_.reset();
  ++life_;
  stalled_until_us_ = 0;
  queue_.clear();
  writing_ = false;
  kv_.Crash(mode);
  kv_.Restart();
}

uint64_t SimNameserver::StallUs() const {
  const uint64_t now_us = world_->events.now_us();
  return stalled_until_us_ > now_us ? stalled_until_us_ - now_us : 0;
}

void SimNameserver::Tick(uint64_t life) {
  if (life != life_) return;
  if (StallUs() > 0) return world_->events.After(StallUs(), [this, life] { Tick(life); });
  NsOutbox outbox;
  core_->OnTick(now(), &outbox);
  Flush(&outbox);
  world_->events.After(kTickUs, [this, life] { Tick(life); });
}

void SimNameserver::Flush(NsOutbox* outbox) {
  for (RpcReply& reply : outbox->replies) world_->net.Reply(address(), std::move(reply));
  for (RpcCall& call : outbox->calls) world_->net.Call(address(), std::move(call));
  for (pb::LogRecord& record : outbox->records) queue_.push_back(std::move(record));
  if (outbox->raise_epoch_above != 0) {
    epoch_ = std::max(epoch_, outbox->raise_epoch_above) + 1;
    world_->events.After(world_->random.Below(5'000), [this, life = life_] {
      if (life != life_) return;
      NsOutbox raised;
      core_->OnEpochRaised(epoch_, &raised);
      Flush(&raised);
    });
  }
  WriteLog();
}

// All records that wait go to the disk as one batch.
void SimNameserver::WriteLog() {
  if (writing_ || queue_.empty()) return;
  writing_ = true;
  const uint64_t half_us = world_->random.Between(20, 1'000);
  world_->events.After(half_us, [this, half_us, life = life_] {
    if (life != life_) return;
    const std::vector<pb::LogRecord> batch = std::exchange(queue_, {});
    const Err err = store_->Append(batch);
    ASSERT(err == Err::kOk);
    // It is safe now; the core hears of it later, or never.
    world_->events.After(half_us, [this, life, index = batch.back().index()] {
      if (life != life_) return;
      writing_ = false;
      NsOutbox outbox;
      core_->OnLogSynced(index, &outbox);
      Flush(&outbox);
      WriteLog();
    });
  });
}

}  // namespace hayloft
