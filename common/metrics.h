// Counters, gauges and histograms, and their Prometheus text.
//
// Each part of a server declares its metrics as a table; one row makes the field and its lines on
// /metrics, with type and help:
//
//   #define DSP_METRICS(X)                            (each line ends in a backslash)
//     X(Counter,   appends_total, "images appended")
//     X(Gauge,     open_blocks,   "blocks that take appends")
//     X(Histogram, append_us,     "microseconds from request to answer")
//   struct DspMetrics { HAYLOFT_METRICS("hayloft_dsp_", DSP_METRICS) };
//
// Threads: relaxed atomics; any thread may count, any thread may print. Nothing is a global: a
// simulation runs many servers in one process.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hayloft {

class Counter {
 public:
  void Add(uint64_t count = 1) { value_.fetch_add(count, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

class Gauge {
 public:
  void Set(int64_t value) { value_.store(value, std::memory_order_relaxed); }
  void Add(int64_t change) { value_.fetch_add(change, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

// Counts by powers of two: bucket i holds values below 2^i, the last one all the rest.
class Histogram {
 public:
  static constexpr size_t kBuckets = 28;  // up to 134 s in microseconds
  void Observe(uint64_t value) {
    const auto bucket = static_cast<size_t>(std::bit_width(value));
    buckets_[bucket < kBuckets ? bucket : kBuckets - 1].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
  }
  uint64_t bucket(size_t i) const { return buckets_[i].load(std::memory_order_relaxed); }
  uint64_t sum() const { return sum_.load(std::memory_order_relaxed); }
  uint64_t count() const;

 private:
  std::array<std::atomic<uint64_t>, kBuckets> buckets_{};
  std::atomic<uint64_t> sum_{0};
};

// Prometheus text being put together. A name's samples must be added one after the other; HELP and
// TYPE are written in front of the first.
class MetricsText {
 public:
  using Labels = std::vector<std::pair<std::string_view, std::string_view>>;
  struct Row {
    std::string_view prefix;  // "hayloft_dsp_"
    std::string_view name;
    std::string_view help;
  };
  void Add(const Row& row, const Counter& counter, const Labels& labels = {});
  void Add(const Row& row, const Gauge& gauge, const Labels& labels = {});
  void Add(const Row& row, const Histogram& histogram, const Labels& labels = {});
  // For a figure that is computed when it is asked for: whole numbers exactly, others with as many
  // digits as tell them from every other double.
  void AddGauge(const Row& row, double value, const Labels& labels = {});
  template <std::integral Whole>
  void AddGauge(const Row& row, Whole value, const Labels& labels = {}) {
    AddGaugeText(row, std::to_string(value), labels);
  }
  const std::string& text() const { return text_; }

 private:
  void AddGaugeText(const Row& row, std::string_view value, const Labels& labels);
  void Head(const Row& row, std::string_view type);
  void Sample(std::string_view name, std::string_view suffix, const Labels& labels,
              std::string_view value);

  std::string last_name_;
  std::string text_;
};

#define HAYLOFT_METRIC_FIELD(kind, name, help) ::hayloft::kind name;
#define HAYLOFT_METRIC_PRINT(kind, name, help) out->Add({prefix, #name, help}, name, labels);
#define HAYLOFT_METRICS(name_prefix, TABLE)                                                  \
  TABLE(HAYLOFT_METRIC_FIELD)                                                                \
  void Print(::hayloft::MetricsText* out, const ::hayloft::MetricsText::Labels& labels = {}) \
      const {                                                                                \
    const std::string_view prefix = name_prefix;                                             \
    TABLE(HAYLOFT_METRIC_PRINT)                                                              \
  }

}  // namespace hayloft
