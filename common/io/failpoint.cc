#include "common/io/failpoint.h"

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>
#include <string>

namespace hayloft {

namespace {

struct Wanted {
  std::string name;
  std::atomic<uint64_t> left{0};
  bool list = false;
  std::mutex names_mutex;
  std::set<std::string> names;  // under names_mutex

  Wanted() {
    const char* text = std::getenv("HAYLOFT_FAILPOINT");
    if (text == nullptr) return;
    name = text;
    list = name == "list";
    const size_t colon = name.find(':');
    left = 1;
    if (colon == std::string::npos) return;
    left = std::strtoull(name.c_str() + colon + 1, nullptr, 10);
    name.resize(colon);
  }
  ~Wanted() {
    for (const std::string& each : names) std::fprintf(stderr, "failpoint %s\n", each.c_str());
  }
};

}  // namespace

void HitFailpoint(const char* name) {
  static Wanted wanted;
  if (wanted.name.empty()) return;
  if (wanted.list) {
    const std::lock_guard<std::mutex> lock(wanted.names_mutex);
    wanted.names.insert(name);
    return;
  }
  if (wanted.name == name && wanted.left.fetch_sub(1) == 1) (void)std::raise(SIGKILL);
}

}  // namespace hayloft
