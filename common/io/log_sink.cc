// spdlog's headers cost seconds to compile: this file only.
#define SPDLOG_COMPILED_LIB
#define SPDLOG_FMT_EXTERNAL
#include "common/io/log_sink.h"

#include <fcntl.h>
#include <spdlog/async_logger.h>
#include <spdlog/details/thread_pool.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>

#include "common/check.h"
#include "common/io/log_limiter.h"
#include "common/io/system_clock.h"
#include "common/io/unique_fd.h"

namespace hayloft {

namespace {

constexpr size_t kQueueLines = 8'192;

// One write a line on an O_APPEND descriptor: lines of several processes in one file never mix, and
// nothing waits in a buffer when the process is killed.
class FileSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  FileSink(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  static UniqueFd Open(const std::string& path) {
    return UniqueFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
  }
  void AskReopen() { reopen_ = true; }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    if (reopen_.exchange(false) && !path_.empty()) {
      UniqueFd fresh = Open(path_);
      if (fresh.valid()) fd_ = std::move(fresh);  // else the old file is better than none
    }
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    const ssize_t wrote =
        ::write(path_.empty() ? STDERR_FILENO : fd_.get(), line.data(), line.size());
    (void)wrote;  // a full disk loses lines; there is nowhere to say so
  }
  void flush_() override {}

 private:
  const std::string path_;
  UniqueFd fd_;
  std::atomic<bool> reopen_{false};
};

struct Log {
  std::shared_ptr<FileSink> sink;  // spdlog shares its parts
  std::shared_ptr<spdlog::details::thread_pool> pool;
  std::shared_ptr<spdlog::async_logger> logger;
  std::mutex limiter_mutex;
  LogLimiter limiter;  // under limiter_mutex
};
std::unique_ptr<Log> g_log;  // set before threads start, cleared after they ended

spdlog::level::level_enum LevelOf(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

void WriteLine(LogLevel level, std::string_view line) {
  LogLimiter::Verdict verdict;
  {
    const std::lock_guard<std::mutex> lock(g_log->limiter_mutex);
    verdict = g_log->limiter.Ask(line, SystemMonotonicMs());
  }
  if (!verdict.pass) return;
  const spdlog::string_view_t text(line.data(), line.size());
  if (verdict.suppressed == 0) return g_log->logger->log(LevelOf(level), text);
  const std::string with_count =
      std::string(line) + " suppressed=" + std::to_string(verdict.suppressed);
  g_log->logger->log(LevelOf(level), spdlog::string_view_t(with_count));
}

void WriteStderr(LogLevel level, std::string_view line) {
  static constexpr char kLetters[] = {'D', 'I', 'W', 'E'};
  std::fprintf(stderr, "%c %.*s\n", kLetters[static_cast<int>(level)],
               static_cast<int>(line.size()), line.data());
}

}  // namespace

Result<LogLevel> ParseLogLevel(std::string_view text) {
  if (text == "debug") return LogLevel::kDebug;
  if (text == "info") return LogLevel::kInfo;
  if (text == "warn") return LogLevel::kWarn;
  if (text == "error") return LogLevel::kError;
  return Err::kInvalid;
}

Err StartLog(const std::string& file, LogLevel least) {
  ASSERT(g_log == nullptr);
  UniqueFd fd;
  if (!file.empty()) {
    fd = FileSink::Open(file);
    if (!fd.valid()) return Err::kConfig;
  }
  auto log = std::make_unique<Log>();
  log->sink = std::make_shared<FileSink>(file, std::move(fd));
  log->pool = std::make_shared<spdlog::details::thread_pool>(kQueueLines, 1);
  log->logger = std::make_shared<spdlog::async_logger>(
      "hayloft", log->sink, log->pool, spdlog::async_overflow_policy::overrun_oldest);
  log->logger->set_formatter(std::make_unique<spdlog::pattern_formatter>(
      "%Y-%m-%dT%H:%M:%S.%eZ %L %v", spdlog::pattern_time_type::utc));
  log->logger->set_level(spdlog::level::trace);  // LogEnabled has decided already
  g_log = std::move(log);
  SetLogSink(WriteLine, least);
  return Err::kOk;
}

void ReopenLog() {
  if (g_log != nullptr) g_log->sink->AskReopen();
}

void StopLog() {
  SetLogSink(WriteStderr, LogLevel::kInfo);
  g_log.reset();  // the pool's thread writes out its queue before it ends
}

}  // namespace hayloft
