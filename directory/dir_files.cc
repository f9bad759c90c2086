#include "directory/dir_files.h"

#include "common/check.h"

namespace hayloft {

namespace {

FileAddress AddressOf(const pb::DirFile& row) { return {row.block_id(), FileId{row.file_id()}}; }

bool IsNonce(const std::string& stored, const Nonce& nonce) { return stored == AsText(nonce); }

Err CheckRow(const pb::DirFile& row) {
  const bool nonce = row.nonce().empty() || row.nonce().size() == sizeof(Nonce);
  return nonce && row.block_id() <= kBlockIdMax ? Err::kOk : Err::kCorrupt;
}

}  // namespace

Result<std::optional<FileRecord>> DirFiles::Shared(const ContentId& content) {
  TRY_ASSIGN(std::optional<pb::DirFile> row, rows_->Get<pb::DirFile>(ContentKey(content)));
  if (!row.has_value()) return std::optional<FileRecord>();
  TRY(CheckRow(*row));
  const FileAddress file = AddressOf(*row);
  return std::optional(FileRecord{.file = file, .row = std::move(*row), .shared = true});
}

Result<std::optional<FileRecord>> DirFiles::Find(const ContentId& content,
                                                 const FileAddress& file) {
  TRY_ASSIGN(std::optional<FileRecord> shared, Shared(content));
  if (!shared.has_value() || shared->file == file) return shared;
  if (!shared->row.others()) return std::optional<FileRecord>();
  TRY_ASSIGN(std::optional<pb::DirFile> row, rows_->Get<pb::DirFile>(FileKey(content, file)));
  if (!row.has_value()) return std::optional<FileRecord>();
  TRY(CheckRow(*row));
  if (AddressOf(*row) != file || !row->nonce().empty()) return Err::kCorrupt;
  return std::optional(FileRecord{.file = file, .row = std::move(*row), .shared = false});
}

Result<std::optional<ReferenceRecord>> DirFiles::FindReference(const ContentId& content,
                                                               const Nonce& nonce) {
  TRY_ASSIGN(const std::optional<FileRecord> shared, Shared(content));
  // Of no file: so it is with each upload of a new image.
  if (!shared.has_value()) return std::optional<ReferenceRecord>();
  if (IsNonce(shared->row.nonce(), nonce)) {
    return std::optional(ReferenceRecord{.file = shared->file, .counter = shared->row.counter()});
  }
  TRY_ASSIGN(const std::optional<pb::DirReference> row,
             rows_->Get<pb::DirReference>(ReferenceKey(content, nonce)));
  if (!row.has_value()) return std::optional<ReferenceRecord>();
  return std::optional(ReferenceRecord{.file = {row->block_id(), FileId{row->file_id()}},
                                       .counter = row->counter()});
}

Result<uint64_t> DirFiles::References(const ContentId& content, const FileRecord& record,
                                      const Nonce& without) {
  uint64_t count = record.row.references();
  if (!record.row.nonce().empty() && !IsRemoved(record.row.counter())) ++count;
  TRY_ASSIGN(const std::optional<ReferenceRecord> own, FindReference(content, without));
  const bool counted = own.has_value() && own->file == record.file && !IsRemoved(own->counter);
  if (counted && count == 0) return Err::kCorrupt;
  return counted ? count - 1 : count;
}

void DirFiles::Put(const ContentId& content, const FileRecord& record) {
  rows_->Put(record.shared ? ContentKey(content) : FileKey(content, record.file), record.row);
}

// From the content's row to one of its own; so does its first reference.
void DirFiles::MoveAside(const ContentId& content, FileRecord record) {
  ASSERT(record.shared);
  if (!record.row.nonce().empty()) {
    Nonce nonce;
    std::copy(record.row.nonce().begin(), record.row.nonce().end(), nonce.begin());
    pb::DirReference reference;
    reference.set_block_id(record.file.block_id);
    reference.set_file_id(record.file.file_id.value);
    reference.set_counter(record.row.counter());
    rows_->Put(ReferenceKey(content, nonce), reference);
    if (!IsRemoved(record.row.counter())) record.row.set_references(record.row.references() + 1);
    record.row.clear_nonce();
    record.row.clear_counter();
  }
  record.row.clear_others();
  record.shared = false;
  Put(content, record);
}

Result<FileRecord> DirFiles::Add(const ContentId& content, const FileAddress& file,
                                 const Nonce* nonce, pb::DirFile row, bool share) {
  TRY_ASSIGN(const std::optional<FileRecord> before, Shared(content));
  FileRecord record{.file = file, .row = std::move(row), .shared = share || !before.has_value()};
  record.row.set_block_id(file.block_id);
  record.row.set_file_id(file.file_id.value);
  if (record.shared && nonce != nullptr) record.row.set_nonce(nonce->data(), nonce->size());
  if (before.has_value()) {
    ASSERT(before->file != file);
    if (record.shared) {
      record.row.set_others(true);
      MoveAside(content, *before);
    } else if (!before->row.others()) {
      FileRecord shared = *before;
      shared.row.set_others(true);
      Put(content, shared);
    }
  }
  Put(content, record);
  if (!record.shared && nonce != nullptr) TRY(SetReference(content, *nonce, 0, &record));
  return record;
}

Err DirFiles::SetReference(const ContentId& content, const Nonce& nonce, uint32_t counter,
                           FileRecord* record) {
  if (IsNonce(record->row.nonce(), nonce)) {
    record->row.set_counter(counter);
    Put(content, *record);
    return Err::kOk;
  }
  TRY_ASSIGN(const std::optional<ReferenceRecord> before, FindReference(content, nonce));
  ASSERT(!before.has_value() || before->file == record->file);
  const bool was = before.has_value() && !IsRemoved(before->counter);
  const bool is = !IsRemoved(counter);
  if (was && record->row.references() == 0) return Err::kCorrupt;
  record->row.set_references(record->row.references() - (was ? 1 : 0) + (is ? 1 : 0));
  pb::DirReference reference;
  reference.set_block_id(record->file.block_id);
  reference.set_file_id(record->file.file_id.value);
  reference.set_counter(counter);
  rows_->Put(ReferenceKey(content, nonce), reference);
  Put(content, *record);
  return Err::kOk;
}

}  // namespace hayloft
