// Load on a running cluster, one sample after the other: what is uploaded or read, how large it is
// and how many at a time stands on a line of the standard input, what came of it in a line of JSON
// on the standard output. bench/cluster_bench.py drives it and measures the cluster's processes.
//
//   cluster_load NAMESERVER KEY_FILE GATEWAY
//
//   sdk_put SIZE N SECONDS     N puts in flight; 1: blocking ones, one after the other
//   sdk_batch SIZE N SECONDS   batches of N, one after the other
//   sdk_get SIZE N SECONDS     N gets in flight of what was put last
//   http_put SIZE N SECONDS    N connections to the gateway, one upload at a time on each
//   http_get SIZE N SECONDS    likewise
//   http_new SIZE N SECONDS    as http_put, but each image is another one, and is looked up
//   http_alone SIZE N SECONDS  as http_new, without the look-up
//   crowd_put, crowd_get SIZE N SECONDS      N clients that overload the gateway, crowd.h
//   flood_put, flood_get SIZE RATE SECONDS   RATE requests a second, likewise
//   fill MEAN N COUNT          puts COUNT images of log-normal sizes by the SDK, N in flight
//   cold ROUND N SECONDS       N connections to the gateway read each of those once, in an order
//                              of chance that ROUND decides; SECONDS says nothing
//   ids SIZE                   prints the ids of what was put last, a line of JSON
//   target IP:PORT             http_get asks this server from now on; it has files named by those
//   ids
//   memcached IP:PORT          likewise, in memcached's protocol
//
// Images begin as a PNG does, so that nobody tries to compress them. Uploads over HTTP but those of
// http_new want a file of their own, as they would find theirs stored already. Every byte that is
// read is compared. Times in microseconds; cpu_us is this process's: an SDK's hashing and sockets,
// or the HTTP client's, which does next to nothing.
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iostream>
#include <map>
#include <random>
#include <thread>

#include "bench/crowd.h"
#include "client/cli/http_load.h"
#include "common/file_address.h"
#include "common/limits.h"
#include "tests/cluster/open_client.h"

namespace hayloft {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kIdsMax = 1'000;  // of one size: what is read lies in the page cache
constexpr size_t kUploadersMax = 200'000;
constexpr size_t kMarkAt = 8;
constexpr size_t kPiecesBytes = 64 << 20;

double CpuUs() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto micros = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
  };
  return micros(usage.ru_utime) + micros(usage.ru_stime);
}

