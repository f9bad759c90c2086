#include "common/io/leveldb_kv.h"

#include <leveldb/cache.h>
#include <leveldb/db.h>
#include <leveldb/filter_policy.h>
#include <leveldb/write_batch.h>

#include <algorithm>
#include <filesystem>
#include <mutex>

#include "common/codec.h"
#include "common/io/files.h"
#include "common/io/leveldb_env.h"
#include "common/log.h"

namespace hayloft {

namespace {

constexpr int kBloomBitsPerKey = 10;
constexpr int kSetAsideMax = 1'000;

leveldb::Slice SliceOf(std::string_view text) { return {text.data(), text.size()}; }
std::string_view ViewOf(const leveldb::Slice& slice) { return {slice.data(), slice.size()}; }

std::string AsideName(const std::string& path, int number) {
  return path + ".damaged-" + std::to_string(number);
}

bool Mentions(const leveldb::Status& status, std::string_view text) {
  return status.ToString().find(text) != std::string::npos;
}

// LevelDB keeps no errno, only strerror's words.
Err ErrOf(const leveldb::Status& status) {
  if (status.ok()) return Err::kOk;
  // First, as most answers are: a row that is not there. A table that vanished is none: LevelDB
  // files both under "not found".
  if (status.IsNotFound()) return Mentions(status, "No such file") ? Err::kCorrupt : Err::kNotFound;
  if (Mentions(status, "No space left") || Mentions(status, "quota exceeded")) return Err::kFull;
  if (Mentions(status, "Read-only file system")) return Err::kReadOnly;
  if (Mentions(status, "Too many open files")) return Err::kBusy;
  if (Mentions(status, "already held") || Mentions(status, "temporarily unavailable")) {
    return Err::kBusy;
  }
  // "CURRENT file does not end with newline", a missing or too short file of the store: damage,
  // although LevelDB files some of it under I/O errors.
  if (status.IsCorruption() || status.IsInvalidArgument()) return Err::kCorrupt;
  if (Mentions(status, "No such file") || Mentions(status, "truncated")) return Err::kCorrupt;
  if (Mentions(status, "Invalid argument")) return Err::kCorrupt;  // an offset that makes no sense
  return Err::kIo;
}

// What is read is read once, at a start: kept blocks would be memory that nobody asks for again.
leveldb::ReadOptions CheckedReads() {
  leveldb::ReadOptions options;
  options.verify_checksums = true;
  options.fill_cache = false;
  return options;
}

// A store without its CURRENT would be taken for a new one, and what it held for never written.
bool LostItsHead(const std::string& path) {
  const Result<std::vector<std::string>> names = ListFolder(path);
  if (!names.ok()) return false;
  const auto has = [&](std::string_view name) {
    return std::find(names->begin(), names->end(), name) != names->end();
  };
  const bool has_data = std::any_of(names->begin(), names->end(), [](const std::string& name) {
    return name.ends_with(".ldb") || name.ends_with(".log") || name.starts_with("MANIFEST-");
  });
  return has_data && !has("CURRENT");
}

// The manifest, too, is a log of records whose torn end is cut off in silence, and with it whole
// tables. So an orderly close leaves the digest of CURRENT and manifest in this file, twice: when
// the two differ it is this file that is damaged, and says nothing.
constexpr std::string_view kClosedName = "/CLOSED";
constexpr uint64_t kHeadFileBytesMax = 64 << 20;

Result<std::string> HeadDigest(const std::string& path) {
  TRY_ASSIGN(std::string current, ReadWholeFile(path + "/CURRENT", kHeadFileBytesMax));
  const std::string name = current.substr(0, current.find('\n'));
  TRY_ASSIGN(const std::string manifest, ReadWholeFile(path + "/" + name, kHeadFileBytesMax));
  const std::string digest = ToHex(Sha256Of(AsBytes(current + manifest)));
  return digest + digest;
}

// kCorrupt when the store was closed in order and is not as it was left. From here on it is open.
Err CheckClosed(const std::string& path) {
  const std::string closed = path + std::string(kClosedName);
  const Result<std::string> left = ReadWholeFile(closed, kHeadFileBytesMax);
  if (left.err() == Err::kNotFound) return Err::kOk;  // new, or its process was killed
  if (!left.ok()) return left.err();
  const size_t half = left->size() / 2;
  const bool sound = left->substr(0, half) == left->substr(half);
  const Result<std::string> digest = HeadDigest(path);
  if (sound && (!digest.ok() || *digest != *left)) return Err::kCorrupt;
  std::error_code error;
  std::filesystem::remove(closed, error);
  return error ? Err::kIo : SyncFolder(path);
}

}  // namespace

LevelDbKv::LevelDbKv(std::string path, const LevelDbOptions& options)
    : path_(std::move(path)),
      options_(options),
      cache_(leveldb::NewLRUCache(options.cache_bytes)),
      filter_(leveldb::NewBloomFilterPolicy(kBloomBitsPerKey)) {}

LevelDbKv::~LevelDbKv() {
  if (db_ == nullptr) return;
  // A flipped length in LevelDB's log looks like the torn end of a crash and is cut off in silence.
  // So nothing is left in the log: this writes it out as a table, every byte of which is covered.
  const leveldb::Slice nothing;
  if (options_.settle_at_close) db_->CompactRange(&nothing, &nothing);
  db_.reset();
  const Result<std::string> digest = HeadDigest(path_);
  if (digest.ok())
    (void)ReplaceFile(path_ + std::string(kClosedName), *digest);  // without it: as after a kill
}

Result<std::unique_ptr<LevelDbKv>> LevelDbKv::Open(const std::string& path,
                                                   const LevelDbOptions& options) {
  std::unique_ptr<LevelDbKv> kv(new LevelDbKv(path, options));
  TRY(kv->OpenStore());
  if (options.read_all) TRY(kv->CheckAll());
  return kv;
}

Err LevelDbKv::OpenStore() {
  if (LostItsHead(path_)) return Err::kCorrupt;
  TRY(CheckClosed(path_));
  leveldb::Options options;
  options.env = PreadEnv();
  options.create_if_missing = true;
  options.paranoid_checks = true;
  options.block_cache = cache_.get();
  options.filter_policy = filter_.get();
  options.write_buffer_size = options_.write_buffer_bytes;
  options.max_open_files = options_.open_files_max;
  options.max_file_size = options_.file_bytes;
  options.block_size = options_.block_bytes;
  options.compression = options_.compress ? leveldb::kSnappyCompression : leveldb::kNoCompression;
  leveldb::DB* db = nullptr;
  const leveldb::Status status = leveldb::DB::Open(options, path_, &db);
  db_.reset(db);
  const Err err = ErrOf(status);
  if (err != Err::kOk) {
    LOG_WARN("leveldb_open_failed", "path=%s cause=%s", LogText(path_).c_str(),
             LogText(status.ToString()).c_str());
  }
  return err == Err::kNotFound ? Err::kCorrupt : err;
}

Err LevelDbKv::CheckAll() {
  return Scan("", [](std::string_view, std::string_view) { return true; });
}

Result<LevelDbKv::Opened> LevelDbKv::OpenOrQuarantine(const std::string& path,
                                                      const LevelDbOptions& options) {
  Result<std::unique_ptr<LevelDbKv>> sound = Open(path, options);
  if (sound.ok()) return Opened{.kv = *std::move(sound), .set_aside = ""};
  if (sound.err() != Err::kCorrupt) return sound.err();
  TRY_ASSIGN(const std::string aside, SetAside(path));
  TRY_ASSIGN(std::unique_ptr<LevelDbKv> fresh, Open(path, options));
  return Opened{.kv = std::move(fresh), .set_aside = aside};
}

Result<std::string> LevelDbKv::SetAside(const std::string& path) {
  for (int number = 1; number <= kSetAsideMax; ++number) {
    std::string aside = AsideName(path, number);
    if (FileExists(aside)) continue;
    std::error_code error;
    std::filesystem::rename(path, aside, error);
    if (error) return Err::kIo;
    LOG_WARN("leveldb_set_aside", "path=%s to=%s action=rebuild", LogText(path).c_str(),
             LogText(aside).c_str());
    return aside;
  }
  return Err::kFull;
}

std::string LevelDbKv::LastSetAside(const std::string& path) {
  std::string last;
  for (int number = 1; number <= kSetAsideMax; ++number) {
    std::string aside = AsideName(path, number);
    if (!FileExists(aside)) break;
    last = std::move(aside);
  }
  return last;
}

Err LevelDbKv::Noted(Err err) {
  if (err == Err::kCorrupt) damaged_ = true;
  return err;
}

Result<std::string> LevelDbKv::Get(std::string_view key) {
  const std::shared_lock<std::shared_mutex> lock(mutex_);
  if (db_ == nullptr) return Err::kFull;
  std::string value;
  const Err err = Noted(ErrOf(db_->Get(CheckedReads(), SliceOf(key), &value)));
  if (err != Err::kOk) return err;
  return value;
}

Err LevelDbKv::Write(std::span<const Change> changes, bool sync) {
  leveldb::WriteBatch batch;
  for (const Change& change : changes) {
    if (change.remove) {
      batch.Delete(SliceOf(change.key));
    } else {
      batch.Put(SliceOf(change.key), SliceOf(change.value));
    }
  }
  leveldb::WriteOptions options;
  options.sync = sync;
  {
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    if (!was_full_) {
      const Err err = Noted(ErrOf(db_->Write(options, &batch)));
      if (err != Err::kFull) return err;
    }
  }
  const std::unique_lock<std::shared_mutex> lock(mutex_);
  TRY(OpenAfterFull());
  return ErrOf(db_->Write(options, &batch));
}

// After a full disk LevelDB refuses all writes until the store is opened again. Not before there is
// room for what opening writes: the store must stay readable meanwhile.
Err LevelDbKv::OpenAfterFull() {
  was_full_ = true;
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(path_, error);
  if (error || space.available < 4 * options_.write_buffer_bytes) return Err::kFull;
  db_.reset();
  TRY(OpenStore());
  was_full_ = false;
  return Err::kOk;
}

Err LevelDbKv::ScanFrom(std::string_view first, const Visit& visit) {
  const std::shared_lock<std::shared_mutex> lock(mutex_);
  if (db_ == nullptr) return Err::kFull;
  const std::unique_ptr<leveldb::Iterator> it(db_->NewIterator(CheckedReads()));
  for (it->Seek(SliceOf(first)); it->Valid(); it->Next()) {
    if (!visit(ViewOf(it->key()), ViewOf(it->value()))) break;
  }
  return Noted(ErrOf(it->status()));
}

}  // namespace hayloft
