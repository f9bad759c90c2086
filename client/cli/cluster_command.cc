// The command line of `hayloft cluster up|down|status`.

#include "client/cli/cluster.h"
#include "client/cli/command.h"
#include "client/cli/session.h"

namespace hayloft {

int RunCluster(int argc, const char* const* argv) {
  ClusterUpOptions up;
  std::string dir;
  std::vector<std::string> arguments;
  OptionRows rows = up.cluster.Rows();
  rows.push_back(
      {.name = "dir", .help = "folder of the cluster (run)", .field = &dir, .max = 4096});
  rows.push_back({.name = "json", .help = "print JSON", .field = &up.json});
  rows.push_back({.name = "rebuild",
                  .help = "a nameserver whose folder is lost starts from the dsps' reports",
                  .field = &up.rebuild});
  rows.push_back({.name = "samples",
                  .help = "upload a few drawn images, once, and print their URLs",
                  .field = &up.samples});
  const auto fault = [&]() -> std::string {
    const std::string& kind = up.cluster.coordinator;
    if (!kind.empty() && kind != "file" && kind != "etcd") return "--coordinator: file or etcd";
    const bool one = arguments.size() == 1;
    const bool known =
        one && (arguments[0] == "up" || arguments[0] == "down" || arguments[0] == "status");
    return known ? "" : "say up, down or status";
  };
  const Program program{
      .name = "hayloft cluster",
      .role = "",
      .about = "A whole cluster on this machine. Options of `up` are kept in the folder.",
      .rows = std::move(rows),
      .fault = fault,
      .arguments = &arguments,
      .arguments_help = "up|down|status"};
  if (const auto exit_code = ParseCommandLine(program, argc, argv)) return *exit_code;
  up.cluster.dir = ClusterFolder(dir);
  if (arguments[0] == "up") return ClusterUp(up);
  return arguments[0] == "down" ? ClusterDown(up.cluster.dir, up.json)
                                : ClusterStatus(up.cluster.dir, up.json);
}

}  // namespace hayloft
