// All files of a cluster, as the directory knows them: what `hayloft fsck` goes through.
//
//   nameserver: blocks in order -> a dsp of each sealed one: its needles -> their heads -> contents
//
// Open and closed blocks are left out: what a replica of them lists is not all of it yet, and their
// files are young. A command's: straight-line code over the session's loop.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "client/cli/session.h"
#include "common/content.h"
#include "common/file_address.h"
#include "common/proto/hayloft.pb.h"

namespace hayloft {

struct FoundFile {
  FileAddress address;
  ContentId content;
  uint64_t created_ms = 0;
};

struct FileWalkCounts {
  uint64_t blocks = 0;
  uint64_t blocks_unsealed = 0;    // left out
  uint64_t blocks_unreadable = 0;  // no replica listed them
  uint64_t files = 0;
  uint64_t files_unreadable = 0;
  uint64_t files_purged = 0;
};

class FileWalk {
 public:
  // Borrows `session`.
  FileWalk(Session* session, uint32_t timeout_ms, uint32_t in_flight)
      : session_(session), timeout_ms_(timeout_ms), in_flight_(in_flight) {}

  // Calls `visit` with the files of one block after the other. The nameservers' error, if they
  // can't say which blocks there are; else kOk, whatever was unreadable: see counts().
  Err Run(const std::function<void(const std::vector<FoundFile>&)>& visit);
  // Of these files, those that can be read, in no order.
  std::vector<FoundFile> Describe(const std::vector<FileAddress>& files);
  const FileWalkCounts& counts() const { return counts_; }

 private:
  bool ListNeedles(const pb::Location& block, std::vector<FileAddress>* files);
  Err ListFrom(const std::string& dsp, const pb::Location& block, std::vector<FileAddress>* files);
  void Add(const FileAddress& file, const StatDone& stat, std::vector<FoundFile>* found);

  Session* const session_;
  const uint32_t timeout_ms_;
  const uint32_t in_flight_;
  FileWalkCounts counts_;
};

}  // namespace hayloft
