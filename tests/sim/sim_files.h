// Stored files without dsps: what a nameserver and all replicas would answer together about each,
// as one party, which fails only when it is told to. For tests of what lies above the block store.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "common/content.h"
#include "common/core_io.h"
#include "common/delete_token.h"
#include "common/file_address.h"
#include "tests/sim/sim_random.h"

namespace hayloft {

inline constexpr char kSimFilesAddress[] = "files";  // of the nameserver and of every dsp

struct SimFile {
  std::string head;
  std::string bytes;
  ContentId content;
  Nonce nonce{};
  uint32_t counter = 0;  // odd: deleted
  bool purged = false;
  bool sealed = false;
  bool Live() const { return counter % 2 == 0 && !purged; }
};

class SimFiles {
 public:
  explicit SimFiles(uint64_t seed) : random_(seed) {}

  // kGrant, kLocate, kAppend, kRead, kStat, kSetDelete; `done` without its id.
  CallDone Answer(const RpcCall& call);
  std::map<FileAddress, SimFile>& files() { return files_; }
  const SimFile* Find(const FileAddress& file) const;
  // Somebody removed it from the disks.
  void Remove(const FileAddress& file) { files_.erase(file); }

  bool down = false;      // no dsp answers
  bool doubtful = false;  // who reads is told that a delete may not be known yet

 private:
  CallDone Append(const RpcCall& call);
  CallDone Read(const RpcCall& call) const;
  CallDone Stat(const RpcCall& call) const;
  CallDone SetDelete(const RpcCall& call);

  SimRandom random_;
  std::map<FileAddress, SimFile> files_;
  uint32_t next_sequence_ = 0;
  uint32_t directory_shards_ = 0;
};

}  // namespace hayloft
