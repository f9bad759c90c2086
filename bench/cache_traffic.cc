#include "bench/cache_traffic.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <list>
#include <numeric>
#include <unordered_map>

#include "common/check.h"
#include "tests/sim/sim_random.h"

namespace hayloft {
namespace {

constexpr uint32_t kNobody = std::numeric_limits<uint32_t>::max();
constexpr uint32_t kImageBytesMin = 256;
constexpr uint32_t kImageBytesMax = 1 << 20;

double Uniform(SimRandom* random) {  // in [0, 1)
  return static_cast<double>(random->Next() >> 11) * 0x1p-53;
}

// Images are numbered in the order of their upload: photo by photo, its renditions together.
class Corpus {
 public:
  explicit Corpus(const TrafficSetting& setting);

  uint32_t images() const { return static_cast<uint32_t>(weight_before_.size() - 1); }
  uint32_t bytes(uint32_t image) const { return bytes_[image]; }
  // The requested one, when the first `uploaded` images are there.
  uint32_t Draw(uint32_t uploaded, SimRandom* random);
  double AgeDays(uint32_t image, uint32_t uploaded) const {
    return (uploaded - 1 - image) / images_per_day_;
  }

 private:
  // A range of ages in images, youngest first; each range ends at twice the age of the one before.
  // What is drawn of it by popularity alone is kept with the probability rate / most_rate.
  struct AgeRange {
    uint32_t begin = 0;  // images
    uint32_t end = 0;
    double most_rate = 0;
    double mass = 0;  // at least that of its requests
  };
  double Rate(double age_days) const {
    return std::pow(1 + age_days / setting_.age_scale_days, -setting_.age_exponent);
  }
  void SplitIntoAges(uint32_t uploaded);

  const TrafficSetting& setting_;
  const double images_per_day_;
  std::vector<double> weight_before_;  // sum of the popularity of all images before
  std::vector<uint32_t> bytes_;
  std::vector<AgeRange> ranges_;
  double ranges_mass_ = 0;
  uint32_t ranges_uploaded_ = 0;
};

Corpus::Corpus(const TrafficSetting& setting)
    : setting_(setting),
      images_per_day_(setting.photos_per_day *
                      static_cast<double>(setting.rendition_shares.size())) {
  const uint32_t renditions = static_cast<uint32_t>(setting.rendition_shares.size());
  ASSERT(renditions > 0);
  ASSERT(setting.rendition_mean_bytes.size() == renditions);
  const uint64_t photos =
      uint64_t{setting.photos_per_day} * (setting.history_days + setting.warm_days + setting.days);
  ASSERT(photos * renditions <= TraceEntry::kImagesMax);
  SimRandom random(setting.seed);
  std::vector<uint32_t> ranks(photos);
  const uint64_t group_max = uint64_t{setting.photos_per_day} * setting.rank_days;
  for (uint64_t begin = 0; begin < photos; begin += group_max) {
    uint32_t* const group = &ranks[begin];
    const uint64_t size = std::min(group_max, photos - begin);
    std::iota(group, group + size, 1);
    for (size_t i = size; i > 1; --i) std::swap(group[i - 1], group[random.Below(i)]);
  }
  weight_before_.reserve(photos * renditions + 1);
  bytes_.reserve(photos * renditions);
  double weight = 0;
  for (const uint32_t rank : ranks) {
    const double popularity = std::pow(rank, -setting.alpha);
    for (uint32_t i = 0; i < renditions; ++i) {
      weight_before_.push_back(weight);
      weight += popularity * setting.rendition_shares[i];
      const double normal =
          std::sqrt(-2 * std::log(1 - Uniform(&random))) * std::cos(2 * M_PI * Uniform(&random));
      const double size = setting.rendition_mean_bytes[i] *
                          std::exp(setting.size_sigma * (normal - setting.size_sigma / 2));
      bytes_.push_back(
          static_cast<uint32_t>(std::clamp(size, double{kImageBytesMin}, double{kImageBytesMax})));
    }
  }
  weight_before_.push_back(weight);
}

void Corpus::SplitIntoAges(uint32_t uploaded) {
  ranges_.clear();
  ranges_mass_ = 0;
  ranges_uploaded_ = uploaded;
  const uint32_t first = std::max(1u, static_cast<uint32_t>(images_per_day_ / 24));
  for (uint32_t begin = 0; begin < uploaded;) {
    AgeRange range{.begin = begin, .end = std::min(uploaded, begin == 0 ? first : 2 * begin)};
    range.most_rate = Rate(begin / images_per_day_);
    range.mass = range.most_rate *
                 (weight_before_[uploaded - range.begin] - weight_before_[uploaded - range.end]);
    ranges_mass_ += range.mass;
    begin = range.end;
    ranges_.push_back(range);
  }
}

uint32_t Corpus::Draw(uint32_t uploaded, SimRandom* random) {
  ASSERT(uploaded > 0);
  if (uploaded != ranges_uploaded_) SplitIntoAges(uploaded);
  while (true) {
    double mass = Uniform(random) * ranges_mass_;
    size_t i = 0;
    while (i + 1 < ranges_.size() && mass >= ranges_[i].mass) mass -= ranges_[i++].mass;
    const AgeRange& range = ranges_[i];
    const double* const first = &weight_before_[uploaded - range.end];
    const double* const last = &weight_before_[uploaded - range.begin];
    const double weight = *first + Uniform(random) * (*last - *first);
    const double* const found = std::upper_bound(first, last, weight) - 1;
    const uint32_t image = static_cast<uint32_t>(found - weight_before_.data());
    const uint32_t taken = std::clamp(image, uploaded - range.end, uploaded - range.begin - 1);
    if (Uniform(random) * range.most_rate < Rate(AgeDays(taken, uploaded))) return taken;
  }
}

// Blocks that fill one after the other; one for each of kOpenSeconds.
class OpenBlocks {
 public:
  explicit OpenBlocks(double upload_bytes_per_s) {
    for (size_t i = 0; i < kOpenSeconds.size(); ++i) {
      cases_[i].block_bytes = upload_bytes_per_s * kOpenSeconds[i];
    }
  }
  void Append(uint32_t image, uint32_t bytes) {
    for (Case& each : cases_) {
      if (each.used + bytes > each.block_bytes) {
        each.first_image = image;
        each.used = 0;
      }
      each.used += bytes;
    }
  }
  uint32_t FlagsOf(uint32_t image) const {
    uint32_t flags = 0;
    for (size_t i = 0; i < cases_.size(); ++i) {
      if (image >= cases_[i].first_image) flags |= TraceEntry::kOpen << i;
    }
    return flags;
  }

