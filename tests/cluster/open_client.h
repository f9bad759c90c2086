// For the programs that scripts run beside a cluster: its client, as their command line names it.
#pragma once

#include <cstdio>
#include <memory>

#include "hayloft/client.h"

namespace hayloft {

// Null when it could not be opened; the cause is printed.
inline std::unique_ptr<Client> OpenClient(const char* nameserver, const char* key_file) {
  Options options;
  options.cluster = nameserver;
  options.key_file = key_file;
  std::unique_ptr<Client> client;
  const Status status = Client::Open(options, &client);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return client;
}

}  // namespace hayloft
