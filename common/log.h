// Log lines: "event key=value ...", one line each, written through one sink for the process.
//
// Cores log without time; the sink stamps it, so that two runs of one seed can be compared. Nothing
// secret and no bytes of an image go into a line. Control bytes of a value are escaped by LogText
// (a name or header from outside must not forge a line). Per-request success is a metric, not a
// line.
#pragma once

#include <string>
#include <string_view>

namespace hayloft {

enum class LogLevel { kDebug, kInfo, kWarn, kError };

// Receives every line that passes the level. Called from any thread; must be thread-safe.
using LogSink = void (*)(LogLevel level, std::string_view line);

// The default sink writes to stderr. Set once at the start of the process, or by a test.
void SetLogSink(LogSink sink, LogLevel least);
bool LogEnabled(LogLevel level);
void LogLine(LogLevel level, const char* event, const char* format, ...)
    __attribute__((format(printf, 3, 4)));

// `text` with control bytes, quotes, spaces and non-ASCII as \xNN, cut after 200 bytes.
std::string LogText(std::string_view text);

}  // namespace hayloft

#define HAYLOFT_LOG(level, ...)                                               \
  do {                                                                        \
    if (::hayloft::LogEnabled(level)) ::hayloft::LogLine(level, __VA_ARGS__); \
  } while (false)
#define LOG_DEBUG(...) HAYLOFT_LOG(::hayloft::LogLevel::kDebug, __VA_ARGS__)
#define LOG_INFO(...) HAYLOFT_LOG(::hayloft::LogLevel::kInfo, __VA_ARGS__)
#define LOG_WARN(...) HAYLOFT_LOG(::hayloft::LogLevel::kWarn, __VA_ARGS__)
#define LOG_ERROR(...) HAYLOFT_LOG(::hayloft::LogLevel::kError, __VA_ARGS__)
