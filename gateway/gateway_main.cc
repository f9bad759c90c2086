// hayloft-gateway: HTTP for users and CDNs. Keeps nothing of its own.
//
// SIGTERM and SIGINT: drains; a second one ends it at once. SIGHUP: log
// files were moved away. The public port is --listen; the admin port has /metrics and /version
// besides.

#include <signal.h>

#include <utility>

#include "common/io/admin_http.h"
#include "common/io/log_sink.h"
#include "common/io/loop.h"
#include "common/io/server_start.h"
#include "common/io/system_clock.h"
#include "common/log.h"
#include "common/version.h"
#include "gateway/server_shell.h"

namespace hayloft {
namespace {

constexpr uint64_t kDayMs = 86'400'000;

int Refuse(const std::string& why) {
  LOG_ERROR("not_started", "cause=\"%s\"", LogText(why).c_str());
  StopLog();
  SayFault("hayloft-gateway", why);
  return kExitConfig;
}

int Main(int argc, const char* const* argv) {
  GatewayConfig config;
  GatewayOptions& options = config.options;
  options.listen = "127.0.0.1:8080";
  const Program program{.name = "hayloft-gateway",
                        .role = "gateway",
                        .about = "Takes images over HTTP and gives them back.",
                        .rows = options.Rows(),
                        .fault = [&options] { return options.Fault(); }};
  if (const std::optional<int> code = ParseCommandLine(program, argc, argv)) return *code;
  PrepareProcess();
  std::string why;
  const Result<std::string> key = ReadClusterKey(options.cluster_key_file, &why);
  if (!key.ok()) return Refuse(why);
  const Result<LogLevel> level = ParseLogLevel(options.log_level);
  if (!level.ok() || StartLog(options.log_file, *level) != Err::kOk) {
    return Refuse("cannot log to " + options.log_file + " at level " + options.log_level);
  }
  config.key.bytes = *key;
  config.client.core.nameservers = SplitList(options.nameservers);
  config.client.core.directory = SplitLists(options.directory);
  config.client.rpc.role = "gateway";
  config.client.rpc.cluster_key = *key;
  config.client.rpc.unix_sockets = options.unix_sockets;
  const std::string admin_listen = options.admin_listen;

  Loop loop;
  GatewayServer server(std::move(config));
  AdminHttp admin(&loop, admin_listen);
  admin.OnReady([&] { return server.NotReady(SystemMonotonicMs()); });
  admin.OnMetrics([&](MetricsText* out) { server.PrintMetrics(out); });
  if (!admin_listen.empty() && admin.Listen(&why) != Err::kOk) return Refuse(why);
  if (server.Start(&why) != Err::kOk) return Refuse(why);
  bool draining = false;
  const auto drain = [&] {
    if (std::exchange(draining, true)) return loop.Stop();  // a second signal: at once
    LOG_INFO("draining", "delay_ms=%u patience_ms=%u", server.shared().options.drain_delay_ms,
             server.shared().options.drain_ms);
    server.BeginStop([&loop] { loop.Stop(); });
  };
  const Loop::Handle on_term = loop.OnSignal(SIGTERM, drain);
  const Loop::Handle on_int = loop.OnSignal(SIGINT, drain);
  const Loop::Handle on_hup = loop.OnSignal(SIGHUP, [&server] {
    ReopenLog();
    server.Reload();
    server.WarnOfExpiry(SystemWallMs());
  });
  server.WarnOfExpiry(SystemWallMs());
  const Loop::Handle daily = loop.Every(kDayMs, [&] { server.WarnOfExpiry(SystemWallMs()); });
  LOG_INFO("started", "version=%s address=%s", kVersion, server.address().c_str());
  loop.Run();
  server.Stop(0);
  LOG_INFO("stopped", "code=0");
  StopLog();
  return 0;
}

}  // namespace
}  // namespace hayloft

int main(int argc, char** argv) { return hayloft::Main(argc, argv); }
