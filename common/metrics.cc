#include "common/metrics.h"

#include <charconv>
#include <cmath>
#include <iterator>

#include "common/check.h"

namespace hayloft {

uint64_t Histogram::count() const {
  uint64_t count = 0;
  for (size_t i = 0; i < kBuckets; ++i) count += bucket(i);
  return count;
}

void MetricsText::Head(const Row& row, std::string_view type) {
  std::string name(row.prefix);
  name += row.name;
  if (name == last_name_) return;
  last_name_ = std::move(name);
  text_.append("# HELP ").append(last_name_).append(" ").append(row.help).append("\n");
  text_.append("# TYPE ").append(last_name_).append(" ").append(type).append("\n");
}

void MetricsText::Sample(std::string_view name, std::string_view suffix, const Labels& labels,
                         std::string_view value) {
  text_.append(name).append(suffix);
  char separator = '{';
  for (const auto& [key, label] : labels) {
    text_ += separator;
    text_.append(key).append("=\"");
    for (char c : label) {
      if (c == '"' || c == '\\') text_ += '\\';
      text_ += c == '\n' ? ' ' : c;
    }
    text_ += '"';
    separator = ',';
  }
  if (!labels.empty()) text_ += '}';
  text_.append(" ").append(value).append("\n");
}

void MetricsText::Add(const Row& row, const Counter& counter, const Labels& labels) {
  Head(row, "counter");
  Sample(last_name_, "", labels, std::to_string(counter.value()));
}

void MetricsText::Add(const Row& row, const Gauge& gauge, const Labels& labels) {
  Head(row, "gauge");
  Sample(last_name_, "", labels, std::to_string(gauge.value()));
}

void MetricsText::AddGauge(const Row& row, double value, const Labels& labels) {
  constexpr double kWholeMax = 1e15;  // doubles count without gaps up to there
  char text[32];
  const bool whole = std::abs(value) < kWholeMax && std::trunc(value) == value;
  const std::to_chars_result end =
      whole ? std::to_chars(text, std::end(text), static_cast<int64_t>(value))
            : std::to_chars(text, std::end(text), value);  // at most 24 characters
  ASSERT(end.ec == std::errc());
  AddGaugeText(row, {text, end.ptr}, labels);
}

void MetricsText::AddGaugeText(const Row& row, std::string_view value, const Labels& labels) {
  Head(row, "gauge");
  Sample(last_name_, "", labels, value);
}

void MetricsText::Add(const Row& row, const Histogram& histogram, const Labels& labels) {
  Head(row, "histogram");
  uint64_t count = 0;
  for (size_t i = 0; i < Histogram::kBuckets; ++i) {
    count += histogram.bucket(i);
    const bool last = i + 1 == Histogram::kBuckets;
    const std::string bound = last ? "+Inf" : std::to_string((uint64_t{1} << i) - 1);
    Labels with_bound = labels;
    with_bound.emplace_back("le", bound);
    Sample(last_name_, "_bucket", with_bound, std::to_string(count));
  }
  Sample(last_name_, "_sum", labels, std::to_string(histogram.sum()));
  Sample(last_name_, "_count", labels, std::to_string(count));
}

}  // namespace hayloft
