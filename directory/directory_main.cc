// hayloft-directory: a node of one shard of the directory; which contents are stored, and who
// refers to them.
#include "directory/dir_shell.h"

int main(int argc, char** argv) {
  hayloft::DirConfig config;
  hayloft::DirShell shell(config);
  const hayloft::Program program{
      .name = "hayloft-directory",
      .role = "directory",
      .about = "Knows which images are stored already, and who still refers to each of them.",
      .rows = config.Rows(),
      .fault = [&config] { return config.Fault(); }};
  return hayloft::RunHaServer(program, config, {.role = "directory", .replace_damaged = true},
                              &shell, {}, argc, argv);
}
