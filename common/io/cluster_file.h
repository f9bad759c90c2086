// DIR/cluster.json: what of a cluster runs on this machine, for tests, people and `hayloft`.
//
//   {"processes":[{"name","role","pid","started","address","http","data","parent"}...]}
//
// Written by `hayloft cluster` and by dataservers (their dsps' entries), each change under a lock,
// sorted by name and replaced whole, so that a reader never sees half of one. An entry says what
// was started last; IsRunning(id) says whether it still runs. Threads: any; a change waits for that
// of another process.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/io/process.h"
#include "common/result.h"

namespace hayloft {

struct ProcessEntry {
  std::string name;  // unique in the cluster
  std::string role;  // nameserver, dataserver, dsp, directory, gateway, etcd
  ProcessId id;
  std::string address;  // IP:PORT of the RPC port; a gateway's: its public port's
  std::string http;     // IP:PORT of the admin port; a gateway's: its public port's
  std::string data;     // absolute; a dsp's beneath its dataserver's
  std::string parent;   // name of a dsp's dataserver
};

class ClusterFile {
 public:
  explicit ClusterFile(std::string path) : path_(std::move(path)) {}

  // No entries when there is no file. kCorrupt when it is not what we wrote.
  Result<std::vector<ProcessEntry>> Read() const;
  Err Change(const std::function<void(std::vector<ProcessEntry>*)>& change) const;
  // Adds the entry, or puts it in the place of that of the same name.
  Err Put(const ProcessEntry& entry) const;
  Err Remove(const std::string& name) const;

 private:
  std::string path_;
};

const ProcessEntry* FindEntry(const std::vector<ProcessEntry>& entries, const std::string& name);

}  // namespace hayloft
