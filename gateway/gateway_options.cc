#include "gateway/gateway_options.h"

#include "cache/cache_shell.h"
#include "gateway/browser_guard.h"
#include "gateway/http_parser.h"
#include "gateway/pages.h"
#include "gateway/referer_list.h"
#include "gateway/trusted_proxies.h"
#include "gateway/url_templates.h"

namespace hayloft {

// Without memory, files that are its to keep would be asked of it in vain.
std::string GatewayOptions::TierFault() const {
  if (tier_listen.empty()) return tier_advertise.empty() ? "" : "tier_advertise: needs tier_listen";
  if (cache_bytes == 0) return "tier_listen: needs cache_bytes";
  return {};
}

std::string GatewayOptions::Fault() const {
  if (nameservers.empty()) return "nameservers: needed";
  if (cluster_key_file.empty()) return "cluster_key_file: needed, delete tokens rest on it";
  // Else not even one upload of the largest size would be taken.
  if (upload_memory_bytes < 2 * upload_bytes_max) {
    return "upload_memory_bytes: less than two copies of upload_bytes_max";
  }
  if (tls_certificate.empty() != tls_key.empty()) return "tls_certificate, tls_key: both or none";
  if (access_log_format != "combined" && access_log_format != "json") {
    return "access_log_format: combined or json";
  }
  for (const std::vector<std::string>& nodes : SplitLists(directory)) {
    if (nodes.empty()) return "directory: a shard without a node";
  }
  if (const std::string fault = UrlTemplatesFault(url_template); !fault.empty()) {
    return "url_template: " + fault;
  }
  if (dedup_scope != "all" && dedup_scope != "key") return "dedup_scope: all or key";
  if (const std::string fault = PagesFault(pages); !fault.empty()) return "pages: " + fault;
  if (const std::string fault = HostsFault(hosts); !fault.empty()) return "hosts: " + fault;
  if (const std::string fault = OriginsFault(cors_origins); !fault.empty()) {
    return "cors_origins: " + fault;
  }
  if (const std::string fault = ReferersFault(referers); !fault.empty()) {
    return "referers: " + fault;
  }
  if (const std::string fault = ProxiesFault(trusted_proxies); !fault.empty()) {
    return "trusted_proxies: " + fault;
  }
  if (admit != "users" && admit != "haystack" && admit != "all") {
    return "admit: users, haystack or all";
  }
  if (cache_bytes > 0 && cache_bytes < kCacheShardBytesMin) {
    return "cache_bytes: 0, or at least 8 MiB";
  }
  if (!cdn_header.empty() && !IsHttpToken(cdn_header)) return "cdn_header: no name of a header";
  if (const std::string fault = ProxiesFault(cdn_networks); !fault.empty()) {
    return "cdn_networks: " + fault;
  }
  if (const std::string fault = TierFault(); !fault.empty()) return fault;
  if (referer_needed && SplitList(referers).empty()) return "referer_needed: of which referers?";
  if (signed_reads && signing_keys.empty()) {
    return "signed_reads: needs signing_keys, else nobody could read";
  }
  if ((requests_per_s_per_key > 0 || upload_bytes_per_s_per_key > 0) && upload_keys.empty() &&
      signing_keys.empty()) {
    return "limits per key: of which upload_keys or signing_keys?";
  }
  return {};
}

}  // namespace hayloft
