// libFuzzer target: our HTTP parser beside Debian's http-parser on the same bytes.
// covers: gateway/http_parser.cc
//
// Promise: see parser_difference.h. The same property runs over a list of cases and their mutations
// in tests/unit/parser_differential_test.cc.
#include "tests/fuzz/parser_difference.h"

#include <cstdio>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  // A copy without a byte to spare, so that the sanitizer sees a read behind the end.
  const std::unique_ptr<char[]> exact(new char[size]);
  std::copy(data, data + size, exact.get());
  const char* what = ParserDifference({exact.get(), size});
  if (what != nullptr) std::fprintf(stderr, "the parsers differ: %s\n", what);
  ASSERT(what == nullptr);
  return 0;
}
