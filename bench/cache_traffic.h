// Traffic for measuring what a cache of images is worth: requests as they reach gateways, uploads
// between them, in the order of time.
//
// Every photo has a popularity by Zipf's law (ranks are a random permutation, of each day's photos
// or of all) and is asked for at a rate that falls with its age:
//
//   rate(photo, age) ~ rank^-alpha * (1 + age / age_scale)^-age_exponent
//
// Both factors are met exactly, by rejection: no cohorts, no classes of age. Uploads come at a
// steady rate, and so do requests. A share of the requests goes through a CDN first, LRU caches of
// its own at so many places, and reaches the gateway only where that of the user's place misses. A
// crawler may ask for one image after the other, from the oldest on, each once.
//
// Deterministic: a seed and a setting give the same trace (on machines with the same libm).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace hayloft {

// How long a block takes appends, from its first to its last image, in the ways to be compared:
// bytes of a block times blocks that are open, by bytes uploaded a second.
inline constexpr std::array<uint32_t, 4> kOpenSeconds = {120, 3'600, 86'400, 864'000};

struct TrafficSetting {
  std::string name;
  uint64_t seed = 1;
  double alpha = 1.0;
  uint32_t rank_days = 1;  // Zipf's law holds among the photos of so many days of uploads
  double age_scale_days = 1.0;
  double age_exponent = 1.0;
  uint32_t photos_per_day = 0;
  uint32_t history_days = 0;  // photos that are there when requests begin
  uint32_t warm_days = 0;     // of requests that aren't measured
  uint32_t days = 0;          // of requests that are
  // Renditions: images that are uploaded with each photo, and the share of requests for each.
  std::vector<double> rendition_shares;
  std::vector<double> rendition_mean_bytes;
  double size_sigma = 0.5;        // of the sizes' logarithm
  double requests_per_image = 0;  // that reach the gateway, for each image that is uploaded
  double cdn_share = 0;           // of requests before the CDN
  double cdn_hits = 0;            // expected, so that requests_per_image is met
  uint32_t cdn_places = 0;
  uint64_t cdn_place_bytes = 0;
  double crawler_share = 0;  // of what reaches the gateway
};

// One entry is a request or an upload: an image's number (dense: images that occur) and flags.
class TraceEntry {
 public:
  static constexpr uint32_t kUpload = 1;
  static constexpr uint32_t kByCdn = 2;
  static constexpr uint32_t kCrawler = 4;
  static constexpr uint32_t kOpen = 8;  // and on: one bit for each of kOpenSeconds
  static constexpr uint32_t kFlagBits = 7;
  static constexpr uint32_t kImagesMax = 1u << (32 - kFlagBits);

  TraceEntry(uint32_t image, uint32_t flags) : value_(image << kFlagBits | flags) {}
  uint32_t image() const { return value_ >> kFlagBits; }
  bool is_upload() const { return (value_ & kUpload) != 0; }
  bool by_cdn() const { return (value_ & kByCdn) != 0; }
  bool by_crawler() const { return (value_ & kCrawler) != 0; }
  // Whether the image lies in a block that still takes appends.
  bool is_open(size_t open_case) const { return (value_ & (kOpen << open_case)) != 0; }

 private:
  uint32_t value_;
};

struct Trace {
  std::vector<TraceEntry> entries;
  size_t measured_from = 0;           // index of the first entry after warming up
  std::vector<uint32_t> image_bytes;  // by image
  // Of what is measured, without the crawler and uploads:
  uint64_t requests = 0;
  uint64_t daily_working_set_bytes = 0;  // of distinct images that a day asks for, mean of days
  uint64_t daily_upload_bytes = 0;
  double mean_request_bytes = 0;
  double cdn_hit_share = 0;  // of what the CDN was asked
  double by_cdn_share = 0;
  std::array<double, 3> younger_share = {};  // than a day, a week, 30 days
  std::array<double, kOpenSeconds.size()> open_share = {};
};

// REQUIRES: at most TraceEntry::kImagesMax images in all.
Trace MakeTrace(const TrafficSetting& setting);

}  // namespace hayloft
