// Load on a running cluster through the SDK: what batches and calls in flight gain over one call
// after the other. Not part of `make bench`, which has no cluster; build it with
// `make out/release/bench/sdk_load` and run
//
//   sdk_load NAMESERVER KEY_FILE [SIZE [SECONDS]]
//
// One JSON line for each way: images a second, and the CPU time of this process for each, in us.
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <thread>

#include "hayloft/client.h"

namespace hayloft {
namespace {

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Load {
 public:
  Load(Client* client, size_t size, double seconds) : client_(client), seconds_(seconds) {
    std::mt19937_64 random(1);  // not compressible, all alike
    for (size_t i = 0; i < size; ++i) image_.push_back(static_cast<char>(random()));
  }

  int Run() {
    Report("put, one at a time", [this] { return PutOne(); });
    Report("put, batches of 16", [this] { return PutBatch(16); });
    Report("put, batches of 64", [this] { return PutBatch(64); });
    Report("put, 16 in flight", [this] { return Pipeline(16, &Load::BeginPut); });
    Report("put, 64 in flight", [this] { return Pipeline(64, &Load::BeginPut); });
    Report("put, 256 in flight", [this] { return Pipeline(256, &Load::BeginPut); });
    Report("get, one at a time", [this] { return GetOne(); });
    Report("get, batches of 16", [this] { return GetBatch(16); });
    Report("get, 64 in flight", [this] { return Pipeline(64, &Load::BeginGet); });
    Report("get, 10000 in flight", [this] { return Pipeline(10'000, &Load::BeginGet); });
    return failed_ == 0 ? 0 : 1;
  }

 private:
  using Clock = std::chrono::steady_clock;
  bool over() const { return Clock::now() >= end_; }

  void Report(const char* name, const std::function<uint64_t()>& run) {
    const double cpu = CpuSeconds();
    const auto start = Clock::now();
    end_ = start + std::chrono::microseconds(static_cast<int64_t>(seconds_ * 1e6));
    const uint64_t images = run();
    const double took = std::chrono::duration<double>(Clock::now() - start).count();
    std::printf("{\"way\":\"%s\",\"images_per_s\":%.0f,\"cpu_us\":%.1f,\"failed\":%llu}\n", name,
                static_cast<double>(images) / took,
                (CpuSeconds() - cpu) * 1e6 / static_cast<double>(images > 0 ? images : 1),
                static_cast<unsigned long long>(failed_.load()));
    std::fflush(stdout);
  }
  void Count(const Status& status) {
    if (status.ok()) return;
    if (failed_++ == 0) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  }
  void Keep(Stored&& stored) {
    if (!stored.id.empty() && ids_.size() < 1'000) ids_.push_back(std::move(stored.id));
  }
  const std::string& id(uint64_t number) const { return ids_[number % ids_.size()]; }

  uint64_t PutOne() {
    uint64_t images = 0;
    for (; !over(); ++images) {
      Stored stored;
      Count(client_->Put(image_, {}, &stored));
      Keep(std::move(stored));
    }
    return images;
  }
  uint64_t PutBatch(size_t size) {
    const std::vector<std::string_view> images(size, image_);
    uint64_t count = 0;
    for (; !over(); count += size) {
      std::vector<PutResult> results;
      Count(client_->PutBatch(images, {}, &results));
    }
    return count;
  }
  uint64_t GetOne() {
    uint64_t images = 0;
    for (; !over(); ++images) {
      Image image;
      Count(client_->Get(id(images), {}, &image));
    }
    return images;
  }
  uint64_t GetBatch(size_t size) {
    uint64_t count = 0;
    for (; !over(); count += size) {
      std::vector<std::string> ids;
      for (size_t i = 0; i < size; ++i) ids.push_back(id(count + i));
      std::vector<GetResult> results;
      Count(client_->GetBatch(ids, {}, &results));
    }
    return count;
  }

  // Each callback begins the next call, until the time is over.
  using Begin = void (Load::*)(uint64_t number);
  uint64_t Pipeline(uint64_t in_flight, Begin begin) {
    begun_ = in_flight;
    ended_ = 0;
    for (uint64_t i = 0; i < in_flight; ++i) (this->*begin)(i);
    while (ended_ < begun_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return ended_;
  }
  void Next(Begin begin) {
    if (!over()) (this->*begin)(begun_++);
    ++ended_;
  }
  void BeginPut(uint64_t) {
    client_->PutAsync(image_, {}, [this](const Status& status, Stored&&) {
      Count(status);
      Next(&Load::BeginPut);
    });
  }
  void BeginGet(uint64_t number) {
    client_->GetAsync(id(number), {}, [this](const Status& status, Image&& image) {
      Count(status.ok() && image.bytes() != image_ ? Status(Code::kInternal, "other bytes")
                                                   : status);
      Next(&Load::BeginGet);
    });
  }

  Client* client_;
  const double seconds_;
  std::string image_;
  std::vector<std::string> ids_;
  Clock::time_point end_;
  std::atomic<uint64_t> begun_{0}, ended_{0}, failed_{0};
};

int Main(int argc, char** argv) {
  if (argc < 3 || argc > 5) {
    std::fprintf(stderr, "usage: sdk_load NAMESERVER KEY_FILE [SIZE [SECONDS]]\n");
    return 2;
  }
  Options options;
  options.cluster = argv[1];
  options.key_file = argv[2];
  std::unique_ptr<Client> client;
  if (const Status status = Client::Open(options, &client); !status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  const size_t size = argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 16'384;
  return Load(client.get(), size, argc > 4 ? std::strtod(argv[4], nullptr) : 2).Run();
}

}  // namespace
}  // namespace hayloft

int main(int argc, char** argv) { return hayloft::Main(argc, argv); }
