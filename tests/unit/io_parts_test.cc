// The smaller parts of common/io: loop, workers, log, admin port, cluster key; and metrics.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <map>
#include <thread>

#include "common/buffer.h"
#include "common/io/admin_http.h"
#include "common/io/files.h"
#include "common/io/log_limiter.h"
#include "common/io/log_sink.h"
#include "common/io/loop.h"
#include "common/io/server_start.h"
#include "common/io/socket_address.h"
#include "common/io/worker.h"
#include "common/metrics.h"
#include "tests/unit/temp_folder.h"

using namespace hayloft;

namespace {

// One request over a blocking socket; all that comes back. Run beside the loop that answers.
std::string HttpGet(const std::string& address, const std::string& path) {
  const SocketAddress to = *ParseSocketAddress(address);
  const UniqueFd fd(socket(to.storage.ss_family, SOCK_STREAM, 0));
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&to.storage), to.length) != 0) return "";
  const std::string request = "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  if (write(fd.get(), request.data(), request.size()) < 0) return "";
  std::string answer;
  char part[4096];
  for (ssize_t got = 1; got > 0;) {
    got = read(fd.get(), part, sizeof(part));
    if (got > 0) answer.append(part, size_t(got));
  }
  return answer;
}

}  // namespace

TEST_CASE("loop: posted work runs in order on the loop's thread, also from many threads") {
  Loop loop;
  constexpr int kThreads = 4;
  constexpr int kPosts = 500;
  std::vector<std::vector<int>> seen(kThreads);
  const std::thread::id loop_thread = std::this_thread::get_id();
  int left = kThreads * kPosts;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) {
        loop.Post([&, t, i] {
          CHECK(std::this_thread::get_id() == loop_thread);
          seen[size_t(t)].push_back(i);
          if (--left == 0) loop.Stop();
        });
      }
    });
  }
  loop.Run();
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<int>& each : seen) {
    REQUIRE_EQ(each.size(), kPosts);
    CHECK(std::is_sorted(each.begin(), each.end()));
  }
}

TEST_CASE("loop: timers fire, a handle may destroy itself, a destroyed one is silent") {
  Loop loop;
  int every = 0;
  bool silent = true;
  Loop::Handle self;
  Loop::Handle gone = loop.After(1, [&] { silent = false; });
  gone.reset();
  const Loop::Handle stop = loop.After(60, [&] { loop.Stop(); });
  self = loop.Every(3, [&] {
    if (++every == 3) self.reset();
  });
  loop.Run();
  CHECK_EQ(every, 3);
  CHECK(silent);
}

TEST_CASE("loop: work for the end of the turn runs once, and is cancelled with its owner") {
  Loop loop;
  int runs = 0;
  Loop::TurnEnd end(&loop, [&] { ++runs; });
  auto cancelled = std::make_unique<Loop::TurnEnd>(&loop, [&] { runs += 100; });
  loop.Post([&] {
    end.Schedule();
    end.Schedule();
    cancelled->Schedule();
    cancelled.reset();
    CHECK_EQ(runs, 0);
    loop.Stop();
  });
  loop.Run();
  CHECK_EQ(runs, 1);
}

TEST_CASE("loop: signals arrive as callbacks") {
  Loop loop;
  int hups = 0;
  const Loop::Handle handle = loop.OnSignal(SIGHUP, [&] {
    ++hups;
    loop.Stop();
  });
  loop.Post([] { raise(SIGHUP); });
  loop.Run();
  CHECK_EQ(hups, 1);
}

TEST_CASE("worker: tasks run in order; a full queue says so; the destructor finishes") {
  std::atomic<bool> go{false};
  std::vector<int> order;
  int refused = 0;
  {
    WorkerThread worker("unit", 3);
    std::atomic<bool> started{false};
    REQUIRE(worker.Run([&] {
      started = true;
      started.notify_all();
      go.wait(false);
    }));
    started.wait(false);
    for (int i = 0; i < 5; ++i) refused += !worker.Run([&order, i] { order.push_back(i); });
    go = true;
    go.notify_all();
  }
  CHECK_EQ(refused, 2);
  CHECK_EQ(order, std::vector<int>{0, 1, 2});
}

