#include "tests/sim/sim_cluster.h"

#include <algorithm>
#include <cinttypes>
#include <functional>
#include <set>

#include "common/log.h"

namespace hayloft {

namespace {

constexpr const char* kNameservers[] = {"10.0.0.1:7000", "10.0.0.2:7000"};
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
      model_(&world_.trace),
      coordinator_(&world_),
      history_(&world_) {}

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
  for (const auto& gateway : gateways_) result.hits += gateway->hits();
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
  world_.net.SetWatch(
      {.on_call = [this](const RpcCall& call) { history_.OnCall(call); },
       .on_answer = [this](const SimNet::Asked& asked,
                           const CallDone& done) { history_.OnAnswer(asked, done); }});
  if (random.Chance(45)) hot_files_ = random.Between(2, 8);
  AddNameservers(dsps);
  AddDsps(dsps);
  AddClients();
  if (hot_files_ > 0) AddGateways();
  asker_ = std::make_unique<PairAsker>(&world_, &history_, NameserverAddresses());
  world_.net.Start(
      kOperator,
      {.now = [this] { return SimNodeClock{}.Read(world_.events); },
       .on_request = [](RpcRequest&&) { ASSERT(!"serves nothing"); },
       .on_done = [this](CallDone&& done) { declared_gone_ |= gone_ && done.err == Err::kOk; }});
  // A few kinds of trouble at a time find more than all at once, in which little succeeds.
  for (uint32_t kind = 0; kind < static_cast<uint32_t>(Trouble::kCount); ++kind) {
    const bool cut = static_cast<Trouble>(kind) == Trouble::kCut;
    const bool of_gateways = static_cast<Trouble>(kind) == Trouble::kCutMerging ||
                             static_cast<Trouble>(kind) == Trouble::kBurst;
    const bool often = cut || (of_gateways && hot_files_ > 0);
    if (!random.Chance(often ? 55 : 35)) continue;
    kinds_.push_back(static_cast<Trouble>(kind));
    if (kinds_.back() == Trouble::kClockJump) model_.LetClocksJump();
  }
  trouble_every_ms_ = random.Between(50, 1'500);
}

// Two in most runs; the coordinator shows a death at once, as a lease file does, or does not.
void SimCluster::AddNameservers(uint32_t dsps) {
  const size_t count = world_.random.Chance(75) ? 2 : 1;
  coordinator_.ShowDeaths(world_.random.Chance(50));
  // Few, and who comes back after a while takes a snapshot.
  const size_t log_bytes_kept =
      world_.random.Chance(50) ? world_.random.Between(200, 3'000) : HaStore::kLogBytesKept;
  for (size_t i = 0; i < count; ++i) {
    nameservers_.push_back(std::make_unique<SimNameserver>(
        &world_, &coordinator_, &ha_truth_,
        SimNameserverOptions{.address = kNameservers[i],
                             .peer = count == 2 ? kNameservers[1 - i] : "",
                             .cluster_id = std::string(AsText(kClusterId)),
                             .dsps = dsps,
                             .copies = copies_,
                             .joining = i == 1,
                             .log_bytes_kept = log_bytes_kept}));
    nameservers_.back()->Start();
    KeepStarted(nameservers_.back().get());
  }
}

SimNameserver* SimCluster::AnyNameserver() {
  return nameservers_[world_.random.Below(nameservers_.size())].get();
}

const SimNameserver* SimCluster::Active() const {
  const SimNameserver* active = nullptr;
  for (const auto& one : nameservers_) {
    if (!one->active()) continue;
    const bool later =
        active == nullptr || one->server().role().epoch() > active->server().role().epoch();
    if (later) active = one.get();
  }
  return active;
}

const NsCore* SimCluster::ActiveCore() const {
  const SimNameserver* active = Active();
  return active == nullptr ? nullptr : active->server().core();
}

std::vector<std::string> SimCluster::NameserverAddresses() const {
  std::vector<std::string> addresses;
  for (const auto& one : nameservers_) addresses.push_back(one->address());
  return addresses;
}

// Some machines have two disks, as long as there are enough machines for all copies.
void SimCluster::AddDsps(uint32_t dsps) {
  const uint32_t machines =
      dsps - static_cast<uint32_t>(world_.random.Below(dsps - std::max(copies_, dsps / 2) + 1));
  const bool slow_reads = hot_files_ > 0 && world_.random.Chance(50);
  for (uint32_t i = 0; i < dsps; ++i) {
    const std::string number = std::to_string(i + 1);
    dsps_.push_back(std::make_unique<SimDsp>(
        &world_, SimDspOptions{.address = "10.0.1." + number + ":7100",
                               .machine = "machine-" + std::to_string(i % machines + 1),
                               .nameservers = NameserverAddresses(),
                               .cluster_id = kClusterId,
                               .slow_reads = slow_reads}));
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
                             .nameservers = NameserverAddresses(),
                             .operations = static_cast<uint32_t>(random.Between(10, 120)),
                             .in_flight_max = static_cast<uint32_t>(random.Between(1, 12)),
                             .think_us_max = random.Between(1, 300) * 1000};
    options.hot_files = hot_files_;
    options.rests = hot_files_ > 0;
    if (options.rests) options.operations = static_cast<uint32_t>(random.Between(40, 200));
    options.on_put = [this](const FileAddress& address) { CheckSyncedEverywhere(address); };
    clients_.push_back(std::make_unique<SimClient>(&world_, &model_, std::move(options)));
    clients_.back()->Start();
  }
}

void SimCluster::AddGateways() {
  SimRandom& random = world_.random;
  const uint64_t gateways = random.Between(1, 3);
  for (uint64_t i = 0; i < gateways; ++i) {
    SimGatewayOptions options{.address = "10.0.4." + std::to_string(i + 1) + ":7300",
                              .nameservers = NameserverAddresses(),
                              .admit = random.Chance(75) ? CacheAdmit::kAll : CacheAdmit::kHaystack,
                              .cache_bytes = random.Between(1, 8) << 20,
                              .loops = static_cast<uint32_t>(random.Between(1, 2)),
                              .think_us_max = random.Between(2, 40) * 1000,
                              .hot_files = hot_files_};
    gateways_.push_back(std::make_unique<SimGateway>(&world_, &model_, std::move(options)));
    gateways_.back()->Start();
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
  std::vector<std::string> addresses = NameserverAddresses();
  if (nameservers_.size() > 1) addresses.push_back(SimCoordinator::kAddress);
  for (const auto& dsp : dsps_) addresses.push_back(dsp->address());
  for (const auto& client : clients_) addresses.push_back(client->address());
  for (const auto& gateway : gateways_) addresses.push_back(gateway->address());
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
    case Trouble::kNameserverStall:
    case Trouble::kNameserverBothCrash:
    case Trouble::kNameserverDisk:
    case Trouble::kFailover:
    case Trouble::kCoordinatorStop:
    case Trouble::kPairCut:
      return MakeNameserverTrouble(kind);
    case Trouble::kClientCrash: {
      SimClient* client = clients_[random.Below(clients_.size())].get();
      if (!client->running()) return;
      client->Crash();
      return After(500, [client] { client->Start(); });
    }
    case Trouble::kGatewayCrash:
    case Trouble::kGatewayStall:
    case Trouble::kCutMerging:
    case Trouble::kBurst:
      return gateways_.empty() ? void() : MakeGatewayTrouble(kind);
    case Trouble::kClockJump: {  // F34
      static constexpr int64_t kHourMs = 3'600'000;
      SimNodeClock& clock = random.Chance(30) ? AnyNameserver()->clock() : AnyDsp()->clock();
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

void SimCluster::MakeGatewayTrouble(Trouble kind) {
  if (kind == Trouble::kCutMerging) return CutMerging();
  if (kind == Trouble::kBurst) return Burst();
  SimGateway* gateway = gateways_[world_.random.Below(gateways_.size())].get();
  if (!gateway->running()) return;
  if (kind == Trouble::kGatewayStall) return gateway->Stall(world_.random.Between(100, 5'000));
  ++crashes_;
  gateway->Crash();
  After(2'000, [gateway] { gateway->Start(); });
}

void SimCluster::MakeNameserverTrouble(Trouble kind) {
  SimRandom& random = world_.random;
  SimNameserver* one = AnyNameserver();
  switch (kind) {
    case Trouble::kNameserverCrash:
      ++crashes_;
      if (one->running()) one->Crash(AnyCrash());
      return;
    case Trouble::kNameserverStoreLost:
      return LoseStore(one);
    case Trouble::kNameserverStall:
      return one->Stall(random.Between(100, 8'000));
    case Trouble::kNameserverBothCrash:
      ++crashes_;
      for (const auto& each : nameservers_) {
        if (each->running()) each->Crash(AnyCrash());
      }
      return;
    case Trouble::kNameserverDisk:
      if (one->running()) one->FailNextWrite(random.Chance(50) ? Err::kIo : Err::kFull);
      return;
    case Trouble::kFailover:
      if (one->active()) one->HandOver();
      return;
    case Trouble::kCoordinatorStop:
      coordinator_.SetTroubled(random.Chance(50));
      return coordinator_.StopFor(random.Between(100, 9'000));
    default: {  // of the pair and its coordinator, two can't talk, or one can't to the other
      std::vector<std::string> three = NameserverAddresses();
      three.push_back(SimCoordinator::kAddress);
      const std::string a = three[random.Below(three.size())];
      const std::string b = three[random.Below(three.size())];
      world_.trace.Note("cut of the pair: %s %s", a.c_str(), b.c_str());
      world_.net.Cut(a, b);
      if (random.Chance(60)) world_.net.Cut(b, a);
      return After(12'000, [this] { world_.net.HealCuts(); });
    }
  }
}

// Of a pair, the other one must have all, and no claim of this one may win yet: it is active.
void SimCluster::LoseStore(SimNameserver* one) {
  for (const auto& other : nameservers_) {
    if (other.get() != one && !other->active()) return;
  }
  ++crashes_;
  if (one->running()) one->Crash(AnyCrash());
  one->LoseStore();
  if (nameservers_.size() == 1) history_.Forget();
}

void SimCluster::KeepStarted(SimNameserver* nameserver) {
  After(troubled_ ? 3'000 : 500, [this, nameserver] {
    if (!nameserver->running()) nameserver->Start();
    KeepStarted(nameserver);
  });
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
  if (kind == Trouble::kCut && random.Chance(60)) return CutLong(AnyDsp()->address());
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
  const bool both_ways = world_.random.Chance(50);
  for (const std::string& nameserver : NameserverAddresses()) {
    world_.net.Cut(dsp, nameserver);
    if (both_ways) world_.net.Cut(nameserver, dsp);
  }
  for (const auto& client : clients_) world_.net.Cut(client->address(), dsp);
  world_.events.After(world_.random.Between(3'200, 6'000) * 1000, [this, dsp] {
    for (const auto& client : clients_) world_.net.HealCut(client->address(), dsp);
  });
  world_.events.After(world_.random.Between(6'000, 12'000) * 1000,
                      [this] { world_.net.HealCuts(); });
}

// By one of the clients that run.
void SimCluster::SetAllHot(bool undelete) {
  if (!troubled_) return;
  for (const auto& client : clients_) {
    if (!client->running()) continue;
    for (size_t file = 0; file < std::min(hot_files_, model_.files()); ++file) {
      client->SetDelete(file, undelete);
    }
    return;
  }
}

// Reads that take long are overtaken by more deletes than a dsp keeps for those who ask.
void SimCluster::Burst() {
  if (world_.events.now_us() < calm_until_us_) return;
  uint64_t after_us = 0;
  for (uint64_t rounds = world_.random.Between(1, 4); rounds > 0; --rounds) {
    for (const bool undelete : {true, false}) {
      world_.events.After(after_us, [this, undelete] { SetAllHot(undelete); });
      after_us += world_.random.Between(50'000, 900'000);
    }
  }
  after_us += 2'000'000;
  calm_until_us_ = world_.events.now_us() + after_us;
  for (const auto& client : clients_) client->Rest(after_us / 1000);
}

// Files are in the gateways' memory when one of their dsps and the gateways come to one side of a
// cut, the other dsps, nameservers and clients to the other, until deletes are acknowledged without
// that dsp. Then the nameservers hear it again, but it can't learn from other dsps what it has
// missed; and what gateways have of it was perhaps not asked for all the while.
void SimCluster::CutMerging() {
  if (world_.events.now_us() < calm_until_us_ || model_.files() == 0) return;
  constexpr uint64_t kWarmMs = 1'500;
  calm_until_us_ = world_.events.now_us() + 15'000'000;
  for (const auto& client : clients_) client->Rest(kWarmMs);
  SetAllHot(/*undelete=*/true);
  world_.events.After(kWarmMs * 1000, [this] {
    const size_t hot = world_.random.Below(std::min(hot_files_, model_.files()));
    const std::vector<SimDsp*> members = MembersOf(model_.file(hot).address.block_id);
    if (!members.empty() && troubled_) {
      CutFromMerging(members[world_.random.Below(members.size())]->address());
    }
  });
}

void SimCluster::CutFromMerging(const std::string& dsp) {
  SimRandom& random = world_.random;
  world_.trace.Note("cut %s from merging", dsp.c_str());
  const auto set_cut = [this](const std::vector<std::string>& a, const std::vector<std::string>& b,
                              bool cut) {
    for (const std::string& one : a) {
      for (const std::string& other : b) {
        if (cut) world_.net.Cut(one, other);
        if (cut) world_.net.Cut(other, one);
        if (!cut) world_.net.HealCut(one, other);
        if (!cut) world_.net.HealCut(other, one);
      }
    }
  };
  std::vector<std::string> others, side;
  for (const auto& other : dsps_) {
    if (other->address() != dsp) others.push_back(other->address());
  }
  for (const auto& gateway : gateways_) side.push_back(gateway->address());
  set_cut(side, others, true);
  side.push_back(dsp);
  for (const auto& client : clients_) others.push_back(client->address());
  set_cut({dsp}, others, true);
  set_cut({dsp}, NameserverAddresses(), true);
  const uint64_t cut_ms = random.Between(7'000, 9'000);
  const uint64_t merge_ms = cut_ms + random.Between(1'500, 4'000);
  for (const auto& client : clients_) client->Rest(merge_ms);
  const bool rest = random.Chance(50);
  for (const auto& gateway : gateways_) {
    if (rest) gateway->Rest(cut_ms + random.Below(500));
  }
  world_.events.After(random.Between(3'500, 5'000) * 1000, [this] { SetAllHot(false); });
  world_.events.After(cut_ms * 1000, [=, this] { set_cut({dsp}, NameserverAddresses(), false); });
  world_.events.After(merge_ms * 1000, [=] { set_cut(side, others, false); });
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
      if (random.Chance(30)) {
        dsp->Crash(CrashMode::kKill);  // recovery meets it
        // A nameserver that begins anew is told of a block that nobody can read.
        if (begin == 0 && nameservers_.size() == 1) LoseStore(AnyNameserver());
      }
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
    return SayGoneAgain();
  }
  const NsCore* nameserver = ActiveCore();
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

// A creation that was ordered before may be reported by those that made it, with its set.
void SimCluster::SayGoneAgain() {
  if (!gone_) return;
  CallDeclareGone(gone_dsp_id_, /*even_last=*/false);
  world_.events.After(3'000'000, [this] {
    if (!world_.healed) SayGoneAgain();
  });
}

// A number that was given to a dsp which never heard of it, before the store was lost: only sets
// name it.
void SimCluster::DeclareStrangersGone() {
  if (const NsCore* core = ActiveCore(); core != nullptr && core->Complete()) {
    const NsState& state = core->state();
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
  const SimNameserver* active = Active();
  call.address = active == nullptr ? kNameservers[0] : active->address();
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

}  // namespace hayloft
