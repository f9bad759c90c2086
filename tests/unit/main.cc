// The unit tests' main: doctest's implementation, compiled once (6 s).
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <csignal>

#include "common/log.h"

namespace {
// Damage that tests inflict is logged as it would be in a server; here it would bury the result.
void DropLine(hayloft::LogLevel, std::string_view) {}
}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  hayloft::SetLogSink(DropLine, hayloft::LogLevel::kDebug);
  doctest::Context context(argc, argv);
  return context.run();
}
