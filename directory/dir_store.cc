#include "directory/dir_store.h"

#include <algorithm>
#include <vector>

#include "common/check.h"
#include "common/ha/ha_store.h"

namespace hayloft {

namespace {

constexpr std::string_view kHeadKey = kServiceHeadKey;
constexpr size_t kBlockIdBytes = 5;
constexpr size_t kFileBytes = kBlockIdBytes + 8;
constexpr size_t kDigestBytes = 8;  // in a reference's key: contents of one SHA-1 differ there

void AppendContent(const ContentId& content, std::string* key) {
  key->append(AsText(content.sha1));
  key->append(AsText(content.digest));
}

void AppendFile(const FileAddress& file, std::string* key) {
  ASSERT(file.block_id <= kBlockIdMax);
  uint8_t digits[8];
  PutBigEndian64(file.block_id, digits);
  key->append(AsText(digits).substr(8 - kBlockIdBytes));
  PutBigEndian64(file.file_id.value, digits);
  key->append(AsText(digits));
}

FileAddress TakeFile(ByteReader* reader) {
  uint8_t digits[8] = {};
  const Bytes block = reader->Take(kBlockIdBytes);
  std::copy(block.begin(), block.end(), digits + 8 - kBlockIdBytes);
  FileAddress file;
  file.block_id = GetBigEndian64(digits);
  const Bytes id = reader->Take(8);
  if (reader->ok()) file.file_id.value = GetBigEndian64(id.data());
  return file;
}

template <typename Array>
void TakeArray(ByteReader* reader, Array* array) {
  const Bytes bytes = reader->Take(array->size());
  std::copy(bytes.begin(), bytes.end(), array->begin());
}

Kv::Change HeadRow(const pb::DirHead& head) {
  return {.key = std::string(kHeadKey), .value = head.SerializeAsString()};
}

}  // namespace

std::string ContentKey(const ContentId& content) {
  std::string key = "c";
  AppendContent(content, &key);
  return key;
}

std::string FilesKey(const ContentId& content) {
  std::string key = "f";
  AppendContent(content, &key);
  return key;
}

std::string FileKey(const ContentId& content, const FileAddress& file) {
  std::string key = FilesKey(content);
  AppendFile(file, &key);
  return key;
}

std::string ReferenceKey(const ContentId& content, const Nonce& nonce) {
  std::string key = "a";
  key.append(AsText(content.sha1));
  key.append(AsText(content.digest).substr(0, kDigestBytes));
  return key.append(AsText(nonce));
}

std::string PendingKey(const ContentId& content, const FileAddress& file) {
  std::string key = "p";
  AppendContent(content, &key);
  AppendFile(file, &key);
  return key;
}

std::string IdempotencyKey(std::string_view hash) { return "k" + std::string(hash); }

std::string NameKey(std::string_view name) { return "n" + std::string(name); }

std::string DropKey(const FileAddress& file, const Nonce& nonce) {
  std::string key = "x";
  AppendFile(file, &key);
  return key.append(AsText(nonce));
}

std::string PurgeKey(const FileAddress& file) {
  std::string key = "u";
  AppendFile(file, &key);
  return key;
}

Result<PendingName> ParsePendingKey(std::string_view key) {
  ByteReader reader(AsBytes(key));
  const Bytes prefix = reader.Take(1);
  PendingName name;
  TakeArray(&reader, &name.content.sha1);
  TakeArray(&reader, &name.content.digest);
  name.file = TakeFile(&reader);
  if (!reader.ok() || reader.size() != 0 || prefix[0] != 'p') return Err::kCorrupt;
  return name;
}

Result<DropName> ParseDropKey(std::string_view key) {
  ByteReader reader(AsBytes(key));
  const Bytes prefix = reader.Take(1);
  DropName name;
  name.file = TakeFile(&reader);
  TakeArray(&reader, &name.nonce);
  if (!reader.ok() || reader.size() != 0 || prefix[0] != 'x') return Err::kCorrupt;
  return name;
}

Result<FileAddress> ParsePurgeKey(std::string_view key) {
  ByteReader reader(AsBytes(key));
  const Bytes prefix = reader.Take(1);
  const FileAddress file = TakeFile(&reader);
  if (!reader.ok() || reader.size() != 0 || prefix[0] != 'u') return Err::kCorrupt;
  return file;
}

Result<ContentId> ParseFileKey(std::string_view key) {
  ByteReader reader(AsBytes(key));
  const Bytes prefix = reader.Take(1);
  ContentId content;
  TakeArray(&reader, &content.sha1);
  TakeArray(&reader, &content.digest);
  if (reader.ok() && prefix[0] == 'f') (void)TakeFile(&reader);
  const bool known = reader.ok() && (prefix[0] == 'c' || prefix[0] == 'f');
  if (!known || reader.size() != 0) return Err::kCorrupt;
  return content;
}

Err AdvanceHead(const pb::DirRecord& record, pb::DirHead* head) {
  if (record.index() != head->last_index() + 1) return Err::kCorrupt;
  if (record.epoch() != 0 && record.epoch() <= head->epoch()) return Err::kCorrupt;
  head->set_last_index(record.index());
  if (record.epoch() != 0) head->set_epoch(record.epoch());
  if (record.has_settings()) *head->mutable_settings() = record.settings();
  return Err::kOk;
}

Err DirStore::Init(std::string_view node, const pb::DirSettings& settings, bool joining) {
  bool empty = true;
  TRY(kv_->Scan("", [&](std::string_view, std::string_view) { return empty = false; }));
  if (!empty) return Err::kExists;
  head_.Clear();
  head_.set_format(kDirStoreFormat);
  *head_.mutable_settings() = settings;
  pb::HaHead ha;
  ha.set_node(std::string(node));
  ha.set_joining(joining);
  ha.set_service_id(settings.cluster_id());
  const Kv::Change changes[] = {HeadRow(head_), HaStore::FirstRow(ha)};
  return kv_->Write(changes, /*sync=*/true);
}

Result<DirState> DirStore::Load() {
  TRY_ASSIGN(const std::string row, kv_->Get(kHeadKey));
  if (!head_.ParseFromString(row) || head_.format() == 0) return Err::kCorrupt;
  if (head_.format() != kDirStoreFormat) return Err::kUnsupported;
  const uint32_t shards = head_.settings().shards();
  if (shards < 1 || shards > kShardsMax || head_.settings().shard() >= shards) {
    return Err::kCorrupt;
  }
  TRY_ASSIGN(const pb::HaHead ha, HaStore::ReadHead(kv_));
  return DirState{.node = ha.node(), .head = head_};
}

bool DirStore::CanTake(const pb::SnapshotRequest& snapshot) {
  if (snapshot.part() == 0) {
    pb::DirHead head;
    const bool has_head = snapshot.rows_size() > 0 && snapshot.rows(0).key() == kHeadKey &&
                          head.ParseFromString(snapshot.rows(0).value());
    if (!has_head || head.format() != kDirStoreFormat) return false;
    if (head.last_index() != snapshot.base().index()) return false;
  }
  for (int i = snapshot.part() == 0 ? 1 : 0; i < snapshot.rows_size(); ++i) {
    const std::string& key = snapshot.rows(i).key();
    if (key == kHeadKey || !HaStore::OfService(key)) return false;
  }
  return true;
}

Err DirStore::Apply(std::span<const pb::HaRecord> records, bool sync) {
  ASSERT(!records.empty());
  ASSERT(head_.format() == kDirStoreFormat);
  std::vector<Kv::Change> changes;
  for (const pb::HaRecord& body : records) {
    pb::DirRecord record;
    if (!record.ParseFromString(body.body())) return Err::kCorrupt;
    TRY(AdvanceHead(record, &head_));
    for (pb::DirRow& row : *record.mutable_rows()) {
      changes.push_back({.key = std::move(*row.mutable_key()),
                         .value = std::move(*row.mutable_value()),
                         .remove = row.removed()});
    }
  }
  changes.push_back(HeadRow(head_));
  return kv_->Write(changes, sync);
}

}  // namespace hayloft