TEST_CASE("log_limiter: a flood of one event is cut, counted, and leaves others alone (S23)") {
  LogLimiter limiter;
  size_t passed = 0;
  for (int i = 0; i < 10'000; ++i) passed += limiter.Ask("bad_frame n=1", 1'000).pass;
  CHECK_EQ(passed, LogLimiter::kBurst);
  CHECK(limiter.Ask("other x=1", 1'000).pass);
  const LogLimiter::Verdict later = limiter.Ask("bad_frame n=2", 2'000);
  CHECK(later.pass);
  CHECK_EQ(later.suppressed, 10'000 - LogLimiter::kBurst);
  CHECK_FALSE(limiter.Ask("bad_frame n=3", 2'500).pass);
  // Event names out of a flood take bounded memory.
  for (int i = 0; i < 100'000; ++i) passed += limiter.Ask("event" + std::to_string(i), 3'000).pass;
  CHECK_LT(passed, LogLimiter::kEventsMax + 3 * LogLimiter::kBurst);
}

TEST_CASE("log_sink: lines are stamped, escaped and appended; a moved file is opened anew") {
  const TempFolder folder;
  const std::string path = folder / "x.log";
  REQUIRE_EQ(StartLog(path, LogLevel::kInfo), Err::kOk);
  LOG_DEBUG("not_written", "x=%d", 1);
  LOG_WARN("needle_corrupt", "block=%d name=%s", 17, LogText("a\nE forged").c_str());
  StopLog();
  const std::string text = *ReadWholeFile(path, 1 << 20);
  REQUIRE_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  CHECK_EQ(text.substr(23), "Z W needle_corrupt block=17 name=a\\x0aE\\x20forged\n");
  CHECK_EQ(text[10], 'T');
  REQUIRE_EQ(StartLog(path, LogLevel::kInfo), Err::kOk);
  REQUIRE_EQ(rename(path.c_str(), (path + ".1").c_str()), 0);
  ReopenLog();
  LOG_INFO("after", "x=%d", 1);
  StopLog();
  SetLogSink([](LogLevel, std::string_view) {}, LogLevel::kDebug);
  CHECK_NE(ReadWholeFile(path, 1 << 20)->find("I after x=1\n"), std::string::npos);
  CHECK_EQ(StartLog(folder / "no/such/folder", LogLevel::kInfo), Err::kConfig);
}

TEST_CASE("metrics: text has help and type once a name, labels escaped, buckets adding up") {
#define TEST_METRICS(X)                \
  X(Counter, reads_total, "reads")     \
  X(Gauge, open_blocks, "open blocks") \
  X(Histogram, read_us, "time")
  struct TestMetrics {
    HAYLOFT_METRICS("test_", TEST_METRICS)
  } metrics;
  metrics.reads_total.Add(3);
  metrics.open_blocks.Set(-2);
  metrics.read_us.Observe(0);
  metrics.read_us.Observe(5);
  metrics.read_us.Observe(uint64_t{1} << 60);
  MetricsText text;
  metrics.Print(&text);
  text.AddGauge({"test_", "up", "by dsp"}, 1, {{"dsp", "a\"b\\"}});
  text.AddGauge({"test_", "up", "by dsp"}, 0.5, {{"dsp", "c"}});
  const auto has = [&](const std::string& part) {
    CAPTURE(part);
    CHECK_NE(text.text().find(part), std::string::npos);
  };
  has("# HELP test_reads_total reads\n# TYPE test_reads_total counter\ntest_reads_total 3\n");
  has("test_open_blocks -2\n");
  has("test_read_us_bucket{le=\"0\"} 1\n");
  has("test_read_us_bucket{le=\"3\"} 1\n");
  has("test_read_us_bucket{le=\"7\"} 2\n");
  has("test_read_us_bucket{le=\"+Inf\"} 3\n");
  has("test_read_us_count 3\n");
  has("# TYPE test_up gauge\ntest_up{dsp=\"a\\\"b\\\\\"} 1\ntest_up{dsp=\"c\"} 0.5\n");
}

// Six digits, as printf has them, made every byte count above a million wrong.
TEST_CASE("metrics: gauges print whole numbers exactly, and others with all their digits") {
  MetricsText text;
  text.AddGauge({"t_", "bytes", "b"}, uint64_t{4'503'599'627'371'111});
  text.AddGauge({"t_", "most", "m"}, UINT64_MAX);
  text.AddGauge({"t_", "below", "b"}, int64_t{-7'654'321});
  text.AddGauge({"t_", "million", "m"}, 1'000'000.0);
  text.AddGauge({"t_", "none", "n"}, 0.0);
  text.AddGauge({"t_", "seconds", "s"}, 1'234'567.125);
  text.AddGauge({"t_", "third", "t"}, 1.0 / 3);
  for (const char* line : {"t_bytes 4503599627371111\n", "t_most 18446744073709551615\n",
                           "t_below -7654321\n", "t_million 1000000\n", "t_none 0\n",
                           "t_seconds 1234567.125\n", "t_third 0.3333333333333333\n"}) {
    CAPTURE(line);
    CHECK_NE(text.text().find(line), std::string::npos);
  }
}

TEST_CASE("admin_http: health, readiness, metrics and version, nothing else") {
  Loop loop;
  AdminHttp admin(&loop, "127.0.0.1:0");
  std::string why;
  REQUIRE_EQ(admin.Listen(&why), Err::kOk);
  std::string reason = "no block is writable";
  admin.OnReady([&] { return reason; });
  admin.OnMetrics([](MetricsText* out) { out->AddGauge({"t_", "x", "x"}, 4); });
  std::map<std::string, std::string> answers;
  std::thread asker([&] {
    for (const char* path : {"/healthz", "/readyz", "/metrics", "/version", "/etc"}) {
      answers[path] = HttpGet(admin.address(), path);
    }
    loop.Stop();
  });
  loop.Run();
  asker.join();
  CHECK(answers["/healthz"].starts_with("HTTP/1.1 200"));
  CHECK(answers["/readyz"].starts_with("HTTP/1.1 503"));
  CHECK(answers["/readyz"].ends_with("no block is writable\n"));
  CHECK(answers["/metrics"].ends_with("t_x 4\n"));
  CHECK(answers["/version"].find("\"version\"") != std::string::npos);
  CHECK(answers["/etc"].starts_with("HTTP/1.1 404"));
  AdminHttp second(&loop, admin.address());
  CHECK_EQ(second.Listen(&why), Err::kConfig);
  CHECK_NE(why.find(admin.address()), std::string::npos);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they have heaps of their own
TEST_CASE("server_start: memory of images that come and go does not fault anew each time") {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {  // what PrepareProcess does is for good
    PrepareProcess();
    const auto one_turn = [] {
      std::array<Buffer, 24> images;
      for (Buffer& image : images) {
        image = Buffer(64 << 10);
        std::memset(image.mutable_bytes().data(), 1, image.size());
      }
    };
    const auto faults = [] {
      rusage usage{};
      (void)getrusage(RUSAGE_SELF, &usage);
      return usage.ru_minflt;
    };
    one_turn();
    const long before = faults();
    for (int turn = 0; turn < 100; ++turn) one_turn();
    _exit(faults() - before < 1'000 ? 0 : 1);  // of 38,400 pages that are touched
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}
#endif

TEST_CASE("server_start: a key file that is absent, open to others or short is refused (S21)") {
  const TempFolder folder;
  std::string why;
  CHECK_EQ(*ReadClusterKey("", &why), "");
  CHECK_EQ(ReadClusterKey(folder / "none", &why).err(), Err::kConfig);
  const std::string path = folder / "key";
  REQUIRE_EQ(ReplaceFile(path, std::string(64, 'k') + "\n", 0600), Err::kOk);
  CHECK_EQ(*ReadClusterKey(path, &why), std::string(64, 'k'));
  REQUIRE_EQ(chmod(path.c_str(), 0644), 0);
  CHECK_EQ(ReadClusterKey(path, &why).err(), Err::kConfig);
  REQUIRE_EQ(ReplaceFile(path, "short\n", 0600), Err::kOk);
  CHECK_EQ(ReadClusterKey(path, &why).err(), Err::kConfig);
}
