// What `hayloft cluster up` was asked for the first time, and what it chose then: DIR/options.json.
//
// Options and ports are kept: cached locations rest on ports, and a cluster of other options would
// be another one. Plan() turns them into the list of processes. Threads: one; changed only under
// DIR/up.lock.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/options.h"
#include "common/result.h"

namespace hayloft {

// What a user gave, if anything.
#define HAYLOFT_CLUSTER_OPTIONS(X)                                                               \
  X(std::optional<uint32_t>, dataservers, {}, 1, 100, "dataservers, each a machine of its own")  \
  X(std::optional<uint32_t>, disks, {}, 1, 100, "disks of each dataserver")                      \
  X(std::optional<uint32_t>, copies, {}, 1, 5, "of each image")                                  \
  X(std::optional<uint32_t>, nameservers, {}, 1, 2,                                              \
    "an active one and a standby; nodes of a shard of the directory, likewise")                  \
  X(std::optional<uint32_t>, directory_shards, {}, 0, 256,                                       \
    "of the directory, 1 unless told, for good; 0: none, then equal images are not found")       \
  X(std::optional<uint32_t>, gateways, {}, 1, 100, "on ports PORT, PORT+1...")                   \
  X(std::optional<uint32_t>, port, {}, 1, 65'435, "of the first gateway")                        \
  X(std::string, coordinator, "", 4, 4, "file or etcd: what decides which nameserver is active") \
  X(std::vector<std::string>, set, {}, 0, 1'000, "ROLE.OPTION=VALUE for every process of a role")

struct ClusterOptions {
  std::string dir;
  HAYLOFT_OPTIONS(HAYLOFT_CLUSTER_OPTIONS)
};

// A process of the cluster that runs or ought to.
struct PlannedProcess {
  std::string name;  // dataserver-1, dsp-1-2
  std::string role;
  std::string listen;  // IP:PORT
  std::string admin;   // IP:PORT
  std::string data;    // absolute
  std::string parent;  // a dsp's dataserver
  // Of a node of a pair: the part of its name that both have.
  std::string Pair() const { return name.substr(0, name.rfind('-')); }
};

struct ClusterState {
  std::string dir;         // absolute; not stored
  std::string cluster_id;  // 32 hex digits
  uint32_t dataservers = 3;
  uint32_t disks = 2;
  uint32_t copies = 3;  // unless told: fewer when there are fewer dataservers
  uint32_t nameservers = 2;
  uint32_t directory_shards = 1;
  uint32_t gateways = 1;
  uint32_t port = 8080;  // of the first gateway; the others follow
  std::string coordinator = "file";
  std::map<std::string, std::string> set;  // "ROLE.OPTION" -> value
  std::map<std::string, uint32_t> ports;   // "NAME" and "NAME.admin" -> port
  std::set<std::string> formatted;         // names of stores that were made; never made again

  std::vector<PlannedProcess> Plan() const;
  std::string Path(const std::string& name) const { return dir + "/" + name; }
  std::string LogPath(const std::string& name) const { return Path("log/" + name + ".log"); }
  // Addresses of the nameservers, with commas between.
  std::string NameserverList() const;
  // Those of each shard's nodes, likewise.
  std::vector<std::string> DirectoryLists() const;
  uint32_t MinCopies() const;  // with fewer machines there are no uploads
  // What its user should know of it, one sentence each: what is not built yet, what will not work.
  std::vector<std::string> Remarks() const;
};

// kNotFound when DIR holds no cluster.
Result<ClusterState> LoadClusterState(const std::string& dir);
Err SaveClusterState(const ClusterState& state);
// What to do when what runs can't be read from the cluster's file.
std::string DamagedClusterFile(const std::string& dir);

// Puts what the user gave into `state`. With `stored`, an option that says otherwise is refused.
// Returns the complaint, empty when all is well.
std::string ApplyOptions(const ClusterOptions& options, bool stored, ClusterState* state);

// The complaint when the port of a gateway is another's, empty when all are free. REQUIRES: no
// gateway of this cluster runs.
std::string GatewayPortFault(const ClusterState& state);

// Chooses a free port for each listener that has none yet. False when no port is free.
bool ChoosePorts(ClusterState* state);

}  // namespace hayloft
