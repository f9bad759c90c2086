// Reads through the SDK that never stop, while a test does its worst to the cluster.
//
//   sdk_reader NAMESERVER KEY_FILE IDS FOLDER [THREADS]
//
// IDS is a file that grows: a line "NAME<tab>ID" for each image, whose bytes lie in FOLDER/NAME.
// Each thread reads a random one of those known so far and compares, until stdin ends. Then one
// line of JSON is printed: {"reads","failed","wrong","slowest_ms","errors":[...]}. A read that the
// SDK gives up after its own tries is a failed one; nothing is retried here.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/cluster/open_client.h"

namespace hayloft {
namespace {

constexpr size_t kErrorsKept = 10;

struct Known {
  std::string name, id;
};

// Threads: Get from any.
class KnownImages {
 public:
  explicit KnownImages(const std::string& path) : path_(path) {}

  // False: none yet.
  bool Get(uint64_t number, Known* image) {
    const std::lock_guard lock(mutex_);
    if (number % kReadsALook == 0 || images_.empty()) Look();
    if (images_.empty()) return false;
    *image = images_[number % images_.size()];
    return true;
  }

 private:
  static constexpr uint64_t kReadsALook = 16;
  // What was appended since; a line without its end is for the next time.
  void Look() {
    std::ifstream file(path_);
    file.seekg(static_cast<std::streamoff>(read_to_));
    std::string line;
    while (std::getline(file, line) && !file.eof()) {
      read_to_ += line.size() + 1;
      const size_t tab = line.find('\t');
      if (tab != std::string::npos) {
        images_.push_back({line.substr(0, tab), line.substr(tab + 1)});
      }
    }
  }

  const std::string path_;
  std::mutex mutex_;
  size_t read_to_ = 0;
  std::vector<Known> images_;
};

class Reader {
 public:
  Reader(Client* client, const char* ids, std::string folder)
      : client_(client), known_(ids), folder_(std::move(folder)) {}

  void Run(size_t thread_count) {
    std::vector<std::thread> threads;
    for (size_t i = 0; i < thread_count; ++i) threads.emplace_back([this, i] { ReadOn(i); });
    char ignored[64];
    while (read(STDIN_FILENO, ignored, sizeof(ignored)) > 0) continue;
    stopped_ = true;
    for (std::thread& thread : threads) thread.join();
  }

  void Print() const {
    std::printf("{\"reads\":%llu,\"failed\":%zu,\"wrong\":%zu,\"slowest_ms\":%lld,\"errors\":[",
                static_cast<unsigned long long>(reads_), failed_, wrong_,
                static_cast<long long>(slowest_ms_));
    for (size_t i = 0; i < errors_.size(); ++i) {
      std::printf("%s\"%s\"", i == 0 ? "" : ",", errors_[i].c_str());
    }
    std::printf("]}\n");
  }

 private:
  using Clock = std::chrono::steady_clock;

  void ReadOn(size_t thread) {
    std::mt19937_64 random(thread);
    Known image;
    while (!stopped_) {
      if (known_.Get(random(), &image)) {
        ReadOne(image);
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    }
  }
  void ReadOne(const Known& known) {
    std::ifstream file(folder_ + "/" + known.name, std::ios::binary);
    const std::string wanted{std::istreambuf_iterator<char>(file), {}};
    const auto begun = Clock::now();
    Image image;
    const Status status = client_->Get(known.id, {}, &image);
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begun);
    const std::lock_guard lock(mutex_);
    ++reads_;
    slowest_ms_ = std::max<int64_t>(slowest_ms_, took.count());
    const bool same = status.ok() && image.bytes() == wanted;
    if (same) return;
    ++(status.ok() ? wrong_ : failed_);
    if (errors_.size() < kErrorsKept) {
      errors_.push_back(known.id + " " + std::string(status.name()) + " after " +
                        std::to_string(took.count()) + " ms");
    }
  }

  Client* client_;
  KnownImages known_;
  const std::string folder_;
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;  // for what follows
  uint64_t reads_ = 0;
  size_t failed_ = 0, wrong_ = 0;
  int64_t slowest_ms_ = 0;
  std::vector<std::string> errors_;
};

int Main(int argc, char** argv) {
  if (argc != 5 && argc != 6) {
    std::fprintf(stderr, "usage: sdk_reader NAMESERVER KEY_FILE IDS FOLDER [THREADS]\n");
    return 2;
  }
  const std::unique_ptr<Client> client = OpenClient(argv[1], argv[2]);
  if (client == nullptr) return 1;
  Reader reader(client.get(), argv[3], argv[4]);
  reader.Run(argc > 5 ? std::strtoul(argv[5], nullptr, 10) : 2);
  reader.Print();
  return 0;
}

}  // namespace
}  // namespace hayloft

int main(int argc, char** argv) { return hayloft::Main(argc, argv); }
