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

Wanted& TheWanted() {
  static Wanted wanted;
  return wanted;
}

}  // namespace

void HitFailpoint(const char* name) {
  Wanted& wanted = TheWanted();
  if (wanted.name.empty()) return;
  if (wanted.list) {
    const std::lock_guard<std::mutex> lock(wanted.names_mutex);
    wanted.names.insert(name);
    return;
  }
  if (wanted.name == name && wanted.left.fetch_sub(1) == 1) (void)std::raise(SIGKILL);
}

void HitFailpoint(const char* step, MessageType type) {
  if (TheWanted().name.empty()) return;
  const MessageRow* row = FindMessage(static_cast<uint16_t>(type));
  if (row != nullptr) HitFailpoint((step + std::string(row->name)).c_str());
}

}  // namespace hayloft
