#include "tests/sim/sim_cluster.h"

#include <algorithm>
#include <cinttypes>
#include <functional>
#include <set>

#include "common/log.h"

namespace hayloft {

namespace {

constexpr const char* kNameserver = "10.0.0.1:7000";
constexpr const char* kOperator = "10.0.3.1:0";
const Id16 kClusterId{'h', 'a', 'y'};

SimCluster* g_logging = nullptr;  // whose log lines these are

void LogToCluster(LogLevel level, std::string_view line) {
  if (g_logging != nullptr) g_logging->OnLogLine(level == LogLevel::kError, std::string(line));
}

}  // namespace

SimResult RunSimulation(uint64_t seed, bool print) {
  SimCluster cluster(seed, print);
  g_logging = &cluster;
  SetLogSink(LogToCluster, LogLevel::kInfo);
  SimResult result = cluster.Run();
  g_logging = nullptr;
  return result;
}

// A third of the clusters has one copy, most others three.
SimCluster::SimCluster(uint64_t seed, bool print)
    : world_(seed, print),
      copies_([this] {
        static constexpr uint32_t kCopies[] = {1, 1, 1, 2, 3, 3, 3, 3, 4, 5};
        return kCopies[world_.random.Below(std::size(kCopies))];
      }()),
      model_(&world_.trace) {}

void SimCluster::OnLogLine(bool error, const std::string& line) {
  world_.trace.Note("log %s", line.c_str());
  if (!error) return;
  // What the faults of this run explain.
  static constexpr const char* kOfDisks[] = {"disk_failed", "disk_read_only", "block_unreadable"};
  if ((bad_reads_ || victim_lost_) && line.starts_with("block_unreadable")) return;
  const bool dying =
      std::any_of(dsps_.begin(), dsps_.end(), [](const auto& dsp) { return dsp->disk().dead(); });
  for (const char* event : kOfDisks) {
    if ((disk_failed_ || dying) && line.starts_with(event)) return;
  }
  world_.trace.Fail("unexplained error in the log: %s", line.c_str());
}

SimResult SimCluster::Run() {
  constexpr uint64_t kTroubleMsMax = 60'000;
  constexpr uint64_t kHealMsMax = 120'000;
  Build();
  ScheduleTrouble();
  (void)RunUntil(kTroubleMsMax, [this] {
    return std::all_of(clients_.begin(), clients_.end(),
                       [](const auto& client) { return client->finished(); });
  });
  Heal();
  if (!RunUntil(kHealMsMax, [this] { return Settled(); })) {
    world_.trace.Fail("the cluster does not settle: %s", DescribeUnsettled().c_str());
  }
  Judge();
  SimResult result;
  result.digest = world_.trace.digest() ^ world_.random.Next();
  result.lines = world_.trace.lines();
  result.files = model_.files();
  result.reads = model_.reads_verified();
  result.crashes = crashes_;
  result.virtual_ms = world_.events.now_us() / 1000;
  result.failures = world_.trace.failures();
  return result;
}

void SimCluster::Build() {
  SimRandom& random = world_.random;
  const uint32_t dsps = copies_ == 1
                            ? static_cast<uint32_t>(random.Between(1, 3))
                            : static_cast<uint32_t>(random.Between(std::max(3u, copies_), 7));
  nameserver_ = std::make_unique<SimNameserver>(
      &world_, SimNameserverOptions{.address = kNameserver,
                                    .cluster_id = std::string(AsText(kClusterId)),
                                    .dsps = dsps,
                                    .copies = copies_});
  nameserver_->Start();
  AddDsps(dsps);
  AddClients();
  world_.net.Start(
      kOperator,
      {.now = [this] { return SimNodeClock{}.Read(world_.events); },
       .on_request = [](RpcRequest&&) { ASSERT(!"serves nothing"); },
       .on_done = [this](CallDone&& done) { declared_gone_ |= gone_ && done.err == Err::kOk; }});
  // A few kinds of trouble at a time find more than all at once, in which little succeeds.
  for (uint32_t kind = 0; kind < static_cast<uint32_t>(Trouble::kCount); ++kind) {
    if (!random.Chance(35)) continue;
    kinds_.push_back(static_cast<Trouble>(kind));
    if (kinds_.back() == Trouble::kClockJump) model_.LetClocksJump();
  }
  trouble_every_ms_ = random.Between(50, 1'500);
}

// Some machines have two disks, as long as there are enough machines for all copies.
void SimCluster::AddDsps(uint32_t dsps) {
  const uint32_t machines =
      dsps - static_cast<uint32_t>(world_.random.Below(dsps - std::max(copies_, dsps / 2) + 1));
  for (uint32_t i = 0; i < dsps; ++i) {
    const std::string number = std::to_string(i + 1);
    dsps_.push_back(std::make_unique<SimDsp>(
        &world_, SimDspOptions{.address = "10.0.1." + number + ":7100",
                               .machine = "machine-" + std::to_string(i % machines + 1),
                               .nameservers = {kNameserver},
                               .cluster_id = kClusterId}));
    const bool started = dsps_.back()->Start();
    ASSERT(started);
    KeepStarted(dsps_.back().get());
  }
  victim_ = AnyDsp();
}

void SimCluster::AddClients() {
  SimRandom& random = world_.random;
  const uint64_t clients = random.Between(1, 2);
  for (uint64_t i = 0; i < clients; ++i) {
    SimClientOptions options{.address = "10.0.2." + std::to_string(i + 1) + ":0",
                             .nameservers = {kNameserver},
                             .operations = static_cast<uint32_t>(random.Between(10, 120)),
                             .in_flight_max = static_cast<uint32_t>(random.Between(1, 12)),
                             .think_us_max = random.Between(1, 300) * 1000};
    options.on_put = [this](const FileAddress& address) { CheckSyncedEverywhere(address); };
    clients_.push_back(std::make_unique<SimClient>(&world_, &model_, std::move(options)));
    clients_.back()->Start();
  }
}

bool SimCluster::RunUntil(uint64_t limit_ms, const std::function<bool()>& done) {
  const uint64_t end_us = world_.events.now_us() + limit_ms * 1000;
  while (!done()) {
    if (!world_.events.RunNext(end_us)) return done();
    world_.trace.SetTime(world_.events.now_us());
  }
  return true;
}

// --- Trouble ----------------------------------------------------------------------------------

void SimCluster::ScheduleTrouble() {
  if (kinds_.empty()) return;
  world_.events.After(world_.random.Below(2 * trouble_every_ms_) * 1000, [this] {
    if (!troubled_) return;
    MakeTrouble(kinds_[world_.random.Below(kinds_.size())]);
    ScheduleTrouble();
  });
}

CrashMode SimCluster::AnyCrash() {
  static constexpr CrashMode kModes[] = {CrashMode::kKill, CrashMode::kClean, CrashMode::kTorn,
                                         CrashMode::kReordered};
  return kModes[world_.random.Below(std::size(kModes))];
}

SimDsp* SimCluster::AnyDsp() { return dsps_[world_.random.Below(dsps_.size())].get(); }

std::vector<std::string> SimCluster::Addresses() const {
  std::vector<std::string> addresses = {kNameserver};
  for (const auto& dsp : dsps_) addresses.push_back(dsp->address());
  for (const auto& client : clients_) addresses.push_back(client->address());
  return addresses;
}

std::string SimCluster::AnyAddress() {
  const std::vector<std::string> addresses = Addresses();
  return addresses[world_.random.Below(addresses.size())];
}

void SimCluster::After(uint64_t most_ms, std::function<void()> task) {
  world_.events.After(world_.random.Below(most_ms * 1000), std::move(task));
}

void SimCluster::MakeTrouble(Trouble kind) {
  world_.trace.Note("trouble %u", static_cast<uint32_t>(kind));
  SimRandom& random = world_.random;
  switch (kind) {
    case Trouble::kDspCrash: {
      SimDsp* dsp = AnyDsp();
      ++crashes_;
      if (dsp->running()) dsp->Crash(AnyCrash());
      return;  // KeepStarted starts it again
    }
    case Trouble::kMachineCrash: {
      const std::string machine = AnyDsp()->machine();
      ++crashes_;
      for (const auto& dsp : dsps_) {
        if (dsp->machine() == machine && dsp->running()) dsp->Crash(AnyCrash());
      }
      return;
    }
    case Trouble::kDspCrashAtOperation:
      ++crashes_;
      return AnyDsp()->CrashAtOperation(random.Between(1, 40), AnyCrash());
    case Trouble::kNameserverCrash:
    case Trouble::kNameserverStoreLost:
      ++crashes_;
      if (!nameserver_->running()) return;
      nameserver_->Crash(AnyCrash());
      if (kind == Trouble::kNameserverStoreLost) nameserver_->LoseStore();
      return After(3'000, [this] {
        if (!nameserver_->running()) nameserver_->Start();
      });
    case Trouble::kNameserverStall:
      return nameserver_->Stall(random.Between(100, 6'000));
    case Trouble::kClientCrash: {
      SimClient* client = clients_[random.Below(clients_.size())].get();
      if (!client->running()) return;
      client->Crash();
      return After(500, [client] { client->Start(); });
    }
    case Trouble::kClockJump: {
      static constexpr int64_t kHourMs = 3'600'000;
      SimNodeClock& clock = random.Chance(30) ? nameserver_->clock() : AnyDsp()->clock();
      clock.wall_offset_ms = (random.Chance(50) ? -1 : 1) * kHourMs *
                             static_cast<int64_t>(random.Chance(50) ? 1 : 24 * 3650);
      return;
    }
    case Trouble::kWeather:
    case Trouble::kCut:
    case Trouble::kBreak:
      return MakeNetworkTrouble(kind);
    case Trouble::kBlockRot:
    case Trouble::kLyingSync:
    case Trouble::kGone:
      return copies_ > 1 ? MakeVictimTrouble(kind) : void();
    default:
      return MakeDiskTrouble(kind);
  }
}

void SimCluster::MakeNetworkTrouble(Trouble kind) {
  SimRandom& random = world_.random;
  if (kind == Trouble::kWeather) {
    world_.net.SetWeather({.delay_us_min = 30,
                           .delay_us_max = random.Between(100, 20'000),
                           .lost_percent = random.Below(30),
                           .doubled_percent = random.Below(30),
                           .late_percent = random.Below(20)});
    return After(4'000, [this] { world_.net.SetWeather({}); });
  }
  if (kind == Trouble::kCut && random.Chance(40)) return CutLong(AnyDsp()->address());
  if (kind == Trouble::kCut && random.Chance(15)) return Swizzle();
  // Mostly between two parties; sometimes one is cut from all others.
  const std::string a = AnyAddress();
  const std::string b = AnyAddress();
  if (kind == Trouble::kCut && random.Chance(30)) {
    world_.trace.Note("cut %s from all", a.c_str());
    const bool to = random.Chance(60);
    const bool from = !to || random.Chance(60);
    for (const std::string& other : Addresses()) {
      if (to) world_.net.Cut(other, a);
      if (from) world_.net.Cut(a, other);
    }
    return After(10'000, [this] { world_.net.HealCuts(); });
  }
  if (kind == Trouble::kBreak) return world_.net.BreakConnections(a, b);
  world_.trace.Note("cut %s %s", a.c_str(), b.c_str());
  world_.net.Cut(a, b);
  if (random.Chance(50)) world_.net.Cut(b, a);
  After(8'000, [this] { world_.net.HealCuts(); });
}

// A dsp is cut from the nameserver, and from the clients for the first part of that time: others
// stop to wait for it, and then it is asked.
void SimCluster::CutLong(const std::string& dsp) {
  world_.trace.Note("cut %s for long", dsp.c_str());
  world_.net.Cut(dsp, kNameserver);
  if (world_.random.Chance(50)) world_.net.Cut(kNameserver, dsp);
  for (const auto& client : clients_) world_.net.Cut(client->address(), dsp);
  world_.events.After(world_.random.Between(3'200, 6'000) * 1000, [this, dsp] {
    for (const auto& client : clients_) world_.net.HealCut(client->address(), dsp);
  });
  world_.events.After(world_.random.Between(6'000, 12'000) * 1000,
                      [this] { world_.net.HealCuts(); });
}

// F39, swizzle-clog: one after the other is cut from all, and they come back in another order.
void SimCluster::Swizzle() {
  std::vector<std::string> clogged = Addresses();
  world_.trace.Note("swizzle");
  uint64_t at_us = 0;
  const auto shuffle = [&] {
    for (size_t i = clogged.size(); i > 1; --i) {
      std::swap(clogged[i - 1], clogged[world_.random.Below(i)]);
    }
  };
  for (const bool clog : {true, false}) {
    shuffle();
    for (const std::string& one : clogged) {
      at_us += world_.random.Between(20, 500) * 1000;
      world_.events.After(at_us, [this, one, clog] {
        for (const std::string& other : Addresses()) {
          if (clog && troubled_) world_.net.Cut(one, other);
          if (!clog) world_.net.HealCut(one, other);
        }
      });
    }
  }
}

void SimCluster::MakeDiskTrouble(Trouble kind) {
  SimRandom& random = world_.random;
  SimDsp* dsp = AnyDsp();
  switch (kind) {
    case Trouble::kDiskStall:
      return dsp->Stall(random.Between(10, 6'000));
    case Trouble::kDiskFull: {
      const Result<SpaceInfo> space = dsp->disk().Space();
      if (!space.ok()) return;
      dsp->disk().SetTotalBytes(space->total_bytes - space->free_bytes + random.Below(1 << 20));
      return After(5'000, [dsp] { dsp->disk().SetTotalBytes(SimDsp::kDiskBytes); });
    }
    case Trouble::kFastStartLost:
    case Trouble::kRot:
      // A failed disk is not mended: what rots there has no second copy any more.
      if (!dsp->running() || dsp->disk_failed()) return;
      ++crashes_;
      dsp->Crash(CrashMode::kKill);
      return kind == Trouble::kRot ? dsp->Rot() : dsp->LoseFastStart();
    case Trouble::kDiskBadRead: {
      if (!dsp->running()) return;
      const auto& blocks = dsp->core().blocks();
      if (blocks.empty()) return;
      const auto block = std::next(blocks.begin(), static_cast<int>(random.Below(blocks.size())));
      bad_reads_ = true;
      const uint64_t begin = random.Chance(20) ? 0 : random.Below(kBlockBytesMin);
      dsp->FailReads(block->first, {begin, begin + 4096});
      if (random.Chance(30)) dsp->Crash(CrashMode::kKill);  // recovery meets it
      return After(5'000, [dsp] { dsp->disk().HealReads(); });
    }
    case Trouble::kDiskFailure:
      if (disk_failed_) return;
      if (copies_ > 1) dsp = victim_;
      disk_failed_ = victim_lost_ = true;
      world_.trace.Note("disk of %s will fail", dsp->address().c_str());
      return random.Chance(50) ? dsp->disk().FailNextSync() : dsp->disk().FailNextWrite();
    default:
      ASSERT(!"a kind of trouble that disks have");
  }
}

// What costs the replicas of one dsp, and of one only: its blocks are sound elsewhere.
void SimCluster::MakeVictimTrouble(Trouble kind) {
  if (!victim_->running() || victim_->disk_failed() || gone_) return;
  victim_lost_ = true;
  ++crashes_;
  switch (kind) {
    case Trouble::kBlockRot:
      victim_->Crash(AnyCrash());
      return victim_->RotBlock();
    case Trouble::kLyingSync:
      victim_->Lie();
      return After(5'000, [this] {
        if (victim_->running()) victim_->Crash(CrashMode::kClean);
      });
    default:
      if (declared_gone_) return;  // once
      gone_ = true;
      gone_dsp_id_ = victim_->core().superblock().dsp_id;
      // It dies, or lives on where nobody reaches it.
      if (world_.random.Chance(50)) {
        victim_->Crash(AnyCrash());
      } else {
        for (const std::string& other : Addresses()) {
          world_.net.Cut(other, victim_->address());
          world_.net.Cut(victim_->address(), other);
        }
      }
      return After(8'000, [this] { DeclareGone(); });
  }
}

// An operator says so, again and again until it is accepted; then the dsp may come back all the
// same, as a stranger.
void SimCluster::DeclareGone() {
  if (gone_dsp_id_ == 0) gone_ = false;                 // it had never registered
  if (victim_->running() && !troubled_) gone_ = false;  // it was only cut off
  if (!gone_) return;
  if (declared_gone_) {
    PROBE("sim_dsp_declared_gone");
    if (victim_->running()) {
      PROBE("sim_dsp_declared_gone_lives");
      world_.net.HealCuts();
      gone_ = false;
    }
    if (world_.random.Chance(50)) gone_ = false;
    gone_dsp_id_ = 0;
    return;
  }
  const NsCore* nameserver = nameserver_->running() ? &nameserver_->core() : nullptr;
  if (nameserver != nullptr && nameserver->state().settings.rebuilding()) {
    gone_ = false;  // a rebuild waits for all
    return;
  }
  const bool others_told =
      nameserver != nullptr && nameserver->DspsReported() + 1 >= dsps_.size() && !troubled_;
  // What it alone has is of blocks that were never granted.
  CallDeclareGone(gone_dsp_id_, /*even_last=*/others_told);
  world_.events.After(1'000'000, [this] { DeclareGone(); });
}

// A number that was given to a dsp which never heard of it, before the store was lost: only sets
// name it.
void SimCluster::DeclareStrangersGone() {
  if (nameserver_->running() && nameserver_->core().Complete()) {
    const NsState& state = nameserver_->core().state();
    std::set<uint32_t> strangers;
    state.blocks.ForEach([&](const BlockRecord& record) {
      for (const uint32_t member : state.blocks.SetMembers(record.set)) {
        if (!state.dsps.contains(member)) strangers.insert(member);
      }
    });
    for (const uint32_t stranger : strangers) CallDeclareGone(stranger, /*even_last=*/false);
  }
  world_.events.After(2'000'000, [this] {
    if (!world_.healed) DeclareStrangersGone();
  });
}

void SimCluster::CallDeclareGone(uint32_t dsp_id, bool even_last) {
  pb::DeclareGoneRequest message;
  message.set_dsp_id(dsp_id);
  message.set_even_last(even_last);
  RpcCall call;
  call.call_id = world_.net.calls() + 1;
  call.address = kNameserver;
  call.type = MessageType::kDeclareGone;
  call.timeout_ms = 500;
  call.message = message.SerializeAsString();
  world_.net.Call(kOperator, std::move(call));
}

// What dataservers do: a dsp that died is started again, sometimes to die while it recovers.
void SimCluster::KeepStarted(SimDsp* dsp) {
  After(troubled_ ? 3'000 : 500, [this, dsp] {
    const bool gone = gone_ && dsp == victim_;
    if (!dsp->running() && !gone) {
      if (troubled_ && world_.random.Chance(10)) {
        dsp->CrashAtOperation(world_.random.Between(1, 15), AnyCrash());
      }
      (void)dsp->Start();  // tried again until it does
    }
    KeepStarted(dsp);
  });
}

// --- Healing and judgement ----------------------------------------------------------------------

void SimCluster::Heal() {
  world_.trace.Note("heal");
  troubled_ = false;
  healed_us_ = world_.events.now_us();
  DeclareStrangersGone();
  for (const auto& client : clients_) client->Finish();
  world_.net.SetWeather({});
  world_.net.HealCuts();
  nameserver_->Stall(0);
  if (!nameserver_->running()) nameserver_->Start();
  nameserver_->clock().wall_offset_ms = 0;
  if (nameserver_->core().state().settings.rebuilding()) gone_ = false;  // it waits for all
  if (victim_->running()) gone_ = false;                                 // it was only cut off
  for (const auto& dsp : dsps_) {
    dsp->Stall(0);
    dsp->CrashAtOperation(0, CrashMode::kKill);
    dsp->disk().SetTotalBytes(SimDsp::kDiskBytes);
    dsp->disk().HealReads();
    dsp->clock().wall_offset_ms = 0;
    // A block whose header could not be read stays unserved until the next start.
    if (bad_reads_ && dsp->running()) dsp->Crash(CrashMode::kKill);
    // What a lie has not cost yet, it costs now, and the honest ones mend it.
    if (copies_ > 1 && dsp.get() == victim_ && dsp->lies()) dsp->Crash(CrashMode::kClean);
    if (world_.random.Chance(30) && dsp->running()) dsp->Crash(AnyCrash());
  }
}

// Everything runs, nothing is under way, and the nameserver has heard of all.
bool SimCluster::Settled() { return DescribeUnsettled().empty(); }

std::string SimCluster::DescribeUnsettled() {
  constexpr uint64_t kDoubtUs = 5'000'000;  // what was lost before may still bring a dsp in doubt
  if (world_.events.now_us() < healed_us_ + kDoubtUs) return "it has healed only now";
  for (const auto& client : clients_) {
    if (!client->running() || !client->finished()) return "a client has work under way";
  }
  size_t expected = 0;
  for (const auto& dsp : dsps_) {
    if (gone_ && dsp.get() == victim_) continue;
    ++expected;
    if (!dsp->running()) return dsp->address() + " does not run";
    if (!dsp->idle()) return dsp->address() + " has work under way";
    if (!dsp->core().registered()) return dsp->address() + " is not registered";
  }
  if (gone_ && !declared_gone_) return "a dsp is gone and was not declared so";
  if (!nameserver_->idle()) return "the nameserver has records under way";
  // After a restart it waits for who is gone, until that is down.
  if (!gone_ && !nameserver_->core().Complete()) return "the nameserver has not heard of all";
  if (nameserver_->core().DspsReported() < expected) return "a dsp has not reported";
  const size_t failed = static_cast<size_t>(std::count_if(
      dsps_.begin(), dsps_.end(), [](const auto& dsp) { return dsp->disk_failed(); }));
  // Without one that is gone there may be too few machines.
  if (failed == 0 && !gone_ && !nameserver_->core().Writable()) return "nothing is writable";
  return copies_ > 1 ? DescribeUnsealed() : "";
}

// Every block that isn't open is sealed, and served by every sound member.
std::string SimCluster::DescribeUnsealed() {
  std::string unsealed;
  nameserver_->core().state().blocks.ForEach([&](const BlockRecord& record) {
    if (!unsealed.empty()) return;
    const std::string id = std::to_string(record.block_id);
    for (SimDsp* dsp : MembersOf(record.block_id)) {
      if (!dsp->running() || !Sound(*dsp)) continue;
      const auto block = dsp->core().blocks().find(record.block_id);
      if (block == dsp->core().blocks().end()) continue;  // it never made it
      if (block->second.state == pb::BLOCK_CLOSED) {
        char known[100];
        std::snprintf(known, sizeof(known), "set_version=%u absent=%x closed=%x sealed=%x state=%u",
                      record.set_version, record.absent, record.closed, record.sealed,
                      record.state);
        unsealed = "block " + id + " of " + dsp->address() + " is not sealed: " + known;
      } else if (block->second.needles() > 0 && !dsp->core().Serves(block->second)) {
        unsealed = "block " + id + " of " + dsp->address() +
                   " is not served: " + dsp->core().DescribeServing(block->second);
      }
    }
  });
  return unsealed;
}

SimDsp* SimCluster::DspAt(const std::string& address) {
  for (const auto& dsp : dsps_) {
    if (dsp->address() == address) return dsp.get();
  }
  return nullptr;
}

// It never lost anything, and takes writes.
bool SimCluster::Sound(const SimDsp& dsp) const {
  return !(victim_lost_ && copies_ > 1 && &dsp == victim_) && !dsp.disk_failed();
}

// As the nameserver has them, but for those that say that they never made the block: who was left
// out at the creation is a member once more after a rebuild.
std::vector<SimDsp*> SimCluster::MembersOf(uint64_t block_id) {
  std::vector<SimDsp*> members;
  const NsState& state = nameserver_->core().state();
  const BlockRecord* record = state.blocks.Find(block_id);
  if (record == nullptr) return members;
  const std::vector<uint32_t>& set = state.blocks.SetMembers(record->set);
  for (size_t i = 0; i < set.size(); ++i) {
    if (((record->absent >> i) & 1u) != 0) continue;
    const auto known = state.dsps.find(set[i]);
    SimDsp* dsp = known == state.dsps.end() ? nullptr : DspAt(known->second.address());
    if (dsp != nullptr) members.push_back(dsp);
  }
  return members;
}

// At the moment of the acknowledgement each member has it; one that died since, when it is back.
void SimCluster::CheckSyncedEverywhere(const FileAddress& address) {
  // One that lost its store may not have heard yet who was left out at the creation.
  if (!nameserver_->running() || nameserver_->core().state().settings.rebuilding()) return;
  for (SimDsp* dsp : MembersOf(address.block_id)) {
    if (!dsp->running() || !Sound(*dsp)) continue;
    const auto block = dsp->core().blocks().find(address.block_id);
    const bool there =
        block != dsp->core().blocks().end() && block->second.needles() > address.file_id.sequence();
    if (there) holders_[address.block_id].insert(dsp->address());
    if (there || bad_reads_) continue;
    world_.trace.Fail("%s was acknowledged, and %s does not have it", ToText(address).c_str(),
                      dsp->address().c_str());
  }
}

bool SimCluster::ReadAllBack(std::vector<SimClient::ReadBackOne> files) {
  constexpr uint64_t kReadBackMsMax = 120'000;
  SimClient* reader = clients_[0].get();
  reader->ReadBack(std::move(files));
  if (RunUntil(kReadBackMsMax, [reader] { return reader->finished(); })) return true;
  world_.trace.Fail("reading back does not end");
  return false;
}

void SimCluster::Judge() {
  if (world_.trace.failed()) return;  // the first failure is the one to read
  world_.healed = true;
  // As a client does, and then from every replica that never lost anything.
  std::vector<SimClient::ReadBackOne> files, replicas;
  for (size_t file = 0; file < model_.files(); ++file) {
    files.push_back({.file = file, .dsp = {}});
    for (const SimDsp* dsp : MembersOf(model_.file(file).address.block_id)) {
      if (!Sound(*dsp) && copies_ > 1) continue;
      const uint64_t block_id = model_.file(file).address.block_id;
      const bool has = dsp->core().blocks().contains(block_id);
      if (!has && holders_[block_id].contains(dsp->address())) {
        world_.trace.Fail("%s has lost block %" PRIx64, dsp->address().c_str(), block_id);
      }
      // Who was left out at the creation may count as a member until its next report.
      if (has || copies_ == 1) replicas.push_back({.file = file, .dsp = dsp->address()});
    }
  }
  if (!ReadAllBack(std::move(files)) || !ReadAllBack(std::move(replicas))) return;
  // Every delete finds all whom it must wait for; and what it did is read back.
  std::vector<SimClient::ReadBackOne> deletes, deleted;
  for (size_t file = 0; file < model_.files() && copies_ > 1; ++file) {
    const std::vector<SimDsp*> members = MembersOf(model_.file(file).address.block_id);
    const auto sound = std::count_if(members.begin(), members.end(), [&](const SimDsp* dsp) {
      return Sound(*dsp) && dsp->core().blocks().contains(model_.file(file).address.block_id);
    });
    if (sound < 2 || world_.random.Chance(50)) continue;
    deletes.push_back({.file = file, .dsp = {}, .remove = true});
    deleted.push_back({.file = file, .dsp = {}});
  }
  if (!ReadAllBack(std::move(deletes)) || !ReadAllBack(std::move(deleted))) return;
  constexpr uint64_t kQuietMs = 5'000;  // what is on the way arrives, closes and seals are done
  (void)RunUntil(kQuietMs, [] { return false; });
  // A block lies on its disk before its creation is answered: compare when nothing is on the way.
  constexpr uint64_t kSettleMsMax = 30'000;
  (void)RunUntil(kSettleMsMax, [this] {
    return world_.net.Unanswered() == 0 && world_.net.InFlight() == 0 && Settled();
  });
  if (world_.net.InFlight() > 0) world_.trace.Fail("calls are under way without an end");
  if (world_.net.Unanswered() > 0) {
    world_.trace.Fail("never answered: %s", world_.net.DescribeUnanswered().c_str());
  }
  if (const std::string unsettled = DescribeUnsettled(); !unsettled.empty()) {
    world_.trace.Fail("after reading back: %s", unsettled.c_str());
  }
  CompareMap();
  if (copies_ > 1) CompareReplicas();
}

// Of each sealed block, the sound members have the same needles and the same deletes.
void SimCluster::CompareReplicas() {
  if (world_.trace.failed()) return;
  nameserver_->core().state().blocks.ForEach(
      [this](const BlockRecord& record) { CompareBlock(record); });
}

void SimCluster::CompareBlock(const BlockRecord& record) {
  const SimDsp* first = nullptr;
  for (const SimDsp* dsp : MembersOf(record.block_id)) {
    if (!dsp->running() || !Sound(*dsp)) continue;
    const auto found = dsp->core().blocks().find(record.block_id);
    if (found == dsp->core().blocks().end()) continue;
    if (first == nullptr) first = dsp;
    const Block& block = found->second;
    const Block& other = first->core().blocks().at(record.block_id);
    const auto deletes_of = [&](const SimDsp* of) {
      std::map<uint32_t, uint32_t> counters;
      const auto& blocks = of->core().deletes().blocks();
      const auto entries = blocks.find(record.block_id);
      if (entries == blocks.end()) return counters;
      for (const DeleteEntry& entry : entries->second) counters[entry.sequence] = entry.counter;
      return counters;
    };
    const bool equal = block.state == other.state && block.digest == other.digest &&
                       block.needles() == other.needles() && block.lost == other.lost;
    if (!equal) {
      world_.trace.Fail("block %" PRIx64 " differs between %s and %s", record.block_id,
                        first->address().c_str(), dsp->address().c_str());
    }
    // A delete that was never acknowledged may have reached only some.
    for (size_t file = 0; file < model_.files(); ++file) {
      const SimFile& one = model_.file(file);
      if (one.address.block_id != record.block_id || one.doubts > 0) continue;
      const uint32_t sequence = one.address.file_id.sequence();
      if (deletes_of(dsp)[sequence] == one.counter_acked) continue;
      world_.trace.Fail("%s has delete counter %u at %s, not %u", ToText(one.address).c_str(),
                        deletes_of(dsp)[sequence], dsp->address().c_str(), one.counter_acked);
    }
  }
}

// The nameserver's map is the union of the blocks that lie on the disks.
void SimCluster::CompareMap() {
  std::map<uint64_t, std::set<std::string>> on_disks;
  for (const auto& dsp : dsps_) {
    if (gone_ && dsp.get() == victim_) continue;
    if (!dsp->running()) return;
    dsp->CheckBlocks();
    for (const auto& [id, block] : dsp->core().blocks()) {
      on_disks[id].insert(dsp->address());
    }
  }
  const NsState& state = nameserver_->core().state();
  for (const auto& [id, addresses] : on_disks) {
    const BlockRecord* record = state.blocks.Find(id);
    if (record == nullptr) {
      world_.trace.Fail("block %" PRIx64 " of %s is not in the map", id,
                        addresses.begin()->c_str());
      continue;
    }
    std::set<std::string> members;
    const std::vector<uint32_t>& set = state.blocks.SetMembers(record->set);
    for (size_t i = 0; i < set.size(); ++i) {
      // One that was left out at the creation comes back with a rebuild, and says that it has none.
      const bool absent = copies_ > 1 && ((record->absent >> i) & 1u) != 0;
      if (!absent && state.dsps.contains(set[i])) members.insert(state.dsps.at(set[i]).address());
    }
    // Who was late at a creation may hold a replica outside of the set; one copy is never late.
    const bool right = copies_ == 1
                           ? members == addresses
                           : victim_lost_ || std::includes(addresses.begin(), addresses.end(),
                                                           members.begin(), members.end());
    if (!right) world_.trace.Fail("block %" PRIx64 " is mapped to other dsps", id);
  }
  state.blocks.ForEach([&](const BlockRecord& record) {
    if (on_disks.contains(record.block_id) || gone_ || victim_lost_) return;
    world_.trace.Fail("block %" PRIx64 " is in the map and on no disk", record.block_id);
  });
}

}  // namespace hayloft
