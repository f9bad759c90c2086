// libFuzzer target: Cache-Control of a file, for any options and any rest of a URL's life.
// covers: gateway/cache_control.cc
//
// The promise: no time in it, nor a fresh and a stale one in a row, is longer than the rest of the
// URL's life or than its option; errors are never kept for long.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

#include "common/check.h"
#include "gateway/cache_control.h"

namespace hayloft {
namespace {

// Of each directive its number; 0 when it has none.
std::map<std::string, uint64_t> Directives(std::string_view text) {
  std::map<std::string, uint64_t> found;
  while (true) {
    const std::string one(text.substr(0, text.find(", ")));
    const size_t equals = std::min(one.find('='), one.size());
    const std::string number = one.substr(std::min(equals + 1, one.size()));
    ASSERT(std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; }));
    ASSERT(found.emplace(one.substr(0, equals), std::strtoull(number.c_str(), nullptr, 10)).second);
    if (one.size() == text.size()) return found;
    text.remove_prefix(one.size() + 2);
  }
}

void CheckFile(const GatewayOptions& options, std::optional<uint64_t> left_s) {
  const std::string text = CacheControl(options, left_s);
  if (left_s == 0) {
    ASSERT(text == kNoStore);
    return;
  }
  std::map<std::string, uint64_t> said = Directives(text);
  ASSERT(said.count("public") == 1);
  ASSERT(said.count("max-age") == 1);
  ASSERT(said["max-age"] <= options.max_age_s);
  ASSERT(said["s-maxage"] <= options.s_maxage_s);
  ASSERT(said["stale-while-revalidate"] <= options.stale_while_revalidate_s);
  ASSERT(said["stale-if-error"] <= options.stale_if_error_s);
  ASSERT(said.count("immutable") == (options.immutable && said["max-age"] > 0 ? 1 : 0));
  const uint64_t fresh_s = std::max(said["max-age"], said["s-maxage"]);
  const uint64_t stale_s = std::max(said["stale-while-revalidate"], said["stale-if-error"]);
  if (left_s) {
    ASSERT(fresh_s + stale_s <= *left_s);
    // Nor is anything cut that needs not be.
    ASSERT(said["max-age"] == std::min<uint64_t>(options.max_age_s, *left_s));
  } else {
    ASSERT(said["max-age"] == options.max_age_s);
    ASSERT(said["stale-if-error"] == options.stale_if_error_s);
  }
}

void CheckNotFound(const GatewayOptions& options, std::optional<uint64_t> left_s) {
  const std::string text = NotFoundCacheControl(options, left_s);
  const uint64_t wanted_s =
      std::min<uint64_t>(options.not_found_max_age_s, left_s.value_or(UINT64_MAX));
  ASSERT(wanted_s <= 3'600);
  ASSERT(wanted_s == 0 ? text == kNoStore : Directives(text).at("max-age") == wanted_s);
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  if (size < 30) return 0;
  GatewayOptions options;
  const auto number = [&](size_t at, uint32_t most) {
    uint32_t value = 0;
    std::memcpy(&value, data + at, sizeof(value));
    // Small ones too, so that they meet each other.
    return data[29] % 2 == 0 ? value % 8 : std::min(value, most);
  };
  options.max_age_s = number(0, kCacheSecondsMax);
  options.s_maxage_s = number(4, kCacheSecondsMax);
  options.stale_while_revalidate_s = number(8, kCacheSecondsMax);
  options.stale_if_error_s = number(12, kCacheSecondsMax);
  options.not_found_max_age_s = number(16, 3'600);
  options.immutable = data[28] % 2 == 0;
  uint64_t left_s = 0;
  std::memcpy(&left_s, data + 20, sizeof(left_s));
  if (data[29] % 2 == 0) left_s %= 16;
  for (const std::optional<uint64_t> left : {std::optional<uint64_t>(), {left_s}, {0}}) {
    CheckFile(options, left);
    CheckNotFound(options, left);
  }
  return 0;
}
