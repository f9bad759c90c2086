// hayloft-nameserver: which dsps hold which block.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <string_view>
#include <vector>

#include "common/io/log_sink.h"
#include "common/io/loop.h"
#include "common/io/server_start.h"
#include "common/log.h"
#include "common/version.h"
#include "nameserver/ns_shell.h"

namespace hayloft {
namespace {

// One that lost its role begins anew as one that follows, whether or not somebody watches it. What
// an operator said of one start, on the command line or in a file, does not hold for another.
void BeginAnew(int argc, char** argv) {
  static char once[][32] = {"--force-promote", "--rebuild", "--end-rebuild"};
  static char never[][32] = {"--force-promote=false", "--rebuild=false", "--end-rebuild=false"};
  std::vector<char*> again;
  for (int i = 0; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const bool drop = std::any_of(std::begin(once), std::end(once), [&](const char* name) {
      return argument == name || argument.starts_with(std::string(name) + "=");
    });
    if (!drop) again.push_back(argv[i]);
  }
  for (char* option : never) again.push_back(option);
  again.push_back(nullptr);
  StopLog();
  execv("/proc/self/exe", again.data());
  SayFault("hayloft-nameserver", "cannot begin anew");
}

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
    const Loop::Handle terminate = loop.OnSignal(SIGTERM, [&shell] { shell.Stop(); });
    const Loop::Handle interrupt = loop.OnSignal(SIGINT, [&shell] { shell.Stop(); });
    shell.OnRoleLost([&] { BeginAnew(argc, argv); });
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
