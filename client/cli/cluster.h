// `hayloft cluster up|down|status`: a whole cluster on this machine, in one folder.
//
//   DIR/options.json   what was asked for first, ports, what was formatted (cluster_state.h)
//   DIR/cluster.json   what runs (common/io/cluster_file.h)
//   DIR/secret         the cluster key, 0600
//   DIR/log/NAME.log   each process's log
//   DIR/NAME/          each process's data; a dsp's disk is in its dataserver's
//
// Processes are started in sessions of their own and keep nothing of the command's. All three
// return an exit code and print what a person wants to know.
#pragma once

#include <string>

#include "client/cli/cluster_state.h"

namespace hayloft {

struct ClusterUpOptions {
  ClusterOptions cluster;
  bool rebuild = false;  // a nameserver without its folder starts from the dsps' reports
  bool samples = false;  // upload a few drawn images
  bool json = false;
};

// Idempotent: starts what is missing, and returns when a write would succeed.
int ClusterUp(const ClusterUpOptions& options);
// Ends all that `up` and the dataservers started, in at most 30 s; 0 also when some were gone.
int ClusterDown(const std::string& dir, bool json);
// 0 when all that ought to run does.
int ClusterStatus(const std::string& dir, bool json);

}  // namespace hayloft
