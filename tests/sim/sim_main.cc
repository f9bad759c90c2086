// sim_test: whole clusters under seeds.
//
//   sim_test --seed=7 [--print]             one run, twice: both must do the same
//   sim_test --seeds=2000 [--from=1]        a campaign; fails when a seed does, or a probe is never
//   hit sim_test --seeds=500 --mutant=NAME      a campaign with a planted bug; fails when a seed
//   finds it sim_test --mutants [--seeds=500]        plants each bug in turn; fails when one is not
//   found sim_test --probes                       a campaign's list of all probes with their counts
//
// Workers are processes, one a processor: a failed ASSERT ends one seed, not the campaign.
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "common/check.h"
#include "common/mutant.h"
#include "tests/sim/dir_walk.h"
#include "tests/sim/pair_walk.h"
#include "tests/sim/sim_cluster.h"

namespace hayloft {
namespace {

constexpr unsigned kSeedSecondsMax = 120;   // of real time: a run that hangs is a failure
constexpr uint64_t kSeedsForProbes = 2000;  // a campaign of as many must reach every probe
constexpr uint64_t kPairWalks = 100;
constexpr uint64_t kDirWalks = 50;
constexpr uint64_t kTwiceEvery = 16;  // so often a campaign runs a seed twice and compares

struct Arguments {
  bool one_seed = false;
  uint64_t seed = 0;
  uint64_t seeds = 100;
  bool seeds_given = false;
  uint64_t from = 1;
  uint64_t jobs = 0;  // 0: one a processor
  bool print = false;
  bool probes = false;
  bool mutants = false;
};

struct MutantRow {
  Mutant mutant;
  const char* name;
  const char* meaning;
};
constexpr MutantRow kMutants[] = {
#define X(name, meaning) {Mutant::name, &#name[1], meaning},
    HAYLOFT_MUTANTS(X)
#undef X
};

// Ready for a signal handler, which may not build it.
char g_replay[256];
int g_report_fd = -1;

void PrepareReplay(uint64_t seed) {
  const char* mutant = "";
  for (const MutantRow& row : kMutants) {
    if (IsMutant(row.mutant)) mutant = row.name;
  }
  std::snprintf(g_replay, sizeof(g_replay), "replay: out/release/sim_test --seed=%" PRIu64 "%s%s\n",
                seed, *mutant != '\0' ? " --mutant=" : "", mutant);
}

void OnDeath(int signal) {
  if (g_mutant == Mutant::kNone) {
    const char* text = signal == SIGALRM ? "the run hangs\n" : "the run was aborted\n";
    (void)!write(STDERR_FILENO, text, std::strlen(text));
    (void)!write(STDERR_FILENO, g_replay, std::strlen(g_replay));
  }
  if (g_report_fd >= 0) (void)!write(g_report_fd, "failed\n", 7);
  _exit(1);
}

// After the cluster, many short walks of a pair of nodes, and of a shard of the directory.
template <typename Walk>
std::vector<std::string> WalkMany(uint64_t seed, uint64_t walks, bool print, Walk&& walk) {
  for (uint64_t i = 0; i < walks; ++i) {
    SimTrace trace(print);
    walk(seed * walks + i, &trace);
    if (trace.failed()) {
      std::vector<std::string> failures = trace.failures();
      failures.push_back("in walk " + std::to_string(i));
      return failures;
    }
  }
  return {};
}

// False when the seed found something, which is printed unless a bug was planted.
bool RunSeed(uint64_t seed, bool print, bool twice) {
  PrepareReplay(seed);
  alarm(kSeedSecondsMax);
  // A bug planted in the directory shows in its own walks only.
  const bool cluster = g_mutant < Mutant::kDirAnswerUnsynced;
  const SimResult result = cluster ? RunSimulation(seed, print) : SimResult();
  std::vector<std::string> failures = result.failures;
  if (failures.empty() && cluster) {
    failures = WalkMany(seed, kPairWalks, print,
                        [](uint64_t walk, SimTrace* trace) { (void)WalkPair(walk, trace); });
  }
  if (failures.empty()) {
    failures = WalkMany(seed, kDirWalks, print,
                        [](uint64_t walk, SimTrace* trace) { (void)WalkDirectory(walk, trace); });
  }
  if (twice && cluster && failures.empty()) {
    const SimResult again = RunSimulation(seed, false);
    if (again.digest != result.digest) {
      failures.push_back("a second run of the seed did something else: digests " +
                         std::to_string(result.digest) + ", " + std::to_string(again.digest));
    }
  }
  alarm(0);
  if (print || (failures.empty() && twice && g_report_fd < 0)) {
    std::printf("seed=%" PRIu64 " digest=%016" PRIx64 " lines=%" PRIu64 " files=%" PRIu64
                " reads=%" PRIu64 " hits=%" PRIu64 " crashes=%" PRIu64 " virtual_ms=%" PRIu64 "\n",
                seed, result.digest, result.lines, result.files, result.reads, result.hits,
                result.crashes, result.virtual_ms);
  }
  if (failures.empty()) return true;
  if (g_mutant == Mutant::kNone || g_report_fd < 0) {
    std::fflush(stdout);
    for (const std::string& failure : failures) std::fprintf(stderr, "%s\n", failure.c_str());
    std::fputs(g_replay, stderr);
  }
  return false;
}

// A worker's seeds; reports "seed N" before each and its probes at the end through the pipe.
[[noreturn]] void Work(const Arguments& arguments, uint64_t worker) {
  // What a planted bug makes the cores say is of no interest.
  if (g_mutant != Mutant::kNone && std::freopen("/dev/null", "w", stderr) == nullptr) _exit(1);
  bool good = true;
  for (uint64_t i = worker; i < arguments.seeds; i += arguments.jobs) {
    dprintf(g_report_fd, "seed %" PRIu64 "\n", i);
    const bool twice = g_mutant == Mutant::kNone && i % kTwiceEvery == 0;
    good = RunSeed(arguments.from + i, false, twice) && good;
    if (!good) {
      dprintf(g_report_fd, "failed\n");
      break;
    }
  }
  for (const Probe* probe = Probe::First(); probe != nullptr; probe = probe->next()) {
    dprintf(g_report_fd, "probe %" PRIu64 " %s\n", probe->hits(), probe->name());
  }
  std::fflush(stdout);
  _exit(good ? 0 : 1);
}

struct Campaign {
  bool failed = false;
  uint64_t seeds_run = 0;
  std::map<std::string, uint64_t> probes;
};

// Until the last worker is gone. The first failure ends the others.
void ReadReports(int fd, const std::vector<pid_t>& workers, Campaign* campaign) {
  FILE* reports = fdopen(fd, "r");
  ASSERT(reports != nullptr);
  char line[512];
  while (std::fgets(line, sizeof(line), reports) != nullptr) {
    char name[256];
    uint64_t number = 0;
    if (std::sscanf(line, "probe %" SCNu64 " %255[^\n]", &number, name) == 2) {
      campaign->probes[name] += number;
    } else if (std::strncmp(line, "seed", 4) == 0) {
      ++campaign->seeds_run;
    } else if (std::strncmp(line, "failed", 6) == 0 && !campaign->failed) {
      campaign->failed = true;
      for (const pid_t pid : workers) kill(pid, SIGTERM);
    }
  }
  (void)std::fclose(reports);
}

Campaign RunCampaign(const Arguments& arguments) {
  int pipe_fds[2];
  const int piped = pipe(pipe_fds);
  ASSERT(piped == 0);
  std::fflush(stdout);
  std::vector<pid_t> workers;
  for (uint64_t worker = 0; worker < arguments.jobs; ++worker) {
    const pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid == 0) {
      close(pipe_fds[0]);
      g_report_fd = pipe_fds[1];
      Work(arguments, worker);
    }
    workers.push_back(pid);
  }
  close(pipe_fds[1]);
  Campaign campaign;
  ReadReports(pipe_fds[0], workers, &campaign);
  for (const pid_t pid : workers) {
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || status != 0) campaign.failed = true;
  }
  return campaign;
}

