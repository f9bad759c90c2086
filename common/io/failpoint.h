// Named places where a test build can be killed: FAILPOINT("device_write_after"), and for each kind
// of message FAILPOINT_OF("rpc_call_", MessageType::kDirUpload): "rpc_call_DirUpload".
//
// HAYLOFT_FAILPOINT="name[:count]" in the environment raises SIGKILL at the count-th time (default
// 1) that the place is reached; "list" prints the names reached so far at exit. Exists only with
// -DHAYLOFT_FAILPOINTS (MODE=asan, MODE=tsan); in a release build the macros are nothing.
#pragma once

#include "common/messages.h"

namespace hayloft {
void HitFailpoint(const char* name);
void HitFailpoint(const char* step, MessageType type);
}  // namespace hayloft

#ifdef HAYLOFT_FAILPOINTS
#define FAILPOINT(name) ::hayloft::HitFailpoint(name)
#define FAILPOINT_OF(step, type) ::hayloft::HitFailpoint(step, type)
#else
#define FAILPOINT(name) \
  do {                  \
  } while (false)
#define FAILPOINT_OF(step, type) FAILPOINT(step)
#endif
