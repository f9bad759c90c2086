// What a CDN is sent about a file that was deleted, so that it stops to serve its copies.
//
//   PURGE /K3mB...Xg HTTP/1.1                POST /purge HTTP/1.1
//   Host: img.example.com                    Host: api.example.com
//   Surrogate-Key: cats pets                 Content-Type: application/json
//   Cache-Tag: cats,pets
//                                            {"id":"K3mB...Xg","url":"/K3mB...Xg","tags":["cats"]}
//
// PURGE is no method of RFC 9110, but what Squid, Varnish, nginx's modules and Fastly understand.
// Tags are those that the file was uploaded with (client/file_fields.h); they come from a needle,
// and a needle may have been written by others: what could end a line is left out. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/needle.h"

namespace hayloft {

struct PurgeOptions {
  std::string url{};             // http://IP:PORT/PATH, {id} in it; empty: nobody is told
  std::string method = "PURGE";  // or POST
  std::string host{};            // field Host; empty: the url's IP:PORT
  std::string file_url{};        // of a POST: the file's url, {id} in it; empty: /{id}
  uint32_t delay_ms = 1'200;     // after the dsps have the delete
  uint32_t timeout_ms = 5'000;   // of one request
};

// What is wrong with them, "option: cause"; empty: nothing. Whether IP:PORT is an address is left
// to who connects.
std::string PurgeFault(const PurgeOptions& options);

// REQUIRES of all that follow: there is a url, and no fault.
std::string PurgeAddress(const PurgeOptions& options);  // IP:PORT

// The file's tags as a DirPurge has them: its Surrogate-Key, then its Cache-Tag, as they were
// given. Empty: it has neither.
std::vector<std::string> PurgeTags(const Metadata& metadata);

// The whole request. `id`: the file's, as in a URL. `tags`: as from PurgeTags.
std::string PurgeRequest(const PurgeOptions& options, std::string_view id,
                         const std::vector<std::string>& tags);

// Whether it need not be sent again: 2xx, and 404 and 410: there is no copy of it.
bool IsPurged(std::string_view status);

}  // namespace hayloft
