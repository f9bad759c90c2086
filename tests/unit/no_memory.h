// Memory that runs out where a test says so: one allocation of one thread fails.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hayloft {

// While it lives, the thread that made it gets std::bad_alloc from allocation number `at` (from 0)
// of at least `bytes_min` bytes. Others go on as ever.
class NoMemory {
 public:
  explicit NoMemory(uint64_t at, size_t bytes_min = 0);
  ~NoMemory();
  NoMemory(const NoMemory&) = delete;  // it is the thread's
  NoMemory& operator=(const NoMemory&) = delete;
  bool reached() const;  // whether there were so many
};

// How often the thread of this number (gettid) has allocated since the process began; a thread that
// has ended may be counted with it.
uint64_t AllocationsBy(int thread);

}  // namespace hayloft
