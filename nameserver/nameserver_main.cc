// hayloft-nameserver: which dsps hold which block.
#include "nameserver/ns_shell.h"

int main(int argc, char** argv) {
  hayloft::NsConfig config;
  hayloft::NsShell shell(config);
  const hayloft::Program program{
      .name = "hayloft-nameserver",
      .role = "nameserver",
      .about = "Knows which dsps hold which block, and who may append to it.",
      .rows = config.Rows(),
      .fault = [&config] { return config.Fault(); }};
  return hayloft::RunHaServer(program, config, {.role = "nameserver"}, &shell, {"end-rebuild"},
                              argc, argv);
}
