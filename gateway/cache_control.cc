#include "gateway/cache_control.h"

#include <algorithm>

#include "gateway/http_semantics.h"

namespace hayloft {

namespace {

void AppendSeconds(std::string_view name, uint64_t seconds, std::string* out) {
  out->append(", ").append(name).append("=");
  AppendDecimal(seconds, out);
}

std::string MaxAge(uint64_t seconds, std::optional<uint64_t> seconds_left) {
  const uint64_t fresh_s = std::min(seconds, seconds_left.value_or(UINT64_MAX));
  if (fresh_s == 0) return std::string(kNoStore);
  std::string text = "public";
  AppendSeconds("max-age", fresh_s, &text);
  return text;
}

}  // namespace

std::string CacheControl(const GatewayOptions& options, std::optional<uint64_t> seconds_left) {
  if (seconds_left == 0) return std::string(kNoStore);
  const uint64_t left_s = seconds_left.value_or(UINT64_MAX);
  const uint64_t fresh_s = std::min<uint64_t>(options.max_age_s, left_s);
  const uint64_t shared_s = std::min<uint64_t>(options.s_maxage_s, left_s);
  std::string text = "public";
  AppendSeconds("max-age", fresh_s, &text);
  if (shared_s > 0) AppendSeconds("s-maxage", shared_s, &text);
  if (options.immutable && fresh_s > 0) text.append(", immutable");
  // Of a URL that expires nothing stale is sent, also while nobody can be asked.
  if (seconds_left) return text.append(", must-revalidate");
  if (const uint64_t s = options.stale_while_revalidate_s) {
    AppendSeconds("stale-while-revalidate", s, &text);
  }
  if (const uint64_t s = options.stale_if_error_s) AppendSeconds("stale-if-error", s, &text);
  return text;
}

std::string NameCacheControl(const GatewayOptions& options, std::optional<uint64_t> seconds_left) {
  if (options.name_max_age_s == 0 && seconds_left != 0) return std::string(kAskAgain);
  const std::string text = MaxAge(options.name_max_age_s, seconds_left);
  return seconds_left.value_or(0) == 0 ? text : text + ", must-revalidate";
}

std::string NotFoundCacheControl(const GatewayOptions& options,
                                 std::optional<uint64_t> seconds_left) {
  return MaxAge(options.not_found_max_age_s, seconds_left);
}

}  // namespace hayloft
