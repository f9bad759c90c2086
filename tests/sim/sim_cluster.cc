#include "tests/sim/sim_cluster.h"

#include <algorithm>
#include <cinttypes>
#include <functional>
#include <set>

#include "common/log.h"

namespace hayloft {

namespace {

constexpr const char* kNameserver = "10.0.0.1:7000";
const Id16 kClusterId{'h', 'a', 'y'};

SimCluster* g_logging = nullptr;  // whose log lines these are

void LogToCluster(LogLevel level, std::string_view line) {
  if (g_logging != nullptr) g_logging->OnLogLine(level == LogLevel::kError, std::string(line));
}

}  // namespace

SimResult RunSimulation(uint64_t seed, bool print, uint32_t copies) {
  SimCluster cluster(seed, print, copies);
  g_logging = &cluster;
  SetLogSink(LogToCluster, LogLevel::kInfo);
  SimResult result = cluster.Run();
  g_logging = nullptr;
  return result;
}

SimCluster::SimCluster(uint64_t seed, bool print, uint32_t copies)
    : copies_(copies), world_(seed, print), model_(&world_.trace) {}

void SimCluster::OnLogLine(bool error, const std::string& line) {
  world_.trace.Note("log %s", line.c_str());
  if (!error) return;
  // What the faults of this run explain.
  static constexpr const char* kOfDisks[] = {"disk_failed", "disk_read_only", "block_unreadable"};
  if (bad_reads_ && line.starts_with("block_unreadable")) return;
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
  const uint32_t dsps = copies_ - 1 + static_cast<uint32_t>(random.Between(1, 3));
  const uint64_t clients = random.Between(1, 2);
  nameserver_ = std::make_unique<SimNameserver>(
      &world_, SimNameserverOptions{.address = kNameserver,
                                    .cluster_id = std::string(AsText(kClusterId)),
                                    .dsps = dsps,
                                    .copies = copies_});
  nameserver_->Start();
  for (uint32_t i = 0; i < dsps; ++i) {
    const std::string number = std::to_string(i + 1);
    dsps_.push_back(
        std::make_unique<SimDsp>(&world_, SimDspOptions{.address = "10.0.1." + number + ":7100",
                                                        .machine = "machine-" + number,
                                                        .nameservers = {kNameserver},
                                                        .cluster_id = kClusterId}));
    const bool started = dsps_.back()->Start();
    ASSERT(started);
    KeepStarted(dsps_.back().get());
  }
  for (uint64_t i = 0; i < clients; ++i) {
    clients_.push_back(std::make_unique<SimClient>(
        &world_, &model_,
        SimClientOptions{.address = "10.0.2." + std::to_string(i + 1) + ":0",
                         .nameservers = {kNameserver},
                         .operations = static_cast<uint32_t>(random.Between(10, 120)),
                         .in_flight_max = static_cast<uint32_t>(random.Between(1, 12)),
                         .think_us_max = random.Between(1, 300) * 1000}));
    clients_.back()->Start();
  }
  // A few kinds of trouble at a time find more than all at once, in which little succeeds.
  for (uint32_t kind = 0; kind < static_cast<uint32_t>(Trouble::kCount); ++kind) {
    if (!random.Chance(35)) continue;
    kinds_.push_back(static_cast<Trouble>(kind));
    if (kinds_.back() == Trouble::kClockJump) model_.LetClocksJump();
  }
  trouble_every_ms_ = random.Between(50, 1'500);
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

std::string SimCluster::AnyAddress() {
  const uint64_t which = world_.random.Below(1 + dsps_.size() + clients_.size());
  if (which == 0) return kNameserver;
  if (which <= dsps_.size()) return dsps_[which - 1]->address();
  return clients_[which - 1 - dsps_.size()]->address();
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
  const std::string a = AnyAddress();
  const std::string b = AnyAddress();
  if (kind == Trouble::kBreak) return world_.net.BreakConnections(a, b);
  world_.trace.Note("cut %s %s", a.c_str(), b.c_str());
  world_.net.Cut(a, b);
  if (random.Chance(50)) world_.net.Cut(b, a);
  After(8'000, [this] { world_.net.HealCuts(); });
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
      if (disk_failed_) return;  // every image has one copy: the rest must go on
      disk_failed_ = true;
      world_.trace.Note("disk of %s will fail", dsp->address().c_str());
      return random.Chance(50) ? dsp->disk().FailNextSync() : dsp->disk().FailNextWrite();
    default:
      ASSERT(!"a kind of trouble that disks have");
  }
}

// What dataservers do: a dsp that died is started again, sometimes to die while it recovers.
void SimCluster::KeepStarted(SimDsp* dsp) {
  After(troubled_ ? 3'000 : 500, [this, dsp] {
    if (!dsp->running()) {
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
  for (const auto& client : clients_) client->Finish();
  world_.net.SetWeather({});
  world_.net.HealCuts();
  nameserver_->Stall(0);
  if (!nameserver_->running()) nameserver_->Start();
  nameserver_->clock().wall_offset_ms = 0;
  for (const auto& dsp : dsps_) {
    dsp->Stall(0);
    dsp->CrashAtOperation(0, CrashMode::kKill);
    dsp->disk().SetTotalBytes(SimDsp::kDiskBytes);
    dsp->disk().HealReads();
    dsp->clock().wall_offset_ms = 0;
    // A block whose header could not be read stays unserved until the next start.
    if (bad_reads_ && dsp->running()) dsp->Crash(CrashMode::kKill);
    if (world_.random.Chance(30) && dsp->running()) dsp->Crash(AnyCrash());
  }
}

// Everything runs, nothing is under way, and the nameserver has heard of all.
bool SimCluster::Settled() { return DescribeUnsettled().empty(); }

std::string SimCluster::DescribeUnsettled() {
  for (const auto& client : clients_) {
    if (!client->running() || !client->finished()) return "a client has work under way";
  }
  for (const auto& dsp : dsps_) {
    if (!dsp->running()) return dsp->address() + " does not run";
    if (!dsp->idle()) return dsp->address() + " has work under way";
    if (!dsp->core().registered()) return dsp->address() + " is not registered";
  }
  if (!nameserver_->idle()) return "the nameserver has records under way";
  if (!nameserver_->core().Complete()) return "the nameserver has not heard of all";
  if (nameserver_->core().DspsReported() != dsps_.size()) return "a dsp has not reported";
  const size_t failed = static_cast<size_t>(std::count_if(
      dsps_.begin(), dsps_.end(), [](const auto& dsp) { return dsp->disk_failed(); }));
  if (failed < dsps_.size() && !nameserver_->core().Writable()) return "nothing is writable";
  return "";
}

void SimCluster::Judge() {
  constexpr uint64_t kReadBackMsMax = 120'000;
  if (world_.trace.failed()) return;  // the first failure is the one to read
  world_.healed = true;
  SimClient* reader = clients_[0].get();
  reader->ReadBack();
  if (!RunUntil(kReadBackMsMax, [reader] { return reader->finished(); })) {
    return world_.trace.Fail("reading back does not end");
  }
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
}

// The nameserver's map is the union of the blocks that lie on the disks.
void SimCluster::CompareMap() {
  std::map<uint64_t, std::set<std::string>> on_disks;
  for (const auto& dsp : dsps_) {
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
    for (const uint32_t member : state.blocks.SetMembers(record->set)) {
      if (state.dsps.contains(member)) members.insert(state.dsps.at(member).address());
    }
    // Who was late at a creation may hold a replica outside of the set; one copy is never late.
    const bool right = copies_ == 1 ? members == addresses
                                    : std::includes(addresses.begin(), addresses.end(),
                                                    members.begin(), members.end());
    if (!right) world_.trace.Fail("block %" PRIx64 " is mapped to other dsps", id);
  }
  state.blocks.ForEach([&](const BlockRecord& record) {
    if (on_disks.contains(record.block_id)) return;
    world_.trace.Fail("block %" PRIx64 " is in the map and on no disk", record.block_id);
  });
}

}  // namespace hayloft
