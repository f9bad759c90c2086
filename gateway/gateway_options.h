// The gateway's options: one row makes the field, its parser, its line of --help and its range.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/limits.h"
#include "common/options.h"
#include "gateway/rate_limiter.h"

namespace hayloft {

inline constexpr uint32_t kCacheSecondsMax = 0x7fffffff;  // RFC 9111 section 1.2.2
inline constexpr uint32_t kClockSkewSecondsMax = 300;     // between us and who signs URLs

// X(type, name, default, min, max, help)
#define GATEWAY_OPTIONS(X)                                                                         \
  X(uint32_t, loops, 0, 0, 256, "event loop threads; 0: one for each processor")                   \
  X(uint64_t, upload_bytes_max, 32 << 20, 1, kFileBytesMax, "largest file taken; larger is 413")   \
  X(uint64_t, upload_memory_bytes, 512 << 20, 1 << 20, uint64_t{1} << 40,                          \
    "memory for all uploads together, two copies of each; beyond it 503")                          \
  X(uint64_t, download_memory_bytes, 512 << 20, 1 << 20, uint64_t{1} << 40,                        \
    "memory for answers that slow readers have not taken; beyond it 503")                          \
  X(uint32_t, connections_max, 10'000, 1, 1'000'000, "client connections; beyond it 503")          \
  X(uint32_t, connections_per_address_max, 5'000, 1, 1'000'000,                                    \
    "client connections from one IP address; beyond it 503")                                       \
  X(uint32_t, queue_ms, 500, 0, 60'000,                                                            \
    "requests wait for a busy store about as long at the most, more get 503; 0: no bound")         \
  X(uint32_t, header_timeout_ms, 10'000, 100, 600'000, "a request's head must be here: 408")       \
  X(uint32_t, idle_timeout_ms, 60'000, 100, 3'600'000, "a connection without a request closes")    \
  X(uint32_t, body_bytes_per_s_min, 1'024, 1, 1 << 30, "slower uploads get 408, readers a reset")  \
  X(uint32_t, body_window_ms, 10'000, 100, 600'000, "over which that rate is taken")               \
  X(uint32_t, upload_timeout_ms, 10'000, 100, 600'000, "for storing a file once it is here")       \
  X(uint32_t, read_timeout_ms, 10'000, 100, 600'000, "for reading a file, or 1 MiB of it")         \
  X(uint32_t, max_age_s, 31'536'000, 0, kCacheSecondsMax, "Cache-Control of a file: max-age")      \
  X(uint32_t, s_maxage_s, 0, 0, kCacheSecondsMax, "the same for shared caches; 0: not said")       \
  X(bool, immutable, true, 0, 1, "and that browsers need not ask again on reload")                 \
  X(uint32_t, stale_while_revalidate_s, 0, 0, kCacheSecondsMax,                                    \
    "how long a cache may send a stale file while it asks again; 0: not said")                     \
  X(uint32_t, stale_if_error_s, 0, 0, kCacheSecondsMax,                                            \
    "how long it may while nothing answers; 0: not said")                                          \
  X(uint32_t, not_found_max_age_s, 0, 0, 3'600, "how long 404 and 410 may be kept; 0: not at all") \
  X(uint32_t, drain_ms, 30'000, 0, 600'000, "on SIGTERM: for requests in progress to end")         \
  X(uint32_t, drain_delay_ms, 0, 0, 600'000,                                                       \
    "on SIGTERM: still accepts for so long, while balancers see that /readyz is 503")              \
  X(std::string, tls_certificate, "", 0, 4096, "PEM file with the chain; `listen` speaks HTTPS")   \
  X(std::string, tls_key, "", 0, 4096, "PEM file with its key, closed to other users")             \
  X(std::string, access_log, "", 0, 4096, "file that gets a line for each request; empty: none")   \
  X(std::string, access_log_format, "combined", 4, 8, "combined or json")                          \
  X(bool, server_timing, false, 0, 1, "answers say how long the store took: Server-Timing")        \
  X(std::string, pages, "none", 3, 6, "for people, at / and /status: none, upload or all")         \
  X(std::string, hosts, "", 0, 4096,                                                               \
    "names by which browsers reach its pages, with commas between; IP addresses and localhost "    \
    "always do")                                                                                   \
  X(std::string, cors_origins, "", 0, 4096,                                                        \
    "origins (https://www.example) whose pages may upload and delete, with commas between")        \
  X(bool, cors_reads, true, 0, 1, "pages of any origin may read files, without credentials")       \
  X(std::string, referers, "", 0, 4096,                                                            \
    "hosts whose pages may show files: www.example, *.example; empty: any")                        \
  X(bool, referer_needed, false, 0, 1, "then also refuse to who does not say which page it is")    \
  X(uint32_t, requests_per_s_per_address, 0, 0, kRateRequestsMax,                                  \
    "of one client; beyond it 429; 0: no limit")                                                   \
  X(uint64_t, upload_bytes_per_s_per_address, 0, 0, kRateBytesMax,                                 \
    "of one client's uploads; beyond it 429; 0: no limit")                                         \
  X(std::string, trusted_proxies, "", 0, 4096,                                                     \
    "addresses and ranges whose X-Forwarded-For says who the client is, for these limits")         \
  X(std::string, upload_keys, "", 0, 4096,                                                         \
    "file of upload keys, closed to other users; uploads then need one, or a signed URL")          \
  X(std::string, signing_keys, "", 0, 4096,                                                        \
    "file of keys that sign URLs, closed to other users; uploads then need such a URL, or a key")  \
  X(bool, signed_reads, false, 0, 1, "reads need a signed URL")                                    \
  X(uint32_t, requests_per_s_per_key, 0, 0, kRateRequestsMax,                                      \
    "that one key allows, an upload key or one that signs URLs; beyond it 429; 0: no limit")       \
  X(uint64_t, upload_bytes_per_s_per_key, 0, 0, kRateBytesMax,                                     \
    "of uploads that one key allows; beyond it 429; 0: no limit")                                  \
  X(uint32_t, signed_url_skew_s, 0, 0, kClockSkewSecondsMax,                                       \
    "signed URLs hold for so much longer, for signers whose clock is behind")                      \
  X(std::vector<std::string>, directory, {}, 0, 256,                                               \
    "IP:PORT of a directory shard's nodes, with a comma between; once for each shard, in order")   \
  X(bool, dedup, true, 0, 1, "with a directory: an image that is stored already is not again")     \
  X(std::string, dedup_scope, "all", 3, 3,                                                         \
    "whose images may be shared: all, or key: only those of one upload key")                       \
  X(uint32_t, name_max_age_s, 60, 0, kCacheSecondsMax,                                             \
    "Cache-Control of what is read by a name: max-age")                                            \
  X(std::string, url_template, "", 0, 4096,                                                        \
    "URLs in answers: https://img.example/{id}.{ext}; several with commas between, each behind "   \
    "its weight and a space, share the files; empty: /<id>")                                       \
  X(uint64_t, cache_bytes, 256 << 20, 0, uint64_t{1} << 42,                                        \
    "memory for images that are asked for often; 0: none")                                         \
  X(std::string, admit, "users", 3, 8,                                                             \
    "what the cache keeps: users: what was not asked for by a CDN; haystack: of that only what "   \
    "lies in an open block; all")                                                                  \
  X(std::string, cdn_header, "", 0, 256, "a request with this header comes from a CDN")            \
  X(std::string, cdn_networks, "", 0, 4096,                                                        \
    "addresses and ranges of CDNs, with commas between: 192.0.2.0/24")                             \
  X(std::string, tier_listen, "", 0, 256,                                                          \
    "IP:PORT where other gateways ask for what this one keeps; empty: it keeps for itself")        \
  X(std::string, tier_advertise, "", 0, 256, "what other gateways are told instead")               \
  X(uint32_t, peer_timeout_ms, 250, 10, 10'000, "a gateway that is slower is done without")        \
  X(bool, unix_sockets, true, 0, 1, "towards dsps of this machine; false: TCP, to measure it")

struct GatewayOptions {
  HAYLOFT_SERVER_ROLE_OPTIONS(GATEWAY_OPTIONS)
  std::string TierFault() const;
  std::string Fault() const;  // relations between options; empty: fine
};

// A file longer than this is read and sent in runs of so many bytes: what one reader holds.
inline constexpr uint64_t kRunBytes = 1 << 20;
// The same while more than half of the memory for answers waits for readers.
inline constexpr uint64_t kShortRunBytes = 64 << 10;
// After a last answer: what is still taken from the client so that no reset overtakes the answer.
inline constexpr uint64_t kLingerBytesMax = 1 << 20;
inline constexpr uint64_t kLingerMs = 2'000;
inline constexpr uint64_t kRetryAfterSeconds = 1;

}  // namespace hayloft
