// The command line of `hayloft cluster up|down|status`.

#include "client/cli/cluster.h"
#include "client/cli/command.h"
#include "client/cli/session.h"

namespace hayloft {

int RunCluster(int argc, const char* const* argv) {
  ClusterUpOptions up;
  CommandOptions common;
  std::vector<std::string> arguments;
  OptionRows rows = Joined(common.Rows(), up.cluster.Rows());
  rows.push_back({.name = "rebuild",
                  .help = "nameservers and directories that lost their folder start from what the "
                          "dsps have",
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
    if (!known) return "say up, down or status";
    if (!common.cluster.empty() && arguments[0] != "status") {
      return "--cluster is for status; " + arguments[0] + " needs the folder, --dir";
    }
    return common.Fault();
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
  // What runs in a folder is known only there; of a cluster elsewhere, what its nameservers know.
  if (!common.cluster.empty()) return PrintStatus(common);
  up.cluster.dir = ClusterFolder(common.dir);
  up.json = common.json;
  if (arguments[0] == "up") return ClusterUp(up);
  return arguments[0] == "down" ? ClusterDown(up.cluster.dir, up.json)
                                : ClusterStatus(up.cluster.dir, up.json);
}

}  // namespace hayloft
