#include "tests/sim/sim_trace.h"

#include <cstdarg>
#include <cstdio>

namespace hayloft {

namespace {

std::string Format(const char* format, va_list arguments) {
  char line[1024];
  std::vsnprintf(line, sizeof(line), format, arguments);
  return line;
}

}  // namespace

void SimTrace::Note(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  Add(Format(format, arguments));
  va_end(arguments);
}

void SimTrace::Fail(const char* format, ...) {
  constexpr size_t kFailuresMax = 20;
  va_list arguments;
  va_start(arguments, format);
  const std::string line = Format(format, arguments);
  va_end(arguments);
  Add("FAILED " + line);
  if (failures_.size() < kFailuresMax) {
    failures_.push_back("at " + std::to_string(now_us_ / 1000) + " ms: " + line);
  }
}

void SimTrace::Add(const std::string& line) {
  ++lines_;
  for (char c : line) digest_ = (digest_ ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  if (print_) std::printf("%10.3f %s\n", static_cast<double>(now_us_) / 1000, line.c_str());
}

}  // namespace hayloft
