#include "tests/sim/sim_device.h"

#include <algorithm>

namespace hayloft {

namespace {

uint64_t PagesOf(uint64_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes; }

// Writes into the page map without asking what was synced.
void PutBytes(std::vector<std::unique_ptr<std::array<uint8_t, kPageBytes>>>* pages, uint64_t offset,
              Bytes bytes) {
  if (pages->size() < PagesOf(offset + bytes.size())) {
    pages->resize(PagesOf(offset + bytes.size()));
  }
  while (!bytes.empty()) {
    auto& page = (*pages)[offset / kPageBytes];
    if (page == nullptr) page = std::make_unique<std::array<uint8_t, kPageBytes>>();  // zeroed
    const uint64_t in_page = offset % kPageBytes;
    const size_t count = std::min<size_t>(bytes.size(), kPageBytes - in_page);
    std::memcpy(page->data() + in_page, bytes.data(), count);
    bytes = bytes.subspan(count);
    offset += count;
  }
}

}  // namespace

SimDevice::SimDevice(uint64_t seed, uint64_t total_bytes, SimPower* power)
    : random_(seed), power_(power != nullptr ? power : &own_power_), total_bytes_(total_bytes) {}

// --- Device -----------------------------------------------------------------------------------

Err SimDevice::CheckAlive() const { return power_->off() ? Err::kIo : Err::kOk; }

Err SimDevice::TakeSyncFault() {
  if (fail_sync_ == Err::kOk) return Err::kOk;
  if (fail_sync_after_ > 0) {
    --fail_sync_after_;
    return Err::kOk;
  }
  return std::exchange(fail_sync_, Err::kOk);
}

bool SimDevice::LiesAbout(const Inode* inode) const {
  if (!lying_sync_) return false;
  return std::any_of(directory_.begin(), directory_.end(), [&](const auto& entry) {
    return inodes_.at(entry.second).get() == inode && entry.first.starts_with(lying_prefix_);
  });
}

Err SimDevice::CheckWritable() const {
  TRY(CheckAlive());
  return read_only_ ? Err::kReadOnly : Err::kOk;
}

SimDevice::Inode* SimDevice::Find(FileHandle file) {
  const auto found = handles_.find(file.number);
  ASSERT(found != handles_.end());  // closed, or of a former life of the process
  return inodes_.at(found->second).get();
}

SimDevice::Inode* SimDevice::Find(std::string_view name) const {
  const auto found = directory_.find(name);
  ASSERT(found != directory_.end());
  return inodes_.at(found->second).get();
}

Result<FileHandle> SimDevice::Create(std::string_view name) {
  ASSERT(!name.empty());
  TRY(CheckWritable());
  if (directory_.contains(name)) return Err::kExists;
  const uint64_t inode = next_inode_++;
  inodes_[inode] = std::make_unique<Inode>();
  const bool alive = ChangeDirectory({.from = "", .to = std::string(name), .inode = inode});
  if (!alive) return Err::kIo;
  return Open(name);
}

Result<FileHandle> SimDevice::Open(std::string_view name) {
  TRY(CheckAlive());
  const auto found = directory_.find(name);
  if (found == directory_.end()) return Err::kNotFound;
  const FileHandle file{next_handle_++};
  handles_[file.number] = found->second;
  return file;
}

void SimDevice::Close(FileHandle file) {
  ASSERT(file.valid());
  if (handles_.erase(file.number) == 0) {
    ASSERT(file.number < first_handle_of_life_);  // closed twice
    return;
  }
  DropUnreferenced();
}

Result<uint64_t> SimDevice::Size(FileHandle file) {
  TRY(CheckAlive());
  return Find(file)->size;
}

Err SimDevice::Read(FileHandle file, uint64_t offset, MutableBytes out) {
  TRY(CheckAlive());
  const Inode* inode = Find(file);
  ++reads_;
  for (const BadRead& bad : bad_reads_) {
    if (inodes_.at(bad.inode).get() != inode) continue;
    if (offset < bad.range.end && offset + out.size() > bad.range.begin) return bad.err;
  }
  return CopyOut(*inode, offset, out);
}

Err SimDevice::ReadCached(FileHandle file, uint64_t offset, MutableBytes out) {
  TRY(CheckAlive());
  if (uncached_percent_ > 0 && random_.Chance(uncached_percent_)) return Err::kBusy;
  return Read(file, offset, out);
}

Err SimDevice::CopyOut(const Inode& inode, uint64_t offset, MutableBytes out) const {
  if (offset > inode.size || out.size() > inode.size - offset) return Err::kCorrupt;
  while (!out.empty()) {
    const uint64_t page = offset / kPageBytes;
    const uint64_t in_page = offset % kPageBytes;
    const size_t count = std::min<size_t>(out.size(), kPageBytes - in_page);
    if (page < inode.pages.size() && inode.pages[page] != nullptr) {
      std::memcpy(out.data(), inode.pages[page]->data() + in_page, count);
    } else {
      std::memset(out.data(), 0, count);
    }
    out = out.subspan(count);
    offset += count;
  }
  return Err::kOk;
}

Err SimDevice::Write(FileHandle file, uint64_t offset, std::span<const Bytes> parts) {
  TRY(CheckWritable());
  Inode* inode = Find(file);
  std::string bytes;
  for (Bytes part : parts) bytes += AsText(part);
  const uint64_t needed = NewPages(*inode, {offset, offset + bytes.size()}) * kPageBytes;
  if (needed > 0 && used_bytes_ + needed > total_bytes_) return Err::kFull;
  if (!power_->Operate()) {
    // Killed inside the call: nothing, a part, or all of it.
    const uint64_t part[] = {0, random_.Below(bytes.size() + 1), bytes.size()};
    Store(inode, offset, AsBytes(bytes).first(part[random_.Below(3)]));
    return Err::kIo;
  }
  const Err err = std::exchange(fail_write_, Err::kOk);
  if (err != Err::kOk) {
    StoreSomeSectors(inode, offset, AsBytes(bytes));
    return err;
  }
  Store(inode, offset, AsBytes(bytes));
  return Err::kOk;
}

// How many pages of the range a write would have to take from the free space.
uint64_t SimDevice::NewPages(const Inode& inode, Range range) const {
  uint64_t count = 0;
  const uint64_t begin = std::max(range.begin, inode.allocated) / kPageBytes;
  for (uint64_t page = begin; page < PagesOf(range.end); ++page) {
    count += page >= inode.pages.size() || inode.pages[page] == nullptr;
  }
  return count;
}

void SimDevice::Store(Inode* inode, uint64_t offset, Bytes bytes) {
  if (bytes.empty()) return;
  const uint64_t end = offset + bytes.size();
  for (uint64_t page = offset / kPageBytes; page < PagesOf(end); ++page) KeepSynced(inode, page);
  const uint64_t added = NewPages(*inode, {offset, end}) * kPageBytes;
  inode->charged += added;
  used_bytes_ += added;
  PutBytes(&inode->pages, offset, bytes);
  inode->size = std::max(inode->size, end);
  inode->changes.push_back(
      {.offset = offset, .bytes = std::string(AsText(bytes)), .size = inode->size});
}

void SimDevice::StoreSomeSectors(Inode* inode, uint64_t offset, Bytes bytes) {
  while (!bytes.empty()) {
    const size_t count = std::min<size_t>(bytes.size(), kSectorBytes - offset % kSectorBytes);
    if (random_.Chance(50)) Store(inode, offset, bytes.first(count));
    bytes = bytes.subspan(count);
    offset += count;
  }
}

// Remembers what the medium holds of a page that is about to change.
void SimDevice::KeepSynced(Inode* inode, uint64_t page) {
  inode->lost.erase(page);  // written again: the next sync takes the whole page along
  const auto [place, inserted] = inode->synced.try_emplace(page);
  if (!inserted) return;
  if (page < inode->pages.size() && inode->pages[page] != nullptr) {
    place->second = std::make_unique<Page>(*inode->pages[page]);
  }
}

Err SimDevice::Sync(FileHandle file) {
  TRY(CheckWritable());
  Inode* inode = Find(file);
  ++syncs_;
  const bool alive = power_->Operate();
  if (!alive && random_.Chance(50)) return Err::kIo;
  const Err err = TakeSyncFault();
  if (err != Err::kOk) {
    for (const auto& [page, before] : inode->synced) {
      if (random_.Chance(50)) inode->lost.insert(page);
    }
  } else if (LiesAbout(inode)) {
    return Err::kOk;
  }
  std::erase_if(inode->synced, [&](const auto& row) { return !inode->lost.contains(row.first); });
  inode->changes.clear();
  inode->synced_size = inode->size;
  if (!alive) return Err::kIo;
  return err;
}

Err SimDevice::Allocate(FileHandle file, uint64_t size_bytes) {
  return Resize(file, size_bytes, /*allocate=*/true);
}

Err SimDevice::Truncate(FileHandle file, uint64_t size_bytes) {
  return Resize(file, size_bytes, /*allocate=*/false);
}

Err SimDevice::Resize(FileHandle file, uint64_t size_bytes, bool allocate) {
  TRY(CheckWritable());
  Inode* inode = Find(file);
  const uint64_t reserved = PagesOf(size_bytes) * kPageBytes;
  if (allocate) {
    const uint64_t holes = NewPages(*inode, {0, size_bytes}) * kPageBytes;
    if (holes > 0 && used_bytes_ + holes > total_bytes_) return Err::kFull;
  }
  const bool alive = power_->Operate();
  if (!alive && random_.Chance(50)) return Err::kIo;
  if (allocate) {
    size_bytes = std::max(size_bytes, inode->size);
    inode->allocated = std::max(inode->allocated, reserved);
  } else {
    for (uint64_t page = size_bytes / kPageBytes; page < inode->pages.size(); ++page) {
      KeepSynced(inode, page);
    }
    inode->allocated = std::min(inode->allocated, reserved);
  }
  SetSize(inode, size_bytes);
  inode->changes.push_back({.resize = true, .size = size_bytes});
  Recharge(inode);
  return alive ? Err::kOk : Err::kIo;
}

// Cuts what lies behind the new end, so that a later growth shows zeros there.
void SimDevice::SetSize(Inode* inode, uint64_t size_bytes) {
  inode->size = size_bytes;
  if (inode->pages.size() > PagesOf(size_bytes)) inode->pages.resize(PagesOf(size_bytes));
  const uint64_t in_page = size_bytes % kPageBytes;
  if (in_page == 0 || inode->pages.size() < PagesOf(size_bytes)) return;
  PagePtr& last = inode->pages.back();
  if (last != nullptr) std::memset(last->data() + in_page, 0, kPageBytes - in_page);
}

void SimDevice::Recharge(Inode* inode) {
  used_bytes_ -= inode->charged;
  inode->charged = inode->allocated;
  for (uint64_t page = inode->allocated / kPageBytes; page < inode->pages.size(); ++page) {
    if (inode->pages[page] != nullptr) inode->charged += kPageBytes;
  }
  used_bytes_ += inode->charged;
}

Err SimDevice::Rename(std::string_view from, std::string_view to) {
  ASSERT(!to.empty());
  TRY(CheckWritable());
  const auto found = directory_.find(from);
  if (found == directory_.end()) return Err::kNotFound;
  const DirectoryChange change{std::string(from), std::string(to), found->second};
  return ChangeDirectory(change) ? Err::kOk : Err::kIo;
}

Err SimDevice::Remove(std::string_view name) {
  TRY(CheckWritable());
  const auto found = directory_.find(name);
  if (found == directory_.end()) return Err::kNotFound;
  const DirectoryChange change{std::string(name), "", found->second};
  return ChangeDirectory(change) ? Err::kOk : Err::kIo;
}

// False when the process died in it.
bool SimDevice::ChangeDirectory(DirectoryChange change) {
  const bool alive = power_->Operate();
  if (!alive && random_.Chance(50)) return false;
  Apply(change, &directory_);
  directory_changes_.push_back(std::move(change));
  return alive;
}

void SimDevice::Apply(const DirectoryChange& change, Directory* directory) {
  const auto from = directory->find(change.from);
  if (from != directory->end() && from->second == change.inode) directory->erase(from);
  if (!change.to.empty()) (*directory)[change.to] = change.inode;
}

Err SimDevice::SyncDir() {
  TRY(CheckWritable());
  ++syncs_;
  const bool alive = power_->Operate();
  if (!alive && random_.Chance(50)) return Err::kIo;
  const Err err = TakeSyncFault();
  if (err != Err::kOk) return err;
  if (lying_sync_ && lying_prefix_.empty()) return Err::kOk;
  synced_directory_ = directory_;
  directory_changes_.clear();
  DropUnreferenced();
  return alive ? Err::kOk : Err::kIo;
}

Result<std::vector<FileInfo>> SimDevice::List() {
  TRY(CheckAlive());
  std::vector<FileInfo> files;
  for (const auto& [name, inode] : directory_) files.push_back({name, inodes_.at(inode)->size});
  return files;
}

Result<SpaceInfo> SimDevice::Space() {
  TRY(CheckAlive());
  return SpaceInfo{total_bytes_, total_bytes_ - std::min(total_bytes_, used_bytes_)};
}

Err SimDevice::Lock() {
  TRY(CheckAlive());
  if (locked_ || locked_by_other_) return Err::kExists;
  locked_ = true;
  return Err::kOk;
}

// --- Death ------------------------------------------------------------------------------------

void SimDevice::Crash(CrashMode mode) {
  power_->Cut();
  handles_.clear();
  first_handle_of_life_ = next_handle_;
  locked_ = false;
  if (mode == CrashMode::kKill) {
    DropUnreferenced();
    return;
  }
  CrashDirectory(mode);
  for (auto& [number, inode] : inodes_) CrashInode(inode.get(), mode);
  DropUnreferenced();
}

void SimDevice::Restart() { power_->Restore(); }

void SimDevice::CrashDirectory(CrashMode mode) {
  size_t in_journal = 0;
  if (mode == CrashMode::kTorn) in_journal = random_.Below(directory_changes_.size() + 1);
  for (size_t i = 0; i < directory_changes_.size(); ++i) {
    const bool survives = mode == CrashMode::kReordered ? random_.Chance(50) : i < in_journal;
    if (survives) Apply(directory_changes_[i], &synced_directory_);
  }
  directory_changes_.clear();
  directory_ = synced_directory_;
}

void SimDevice::CrashInode(Inode* inode, CrashMode mode) {
  std::vector<Change> changes = std::exchange(inode->changes, {});
  for (auto& [page, before] : inode->synced) {
    if (page >= inode->pages.size()) inode->pages.resize(page + 1);
    inode->pages[page] = std::move(before);
  }
  inode->synced.clear();
  inode->lost.clear();
  SetSize(inode, inode->synced_size);
  if (mode == CrashMode::kReordered) {
    for (size_t i = changes.size(); i > 1; --i) {
      std::swap(changes[i - 1], changes[random_.Below(i)]);
    }
  }
  if (mode != CrashMode::kClean) {
    for (const Change& change : changes) Survive(inode, change, mode);
  }
  // What reached the medium without a sync is as durable as the rest from now on.
  inode->synced_size = inode->size;
  inode->allocated = std::min(inode->allocated, PagesOf(inode->size) * kPageBytes);
  Recharge(inode);
}

// One unsynced change reaches the medium: by chance, and when torn only some of its sectors.
void SimDevice::Survive(Inode* inode, const Change& change, CrashMode mode) {
  if (mode == CrashMode::kReordered || change.resize) {
    if (random_.Chance(50)) return;
    if (change.resize) return SetSize(inode, change.size);
    PutBytes(&inode->pages, change.offset, AsBytes(change.bytes));
    inode->size = std::max(inode->size, change.offset + change.bytes.size());
    return;
  }
  ASSERT(mode == CrashMode::kTorn);
  uint64_t offset = change.offset;
  Bytes rest = AsBytes(change.bytes);
  const uint64_t percent = random_.Below(101);  // some writes get in whole, some not at all
  while (!rest.empty()) {
    const size_t count = std::min<size_t>(rest.size(), kSectorBytes - offset % kSectorBytes);
    if (random_.Chance(percent)) {
      PutBytes(&inode->pages, offset, rest.first(count));
      inode->size = std::max(inode->size, offset + count);
    }
    rest = rest.subspan(count);
    offset += count;
  }
  // The length may reach the medium without the bytes: then there are zeros.
  if (random_.Chance(25)) inode->size = std::max(inode->size, offset);
}

void SimDevice::DropUnreferenced() {
  std::set<uint64_t> used;
  for (const auto& [name, inode] : directory_) used.insert(inode);
  for (const auto& [name, inode] : synced_directory_) used.insert(inode);
  for (const DirectoryChange& change : directory_changes_) used.insert(change.inode);
  for (const auto& [handle, inode] : handles_) used.insert(inode);
  std::erase_if(bad_reads_, [&](const BadRead& bad) { return !used.contains(bad.inode); });
  std::erase_if(inodes_, [&](const auto& row) {
    if (used.contains(row.first)) return false;
    used_bytes_ -= row.second->charged;
    return true;
  });
}

uint64_t SimDevice::UnsyncedBytes() const {
  uint64_t bytes = 0;
  for (const auto& [number, inode] : inodes_) {
    for (const Change& change : inode->changes) bytes += change.bytes.size();
  }
  return bytes;
}

// --- Hands on the medium ----------------------------------------------------------------------

void SimDevice::FailReads(std::string_view name, Range range, Err err) {
  ASSERT(err != Err::kOk);
  const auto found = directory_.find(name);
  ASSERT(found != directory_.end());
  bad_reads_.push_back({found->second, range, err});
}

void SimDevice::FlipBit(std::string_view name, uint64_t offset, uint32_t bit) {
  ASSERT(bit < 8);
  Inode* inode = Find(name);
  uint8_t byte = 0;
  ASSERT(CopyOut(*inode, offset, {&byte, 1}) == Err::kOk);
  byte = static_cast<uint8_t>(byte ^ (1u << bit));
  SetBytes(name, offset, {&byte, 1});
}

void SimDevice::SetBytes(std::string_view name, uint64_t offset, Bytes bytes) {
  Inode* inode = Find(name);
  PutBytes(&inode->pages, offset, bytes);
  inode->size = std::max(inode->size, offset + bytes.size());
  inode->synced_size = std::max(inode->synced_size, offset + bytes.size());
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto kept = inode->synced.find((offset + i) / kPageBytes);
    if (kept == inode->synced.end()) continue;
    if (kept->second == nullptr) kept->second = std::make_unique<Page>();
    (*kept->second)[(offset + i) % kPageBytes] = bytes[i];
  }
  Recharge(inode);
}

std::string SimDevice::FileImage(std::string_view name) const {
  const Inode* inode = Find(name);
  std::string image(inode->size, '\0');
  ASSERT(CopyOut(*inode, 0, {reinterpret_cast<uint8_t*>(image.data()), image.size()}) == Err::kOk);
  return image;
}

}  // namespace hayloft
