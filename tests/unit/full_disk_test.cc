// A disk that is full, and has room again (F22): a tmpfs of 1 MiB. Needs the right to mount.
#include <doctest/doctest.h>

#include <array>

#include "common/io/files.h"
#include "common/io/leveldb_kv.h"
#include "common/io/log_sink.h"
#include "common/io/posix_device.h"
#include "tests/unit/small_disk.h"

using namespace hayloft;

TEST_CASE(
    "full_disk: the device says full, keeps what it has, and goes on when there is room (F22)") {
  const SmallDisk disk("1m");
  if (!disk.mounted()) return;
  const auto device = *PosixDevice::OpenFolder(disk.path());
  const FileHandle first = *device->Create("a");
  const FileHandle second = *device->Create("b");
  CHECK_EQ(device->Allocate(first, 2 << 20), Err::kFull);
  const std::string half(512 << 10, 'x');
  const std::vector<Bytes> parts = {AsBytes(half)};
  REQUIRE_EQ(device->Truncate(first, 0), Err::kOk);
  REQUIRE_EQ(device->Write(first, 0, parts), Err::kOk);
  CHECK_EQ(device->Write(second, 4096, std::vector<Bytes>{AsBytes(half), AsBytes(half)}),
           Err::kFull);
  std::string read(half.size(), '?');
  CHECK_EQ(device->Read(first, 0, {reinterpret_cast<uint8_t*>(read.data()), read.size()}),
           Err::kOk);
  CHECK(read == half);
  REQUIRE_EQ(device->Remove("a"), Err::kOk);
  device->Close(first);
  CHECK_EQ(device->Write(second, 4096, parts), Err::kOk);
  device->Close(second);
}

TEST_CASE("full_disk: a store answers full, stays readable, and takes writes again (F22)") {
  const SmallDisk disk("2m");
  if (!disk.mounted()) return;
  auto kv = *LevelDbKv::Open(disk.path() + "/store", {.write_buffer_bytes = 64 << 10});
  const std::vector<Kv::Change> early = {{.key = "early", .value = "kept"}};
  REQUIRE_EQ(kv->Write(early, true), Err::kOk);
  REQUIRE_EQ(ReplaceFile(disk.path() + "/ballast", std::string(1 << 20, 'b')), Err::kOk);
  Err err = Err::kOk;
  uint64_t random = 7;
  for (int i = 0; i < 200 && err == Err::kOk; ++i) {
    std::string value(16 << 10, '\0');  // not compressible: LevelDB would make little of it
    for (char& c : value) c = char((random = random * 6364136223846793005 + 1) >> 56);
    err = kv->Write(std::vector<Kv::Change>{{.key = std::to_string(i), .value = value}}, true);
  }
  CHECK_EQ(err, Err::kFull);
  CHECK_EQ(*kv->Get("early"), "kept");
  const std::vector<Kv::Change> late = {{.key = "late", .value = "taken"}};
  CHECK_EQ(kv->Write(late, true), Err::kFull);
  REQUIRE(std::filesystem::remove(disk.path() + "/ballast"));
  CHECK_EQ(kv->Write(late, true), Err::kOk);
  CHECK_EQ(*kv->Get("late"), "taken");
  CHECK_EQ(*kv->Get("early"), "kept");
}

TEST_CASE("full_disk: a log that cannot be written loses lines and nothing else (F22, S23)") {
  const SmallDisk disk("64k");
  if (!disk.mounted()) return;
  REQUIRE_EQ(StartLog(disk.path() + "/x.log", LogLevel::kInfo), Err::kOk);
  for (int i = 0; i < 400; ++i) {
    const std::string event = "event" + std::to_string(i);
    LOG_INFO(event.c_str(), "filler=%s", std::string(900, 'x').c_str());
  }
  StopLog();
  SetLogSink([](LogLevel, std::string_view) {}, LogLevel::kDebug);
  CHECK_LE(std::filesystem::file_size(disk.path() + "/x.log"), 64 << 10);
}
