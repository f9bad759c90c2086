// libFuzzer target: a config file.
// covers: common/options.cc
//
// Promise: every field stays within its range; a refusal is one line.
#include "common/check.h"
#include "common/le.h"
#include "common/options.h"

namespace {
#define FUZZ_OPTIONS(X)                             \
  X(uint32_t, small, 10, 5, 50, "a number")         \
  X(uint64_t, large, 10, 0, UINT64_MAX, "a number") \
  X(bool, flag, false, 0, 1, "a flag")              \
  X(std::string, text, "abc", 1, 9, "a text")       \
  X(std::vector<std::string>, list, {}, 0, 3, "several")
struct FuzzOptions {
  HAYLOFT_OPTIONS(FUZZ_OPTIONS)
};
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  const std::string text(AsText({data, size}));
  FuzzOptions options;
  std::string why;
  const Err err = ApplyConfigText(options.Rows(), "dsp", text, &why);
  ASSERT((err == Err::kOk) == why.empty());
  ASSERT(why.find('\n') == std::string::npos);
  ASSERT(options.small >= 5 && options.small <= 50);
  ASSERT(!options.text.empty() && options.text.size() <= 9);
  ASSERT(options.list.size() <= 3);
  for (const OptionRow& row : options.Rows()) (void)OptionText(row);
  for (const std::string& entry : SplitList(text)) ASSERT(!entry.empty());
  return 0;
}
