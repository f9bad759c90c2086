// A shard's rows on a key-value store: what its log amounts to, as far as it was applied.
//
//   "head"                    DirHead       format, epoch, last index, settings
//   "c" content               DirFile       the file that uploads of this content share now
//   "f" content file          DirFile       another file of the same content
//   "a" sha1 digest8 nonce    DirReference  any other reference: what an upload's nonce refers to
//   "p" content file          DirPending    a delete or undelete that the dsps may not have yet
//   "k" hash                  DirKey        a user's Idempotency-Key
//   "n" name                  DirName
//   "x" file nonce            DirDrop       a name's reference that must go
//   "u" file                  DirPurge      a deleted file that CDNs are to be told of
//
// content: SHA-1, 20 bytes, and digest, 32 (common/content.h), of which digest8 is the beginning;
// file: block id, 5 bytes, and file id, 8, big-endian as in a URL; nonce: 16; hash: 32. So a
// look-up is one get, and an image that was uploaded once is one row of some 95 bytes: its
// reference is in it.
//
// The log itself lies beside it (common/ha/ha_store.h): a record is synced there, committed, then
// applied here. After an error the store must not be used again, and the process has to end.
// Threads: Apply one at a time; DirCore reads the same Kv meanwhile. Pure; borrows the Kv.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "common/content.h"
#include "common/delete_token.h"
#include "common/file_address.h"
#include "common/ports.h"
#include "common/proto/hayloft.pb.h"
#include "common/result.h"

namespace hayloft {

// 1 had references under "r", SHA-1 and nonce, and is not read.
inline constexpr uint32_t kDirStoreFormat = 2;

// Keys of rows.
std::string ContentKey(const ContentId& content);
std::string FileKey(const ContentId& content, const FileAddress& file);
std::string FilesKey(const ContentId& content);  // with which those of its files begin
std::string ReferenceKey(const ContentId& content, const Nonce& nonce);
std::string PendingKey(const ContentId& content, const FileAddress& file);
std::string IdempotencyKey(std::string_view hash);
std::string NameKey(std::string_view name);
std::string DropKey(const FileAddress& file, const Nonce& nonce);
std::string PurgeKey(const FileAddress& file);

struct PendingName {
  ContentId content;
  FileAddress file;
};
struct DropName {
  FileAddress file;
  Nonce nonce{};
};
// What such a key names; kCorrupt when it is none.
Result<PendingName> ParsePendingKey(std::string_view key);
Result<DropName> ParseDropKey(std::string_view key);
Result<FileAddress> ParsePurgeKey(std::string_view key);
Result<ContentId> ParseFileKey(std::string_view key);  // of a content or a file

// The part of a shard that its log determines and that is kept in memory.
struct DirState {
  std::string node;  // 16 random bytes: names this data directory for ever
  pb::DirHead head;
};

// kCorrupt when a record contradicts its place: its index must follow the last one.
Err AdvanceHead(const pb::DirRecord& record, pb::DirHead* head);

class DirStore {
 public:
  explicit DirStore(Kv* kv) : kv_(kv) {}

  // Makes a store of nothing, and the log beside it. `joining`: of a node that is to follow another
  // one. `settings.losses`: 1 if there may be files already whose records are lost. kExists when
  // the Kv holds anything at all.
  Err Init(std::string_view node, const pb::DirSettings& settings, bool joining = false);
  // kNotFound: never initialised. kUnsupported: of another format. kCorrupt: damaged;
  // only a rebuild from the dsps' needles helps.
  Result<DirState> Load();
  // REQUIRES: Init or Load succeeded; the indexes follow the last one.
  Err Apply(std::span<const pb::HaRecord> records, bool sync);
  // Whether rows of a snapshot can be taken: of this version, and behind the place that it names.
  static bool CanTake(const pb::SnapshotRequest& snapshot);
  uint64_t applied() const { return head_.last_index(); }

 private:
  Kv* kv_;
  pb::DirHead head_;
};

}  // namespace hayloft
