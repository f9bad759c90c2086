#include "tests/sim/sim_nameserver.h"

#include <cinttypes>

namespace hayloft {

SimNameserver::SimNameserver(SimWorld* world, SimCoordinator* coordinator, SimHaTruth* truth,
                             SimNameserverOptions options)
    : world_(world),
      coordinator_(coordinator),
      truth_(truth),
      options_(std::move(options)),
      random_(world->random.Next()),
      kv_(world->random.Next()) {
  clock_.mono_offset_ms = world_->random.Below(1'000'000'000);
  Init(/*rebuild=*/false, options_.joining);
}

void SimNameserver::Init(bool rebuild, bool joining) {
  node_ = std::string(16, '\0');
  random_.Fill({reinterpret_cast<uint8_t*>(node_.data()), node_.size()});
  pb::LogSettings settings;
  settings.set_cluster_id(options_.cluster_id);
  settings.set_copies(options_.copies);
  settings.set_rebuilding(rebuild);
  if (rebuild) settings.set_rebuild_dsps(options_.dsps);
  const Err err = NsStore(&kv_).Init(node_, settings, joining);
  ASSERT(err == Err::kOk);
  rebuild_ = rebuild;
}

void SimNameserver::LoseStore() {
  ASSERT(server_ == nullptr);
  world_->trace.Note("nameserver %s loses its store", options_.address.c_str());
  kv_.Wipe();
  kv_.FailNextWrite(Err::kOk);
  const bool alone = options_.peer.empty();
  if (alone) truth_->history.clear();  // a new log
  Init(/*rebuild=*/alone, /*joining=*/!alone);
}

template <typename Task>
void SimNameserver::WhenAwake(Task&& task) {
  if (StallUs() == 0) return task();
  world_->events.After(StallUs(), [this, life = life_, task = std::move(task)]() mutable {
    if (life == life_) WhenAwake(std::move(task));
  });
}

template <typename Call>
void SimNameserver::Later(uint64_t us, Call&& call) {
  world_->events.After(us, [this, life = life_, call = std::forward<Call>(call)]() mutable {
    if (life != life_) return;
    WhenAwake([this, call = std::move(call)]() mutable {
      HaOutbox out;
      call(&out);
      Take(&out);
    });
  });
}

void SimNameserver::Start() {
  ASSERT(server_ == nullptr);
  store_ = std::make_unique<NsStore>(&kv_);
  log_ = std::make_unique<HaStore>(&kv_, options_.log_bytes_kept);
  Result<pb::HaHead> head = HaStore::ReadHead(&kv_);
  ASSERT(head.ok());  // nothing damages this store but the loss of all of it
  NsState state;
  state.node = head->node();
  if (!head->installing()) {
    Result<NsState> loaded = store_->Load();
    ASSERT(loaded.ok());
    state = std::move(*loaded);
  }
  Result<RoleDisk> disk = log_->Load(state.last_index);
  ASSERT(disk.ok());
  RoleOptions role;
  role.node = node_;
  role.address = options_.address;
  role.peer = options_.peer;
  role.force = rebuild_ && state.last_index == 0;
  world_->trace.Note("nameserver %s starts, log %" PRIu64 " applied %" PRIu64 " blocks %" PRIu64,
                     options_.address.c_str(), disk->log.last(), state.last_index,
                     state.blocks.size());
  server_ = std::make_unique<NsServer>(NsOptions{}, std::move(role), std::move(state),
                                       std::move(*disk), &random_);
  const uint64_t life = ++life_;
  const auto on_request = [this](RpcRequest&& request) {
    WhenAwake([this, request = std::move(request)]() mutable {
      HaOutbox out;
      server_->OnRequest(std::move(request), now(), &out);
      Take(&out);
    });
  };
  const auto on_done = [this](CallDone&& done) {
    WhenAwake([this, done = std::move(done)]() mutable {
      HaOutbox out;
      server_->OnCallDone(std::move(done), now(), &out);
      Take(&out);
    });
  };
  world_->net.Start(
      address(), {.now = [this] { return now(); }, .on_request = on_request, .on_done = on_done});
  HaOutbox out;
  server_->Start(now(), &out);
  Take(&out);
  world_->events.After(world_->random.Below(kTickUs), [this, life] { Tick(life); });
}

void SimNameserver::Crash(CrashMode mode) {
  ASSERT(server_ != nullptr);
  world_->trace.Note("nameserver %s crash %d", options_.address.c_str(), static_cast<int>(mode));
  world_->net.Stop(address());
  server_.reset();
  store_.reset();
  log_.reset();
  ++life_;
  stalled_until_us_ = 0;
  writing_ = false;
  kv_.Crash(mode);
  kv_.Restart();
  coordinator_->NodeDied(node_);
}

void SimNameserver::HandOver() {
  ASSERT(server_ != nullptr);
  HaOutbox out;
  (void)server_->HandOver(now(), &out);
  Take(&out);
}

uint64_t SimNameserver::StallUs() const {
  const uint64_t now_us = world_->events.now_us();
  return stalled_until_us_ > now_us ? stalled_until_us_ - now_us : 0;
}

void SimNameserver::Tick(uint64_t life) {
  if (life != life_) return;
  if (StallUs() > 0) return world_->events.After(StallUs(), [this, life] { Tick(life); });
  HaOutbox out;
  server_->OnTick(now(), &out);
  Take(&out);
  world_->events.After(kTickUs / 2, [this, life] { Tick(life); });
}

void SimNameserver::Take(HaOutbox* out) {
  for (RpcReply& reply : out->replies) world_->net.Reply(address(), std::move(reply));
  for (RpcCall& call : out->calls) world_->net.Call(address(), std::move(call));
  if (out->promoted_epoch != 0) {
    const auto [held, first] = truth_->epochs.try_emplace(out->promoted_epoch, node_);
    if (!first) world_->trace.Fail("epoch %" PRIu64 " is held twice", out->promoted_epoch);
    rebuild_ = false;
  }
  if (!out->apply.empty()) Apply(out->apply);
  if (out->write.has_value()) Write(std::move(*out->write));
  if (out->coordinator.has_value()) {
    coordinator_->Ask(address(), std::move(*out->coordinator),
                      [this, life = life_](CoordinatorDone&& done) {
                        if (life != life_) return;
                        WhenAwake([this, done = std::move(done)]() mutable {
                          HaOutbox after;
                          server_->OnCoordinatorDone(std::move(done), now(), &after);
                          Take(&after);
                        });
                      });
  }
  if (out->read_from != 0) {
    Later(world_->random.Between(20, 1'000), [this, from = out->read_from](HaOutbox* after) {
      Result<std::vector<pb::HaRecord>> records = log_->Read(from);
      ASSERT(records.ok());
      server_->OnRecordsRead(std::move(*records), now(), after);
    });
  }
  if (out->snapshot_after.has_value()) {
    Later(world_->random.Between(20, 1'000), [this, key = *out->snapshot_after](HaOutbox* after) {
      Result<RoleCore::SnapshotPart> part = log_->ReadSnapshot(key, store_->applied());
      ASSERT(part.ok());
      server_->OnSnapshotRead(std::move(*part), now(), after);
    });
  }
  if (out->reload) {
    store_ = std::make_unique<NsStore>(&kv_);
    Result<NsState> state = store_->Load();
    ASSERT(state.ok());
    server_->OnReloaded(std::move(*state));
  }
  if (out->exit.empty()) return;
  world_->trace.Note("nameserver %s ends: %s", options_.address.c_str(), out->exit.c_str());
  // Not from within its own call.
  world_->events.After(0, [this, life = life_] {
    if (life == life_) Crash(CrashMode::kKill);
  });
}

// A batch is atomic: it is there or not when the process dies before it hears of it.
void SimNameserver::Write(RoleWrite&& write) {
  ASSERT(!writing_);
  writing_ = true;
  const uint64_t half_us = world_->random.Between(20, 1'000);
  world_->events.After(half_us, [this, half_us, life = life_, write = std::move(write)] {
    if (life != life_) return;
    if (log_->Write(write) != Err::kOk) return Crash(CrashMode::kKill);  // its disk failed
    Later(half_us, [this](HaOutbox* after) {
      writing_ = false;
      server_->OnWritten(now(), after);
    });
  });
}

void SimNameserver::Apply(const std::vector<pb::HaRecord>& records) {
  CheckHistory(records);
  const Err err = store_->Apply(records, /*sync=*/false);
  if (err == Err::kOk) return (void)log_->Truncate(store_->applied());
  world_->events.After(0, [this, life = life_] {
    if (life == life_) Crash(CrashMode::kKill);
  });
}

// What was committed at an index is the same for ever, on both nodes.
void SimNameserver::CheckHistory(const std::vector<pb::HaRecord>& records) {
  for (const pb::HaRecord& record : records) {
    const auto [known, first] = truth_->history.try_emplace(record.index(), record.body());
    if (known->second == record.body()) continue;
    world_->trace.Fail("record %" PRIu64 " of %s is another one than was committed", record.index(),
                       options_.address.c_str());
  }
}

}  // namespace hayloft
