#include "dataserver/supervisor.h"

#include <doctest/doctest.h>

#include <algorithm>

namespace hayloft {
namespace {

using Kind = SupervisorOrder::Kind;

// A supervisor of three dsps and a clock that the test turns. Orders are kept until taken.
struct Bench {
  Supervisor supervisor{SupervisorOptions{}, {"dsp-1", "dsp-2", "dsp-3"}};
  Supervisor::Orders orders;
  Now now{.mono_ms = 5'000'000, .wall_ms = 0};

  Supervisor::Orders Take() { return std::exchange(orders, {}); }
  void Tick() { supervisor.OnTick(now, &orders); }
  // Ticks for so long while each running dsp of `alive` answers its probes.
  void Run(uint64_t ms, std::vector<size_t> alive = {0, 1, 2}, uint64_t disk_progress_ms = 0) {
    for (uint64_t end = now.mono_ms + ms; now.mono_ms < end;) {
      now.mono_ms += 100;
      Tick();
      for (size_t dsp : alive) {
        supervisor.OnProbe(dsp, {.answered = true, .disk_progress_ms = disk_progress_ms}, now,
                           &orders);
      }
    }
  }
  void Exit(size_t dsp, DspExit exit) { supervisor.OnExit(dsp, exit, now, &orders); }
  void Crash(size_t dsp) { Exit(dsp, {DspExit::Kind::kSignal, 9}); }
  // Milliseconds until the next start of the dsp.
  uint64_t UntilStart(size_t dsp) {
    orders.clear();
    const uint64_t from = now.mono_ms;
    while (now.mono_ms - from < 100'000) {
      Tick();
      if (std::count(orders.begin(), orders.end(), SupervisorOrder{Kind::kStart, dsp}) > 0) break;
      now.mono_ms += 100;
    }
    Take();
    return now.mono_ms - from;
  }
};

TEST_CASE("supervisor: the first tick starts one dsp a disk, except those adopted") {
  Bench bench;
  bench.supervisor.Adopt(1, bench.now);
  bench.Tick();
  CHECK_EQ(bench.Take(), Supervisor::Orders{{Kind::kStart, 0}, {Kind::kStart, 2}});
  bench.Run(200'000);
  CHECK(bench.Take().empty());
}

TEST_CASE("supervisor: a crashing dsp is started with a backoff that doubles up to its bound") {
  Bench bench;
  bench.Tick();
  bench.Take();
  std::vector<uint64_t> waits;
  for (int i = 0; i < 11; ++i) {
    bench.Crash(0);
    waits.push_back(bench.UntilStart(0));
  }
  CHECK_EQ(waits,
           std::vector<uint64_t>{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000});
  CHECK_EQ(bench.supervisor.restarts(0), 11);
  CHECK_EQ(bench.supervisor.restarts(1), 0);
}

TEST_CASE("supervisor: a minute of health resets the backoff, less does not") {
  Bench bench;
  bench.Tick();
  bench.Crash(0);
  CHECK_EQ(bench.UntilStart(0), 100);
  bench.Run(59'000);
  bench.Crash(0);
  CHECK_EQ(bench.UntilStart(0), 200);
  bench.Run(61'000);
  bench.Crash(0);
  CHECK_EQ(bench.UntilStart(0), 100);
}

TEST_CASE("supervisor: F21 a dsp whose disk failed is marked and started to read only, once") {
  Bench bench;
  bench.Tick();
  bench.Take();
  bench.Exit(1, {DspExit::Kind::kCode, kDspExitDiskFailed});
  CHECK_EQ(bench.Take(), Supervisor::Orders{{Kind::kMarkFailed, 1}});
  CHECK(bench.supervisor.read_only(1));
  CHECK_EQ(bench.UntilStart(1), 100);
  bench.Crash(1);  // an accident, as of any other
  CHECK_EQ(bench.UntilStart(1), 200);
  CHECK(bench.supervisor.read_only(1));
  bench.Exit(1, {DspExit::Kind::kCode, kDspExitDiskFailed});
  bench.Run(300'000, {0, 2});
  CHECK(bench.Take().empty());
  CHECK_EQ(bench.supervisor.state(1), DspState::kRetired);
  CHECK_EQ(bench.supervisor.state(0), DspState::kRunning);
}

TEST_CASE("supervisor: F21 an operator's word ends a dsp that only reads; the next one writes") {
  Bench bench;
  bench.supervisor.ServeReadOnly(1);
  bench.Tick();
  bench.Take();
  for (size_t dsp = 0; dsp < 3; ++dsp) bench.supervisor.Revive(dsp, bench.now, &bench.orders);
  CHECK_EQ(bench.Take(), Supervisor::Orders{{Kind::kTerminate, 1}});
  bench.Exit(1, {DspExit::Kind::kCode, 0});
  CHECK_EQ(bench.UntilStart(1), 100);
  CHECK_FALSE(bench.supervisor.read_only(1));
}

TEST_CASE("supervisor: F51 F53 a dsp that refuses its configuration is not started again") {
  Bench bench;
  bench.Tick();
  bench.Take();
  bench.Exit(2, {DspExit::Kind::kCode, kDspExitConfig});
  bench.Run(300'000, {0, 1});
  CHECK(bench.Take().empty());
  CHECK_EQ(bench.supervisor.state(2), DspState::kRetired);
}

TEST_CASE("supervisor: an operator who mended a disk has its dsp started, and no other") {
  Bench bench;
  bench.Tick();
  bench.Exit(2, {DspExit::Kind::kCode, kDspExitConfig});
  bench.Run(1'000, {0, 1});
  bench.Take();
  CHECK_EQ(bench.supervisor.retired_why(2), "configuration");
  for (size_t dsp = 0; dsp < 3; ++dsp) bench.supervisor.Revive(dsp, bench.now, &bench.orders);
  bench.Tick();
  CHECK_EQ(bench.Take(), Supervisor::Orders{{Kind::kStart, 2}});
}

TEST_CASE("supervisor: any other exit is an accident, whatever its code") {
  for (const DspExit exit :
       {DspExit{DspExit::Kind::kCode, 0}, DspExit{DspExit::Kind::kCode, 1},
        DspExit{DspExit::Kind::kSignal, kDspExitConfig}, DspExit{DspExit::Kind::kUnknown, 0},
        DspExit{DspExit::Kind::kNotStarted, 11}}) {
    Bench bench;
    bench.Tick();
    bench.Exit(0, exit);
    CHECK_EQ(bench.UntilStart(0), 100);
  }
}

TEST_CASE("supervisor: F65 a loop that answers while its disk hangs is killed and started again") {
  Bench bench;
  bench.Tick();
  bench.Run(1'000);
  bench.Take();
  bench.Run(20'000, {0, 1, 2}, 9'800);
  bench.Run(100);
  CHECK(bench.Take().empty());
  uint64_t disk_progress_ms = 0;  // from here on each answer tells of the same last operation
  while (bench.orders.empty() && disk_progress_ms < 60'000) {
    bench.Run(100, {0, 2});
    disk_progress_ms += 100;
    bench.supervisor.OnProbe(1, {.answered = true, .disk_progress_ms = disk_progress_ms}, bench.now,
                             &bench.orders);
  }
  CHECK_EQ(bench.Take(), Supervisor::Orders{{Kind::kKill, 1}});
  CHECK_EQ(disk_progress_ms, 10'000);
  bench.Run(5'000, {0, 2});
  CHECK(bench.Take().empty());  // one kill; no second process beside one that will not die
  bench.Crash(1);
  CHECK_EQ(bench.UntilStart(1), 100);
}

TEST_CASE(
    "supervisor: a dsp that stops answering is killed after 10 s, the others are left alone") {
  Bench bench;
  bench.Tick();
  bench.Run(1'000);
  bench.Take();
  bench.Run(9'900, {0, 2});
  CHECK(bench.Take().empty());
  bench.Run(100, {0, 2});
  CHECK_EQ(bench.Take(), Supervisor::Orders{{Kind::kKill, 1}});
}

TEST_CASE("supervisor: recovery before the first answer may take longer than a hang") {
  Bench bench;
  bench.Tick();
  bench.Take();
  bench.Run(119'800, {0, 2});
  CHECK(bench.Take().empty());
  bench.Run(200, {0, 2});
  CHECK_EQ(bench.Take(), Supervisor::Orders{{Kind::kKill, 1}});
}

TEST_CASE("supervisor: after a pause of its own it does not take silence for a hang") {
  Bench bench;
  bench.Tick();
  bench.Run(1'000);
  bench.Take();
  bench.now.mono_ms += 60'000;
  bench.Run(9'900, {});
  CHECK(bench.Take().empty());
  bench.Run(200, {});
  CHECK_EQ(bench.Take().size(), 3);
}

TEST_CASE("supervisor: stop asks all, kills who does not listen, and starts nothing meanwhile") {
  Bench bench;
  bench.Tick();
  bench.Crash(2);  // waits for its next start
  bench.Take();
  bench.supervisor.Stop(bench.now, &bench.orders);
  CHECK_EQ(bench.Take(), Supervisor::Orders{{Kind::kTerminate, 0}, {Kind::kTerminate, 1}});
  bench.Exit(0, {DspExit::Kind::kCode, 0});
  bench.Run(9'900, {});
  CHECK(bench.Take().empty());
  CHECK_FALSE(bench.supervisor.stopped());
  bench.Run(100, {});
  CHECK_EQ(bench.Take(), Supervisor::Orders{{Kind::kKill, 1}});
  bench.Crash(1);
  bench.Run(60'000, {});
  CHECK(bench.Take().empty());
  CHECK(bench.supervisor.stopped());
}

TEST_CASE("supervisor: a disk that fails while stopping still gets its mark") {
  Bench bench;
  bench.Tick();
  bench.supervisor.Stop(bench.now, &bench.orders);
  bench.Take();
  bench.Exit(0, {DspExit::Kind::kCode, kDspExitDiskFailed});
  CHECK_EQ(bench.Take(), Supervisor::Orders{{Kind::kMarkFailed, 0}});
}

TEST_CASE("supervisor: a disk with the mark of a failure is started to read only") {
  Bench bench;
  bench.supervisor.ServeReadOnly(0);
  bench.Run(100, {});
  CHECK_EQ(bench.Take(),
           Supervisor::Orders{{Kind::kStart, 0}, {Kind::kStart, 1}, {Kind::kStart, 2}});
  CHECK(bench.supervisor.read_only(0));
  CHECK_FALSE(bench.supervisor.read_only(1));
}

}  // namespace
}  // namespace hayloft
