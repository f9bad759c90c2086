// `hayloft bench`: uploads and reads through the gateways of a running cluster, each connection one
// request at a time, and compares every byte that it reads with what it wrote.

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstring>
#include <ctime>
#include <deque>
#include <memory>

#include "client/cli/await.h"
#include "client/cli/cluster_state.h"
#include "client/cli/http_load.h"
#include "client/cli/session.h"
#include "common/io/json.h"
#include "common/io/system_random.h"
#include "common/limits.h"

namespace hayloft {

namespace {

#define HAYLOFT_BENCH_OPTIONS(X)                                                               \
  X(std::string, gateways, "", 0, 4096,                                                        \
    "IP:PORT of each gateway, with commas between; default: those of --dir")                   \
  X(uint32_t, seconds, 10, 1, 86'400, "how long")                                              \
  X(uint32_t, concurrency, 64, 1, 20'000, "connections, each with one request at a time")      \
  X(uint32_t, read_percent, 0, 0, 100, "share of reads; the rest are uploads")                 \
  X(uint32_t, preload, 0, 0, 10'000'000, "files to upload before the clock runs")              \
  X(uint32_t, size, 0, 0, 60 << 20, "bytes of each file; 0: a mix of 1 to 96 KiB, mean 17 KB") \
  X(uint64_t, seed, 0, 0, UINT64_MAX, "of contents and choices; 0: another one each time")

struct BenchOptions {
  HAYLOFT_OPTIONS(HAYLOFT_BENCH_OPTIONS)
};

constexpr size_t kPoolBytes = 1 << 20;
// Each content begins as an image does, so that it takes an image's way: nobody tries to compress
// it. Then what makes it another one.
constexpr std::array<uint8_t, 8> kPngSignature = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
constexpr size_t kMarkBytes = 24;  // signature, number, seed

uint64_t Mix(uint64_t value) {  // splitmix64
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

uint64_t MicrosNow() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

// Contents by number, without storing them: a mark, then a stretch of one pool of random bytes.
class Contents {
 public:
  Contents(uint64_t seed, uint32_t size) : seed_(seed), size_(size) {
    pool_.resize(std::max<size_t>(kPoolBytes, size) + kPoolBytes);
    for (size_t i = 0; i + 8 <= pool_.size(); i += 8) {
      const uint64_t word = Mix(seed ^ (i + 1));
      std::memcpy(pool_.data() + i, &word, 8);
    }
  }
  // Like TFS's: most below 8 KB, mean 17 KB.
  size_t SizeOf(uint64_t number) const {
    if (size_ != 0) return std::max<size_t>(size_, kMarkBytes);
    const uint64_t random = Mix(number ^ seed_);
    static constexpr std::array<uint32_t, 16> kShift = {10, 10, 10, 10, 11, 11, 11, 11,
                                                        12, 12, 13, 13, 14, 14, 15, 15};
    const uint64_t base = uint64_t{1} << kShift[random % kShift.size()];
    return base + (random >> 8) % (base * 2);
  }
  void Make(uint64_t number, std::vector<uint8_t>* out) const {
    out->resize(SizeOf(number));
    std::memcpy(out->data(), kPngSignature.data(), 8);
    std::memcpy(out->data() + 8, &number, 8);
    std::memcpy(out->data() + 16, &seed_, 8);
    std::memcpy(out->data() + kMarkBytes, Stretch(number), out->size() - kMarkBytes);
  }
  bool Equals(uint64_t number, std::string_view bytes) const {
    return bytes.size() == SizeOf(number) &&
           std::memcmp(bytes.data(), kPngSignature.data(), 8) == 0 &&
           std::memcmp(bytes.data() + 8, &number, 8) == 0 &&
           std::memcmp(bytes.data() + 16, &seed_, 8) == 0 &&
           std::memcmp(bytes.data() + kMarkBytes, Stretch(number), bytes.size() - kMarkBytes) == 0;
  }

 private:
  const uint8_t* Stretch(uint64_t number) const { return pool_.data() + Mix(number) % kPoolBytes; }

  const uint64_t seed_;
  const uint32_t size_;
  std::vector<uint8_t> pool_;
};

// What was measured of one kind of request.
struct Tally {
  std::vector<uint32_t> micros;
  uint64_t bytes = 0;
  uint64_t errors = 0;

  Json ToJson(double seconds) {
    std::sort(micros.begin(), micros.end());
    const auto percentile = [this](size_t per_mille) -> uint32_t {
      return micros.empty() ? 0
                            : micros[std::min(micros.size() - 1, micros.size() * per_mille / 1000)];
    };
    Json json;
    json.Set("count", micros.size()).Set("errors", errors).Set("bytes", bytes);
    json.Set("per_s", static_cast<double>(micros.size()) / seconds);
    json.Set("p50_us", percentile(500)).Set("p99_us", percentile(990));
    return json.Set("p999_us", percentile(999)).Set("max_us", percentile(1000));
  }
};

class Bench {
 public:
  Bench(const BenchOptions& options, std::vector<std::string> gateways)
      : options_(options), gateways_(std::move(gateways)), contents_(options.seed, options.size) {}

  Json Run();
  bool failed() const { return mismatches_ > 0 || uploads_.errors + reads_.errors > 0; }

 private:
  struct Lane {
    std::unique_ptr<LoadConnection> connection;
    std::vector<uint8_t> content;
    uint64_t number = 0;  // of the content under way
    uint64_t sent_us = 0;
    bool reading = false;
  };
  struct StoredFile {
    uint64_t number;
    std::array<char, kAddressTextLength> id;
  };

  void Phase(const std::function<bool()>& more, uint32_t read_percent);
  void Next(Lane* lane);
  void OnAnswer(Lane* lane, const LoadAnswer& answer);
  void OnUploaded(Lane* lane, const LoadAnswer& answer, Tally* tally);
  Json Report(double seconds);

  const BenchOptions& options_;
  const std::vector<std::string> gateways_;
  const Contents contents_;
  Loop loop_;
  std::deque<Lane> lanes_;
  std::vector<StoredFile> stored_;
  std::function<bool()> more_;
  uint32_t read_percent_ = 0;
  uint64_t choices_ = 0;
  uint64_t next_number_ = 1;
  size_t idle_ = 0;
  Tally uploads_, reads_;
  uint64_t mismatches_ = 0;
};

Json Bench::Run() {
  for (uint32_t i = 0; i < options_.concurrency; ++i) {
    Lane* lane = &lanes_.emplace_back();
    lane->connection = std::make_unique<LoadConnection>(
        &loop_, gateways_[i % gateways_.size()],
        [this, lane](const LoadAnswer& answer) { OnAnswer(lane, answer); });
  }
  Phase([this] { return next_number_ <= options_.preload; }, 0);
  const uint64_t preload_errors = uploads_.errors;
  uploads_ = {};
  uploads_.errors = preload_errors;
  const uint64_t start_us = MicrosNow();
  const uint64_t end_us = start_us + uint64_t{options_.seconds} * 1'000'000;
  Phase([end_us] { return MicrosNow() < end_us; }, options_.read_percent);
  return Report(static_cast<double>(MicrosNow() - start_us) / 1e6);
}

// Keeps every lane busy while `more` says so, and returns when the last answer is there.
void Bench::Phase(const std::function<bool()>& more, uint32_t read_percent) {
  more_ = more;
  read_percent_ = read_percent;
  idle_ = 0;
  for (Lane& lane : lanes_) Next(&lane);
  while (idle_ < lanes_.size()) loop_.Run();
}

void Bench::Next(Lane* lane) {
  if (!more_()) {
    if (++idle_ == lanes_.size()) loop_.Stop();
    return;
  }
  const uint64_t choice = Mix(options_.seed + ++choices_);
  lane->reading = !stored_.empty() && choice % 100 < read_percent_;
  lane->sent_us = MicrosNow();
  if (lane->reading) {
    const StoredFile& file = stored_[(choice >> 8) % stored_.size()];
    lane->number = file.number;
    return lane->connection->Send("/" + std::string(file.id.data(), file.id.size()), {});
  }
  lane->number = next_number_++;
  contents_.Make(lane->number, &lane->content);
  lane->sent_us = MicrosNow();
  lane->connection->Send("/v1/files", lane->content);
}

void Bench::OnAnswer(Lane* lane, const LoadAnswer& answer) {
  Tally* tally = lane->reading ? &reads_ : &uploads_;
  if (answer.status != 200 && answer.status != 201) {
    ++tally->errors;
  } else {
    tally->micros.push_back(static_cast<uint32_t>(MicrosNow() - lane->sent_us));
    if (!lane->reading) {
      OnUploaded(lane, answer, tally);
    } else {
      tally->bytes += answer.body.size();
      if (!contents_.Equals(lane->number, answer.body)) ++mismatches_;
    }
  }
  Next(lane);
}

void Bench::OnUploaded(Lane* lane, const LoadAnswer& answer, Tally* tally) {
  constexpr std::string_view kId = "\"id\":\"";
  const size_t at = answer.body.find(kId);
  StoredFile file{.number = lane->number, .id = {}};
  if (at == std::string_view::npos || answer.body.size() < at + kId.size() + file.id.size()) {
    ++tally->errors;
    return;
  }
  std::memcpy(file.id.data(), answer.body.data() + at + kId.size(), file.id.size());
  tally->bytes += lane->content.size();
  stored_.push_back(file);
}

Json Bench::Report(double seconds) {
  Json json;
  json.Set("seconds", seconds).Set("concurrency", options_.concurrency);
  json.Set("size", options_.size).Set("read_percent", options_.read_percent);
  json.Set("seed", std::to_string(options_.seed)).Set("mismatches", mismatches_);
  return json.Set("uploads", uploads_.ToJson(seconds)).Set("reads", reads_.ToJson(seconds));
}

std::vector<std::string> GatewaysOf(const std::string& dir) {
  std::vector<std::string> gateways;
  const Result<ClusterState> state = LoadClusterState(ClusterFolder(dir));
  if (!state.ok()) return gateways;
  for (const PlannedProcess& process : state->Plan()) {
    if (process.role == "gateway") gateways.push_back(process.listen);
  }
  return gateways;
}

void PrintForPeople(const Json& json) {
  for (const char* kind : {"uploads", "reads"}) {
    const Json& tally = json[kind];
    std::printf("%-8s %8" PRId64 ", %s a second, p50 %" PRId64 " us, p99 %" PRId64 " us, %" PRId64
                " errors\n",
                kind, tally["count"].number(), tally["per_s"].Dump().c_str(),
                tally["p50_us"].number(), tally["p99_us"].number(), tally["errors"].number());
  }
  std::printf("wrong bytes %" PRId64 "\n", json["mismatches"].number());
}

}  // namespace

int RunBench(int argc, const char* const* argv) {
  CommandOptions common;
  BenchOptions bench;
  const Program program{.name = "hayloft bench",
                        .role = "",
                        .about = "Load on a running cluster; verifies every byte that it reads.",
                        .rows = Joined(common.Rows(), bench.Rows()),
                        .fault = [&] { return common.Fault(); }};
  if (const auto exit_code = ParseCommandLine(program, argc, argv)) return *exit_code;
  const std::vector<std::string> gateways =
      bench.gateways.empty() ? GatewaysOf(common.dir) : SplitList(bench.gateways);
  if (gateways.empty()) return Complain("name a gateway with --gateways, or a cluster with --dir");
  SystemRandom random;
  if (bench.seed == 0) bench.seed = random.Next64();
  Bench run(bench, gateways);
  const Json json = run.Run();
  if (common.json) {
    std::printf("%s", json.Dump(/*pretty=*/true).c_str());
  } else {
    PrintForPeople(json);
  }
  return run.failed() ? kExitFailed : kExitFine;
}

}  // namespace hayloft
