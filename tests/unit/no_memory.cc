#include "tests/unit/no_memory.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <new>

namespace hayloft {

namespace {

constexpr uint64_t kNever = UINT64_MAX;

thread_local uint64_t t_left = kNever;
thread_local size_t t_bytes_min = 0;
thread_local bool t_reached = false;

std::array<std::atomic<uint64_t>, 4'096> g_allocations;  // by the number of the thread
thread_local std::atomic<uint64_t>* t_allocations = nullptr;

std::atomic<uint64_t>* CountOf(int thread) {
  return &g_allocations[static_cast<size_t>(thread) % g_allocations.size()];
}

bool Fails(size_t size) {
  if (t_allocations == nullptr) t_allocations = CountOf(gettid());
  t_allocations->fetch_add(1, std::memory_order_relaxed);
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

uint64_t AllocationsBy(int thread) { return CountOf(thread)->load(); }

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
