// Named places where a test build can be killed: FAILPOINT("device_write_after").
//
// HAYLOFT_FAILPOINT="name[:count]" in the environment raises SIGKILL at the count-th time (default
// 1) that the place is reached; "list" prints the names reached so far at exit. Exists only with
// -DHAYLOFT_FAILPOINTS (MODE=asan, MODE=tsan); in a release build the macro is nothing.
#pragma once

namespace hayloft {
void HitFailpoint(const char* name);
}  // namespace hayloft

#ifdef HAYLOFT_FAILPOINTS
#define FAILPOINT(name) ::hayloft::HitFailpoint(name)
#else
#define FAILPOINT(name) \
  do {                  \
  } while (false)
#endif