uint64_t ElapsedMs(const timespec& start) {
  timespec end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  return static_cast<uint64_t>((end.tv_sec - start.tv_sec) * 1000 +
                               (end.tv_nsec - start.tv_nsec) / 1'000'000);
}

timespec Clock() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now;
}

int CampaignMain(const Arguments& arguments) {
  const timespec start = Clock();
  const Campaign campaign = RunCampaign(arguments);
  const uint64_t ms = std::max<uint64_t>(1, ElapsedMs(start));
  std::printf("%s: %" PRIu64 " seeds from %" PRIu64 " in %" PRIu64 ".%" PRIu64 " s, %" PRIu64
              " a minute\n",
              campaign.failed ? "FAILED" : "ok", campaign.seeds_run, arguments.from, ms / 1000,
              ms % 1000 / 100, campaign.seeds_run * 60'000 / ms);
  uint64_t missed = 0;
  for (const auto& [name, hits] : campaign.probes) {
    const bool miss = hits == 0;
    if (arguments.probes) std::printf("%10" PRIu64 "  %s\n", hits, name.c_str());
    if (miss && !arguments.probes) std::printf("never reached: %s\n", name.c_str());
    missed += miss;
  }
  if (campaign.failed) return 1;
  // A few seeds cannot reach every rare state, and are not asked to.
  return missed > 0 && arguments.seeds >= kSeedsForProbes ? 1 : 0;
}

int MutantsMain(Arguments arguments) {
  if (!arguments.seeds_given) arguments.seeds = 500;
  bool all_found = true;
  std::printf("%-18s %-8s %-7s %s\n", "mutant", "found", "seeds", "planted bug");
  for (const MutantRow& row : kMutants) {
    g_mutant = row.mutant;
    const Campaign campaign = RunCampaign(arguments);
    std::printf("%-18s %-8s %-7" PRIu64 " %s\n", row.name, campaign.failed ? "yes" : "NO",
                campaign.seeds_run, row.meaning);
    all_found = all_found && campaign.failed;
  }
  return all_found ? 0 : 1;
}

bool TakeNumber(const char* argument, const char* name, uint64_t* value) {
  const size_t length = std::strlen(name);
  if (std::strncmp(argument, name, length) != 0) return false;
  char* end = nullptr;
  *value = std::strtoull(argument + length, &end, 10);
  return end != argument + length && *end == '\0';
}

bool Parse(int count, char** values, Arguments* arguments) {
  for (int i = 1; i < count; ++i) {
    const std::string value = values[i];
    if (TakeNumber(values[i], "--seed=", &arguments->seed)) {
      arguments->one_seed = true;
    } else if (TakeNumber(values[i], "--seeds=", &arguments->seeds)) {
      arguments->seeds_given = true;
    } else if (value == "--print") {
      arguments->print = true;
    } else if (value == "--probes") {
      arguments->probes = true;
    } else if (value == "--mutants") {
      arguments->mutants = true;
    } else if (value.starts_with("--mutant=")) {
      for (const MutantRow& row : kMutants) {
        if (value.substr(9) == row.name) g_mutant = row.mutant;
      }
      if (g_mutant == Mutant::kNone) return false;
    } else if (!TakeNumber(values[i], "--from=", &arguments->from) &&
               !TakeNumber(values[i], "--jobs=", &arguments->jobs)) {
      return false;
    }
  }
  if (arguments->jobs == 0) {
    arguments->jobs = static_cast<uint64_t>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
  }
  return true;
}

int Main(int count, char** values) {
  Arguments arguments;
  if (!Parse(count, values, &arguments)) {
    std::fputs(
        "usage: sim_test --seed=N [--print] | --seeds=N [--from=K] [--probes]\n"
        "       | --mutants [--seeds=N]   each with [--mutant=NAME] [--jobs=N]\n",
        stderr);
    return 2;
  }
  signal(SIGABRT, OnDeath);
  signal(SIGALRM, OnDeath);
  signal(SIGPIPE, SIG_IGN);
  if (arguments.one_seed) {
    return RunSeed(arguments.seed, arguments.print, /*twice=*/true) ? 0 : 1;
  }
  return arguments.mutants ? MutantsMain(arguments) : CampaignMain(arguments);
}

}  // namespace
}  // namespace hayloft

int main(int count, char** values) { return hayloft::Main(count, values); }
