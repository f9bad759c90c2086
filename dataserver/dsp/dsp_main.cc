// hayloft-dsp: the process of one disk.
#include <unistd.h>

#include <csignal>

#include "common/io/log_sink.h"
#include "common/io/loop.h"
#include "common/io/server_start.h"
#include "common/log.h"
#include "common/version.h"
#include "dataserver/dsp/dsp_shell.h"

namespace hayloft {
namespace {

int Main(int argc, const char* const* argv) {
  DspConfig config;
  const Program program{.name = "hayloft-dsp",
                        .role = "dsp",
                        .about = "Keeps the images of one disk.",
                        .rows = config.Rows(),
                        .fault = [&config] { return config.Fault(); }};
  if (const std::optional<int> code = ParseCommandLine(program, argc, argv)) return *code;
  PrepareProcess();
  std::string why;
  if (config.format || config.clear_failed || config.rebuild_superblock) {
    const auto tool = config.format         ? DspShell::Format
                      : config.clear_failed ? DspShell::ClearFailedMark
                                            : DspShell::Rebuild;
    if (tool(config, &why) == Err::kOk) return 0;
    SayFault("hayloft-dsp", why);
    return kExitConfig;
  }
  const Result<LogLevel> level = ParseLogLevel(config.log_level);
  if (!level.ok() || StartLog(config.log_file, *level) != Err::kOk) {
    SayFault("hayloft-dsp", "cannot log to " + config.log_file + " at level " + config.log_level);
    return kExitConfig;
  }
  int exit_code = 0;
  {
    Loop loop;
    DspShell shell(&loop, config);
    const Loop::Handle terminate = loop.OnSignal(SIGTERM, [&shell] { shell.Stop(); });
    const Loop::Handle interrupt = loop.OnSignal(SIGINT, [&shell] { shell.Stop(); });
    const Loop::Handle reopen = loop.OnSignal(SIGHUP, [] { ReopenLog(); });
    if (shell.Start(&why) == Err::kOk) {
      LOG_INFO("started", "version=%s data=%s", kVersion, LogText(config.data).c_str());
      loop.Run();
      exit_code = shell.exit_code();
      if (!shell.why().empty()) {
        LOG_ERROR("not_started", "cause=\"%s\"", LogText(shell.why()).c_str());
        SayFault("hayloft-dsp", shell.why());
      }
      LOG_INFO("stopped", "code=%d", exit_code);
      if (exit_code == kExitDisk ||
          shell.recovering()) {  // whoever waits for that disk may wait for ever
        StopLog();
        _exit(exit_code);
      }
    } else {
      LOG_ERROR("not_started", "cause=\"%s\"", LogText(why).c_str());
      SayFault("hayloft-dsp", why);
      exit_code = shell.exit_code() != 0 ? shell.exit_code() : kExitConfig;
    }
  }
  StopLog();
  return exit_code;
}

}  // namespace
}  // namespace hayloft

int main(int argc, char** argv) { return hayloft::Main(argc, argv); }