 private:
  struct Case {
    double block_bytes = 0;
    double used = 0;
    uint32_t first_image = 0;  // of the block that is open
  };
  std::array<Case, kOpenSeconds.size()> cases_;
};

// One place of a CDN: LRU.
class CdnPlace {
 public:
  explicit CdnPlace(uint64_t bytes_max) : bytes_max_(bytes_max) {}
  // Whether it has the image; has it from now on.
  bool Ask(uint32_t image, uint32_t bytes) {
    const auto found = places_.find(image);
    if (found != places_.end()) {
      newest_first_.splice(newest_first_.begin(), newest_first_, found->second);
      return true;
    }
    newest_first_.push_front({image, bytes});
    places_[image] = newest_first_.begin();
    for (bytes_ += bytes; bytes_ > bytes_max_; newest_first_.pop_back()) {
      bytes_ -= newest_first_.back().bytes;
      places_.erase(newest_first_.back().image);
    }
    return false;
  }

 private:
  struct Item {
    uint32_t image = 0;
    uint32_t bytes = 0;
  };
  const uint64_t bytes_max_;
  uint64_t bytes_ = 0;
  std::list<Item> newest_first_;
  std::unordered_map<uint32_t, std::list<Item>::iterator> places_;
};

class TraceMaker {
 public:
  explicit TraceMaker(const TrafficSetting& setting)
      : setting_(setting),
        corpus_(setting),
        random_(setting.seed * 1'000 + 1),
        images_per_day_(setting.photos_per_day *
                        static_cast<uint32_t>(setting.rendition_shares.size())),
        uploaded_(images_per_day_ * setting.history_days),
        blocks_(UploadBytesPerS()),
        cdn_(setting.cdn_places, CdnPlace(setting.cdn_place_bytes)),
        dense_(corpus_.images(), kNobody),
        seen_on_day_(corpus_.images(), kNobody) {
    ASSERT(setting.cdn_share == 0 || setting.cdn_places > 0);
    for (uint32_t i = 0; i < uploaded_; ++i) blocks_.Append(i, corpus_.bytes(i));
  }

  Trace Make() {
    const double reach = 1 - setting_.cdn_share * setting_.cdn_hits;
    const double per_image = setting_.requests_per_image / reach;
    double due = 0;
    for (uint32_t day = 0; day < setting_.warm_days + setting_.days; ++day) {
      if (day == setting_.warm_days) BeginMeasuring();
      for (uint32_t i = 0; i < images_per_day_; ++i) {
        Upload();
        for (due += per_image; due >= 1; due -= 1) Ask(day);
      }
    }
    Finish();
    return std::move(trace_);
  }

 private:
  double UploadBytesPerS() const {
    double bytes = 0;
    for (const double each : setting_.rendition_mean_bytes) bytes += each;
    return bytes * setting_.photos_per_day / 86'400;
  }
  void BeginMeasuring() {
    measuring_ = true;
    trace_.measured_from = trace_.entries.size();
    cdn_asked_ = cdn_hits_ = 0;
  }
  void Emit(uint32_t image, uint32_t flags) {
    if (dense_[image] == kNobody) {
      dense_[image] = static_cast<uint32_t>(trace_.image_bytes.size());
      trace_.image_bytes.push_back(corpus_.bytes(image));
    }
    trace_.entries.emplace_back(dense_[image], flags | blocks_.FlagsOf(image));
  }
  void Upload() {
    const uint32_t image = uploaded_++;
    blocks_.Append(image, corpus_.bytes(image));
    Emit(image, TraceEntry::kUpload);
    if (measuring_) upload_bytes_ += corpus_.bytes(image);
  }
  void Ask(uint32_t day) {
    const uint32_t image = corpus_.Draw(uploaded_, &random_);
    const bool by_cdn = Uniform(&random_) < setting_.cdn_share;
    if (by_cdn) {
      ++cdn_asked_;
      if (cdn_[random_.Below(cdn_.size())].Ask(image, corpus_.bytes(image))) {
        ++cdn_hits_;
        return;
      }
    }
    Emit(image, by_cdn ? TraceEntry::kByCdn : 0);
    if (measuring_) Count(image, by_cdn, day);
    const double crawler = setting_.crawler_share;
    if (Uniform(&random_) < crawler / (1 - crawler)) Emit(crawled_++, TraceEntry::kCrawler);
  }
  void Count(uint32_t image, bool by_cdn, uint32_t day) {
    ++trace_.requests;
    by_cdn_ += by_cdn ? 1 : 0;
    request_bytes_ += corpus_.bytes(image);
    const double age = corpus_.AgeDays(image, uploaded_);
    for (size_t i = 0; i < younger_.size(); ++i) younger_[i] += age < kYoungDays[i] ? 1 : 0;
    for (size_t i = 0; i < open_.size(); ++i) {
      open_[i] += (blocks_.FlagsOf(image) & TraceEntry::kOpen << i) != 0 ? 1 : 0;
    }
    if (seen_on_day_[image] == day) return;
    seen_on_day_[image] = day;
    working_set_bytes_ += corpus_.bytes(image);
  }
  void Finish() {
    const double requests = static_cast<double>(trace_.requests);
    trace_.daily_working_set_bytes = working_set_bytes_ / setting_.days;
    trace_.daily_upload_bytes = upload_bytes_ / setting_.days;
    trace_.mean_request_bytes = static_cast<double>(request_bytes_) / requests;
    trace_.by_cdn_share = static_cast<double>(by_cdn_) / requests;
    if (cdn_asked_ > 0) {
      trace_.cdn_hit_share = static_cast<double>(cdn_hits_) / static_cast<double>(cdn_asked_);
    }
    for (size_t i = 0; i < younger_.size(); ++i) {
      trace_.younger_share[i] = static_cast<double>(younger_[i]) / requests;
    }
    for (size_t i = 0; i < open_.size(); ++i) {
      trace_.open_share[i] = static_cast<double>(open_[i]) / requests;
    }
  }

  static constexpr std::array<double, 3> kYoungDays = {1, 7, 30};

  const TrafficSetting& setting_;
  Corpus corpus_;
  SimRandom random_;
  const uint32_t images_per_day_;
  uint32_t uploaded_;
  OpenBlocks blocks_;
  std::vector<CdnPlace> cdn_;
  std::vector<uint32_t> dense_;        // by image
  std::vector<uint32_t> seen_on_day_;  // likewise
  uint32_t crawled_ = 0;
  bool measuring_ = false;
  uint64_t cdn_asked_ = 0;
  uint64_t cdn_hits_ = 0;
  uint64_t by_cdn_ = 0;
  uint64_t request_bytes_ = 0;
  uint64_t working_set_bytes_ = 0;
  uint64_t upload_bytes_ = 0;
  std::array<uint64_t, 3> younger_ = {};
  std::array<uint64_t, kOpenSeconds.size()> open_ = {};
  Trace trace_;
};

}  // namespace

Trace MakeTrace(const TrafficSetting& setting) { return TraceMaker(setting).Make(); }

}  // namespace hayloft
