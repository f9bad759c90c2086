#include "common/log.h"

#include <cstdarg>
#include <cstdio>

#include "common/check.h"

namespace hayloft {

namespace {

constexpr size_t kLineBytesMax = 1024;
constexpr size_t kTextBytesMax = 200;

void WriteToStderr(LogLevel level, std::string_view line) {
  static constexpr char kLetters[] = {'D', 'I', 'W', 'E'};
  std::fprintf(stderr, "%c %.*s\n", kLetters[static_cast<int>(level)],
               static_cast<int>(line.size()), line.data());
}

LogSink g_sink = WriteToStderr;
LogLevel g_least = LogLevel::kInfo;

}  // namespace

void SetLogSink(LogSink sink, LogLevel least) {
  ASSERT(sink != nullptr);
  g_sink = sink;
  g_least = least;
}

bool LogEnabled(LogLevel level) { return level >= g_least; }

void LogLine(LogLevel level, const char* event, const char* format, ...) {
  char line[kLineBytesMax];
  const int head = std::snprintf(line, sizeof(line), "%s ", event);
  ASSERT(head > 0 && static_cast<size_t>(head) < sizeof(line));
  va_list arguments;
  va_start(arguments, format);
  const int body =
      std::vsnprintf(line + head, sizeof(line) - static_cast<size_t>(head), format, arguments);
  va_end(arguments);
  ASSERT(body >= 0);
  const size_t length =
      std::min(sizeof(line) - 1, static_cast<size_t>(head) + static_cast<size_t>(body));
  g_sink(level, {line, length});
}

std::string LogText(std::string_view text) {
  std::string safe;
  for (char c : text.substr(0, kTextBytesMax)) {
    if (c > ' ' && c < 0x7f && c != '"' && c != '\\') {
      safe.push_back(c);
      continue;
    }
    char escaped[5];
    std::snprintf(escaped, sizeof(escaped), "\\x%02x",
                  static_cast<unsigned>(static_cast<uint8_t>(c)));
    safe += escaped;
  }
  if (text.size() > kTextBytesMax) safe += "...";
  return safe;
}

}  // namespace hayloft
