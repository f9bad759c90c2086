// The policies that S3-FIFO is compared with, over images that are numbers: FIFO, LRU, and S4LRU
// (Huang et al.: "An analysis of Facebook photo caching", SOSP 2013). S3-FIFO itself is the one of
// the gateway's cache, cache/s3_fifo.h.
//
// Each has the same four calls: Has, Hit (false: not there), Add (makes room first), bytes. What an
// image costs is its bytes; an image larger than all memory is not kept.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "cache/s3_fifo.h"
#include "common/check.h"
#include "tests/sim/sim_random.h"

namespace hayloft {

// Lists through images: an image is in at most one list.
class ImageLists {
 public:
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  static constexpr uint8_t kNoList = 255;
  struct List {
    uint32_t newest = kNone;
    uint32_t oldest = kNone;
    uint64_t bytes = 0;
  };

  void Resize(size_t images) { links_.resize(images); }
  uint8_t list_of(uint32_t image) const { return links_[image].list; }
  const List& list(uint8_t number) const { return lists_[number]; }
  void Push(uint8_t number, uint32_t image, uint32_t bytes) {
    List& list = lists_[number];
    Link& link = links_[image];
    ASSERT(link.list == kNoList);
    link = {.newer = kNone, .older = list.newest, .bytes = bytes, .list = number};
    (list.newest != kNone ? links_[list.newest].newer : list.oldest) = image;
    list.newest = image;
    list.bytes += bytes;
  }
  // Its bytes.
  uint32_t Unlink(uint32_t image) {
    Link& link = links_[image];
    ASSERT(link.list != kNoList);
    List& list = lists_[link.list];
    (link.newer != kNone ? links_[link.newer].older : list.newest) = link.older;
    (link.older != kNone ? links_[link.older].newer : list.oldest) = link.newer;
    list.bytes -= link.bytes;
    link.list = kNoList;
    return link.bytes;
  }

 private:
  struct Link {
    uint32_t newer = kNone;
    uint32_t older = kNone;
    uint32_t bytes = 0;
    uint8_t list = kNoList;
  };
  std::vector<Link> links_;
  std::array<List, 4> lists_;
};

class FifoPolicy {
 public:
  static constexpr const char* kName = "FIFO";
  FifoPolicy(uint64_t bytes_max, const std::vector<uint32_t>& image_bytes) : bytes_max_(bytes_max) {
    lists_.Resize(image_bytes.size());
  }
  bool Has(uint32_t image) const { return lists_.list_of(image) != ImageLists::kNoList; }
  bool Hit(uint32_t image) { return Has(image); }
  void Add(uint32_t image, uint32_t bytes) {
    if (bytes > bytes_max_) return;
    while (this->bytes() + bytes > bytes_max_) lists_.Unlink(lists_.list(0).oldest);
    lists_.Push(0, image, bytes);
  }
  uint64_t bytes() const { return lists_.list(0).bytes; }

 protected:
  const uint64_t bytes_max_;
  ImageLists lists_;
};

class LruPolicy : public FifoPolicy {
 public:
  static constexpr const char* kName = "LRU";
  using FifoPolicy::FifoPolicy;
  bool Hit(uint32_t image) {
    if (!Has(image)) return false;
    lists_.Push(0, image, lists_.Unlink(image));
    return true;
  }
};

// Four LRU queues of a quarter of the bytes each. A newcomer enters the lowest; a hit lifts to the
// head of the next higher one; what overflows a queue goes to the head of the next lower one, and
// from the lowest out.
class S4LruPolicy {
 public:
  static constexpr const char* kName = "S4LRU";
  S4LruPolicy(uint64_t bytes_max, const std::vector<uint32_t>& image_bytes)
      : level_max_(bytes_max / kLevels) {
    lists_.Resize(image_bytes.size());
  }
  bool Has(uint32_t image) const { return lists_.list_of(image) != ImageLists::kNoList; }
  bool Hit(uint32_t image) {
    if (!Has(image)) return false;
    const int level = std::min(lists_.list_of(image) + 1, kLevels - 1);
    const uint32_t bytes = lists_.Unlink(image);
    lists_.Push(static_cast<uint8_t>(level), image, bytes);
    Settle(level);
    return true;
  }
  void Add(uint32_t image, uint32_t bytes) {
    if (bytes > level_max_) return;
    lists_.Push(0, image, bytes);
    Settle(0);
  }
  uint64_t bytes() const {
    uint64_t sum = 0;
    for (uint8_t level = 0; level < kLevels; ++level) sum += lists_.list(level).bytes;
    return sum;
  }

 private:
  static constexpr int kLevels = 4;
  void Settle(int from) {
    for (int level = from; level >= 0; --level) {
      const ImageLists::List& list = lists_.list(static_cast<uint8_t>(level));
      while (list.bytes > level_max_) {
        const uint32_t image = list.oldest;
        const uint32_t bytes = lists_.Unlink(image);
        if (level > 0) lists_.Push(static_cast<uint8_t>(level - 1), image, bytes);
      }
    }
  }

  const uint64_t level_max_;
  ImageLists lists_;
};

class S3FifoPolicy {
 public:
  static constexpr const char* kName = "S3-FIFO";
  static constexpr uint64_t kBytesPerGhost = 4'096;
  S3FifoPolicy(uint64_t bytes_max, const std::vector<uint32_t>& image_bytes)
      : bytes_max_(bytes_max),
        fifo_(bytes_max, bytes_max / kBytesPerGhost + 1),
        images_(image_bytes.size()) {
    for (uint64_t i = 0; i < images_.size(); ++i) {
      uint64_t state = i;
      images_[i].node.hash = SplitMix64(&state);
    }
  }
  S3FifoPolicy(const S3FifoPolicy&) = delete;  // the queues go through its own images
  S3FifoPolicy& operator=(const S3FifoPolicy&) = delete;
  bool Has(uint32_t image) const { return images_[image].is_in; }
  bool Hit(uint32_t image) {
    if (!Has(image)) return false;
    S3Fifo::Touch(&images_[image].node);
    return true;
  }
  void Add(uint32_t image, uint32_t bytes) {
    if (bytes > bytes_max_) return;
    while (fifo_.bytes() + bytes > bytes_max_) {
      S3Node* const victim = fifo_.Evict();
      ASSERT(victim != nullptr);
      reinterpret_cast<Image*>(victim)->is_in = false;
    }
    images_[image].node.charge_bytes = bytes;
    images_[image].is_in = true;
    fifo_.Add(&images_[image].node);
  }
  uint64_t bytes() const { return fifo_.bytes(); }

 private:
  struct Image {
    S3Node node;
    bool is_in = false;
  };
  const uint64_t bytes_max_;
  S3Fifo fifo_;
  std::vector<Image> images_;
};

}  // namespace hayloft
