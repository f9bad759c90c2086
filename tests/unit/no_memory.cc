#include "tests/unit/no_memory.h"

#include <cstdlib>
#include <new>

namespace hayloft {

namespace {

constexpr uint64_t kNever = UINT64_MAX;

thread_local uint64_t t_left = kNever;
thread_local size_t t_bytes_min = 0;
thread_local bool t_reached = false;

bool Fails(size_t size) {
  if (t_left == kNever || t_reached || size < t_bytes_min) return false;
  t_reached = t_left-- == 0;
  return t_reached;
}

}  // namespace

NoMemory::NoMemory(uint64_t at, size_t bytes_min) {
  t_left = at;
  t_bytes_min = bytes_min;
  t_reached = false;
}

NoMemory::~NoMemory() { t_left = kNever; }

bool NoMemory::reached() const { return t_reached; }

}  // namespace hayloft

void* operator new(size_t size) {
  void* memory = hayloft::Fails(size) ? nullptr : std::malloc(size > 0 ? size : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return hayloft::Fails(size) ? nullptr : std::malloc(size > 0 ? size : 1);
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