double MicrosSince(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

struct Sample {
  std::string kind;
  size_t size = 0;
  size_t at_a_time = 0;
  double seconds = 0;
};

class Load {
 public:
  Load(Client* client, std::string gateway) : client_(client), gateway_(std::move(gateway)) {}

  void Target(std::string address, bool memcached) {
    lanes_.clear();
    memcached_ = memcached;
    gateway_ = std::move(address);
  }
  void PrintIds(size_t size) {
    const char* between = "[";
    for (const std::string& id : all_ids_[size]) {
      std::printf("%s\"%s\"", between, id.c_str());
      between = ",";
    }
    std::printf("%s]\n", all_ids_[size].empty() ? "[" : "");
    std::fflush(stdout);
  }

  // False when there is no such kind of sample, or nothing to read.
  bool Run(const Sample& sample) {
    sample_ = &sample;
    image_ = &images_[sample.size];
    if (image_->empty()) *image_ = MakeImage(sample.size);
    ids_ = &all_ids_[sample.size];
    latencies_us_.clear();
    failed_ = 0;
    bytes_ = 0;
    const double cpu_us = CpuUs();
    start_ = Clock::now();
    end_ = start_ + std::chrono::microseconds(static_cast<int64_t>(sample.seconds * 1e6));
    if (!Dispatch()) return false;
    Report(MicrosSince(start_), CpuUs() - cpu_us);
    return true;
  }

 private:
  static std::string MakeImage(size_t size) {
    std::mt19937_64 random(size);
    std::string image = "\x89PNG\r\n\x1a\n";
    while (image.size() < size) image.push_back(static_cast<char>(random()));
    return image;
  }
  static bool IsNew(std::string_view kind) { return kind == "http_new" || kind == "http_alone"; }
  bool over() const { return Clock::now() >= end_; }

  bool Dispatch() {
    const std::string& kind = sample_->kind;
    if (kind.ends_with("_get") && ids_->empty()) return false;
    if (kind == "sdk_put" && sample_->at_a_time == 1) {
      PutOneByOne();
    } else if (kind == "sdk_put") {
      Pipeline(&Load::BeginPut);
    } else if (kind == "sdk_batch") {
      PutBatches();
    } else if (kind == "sdk_get") {
      Pipeline(&Load::BeginGet);
    } else if (kind == "http_put" || kind == "http_get" || IsNew(kind)) {
      RunConnections(kind == "http_get");
    } else if (kind.starts_with("crowd_") || kind.starts_with("flood_")) {
      RunCrowd(kind.ends_with("_get"));
    } else if (kind == "fill") {
      Fill();
    } else if (kind == "cold" && !filled_.empty()) {
      ReadFilled();
    } else {
      return false;
    }
    return true;
  }

  void Report(double took_us, double cpu_us) {
    std::vector<double>& latencies = latencies_us_;
    std::sort(latencies.begin(), latencies.end());
    const size_t calls = latencies.size();
    const uint64_t images = calls * (sample_->kind == "sdk_batch" ? sample_->at_a_time : 1);
    std::printf("{\"images\":%" PRIu64 ",\"bytes\":%" PRIu64
                ",\"seconds\":%.4f,\"cpu_us\":%.0f,\"p50_us\":%.0f,"
                "\"p99_us\":%.0f,\"failed\":%" PRIu64,
                images, bytes_, took_us / 1e6, cpu_us, calls == 0 ? 0 : latencies[calls / 2],
                calls == 0 ? 0 : latencies[calls * 99 / 100], failed_);
    if (sample_->kind.starts_with("crowd_") || sample_->kind.starts_with("flood_")) {
      std::printf(",\"refused\":%" PRIu64 ",\"no_retry_after\":%" PRIu64 ",\"given_up\":%" PRIu64
                  ",\"not_sent\":%" PRIu64,
                  crowd_.refused, crowd_.no_retry_after, crowd_.given_up, crowd_.not_sent);
    }
    std::printf("}\n");
    std::fflush(stdout);
  }
  void Ended(bool fine, Clock::time_point begun) {
    latencies_us_.push_back(MicrosSince(begun));
    if (!fine) ++failed_;
  }
  void Count(const Status& status, Clock::time_point begun) {
    if (!status.ok() && failed_ == 0) std::fprintf(stderr, "%s\n", status.ToString().c_str());
    Ended(status.ok(), begun);
  }
  void Keep(std::string id) {
    if (ids_->size() == kIdsMax) ids_->pop_front();
    ids_->push_back(std::move(id));
  }
  const std::string& NextId() { return (*ids_)[number_++ % ids_->size()]; }

  // --- SDK
  void PutOneByOne() {
    while (!over()) {
      const Clock::time_point begun = Clock::now();
      Stored stored;
      Count(client_->Put(*image_, {}, &stored), begun);
      if (!stored.id.empty()) Keep(std::move(stored.id));
    }
  }
  void PutBatches() {
    const std::vector<std::string_view> images(sample_->at_a_time, *image_);
    while (!over()) {
      const Clock::time_point begun = Clock::now();
      std::vector<PutResult> results;
      Count(client_->PutBatch(images, {}, &results), begun);
    }
  }

  // Each callback begins the next call, until the time is over. All but the first begin on the
  // client's thread, to which everything here belongs until the last of them has ended.
  using Begin = void (Load::*)();
  void Pipeline(Begin begin) {
    under_way_ = sample_->at_a_time;
    for (size_t i = 0; i < sample_->at_a_time; ++i) {
      // By a call that fails on that thread, so that the first calls of all begin there too.
      client_->StatAsync("", {}, [this, begin](const Status&, ImageInfo&&) { (this->*begin)(); });
    }
    while (under_way_ > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  void Next(Begin begin) {
    if (!over()) return (this->*begin)();
    --under_way_;
  }
  void BeginPut() {
    client_->PutAsync(*image_, {}, [this, begun = Clock::now()](const Status& status, Stored&& s) {
      Count(status, begun);
      if (status.ok()) Keep(std::move(s.id));
      Next(&Load::BeginPut);
    });
  }
  void BeginGet() {
    client_->GetAsync(NextId(), {},
                      [this, begun = Clock::now()](const Status& status, Image&& image) {
                        const bool other = status.ok() && image.bytes() != *image_;
                        Count(other ? Status(Code::kInternal, "other bytes") : status, begun);
                        Next(&Load::BeginGet);
                      });
  }

  // --- many images of different sizes, each a piece of one buffer
  struct Filled {
    std::string id;
    uint32_t begin = 0;
    uint32_t size = 0;
  };
  std::string_view BytesOf(const Filled& file) const {
    return std::string_view(pieces_).substr(file.begin, file.size);
  }
  void Fill() {
    if (pieces_.empty()) pieces_ = MakeImage(kPiecesBytes);
    fill_left_ = static_cast<uint64_t>(sample_->seconds);
    constexpr double kSigma = 0.9;
    sizes_ = std::lognormal_distribution<double>(
        std::log(static_cast<double>(sample_->size)) - kSigma * kSigma / 2, kSigma);
    end_ = Clock::time_point::max();
    Pipeline(&Load::BeginFill);
  }
  void BeginFill() {
    if (fill_left_ == 0) {
      --under_way_;
      return;
    }
    --fill_left_;
    Filled file;
    file.size = static_cast<uint32_t>(std::clamp(sizes_(random_), 64.0, 1048576.0));
    file.begin = static_cast<uint32_t>(random_() % (kPiecesBytes - file.size));
    const std::string_view bytes = BytesOf(file);
    PutOptions options;
    options.content_type = "image/png";
    client_->PutAsync(bytes, options,
                      [this, file, begun = Clock::now()](const Status& status, Stored&& s) mutable {
                        Count(status, begun);
                        bytes_ += file.size;
                        file.id = std::move(s.id);
                        if (status.ok()) filled_.push_back(std::move(file));
                        BeginFill();
                      });
  }
  void ReadFilled() {
    std::mt19937_64 order(sample_->size);
    std::shuffle(filled_.begin(), filled_.end(), order);
    next_filled_ = 0;
    end_ = Clock::time_point::max();
    RunConnections(/*reads=*/true);
  }

  // --- HTTP
  struct Lane {
    const Filled* file = nullptr;  // what it reads of those
    std::unique_ptr<LoadConnection> connection;
    Clock::time_point begun;
    std::string image;  // of IsNew
  };
  // Connections are made with their first request: a sample is short, but not that short.
  void RunConnections(bool reads) {
    while (lanes_.size() < sample_->at_a_time) {
      Lane* lane = &lanes_.emplace_back();
      lane->connection = std::make_unique<LoadConnection>(
          &loop_, gateway_, [this, lane](const LoadAnswer& answer) { OnAnswer(lane, answer); });
      if (memcached_) lane->connection->SpeakMemcached();
    }
    reads_ = reads;
    busy_ = sample_->at_a_time;
    for (size_t i = 0; i < sample_->at_a_time; ++i) Send(&lanes_[i]);
    while (busy_ > 0) loop_.Run();
  }
  void Send(Lane* lane) {
    lane->begun = Clock::now();
    if (sample_->kind == "cold") {
      lane->file = &filled_[next_filled_++];
      return lane->connection->Send("/" + lane->file->id, {});
    }
    if (reads_) return lane->connection->Send("/" + NextId(), {});
    lane->connection->SetPostLines(sample_->kind == "http_new" ? "" : "Hayloft-Dedup: no\r\n");
    if (IsNew(sample_->kind)) {
      // The PNG's signature, and eight bytes that were never sent before.
      if (lane->image.size() != image_->size()) lane->image = *image_;
      const uint64_t mark = mark_++;
      std::memcpy(lane->image.data() + kMarkAt, &mark, sizeof(mark));
      return lane->connection->Send("/v1/files", AsBytes(lane->image));
    }
    lane->connection->Send("/v1/files", AsBytes(*image_));
  }
  // `images` are those whose answer came in time.
  void RunCrowd(bool reads) {
    Crowd::Asks asks;
    if (reads) {
      asks.path = [this] { return "/" + NextId(); };
      asks.is_right = [this](const LoadAnswer& answer) {
        return answer.status == 200 && answer.body == *image_;
      };
    } else {
      asks.path = [] { return "/v1/files"; };
      asks.body = AsBytes(*image_);
      asks.is_right = [](const LoadAnswer& answer) { return answer.status == 201; };
    }
    Crowd crowd(gateway_, std::move(asks));
    const bool flood = sample_->kind.starts_with("flood_");
    crowd_ = flood ? crowd.RunFlood(sample_->at_a_time, end_ - start_)
                   : crowd.RunCrowd(sample_->at_a_time, end_ - start_);
    latencies_us_ = std::move(crowd_.took_us);
    failed_ = crowd_.broken;
  }
  void OnAnswer(Lane* lane, const LoadAnswer& answer) {
    const bool cold = sample_->kind == "cold";
    if (reads_) {
      const std::string_view wanted = cold ? BytesOf(*lane->file) : std::string_view(*image_);
      Ended(answer.status == 200 && answer.body == wanted, lane->begun);
      bytes_ += answer.body.size();
    } else {
      Ended(answer.status == 201, lane->begun);
      constexpr std::string_view kId = "\"id\":\"";
      const size_t at = answer.body.find(kId);
      if (at != std::string_view::npos && !IsNew(sample_->kind)) {
        Keep(std::string(answer.body.substr(at + kId.size(), kAddressTextLength)));
      }
    }
    if (cold ? next_filled_ < filled_.size() : !over()) return Send(lane);
    if (--busy_ == 0) loop_.Stop();
  }

  Client* client_;
  std::string gateway_;
  const Sample* sample_ = nullptr;
  std::map<size_t, std::string> images_;
  std::map<size_t, std::deque<std::string>> all_ids_;
  std::string* image_ = nullptr;
  std::deque<std::string>* ids_ = nullptr;
  Clock::time_point start_, end_;
  std::vector<double> latencies_us_;  // of each call
  uint64_t failed_ = 0;
  uint64_t bytes_ = 0;  // of what was filled or read
  std::string pieces_;
  std::vector<Filled> filled_;
  size_t next_filled_ = 0;
  uint64_t fill_left_ = 0;
  std::lognormal_distribution<double> sizes_;
  std::mt19937_64 random_{1};
  uint64_t number_ = 0;
  uint64_t mark_ = uint64_t{std::random_device()()}
                   << 32;  // of this run: what earlier ones sent is stored
  std::atomic<size_t> under_way_{0};
  Loop loop_;
  std::deque<Lane> lanes_;
  bool reads_ = false;
  bool memcached_ = false;
  size_t busy_ = 0;
  Crowd::Counts crowd_;  // of the last one
};

int Main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: cluster_load NAMESERVER KEY_FILE GATEWAY\n");
    return 2;
  }
  const std::unique_ptr<Client> client = OpenClient(argv[1], argv[2]);
  if (client == nullptr) return 1;
  Load load(client.get(), argv[3]);
  Sample sample;
  while (std::cin >> sample.kind) {
    const bool memcached = sample.kind == "memcached";
    if (memcached || sample.kind == "target") {
      std::string address;
      std::cin >> address;
      load.Target(address, memcached);
      continue;
    }
    std::cin >> sample.size;
    if (sample.kind == "ids") {
      load.PrintIds(sample.size);
      continue;
    }
    std::cin >> sample.at_a_time >> sample.seconds;
    const size_t least = sample.kind.starts_with("http_") ? kMarkAt + sizeof(uint64_t) : 8;
    const bool sane = !std::cin.fail() && sample.size >= least && sample.size <= kFileBytesMax &&
                      sample.at_a_time >= 1 && sample.at_a_time <= kUploadersMax;
    if (sane && load.Run(sample)) continue;
    std::fprintf(stderr, "no such sample: %s\n", sample.kind.c_str());
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace hayloft

int main(int argc, char** argv) { return hayloft::Main(argc, argv); }
