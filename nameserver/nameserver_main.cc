// hayloft-nameserver: which dsps hold which block.
#include <csignal>

#include "common/io/log_sink.h"
#include "common/io/loop.h"
#include "common/io/server_start.h"
#include "common/log.h"
#include "common/version.h"
#include "nameserver/ns_shell.h"

namespace hayloft {
namespace {

int RunNameserver(int argc, char** argv) {
  NsConfig config;
  const Program program{.name = "hayloft-nameserver",
                        .role = "nameserver",
                        .about = "Knows which dsps hold which block, and who may append to it.",
                        .rows = config.Rows(),
                        .fault = [&config] { return config.Fault(); }};
  if (const std::optional<int> code = ParseCommandLine(program, argc, argv)) return *code;
  PrepareProcess();
  std::string why;
  if (config.init) {
    if (NsShell::Init(config, &why) == Err::kOk) return 0;
    SayFault("hayloft-nameserver", why);
    return kExitConfig;
  }
  const Result<LogLevel> level = ParseLogLevel(config.log_level);
  if (!level.ok() || StartLog(config.log_file, *level) != Err::kOk) {
    SayFault("hayloft-nameserver", "cannot log to " + config.log_file);
    return kExitConfig;
  }
  int exit_code = 0;
  {
    Loop loop;
    NsShell shell(&loop, config);
    const Loop::Handle terminate = loop.OnSignal(SIGTERM, [&loop] { loop.Stop(); });
    const Loop::Handle interrupt = loop.OnSignal(SIGINT, [&loop] { loop.Stop(); });
    const Loop::Handle reopen = loop.OnSignal(SIGHUP, [] { ReopenLog(); });
    if (shell.Start(&why) == Err::kOk) {
      LOG_INFO("started", "version=%s data=%s", kVersion, LogText(config.data).c_str());
      loop.Run();
      exit_code = shell.exit_code();
      LOG_INFO("stopped", "code=%d", exit_code);
    } else {
      // Without a log file the line below is the one that people see.
      if (!config.log_file.empty()) {
        LOG_ERROR("not_started", "cause=\"%s\"", LogText(why).c_str());
      }
      SayFault("hayloft-nameserver", why);
      exit_code = kExitConfig;
    }
  }
  StopLog();
  return exit_code;
}

}  // namespace
}  // namespace hayloft

int main(int argc, char** argv) { return hayloft::RunNameserver(argc, argv); }
