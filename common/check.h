// Assertions that stay on in every build, and probes that count rare states.
//
// ASSERT is for our own mistakes only. Whatever comes from a disk, a socket, a user or an option
// file is never asserted: it yields an Err. A process that has broken its own invariant must not
// touch a disk again, so a failed ASSERT ends it at once.
#pragma once

#include <atomic>
#include <cstdint>

namespace hayloft {

// Prints "assert_failed file=... line=... expr=..." to stderr and the log, then aborts. Never
// returns.
[[noreturn]] void AssertFailed(const char* expression, const char* file, int line);

// A rare state that tests must have reached. Registers itself at start-up, so that a campaign can
// list those never seen. Threads: counting is relaxed; registration happens before main.
class Probe {
 public:
  explicit Probe(const char* name);
  void Hit() { hits_.fetch_add(1, std::memory_order_relaxed); }
  const char* name() const { return name_; }
  uint64_t hits() const { return hits_.load(std::memory_order_relaxed); }
  const Probe* next() const { return next_; }
  static const Probe* First();  // the list of all probes in this binary, in no fixed order
  static void ResetAll();

 private:
  const char* name_;
  std::atomic<uint64_t> hits_{0};
  Probe* next_;
};

namespace probe_internal {
template <typename Tag>
struct Registered {
  static inline Probe probe{Tag::Name()};
};
}  // namespace probe_internal

}  // namespace hayloft

#define ASSERT(condition)                                      \
  do {                                                         \
    if (__builtin_expect(!(condition), 0)) {                   \
      ::hayloft::AssertFailed(#condition, __FILE__, __LINE__); \
    }                                                          \
  } while (false)

// PROBE("name"): this line was reached. The name is unique in the whole project. The probe exists
// from program start, reached or not, because the tag's template is instantiated here.
#define PROBE(probe_name)                                         \
  do {                                                            \
    struct ProbeTag {                                             \
      static const char* Name() { return probe_name; }            \
    };                                                            \
    ::hayloft::probe_internal::Registered<ProbeTag>::probe.Hit(); \
  } while (false)
