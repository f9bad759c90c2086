// PosixDevice on a real folder: the contract of common/ports.h.
#include "common/io/posix_device.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include "common/io/files.h"
#include "tests/unit/temp_folder.h"

using namespace hayloft;

namespace {

std::unique_ptr<PosixDevice> Open(const TempFolder& folder) {
  auto device = PosixDevice::OpenFolder(folder.path());
  REQUIRE(device.ok());
  return *std::move(device);
}

std::string ReadText(Device* device, FileHandle file, uint64_t offset, size_t size) {
  std::string text(size, '?');
  REQUIRE_EQ(device->Read(file, offset, {reinterpret_cast<uint8_t*>(text.data()), size}), Err::kOk);
  return text;
}

}  // namespace

TEST_CASE("posix_device: files are created once, written in parts, read back, listed, removed") {
  const TempFolder folder;
  const auto device = Open(folder);
  const FileHandle file = *device->Create("blk-1");
  CHECK_EQ(device->Create("blk-1").err(), Err::kExists);
  CHECK_EQ(device->Open("blk-2").err(), Err::kNotFound);
  // More parts than one system call takes, some of them empty.
  std::vector<std::string> texts;
  std::string all;
  for (int i = 0; i < 2500; ++i) {
    texts.push_back(std::string(size_t(i % 7), char('a' + i % 26)));
    all += texts.back();
  }
  std::vector<Bytes> parts;
  for (const std::string& text : texts) parts.push_back(AsBytes(text));
  REQUIRE_EQ(device->Write(file, 100, parts), Err::kOk);
  REQUIRE_EQ(device->Sync(file), Err::kOk);
  CHECK_EQ(*device->Size(file), 100 + all.size());
  CHECK_EQ(ReadText(device.get(), file, 100, all.size()), all);
  REQUIRE_EQ(device->Rename("blk-1", "blk-3"), Err::kOk);
  REQUIRE_EQ(device->SyncDir(), Err::kOk);
  const auto files = device->List();
  REQUIRE(files.ok());
  REQUIRE_EQ(files->size(), 1);
  CHECK_EQ((*files)[0].name, "blk-3");
  CHECK_EQ((*files)[0].size_bytes, 100 + all.size());
  device->Close(file);
  CHECK_EQ(device->Remove("blk-3"), Err::kOk);
  CHECK_EQ(device->Remove("blk-3"), Err::kNotFound);
}

TEST_CASE("posix_device: a read across the end of the file is damage, not a short answer (F30)") {
  const TempFolder folder;
  const auto device = Open(folder);
  const FileHandle file = *device->Create("x");
  const std::vector<Bytes> parts = {AsBytes("0123456789")};
  REQUIRE_EQ(device->Write(file, 0, parts), Err::kOk);
  std::array<uint8_t, 8> out;
  CHECK_EQ(device->Read(file, 2, out), Err::kOk);
  CHECK_EQ(device->Read(file, 3, out), Err::kCorrupt);
  CHECK_EQ(device->ReadCached(file, 2, out), Err::kOk);  // just written: in memory
  CHECK_EQ(device->ReadCached(file, 3, out), Err::kBusy);
  device->Close(file);
}

TEST_CASE("posix_device: allocated space is there and reads as zeros; truncate gives it back") {
  const TempFolder folder;
  const auto device = Open(folder);
  const FileHandle file = *device->Create("x");
  REQUIRE_EQ(device->Allocate(file, 1 << 20), Err::kOk);
  CHECK_EQ(*device->Size(file), 1 << 20);
  CHECK_EQ(ReadText(device.get(), file, 1000, 3), std::string(3, '\0'));
  REQUIRE_EQ(device->Truncate(file, 10), Err::kOk);
  CHECK_EQ(*device->Size(file), 10);
  const auto space = device->Space();
  REQUIRE(space.ok());
  CHECK_GT(space->total_bytes, space->free_bytes);
  CHECK_GT(space->free_bytes, 0);
  device->Close(file);
}

TEST_CASE("posix_device: a folder has one owner at a time (F50)") {
  const TempFolder folder;
  auto first = Open(folder);
  auto second = Open(folder);
  CHECK_EQ(first->Lock(), Err::kOk);
  CHECK_EQ(second->Lock(), Err::kExists);
  first.reset();
  CHECK_EQ(second->Lock(), Err::kOk);
}

TEST_CASE("posix_device: a folder that is not there is not made (F51)") {
  const TempFolder folder;
  CHECK_EQ(PosixDevice::OpenFolder(folder / "none").err(), Err::kNotFound);
  CHECK_FALSE(FileExists(folder / "none"));
}

TEST_CASE("posix_device: without descriptors it is busy, not broken (F23)") {
  const TempFolder folder;
  const auto device = Open(folder);
  rlimit before{};
  REQUIRE_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 0;
  REQUIRE_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const Err created = device->Create("x").err();
  const Err listed = device->List().err();
  REQUIRE_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  CHECK_EQ(created, Err::kBusy);
  CHECK_EQ(listed, Err::kBusy);
  CHECK(device->Create("x").ok());
}
