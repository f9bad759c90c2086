// What a simulated run did, as one digest, and what was found wrong with it.
//
// Two runs of one seed must note the same lines: the digest shows it without keeping them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hayloft {

class SimTrace {
 public:
  explicit SimTrace(bool print) : print_(print) {}
  // One line of what happened. Printed with its number if wanted.
  void Note(const char* format, ...) __attribute__((format(printf, 2, 3)));
  // A promise was broken. The run goes on to its end: the first failure is the one to read.
  void Fail(const char* format, ...) __attribute__((format(printf, 2, 3)));
  bool failed() const { return !failures_.empty(); }
  const std::vector<std::string>& failures() const { return failures_; }
  uint64_t digest() const { return digest_; }
  uint64_t lines() const { return lines_; }
  void SetTime(uint64_t now_us) { now_us_ = now_us; }

 private:
  void Add(const std::string& line);

  bool print_;
  uint64_t now_us_ = 0;
  uint64_t digest_ = 0xcbf29ce484222325;  // FNV-1a
  uint64_t lines_ = 0;
  std::vector<std::string> failures_;
};

}  // namespace hayloft
