// A client of the SDK and a cluster in memory, over real sockets.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "common/io/files.h"
#include "hayloft/client.h"
#include "tests/unit/fake_cluster.h"
#include "tests/unit/temp_folder.h"

namespace hayloft {

inline std::string Png(size_t size, char fill = 'p') {
  return std::string("\x89PNG\r\n\x1a\n") + std::string(size - 8, fill);
}

struct SdkBench {
  TempFolder folder;
  const std::string key = std::string(40, 'k');
  FakeCluster cluster{key};
  Options options;
  std::unique_ptr<Client> client;

  explicit SdkBench(uint32_t in_flight_max = 16'384) {
    REQUIRE_EQ(ReplaceFile(folder / "secret", key + "\n", 0600), Err::kOk);
    options.cluster = cluster.nameserver();
    options.key_file = folder / "secret";
    options.in_flight_max = in_flight_max;
    Reopen();
  }
  void Reopen() { REQUIRE(Client::Open(options, &client).ok()); }
  std::string Put(const std::string& bytes) {
    Stored stored;
    const Status status = client->Put(bytes, {}, &stored);
    REQUIRE_MESSAGE(status.ok(), status.ToString());
    return stored.id;
  }
};

inline size_t ThreadsOfProcess() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<size_t>(std::distance(begin(tasks), end(tasks)));
}

template <typename Fn>
void WaitUntil(Fn fn) {
  while (!fn()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

}  // namespace hayloft
