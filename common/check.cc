#include "common/check.h"

#include <cstdio>
#include <cstdlib>

namespace hayloft {

namespace {
Probe* g_first_probe = nullptr;  // constant-initialised: safe to use from other files' initialisers
}  // namespace

void AssertFailed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "assert_failed file=%s line=%d expr=\"%s\"\n", file, line, expression);
  std::fflush(stderr);
  std::abort();
}

Probe::Probe(const char* name) : name_(name), next_(g_first_probe) { g_first_probe = this; }

const Probe* Probe::First() { return g_first_probe; }

void Probe::ResetAll() {
  for (Probe* probe = g_first_probe; probe != nullptr; probe = probe->next_) probe->hits_ = 0;
}

}  // namespace hayloft
