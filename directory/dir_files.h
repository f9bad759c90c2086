// A shard's files and references, as its rows have them (directory/dir_store.h).
//
// Of the files of one content, uploads share one at most; the others keep rows of their own, and so
// do their references. Threads: one owner. Pure; borrows the rows.
#pragma once

#include <optional>
#include <string>

#include "directory/dir_rows.h"

namespace hayloft {

struct FileRecord {
  FileAddress file;
  pb::DirFile row;
  bool shared = false;  // its row is the content's
};

struct ReferenceRecord {
  FileAddress file;
  uint32_t counter = 0;  // odd: removed
};

inline bool IsRemoved(uint32_t counter) { return counter % 2 == 1; }

// None of them fails but for the Kv's errors; a row that contradicts itself is kCorrupt.
class DirFiles {
 public:
  explicit DirFiles(DirRows* rows) : rows_(rows) {}

  // The one that uploads share, dead or alive.
  Result<std::optional<FileRecord>> Shared(const ContentId& content);
  Result<std::optional<FileRecord>> Find(const ContentId& content, const FileAddress& file);
  Result<std::optional<ReferenceRecord>> FindReference(const ContentId& content,
                                                       const Nonce& nonce);
  // References that are not removed, without this one's.
  Result<uint64_t> References(const ContentId& content, const FileRecord& record,
                              const Nonce& without);

  // A new file, with a first reference if `nonce` is given. `share`: it takes the place of the one
  // that uploads shared; else only if there is none. REQUIRES: it has no record; the nonce no
  // reference.
  Result<FileRecord> Add(const ContentId& content, const FileAddress& file, const Nonce* nonce,
                         pb::DirFile row, bool share);
  void Put(const ContentId& content, const FileRecord& record);
  // Adds the reference, or changes its counter. REQUIRES: it is to this file, or there is none.
  Err SetReference(const ContentId& content, const Nonce& nonce, uint32_t counter,
                   FileRecord* record);

 private:
  void MoveAside(const ContentId& content, FileRecord record);

  DirRows* const rows_;
};

}  // namespace hayloft
