// `hayloft COMMAND ...`: finds the command and hands the rest of the line on.

#include <array>
#include <cstdio>
#include <string_view>
#include <vector>

#include "client/cli/command.h"
#include "common/log.h"
#include "common/version.h"

namespace hayloft {
namespace {

struct Command {
  std::string_view name;
  int (*run)(int argc, const char* const* argv);
  std::string_view about;
};

constexpr std::array<Command, 15> kCommands = {{
    {"put", RunPut, "store files, folders or standard input"},
    {"get", RunGet, "read files back, or compare them with the originals"},
    {"rm", RunRm, "delete files"},
    {"undelete", RunUndelete, "take a delete back"},
    {"stat", RunStat, "what is known of a file, and where it lies"},
    {"status", RunStatus, "nameservers, dsps, blocks and files of the cluster"},
    {"failover", RunFailover, "the standby takes over from the active one"},
    {"force-promote", RunForcePromote, "make a node active that may lack what others knew"},
    {"gone", RunGone, "give a dsp up for good: its blocks go on without it"},
    {"fsck", RunFsck, "compare what the dsps store with what the directory knows"},
    {"unpin", RunUnpin, "files that the directory keeps since it lost records may go"},
    {"key", RunKey, "make upload keys and keys that sign URLs"},
    {"sign", RunSign, "make a URL that lets its holder do one thing for a while"},
    {"cluster", RunCluster, "up, down, status: a whole cluster on this machine"},
    {"bench", RunBench, "load on a running cluster; verifies every byte that it reads"},
}};

void PrintHelp() {
  std::puts("Usage: hayloft COMMAND [options]; each command has --help\n\nCommands:");
  for (const Command& command : kCommands) {
    std::printf("  %-13s %s\n", command.name.data(), command.about.data());
  }
}

// Options that all commands have may also stand before the command: they are moved behind it.
// Returns the place of the command in `line`, 0 when there is none.
size_t MoveLeadingOptions(std::vector<const char*>* line) {
  size_t at = 1;
  while (at < line->size() && (*line)[at][0] == '-') {
    const std::string_view option = (*line)[at];
    const bool takes_value = option == "--cluster" || option == "--dir" ||
                             option == "--cluster-key-file" || option == "--timeout-ms" ||
                             option == "--shard";
    at += takes_value ? 2 : 1;
  }
  if (at >= line->size()) return 0;
  const char* command = (*line)[at];
  line->erase(line->begin() + static_cast<std::ptrdiff_t>(at));
  line->insert(line->begin() + 1, command);
  return 1;
}

// Output that did not arrive is a failure, whatever the command made of it.
int AfterOutput(int exit_code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return exit_code;
  const int failed = Complain("cannot write to standard output");
  return exit_code == kExitFine ? failed : exit_code;
}

int Main(int argc, const char* const* argv) {
  // Commands say themselves what went wrong; what their client notes on its way is for servers.
  SetLogSink([](LogLevel, std::string_view line) { Complain(std::string(line)); },
             LogLevel::kError);
  std::vector<const char*> line(argv, argv + argc);
  const std::string_view first = argc > 1 ? argv[1] : "";
  if (first == "--version" || first == "version") {
    std::printf("hayloft %s\n", kVersion);
    return kExitFine;
  }
  if (first == "--help" || first == "-h" || first == "help") return PrintHelp(), kExitFine;
  const size_t at = MoveLeadingOptions(&line);
  if (at == 0) return Complain("no command given; `hayloft --help` lists them", kExitUsage);
  for (const Command& command : kCommands) {
    if (command.name != line[at]) continue;
    return command.run(static_cast<int>(line.size() - at), line.data() + at);
  }
  return Complain("unknown command " + std::string(line[at]) + "; `hayloft --help` lists them",
                  kExitUsage);
}

}  // namespace
}  // namespace hayloft

int main(int argc, char** argv) { return hayloft::AfterOutput(hayloft::Main(argc, argv)); }
