// How long requests take, by their kind: to the first byte of the answer, and to its last one.
//
// Both begin when the request's head is whole, and both are read from the time that a loop reads
// once a turn: nothing reads a clock for them. What is answered in the turn that it came in counts
// as 0. An answer that was broken off has no last byte and is not counted there.
//
// Threads: any.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "common/metrics.h"

namespace hayloft {

enum class RequestKind : uint8_t { kRead, kUpload, kDescribe, kDelete, kUndelete, kOther, kCount };

inline std::string_view RequestKindName(RequestKind kind) {
  constexpr std::array<std::string_view, static_cast<size_t>(RequestKind::kCount)> kNames = {
      "read", "upload", "describe", "delete", "undelete", "other"};
  return kNames[static_cast<size_t>(kind)];
}

struct RequestTimes {
  using Histograms = std::array<Histogram, static_cast<size_t>(RequestKind::kCount)>;
  Histograms first_byte_us;
  Histograms whole_us;

  void NoteFirstByte(RequestKind kind, uint64_t us) {
    first_byte_us[static_cast<size_t>(kind)].Observe(us);
  }
  void NoteWhole(RequestKind kind, uint64_t us) { whole_us[static_cast<size_t>(kind)].Observe(us); }
  void Print(MetricsText* out) const {
    const auto add = [out](const MetricsText::Row& row, const Histograms& histograms) {
      for (size_t i = 0; i < histograms.size(); ++i) {
        out->Add(row, histograms[i], {{"kind", RequestKindName(static_cast<RequestKind>(i))}});
      }
    };
    add({"hayloft_gateway_", "first_byte_us", "microseconds from a request's head to its answer's"},
        first_byte_us);
    add({"hayloft_gateway_", "request_us", "microseconds from a request's head to its last byte"},
        whole_us);
  }
};

}  // namespace hayloft
