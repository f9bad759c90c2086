// The log of a server: lines to a file or stderr, stamped, written by a thread of its own, so that
// a slow disk under the log never holds up a loop.
//
//   2026-11-21T10:02:03.456Z W needle_corrupt block=17 ... action=repair
//
// Lines wait in a queue of 8,192; when it is full the oldest are dropped. Each event is limited
// (see LogLimiter). A log that cannot be written (disk full) loses lines and nothing else.
#pragma once

#include <string>
#include <string_view>

#include "common/log.h"
#include "common/result.h"

namespace hayloft {

// "debug", "info", "warn" or "error"; kInvalid otherwise.
Result<LogLevel> ParseLogLevel(std::string_view text);

// From here on all lines go to `file` (empty: stderr). kConfig when it cannot be opened.
Err StartLog(const std::string& file, LogLevel least);
void ReopenLog();  // the file was moved away (SIGHUP): go on in a new one. Any thread.
// Writes out what waits; later lines go to stderr. Call it when no other thread logs any more.
void StopLog();

}  // namespace hayloft
