// The commands of `hayloft`. Each takes its own command line (argv[0] is its name), prints its
// result on stdout and complaints on stderr, and returns the exit code: 0 fine, 1 failed or not
// found, 2 wrong usage.
#pragma once

#include <cstdio>
#include <string>

#include "common/options.h"

namespace hayloft {

inline constexpr int kExitFine = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

// What every command that talks to a cluster takes.
#define HAYLOFT_COMMAND_OPTIONS(X)                                                            \
  X(bool, json, false, 0, 1, "print JSON")                                                    \
  X(std::string, cluster, "", 0, 4096,                                                        \
    "IP:PORT of each nameserver, with commas between; default: the cluster in --dir")         \
  X(std::vector<std::string>, shard, {}, 0, 256,                                              \
    "IP:PORT of the nodes of a shard of the directory, with a comma between; once for each, " \
    "in order; default: that of the cluster in --dir")                                        \
  X(std::string, dir, "", 0, 4096, "folder of a cluster on this machine; default: run")       \
  X(std::string, cluster_key_file, "", 0, 4096, "secret of the cluster; default: in --dir")   \
  X(uint32_t, timeout_ms, 10'000, 10, 3'600'000, "time that each file may take, all tries in all")

struct CommandOptions {
  HAYLOFT_OPTIONS(HAYLOFT_COMMAND_OPTIONS)
  std::string Fault() const;  // empty: fine
};

bool IsAddress(const std::string& text);  // IP:PORT

inline int Complain(const std::string& text, int exit_code = kExitFailed) {
  std::fprintf(stderr, "hayloft: %s\n", text.c_str());
  return exit_code;
}

// Prints what the nameservers know of the cluster.
int PrintStatus(const CommandOptions& options);

int RunPut(int argc, const char* const* argv);
int RunGet(int argc, const char* const* argv);
int RunRm(int argc, const char* const* argv);
int RunUndelete(int argc, const char* const* argv);
int RunStat(int argc, const char* const* argv);
int RunStatus(int argc, const char* const* argv);
int RunBench(int argc, const char* const* argv);
int RunFailover(int argc, const char* const* argv);
int RunForcePromote(int argc, const char* const* argv);
int RunGone(int argc, const char* const* argv);
int RunFsck(int argc, const char* const* argv);
int RunUnpin(int argc, const char* const* argv);
int RunKey(int argc, const char* const* argv);
int RunSign(int argc, const char* const* argv);
int RunCluster(int argc, const char* const* argv);

}  // namespace hayloft
