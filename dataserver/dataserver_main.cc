// hayloft-dataserver: starts, watches and restarts one hayloft-dsp a disk.
//
// SIGTERM and SIGINT stop the dsps in order, then this process. SIGUSR1: look again at disks that
// were given up. SIGHUP: the log file was moved away. Killed without a warning it leaves its dsps
// serving; the next dataserver on the same folder adopts them.

#include <signal.h>

#include "common/io/admin_http.h"
#include "common/io/log_sink.h"
#include "common/io/server_start.h"
#include "dataserver/dataserver_shell.h"

namespace hayloft {
namespace {

int Refuse(const DataserverOptions& options, const std::string& why) {
  StopLog();
  SayFault(options.name, why);
  return kExitConfig;
}

int Main(int argc, const char* const* argv) {
  DataserverOptions options;
  const Program program{.name = "hayloft-dataserver",
                        .role = "dataserver",
                        .about = "Starts, watches and restarts one hayloft-dsp a disk.",
                        .rows = options.Rows(),
                        .fault = [&] { return options.Fault(); }};
  if (const auto exit_code = ParseCommandLine(program, argc, argv)) return *exit_code;
  PrepareProcess();
  options.data = AbsolutePath(options.data);
  const Result<LogLevel> level = ParseLogLevel(options.log_level);
  if (!level.ok()) return Refuse(options, "--log-level: debug, info, warn or error");
  if (StartLog(options.log_file, *level) != Err::kOk) {
    return Refuse(options, "cannot write the log " + options.log_file);
  }
  Loop loop;
  std::string why;
  Dataserver dataserver(&loop, &options);
  AdminHttp admin(&loop, options.admin_listen);
  admin.OnReady([&] { return dataserver.NotReady(); });
  admin.OnMetrics([&](MetricsText* out) { dataserver.PrintMetrics(out); });
  if (admin.Listen(&why) != Err::kOk) return Refuse(options, why);
  if (dataserver.Start(&why) != Err::kOk) return Refuse(options, why);
  const auto on_term = loop.OnSignal(SIGTERM, [&] { dataserver.Stop(); });
  const auto on_int = loop.OnSignal(SIGINT, [&] { dataserver.Stop(); });
  const auto on_usr1 = loop.OnSignal(SIGUSR1, [&] { dataserver.LookAgain(); });
  const auto on_hup = loop.OnSignal(SIGHUP, [] { ReopenLog(); });
  loop.Run();
  StopLog();
  return 0;
}

}  // namespace
}  // namespace hayloft

int main(int argc, char** argv) { return hayloft::Main(argc, argv); }
