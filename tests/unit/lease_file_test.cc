// The coordinator of one machine: what its file holds, and what two processes may do with it.
#include "common/ha/lease_file.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <numeric>

#include "common/ha/lease_format.h"
#include "common/io/posix_device.h"
#include "common/io/system_clock.h"
#include "common/io/system_random.h"
#include "tests/sim/sim_device.h"
#include "tests/sim/sim_random.h"
#include "tests/unit/golden.h"
#include "tests/unit/lease_record.h"
#include "tests/unit/small_disk.h"
#include "tests/unit/temp_folder.h"

namespace hayloft {
namespace {

constexpr uint32_t kLongMs = 600'000;  // longer than a test

// The record on a simulated disk, the locks in a real folder.
struct LeaseBench {
  SimDevice disk{1};
  SimRandom random{4};
  TempFolder folder{TempFolder::Where::kMemory};
  void Kill() {
    disk.Crash(CrashMode::kKill);
    disk.Restart();
  }
  LeaseFile Process(uint32_t lease_ms = kLongMs, uint32_t timeout_ms = 1'000) {
    return {
        {.folder = folder.path(), .lease_ms = lease_ms, .timeout_ms = timeout_ms}, &disk, &random};
  }
  pb::StoredLease Stored() const { return DecodeLease(AsBytes(disk.FileImage("lease"))).value(); }
  // As a process of its own, after the last one was killed: claims the role for kNode.
  Result<uint64_t> Win(uint64_t epoch_above = 0) {
    Kill();
    LeaseFile lease = Process();
    TRY_ASSIGN(const CoordinatorView view, lease.Read());
    const pb::LeaseRecord record = RecordOf(kNode, std::max(view.record.epoch(), epoch_above) + 1);
    TRY(lease.Commit(record, view.version).err());
    return record.epoch();
  }
};

// Both on a real disk, of this process.
struct RealFile {
  explicit RealFile(const std::string& folder, uint32_t lease_ms = kLongMs,
                    uint32_t timeout_ms = 1'000)
      : device(*PosixDevice::OpenFolder(folder)),
        lease({.folder = folder, .lease_ms = lease_ms, .timeout_ms = timeout_ms}, device.get(),
              &random) {}
  SystemRandom random;
  std::unique_ptr<PosixDevice> device;
  LeaseFile lease;
};

pb::LeaseRecord GoldenRecord() {
  pb::LeaseRecord record = RecordOf(kNode, 41);
  record.set_identity("0123456789abcdef");
  record.set_log_position(1'000);
  return record;
}

TEST_CASE("lease_file: the golden bytes are what is written today, and are read") {
  pb::StoredLease lease;
  *lease.mutable_record() = GoldenRecord();
  lease.set_version(7);
  lease.set_ends_ms(300'000);
  lease.set_boot("4ec0c9a1-6f0b-4b6e-9f6f-0e2d1c3b5a79");
  const std::string golden = Golden("lease_v2.hex");
  CHECK_EQ(ToHex(AsBytes(EncodeLease(lease))), ToHex(AsBytes(golden)));
  const Result<pb::StoredLease> read = DecodeLease(AsBytes(golden));
  REQUIRE(read.ok());
  CHECK_EQ(read->SerializeAsString(), lease.SerializeAsString());
  for (size_t size = 0; size < golden.size(); ++size) {
    CHECK_EQ(DecodeLease(AsBytes(golden).first(size)).err(), Err::kCorrupt);
  }
}

TEST_CASE("lease_file: what versions without a second node wrote is a record without a lease") {
  const std::string golden = Golden("lease_v1.hex");
  const Result<pb::StoredLease> read = DecodeLease(AsBytes(golden));
  REQUIRE(read.ok());
  CHECK_EQ(read->record().SerializeAsString(), GoldenRecord().SerializeAsString());
  CHECK_EQ(read->version(), 1);
  CHECK_EQ(read->ends_ms(), 0);
  for (size_t size = 0; size < golden.size(); ++size) {
    CHECK_EQ(DecodeLease(AsBytes(golden).first(size)).err(), Err::kCorrupt);
  }
}

TEST_CASE("lease_file: while a lease lives nobody else commits; a released one is over at once") {
  LeaseBench bench;
  LeaseFile first = bench.Process();
  LeaseFile second = bench.Process();
  const Result<uint64_t> version = first.Commit(RecordOf(kNode, 1), 0);
  REQUIRE(version.ok());
  CHECK(second.Read()->held);
  CHECK_EQ(second.Commit(RecordOf(kOther, 2), *version).err(), Err::kExists);
  const Result<uint64_t> renewed = first.Commit(RecordOf(kNode, 1), *version);
  REQUIRE(renewed.ok());
  first.Release();
  CHECK_FALSE(second.Read()->held);
  CHECK_EQ(second.Read()->version, *renewed);
  CHECK(second.Commit(RecordOf(kOther, 2), *renewed).ok());
  first.Release();  // not its own any more
  CHECK(first.Read()->held);
}

TEST_CASE("lease_file: the holder's own process is no obstacle to it, its twin is") {
  LeaseBench bench;
  uint64_t version = 0;
  {
    LeaseFile before = bench.Process();
    version = before.Commit(RecordOf(kNode, 1), 0).value();
  }
  LeaseFile after = bench.Process();  // was started anew
  version = after.Commit(RecordOf(kNode, 2), version).value();
  LeaseFile twin = bench.Process(kLongMs, /*timeout_ms=*/20);  // of a copied folder
  CHECK_EQ(twin.Commit(RecordOf(kNode, 3), version).err(), Err::kExists);
  CHECK_EQ(twin.Read()->record.epoch(), 2);
}

TEST_CASE("lease_file: a change of the record leaves the lease as it is") {
  LeaseBench bench;
  {
    LeaseFile first = bench.Process();
    REQUIRE(first.Commit(RecordOf(kNode, 1), 0).ok());
  }
  const pb::StoredLease before = bench.Stored();
  LeaseFile holder = bench.Process(2 * kLongMs);
  uint64_t version = holder.Change(RecordOf(kNode, 2), before.version()).value();
  CHECK_EQ(bench.Stored().ends_ms(), before.ends_ms());
  CHECK_EQ(holder.Change(RecordOf(kNode, 3), before.version()).err(), Err::kExists);
  version = holder.Commit(RecordOf(kNode, 3), version).value();
  CHECK_GT(bench.Stored().ends_ms(), before.ends_ms());
  holder.Release();
  version = holder.Change(RecordOf(kNode, 4), version).value();
  CHECK_FALSE(holder.Read()->held);
  LeaseFile other = bench.Process();
  CHECK(other.Commit(RecordOf(kOther, 5), version).ok());
}

TEST_CASE("lease_file: another start of the machine ends all leases") {
  LeaseBench bench;
  LeaseFile first = bench.Process();
  const uint64_t version = first.Commit(RecordOf(kNode, 1), 0).value();
  pb::StoredLease lease = bench.Stored();
  CHECK_GT(lease.ends_ms(), 0);
  lease.set_boot("another");
  std::string changed = EncodeLease(lease);
  REQUIRE_EQ(bench.disk.Remove("lease"), Err::kOk);
  bench.disk.Close(bench.disk.Create("lease").value());
  bench.disk.SetBytes("lease", 0, AsBytes(changed));
  LeaseFile second = bench.Process();
  CHECK_FALSE(second.Read()->held);
  CHECK(second.Commit(RecordOf(kOther, 2), version).ok());
}

TEST_CASE("lease_file: a commit needs the version, and keeps the identity") {
  LeaseBench bench;
  LeaseFile lease = bench.Process();
  CHECK_EQ(lease.Read()->version, 0);
  CHECK_EQ(lease.Commit(RecordOf(kNode, 1), 5).err(), Err::kExists);
  const uint64_t version = lease.Commit(RecordOf(kNode, 1), 0).value();
  const std::string identity = lease.Read()->identity;
  CHECK_EQ(identity.size(), 16);
  CHECK_EQ(lease.Commit(RecordOf(kNode, 2), 0).err(), Err::kExists);
  const uint64_t next = lease.Commit(RecordOf(kNode, 2), version).value();
  CHECK_NE(next, version);
  CHECK_EQ(lease.Commit(RecordOf(kNode, 3), version).err(), Err::kExists);
  const Result<CoordinatorView> view = lease.Read();
  REQUIRE(view.ok());
  CHECK_EQ(view->version, next);
  CHECK_EQ(view->record.epoch(), 2);
  CHECK_EQ(view->identity, identity);
}

TEST_CASE("lease_file: a holder that was overtaken is told, F33") {
  LeaseBench bench;
  LeaseFile old_holder = bench.Process(/*lease_ms=*/0);
  const Result<uint64_t> version = old_holder.Commit(RecordOf(kNode, 1), 0);
  REQUIRE(version.ok());
  LeaseFile new_holder = bench.Process();
  REQUIRE(new_holder.Commit(RecordOf(kOther, 2), *version).ok());
  CHECK_EQ(old_holder.Commit(RecordOf(kNode, 1), *version).err(), Err::kExists);
}

TEST_CASE("lease_file: any damaged byte is noticed, and replaced only by an operator's word, F63") {
  LeaseBench bench;
  REQUIRE(bench.Win().ok());
  const size_t size = bench.disk.FileImage("lease").size();
  CHECK(size > 40);
  for (uint64_t at = 0; at < size; ++at) {
    bench.disk.FlipBit("lease", at, 4);
    CHECK_EQ(bench.Win().err(), Err::kCorrupt);
    if (at + 1 < size) bench.disk.FlipBit("lease", at, 4);
  }
  bench.Kill();
  {
    LeaseFile lease = bench.Process();
    CHECK_EQ(lease.Commit(RecordOf(kNode, 9), 1).err(), Err::kExists);
    CHECK(lease.Commit(RecordOf(kNode, 9), 0).ok());
  }
  CHECK_EQ(bench.Win().value(), 10);
}

TEST_CASE("lease_file: a power cut leaves the old record or the new one") {
  for (const CrashMode mode : {CrashMode::kClean, CrashMode::kTorn, CrashMode::kReordered}) {
    for (uint64_t operation = 1; operation < 12; ++operation) {
      LeaseBench bench;
      REQUIRE(bench.Win(/*epoch_above=*/10).ok());
      bench.Kill();
      bool won = false;
      {
        LeaseFile lease = bench.Process();
        const Result<CoordinatorView> view = lease.Read();
        REQUIRE(view.ok());
        bench.disk.CrashAtOperation(operation);
        won = lease.Commit(RecordOf(kNode, 12), view->version).ok();
      }
      bench.disk.Crash(mode);
      bench.disk.Restart();
      const Result<uint64_t> next = bench.Win();
      REQUIRE(next.ok());
      CHECK(*next > (won ? 12 : 11));
    }
  }
}

TEST_CASE("lease_file: a sync that failed is not tried again, of the file and of the folder") {
  for (const uint64_t after : {0, 1}) {
    LeaseBench bench;
    uint64_t epoch = 0;
    {
      LeaseFile lease = bench.Process();
      const uint64_t version = lease.Commit(RecordOf(kNode, 1), 0).value();
      bench.disk.FailNextSync(Err::kFull, after);
      CHECK_EQ(lease.Commit(RecordOf(kNode, 2), version).err(), Err::kIo);
      const Result<CoordinatorView> view = lease.Read();
      REQUIRE(view.ok());
      epoch = view->record.epoch();
      const uint64_t syncs = bench.disk.syncs();
      CHECK_EQ(lease.Commit(RecordOf(kNode, 3), view->version).err(), Err::kIo);
      lease.Release();
      CHECK_EQ(bench.disk.syncs(), syncs);
    }
    CHECK_EQ(bench.Win().value(), epoch + 1);
  }
}

TEST_CASE("lease_file: a full disk leaves the record as it was, and room is used when there is") {
  const SmallDisk disk("64k");
  if (!disk.mounted()) return;
  RealFile file(disk.path());
  LeaseFile& lease = file.lease;
  const uint64_t version = lease.Commit(RecordOf(kNode, 1), 0).value();
  const FileHandle filler = file.device->Create("filler").value();
  const std::string page(4096, 'x');
  const Bytes parts[] = {AsBytes(page)};
  uint64_t size = 0;
  while (file.device->Write(filler, size, parts) == Err::kOk) size += page.size();
  REQUIRE_GT(size, 0);
  CHECK_EQ(lease.Commit(RecordOf(kNode, 2), version).err(), Err::kFull);
  CHECK_EQ(lease.Read()->version, version);
  CHECK_EQ(lease.Read()->record.epoch(), 1);
  REQUIRE_EQ(file.device->Truncate(filler, 0), Err::kOk);
  CHECK(lease.Commit(RecordOf(kNode, 2), version).ok());
  file.device->Close(filler);
}

TEST_CASE("lease_file: on a read-only disk it is read and not changed") {
  const SmallDisk disk("64k");
  if (!disk.mounted()) return;
  RealFile file(disk.path());
  LeaseFile& lease = file.lease;
  const uint64_t version = [&] {
    RealFile before(disk.path());
    return before.lease.Commit(RecordOf(kNode, 1), 0).value();
  }();
  REQUIRE(disk.MakeReadOnly());
  const Result<CoordinatorView> view = lease.Read();
  REQUIRE(view.ok());
  CHECK_EQ(view->version, version);
  CHECK_FALSE(view->held);  // that it has died is seen here too
  CHECK_EQ(lease.Commit(RecordOf(kOther, 2), version).err(), Err::kReadOnly);
}

// --- Processes ---

// A process that does one thing and says so.
class Child {
 public:
  // `run` gets where to write a byte to when it has come so far.
  explicit Child(const std::function<void(int)>& run) {
    int ends[2];
    REQUIRE_EQ(pipe(ends), 0);
    pid_ = fork();
    if (pid_ == 0) {
      run(ends[1]);
      _exit(0);
    }
    close(ends[1]);
    out_ = ends[0];
  }
  ~Child() {
    Signal(SIGKILL);
    if (!ended_) waitpid(pid_, nullptr, 0);
    close(out_);
  }
  Child(const Child&) = delete;  // one owner of the process
  Child& operator=(const Child&) = delete;
  void Signal(int number) const {
    if (!ended_) kill(pid_, number);
  }
  // What it has said; waits for something, "" at its end.
  std::string Said() const {
    char text[65'536];
    const ssize_t got = read(out_, text, sizeof(text));
    return {text, static_cast<size_t>(std::max<ssize_t>(got, 0))};
  }
  void WaitFor(int options) {
    int status = 0;
    REQUIRE_EQ(waitpid(pid_, &status, options), pid_);
    ended_ = !WIFSTOPPED(status);
  }

 private:
  pid_t pid_ = 0;
  int out_ = -1;
  bool ended_ = false;
};

// Commits once as kNode, says so, and does nothing more.
std::function<void(int)> Holder(const TempFolder& folder, uint32_t lease_ms) {
  return [&folder, lease_ms](int out) {
    RealFile file(folder.path(), lease_ms);
    const bool won = file.lease.Commit(RecordOf(kNode, 1), 0).ok();
    if (write(out, won ? "1" : "0", 1) == 1) pause();
  };
}

TEST_CASE("lease_file: that its holder was killed is seen at once, however long its lease is") {
  TempFolder folder;
  Child holder(Holder(folder, kLongMs));
  REQUIRE_EQ(holder.Said(), "1");
  RealFile standby(folder.path(), kLongMs);
  const uint64_t version = standby.lease.Read()->version;
  CHECK(standby.lease.Read()->held);
  CHECK_EQ(standby.lease.Commit(RecordOf(kOther, 2), version).err(), Err::kExists);
  holder.Signal(SIGKILL);
  holder.WaitFor(0);
  CHECK_FALSE(standby.lease.Read()->held);
  CHECK(standby.lease.Commit(RecordOf(kOther, 2), version).ok());
}

TEST_CASE("lease_file: a holder that was stopped has its lease to the end, and no longer") {
  constexpr uint32_t kLeaseMs = 700;
  TempFolder folder;
  const uint64_t before_ms = SystemMonotonicMs();
  Child holder(Holder(folder, kLeaseMs));
  REQUIRE_EQ(holder.Said(), "1");
  holder.Signal(SIGSTOP);
  holder.WaitFor(WUNTRACED);
  const uint64_t begun_ms = SystemMonotonicMs();
  RealFile standby(folder.path(), kLeaseMs);
  const uint64_t version = standby.lease.Read()->version;
  Result<uint64_t> won = Err::kExists;
  while (won.err() == Err::kExists && SystemMonotonicMs() < begun_ms + 20'000) {
    won = standby.lease.Commit(RecordOf(kOther, 2), version);
  }
  REQUIRE(won.ok());
  CHECK_GE(SystemMonotonicMs(), before_ms + kLeaseMs);
  CHECK_GT(standby.lease.Read()->version, version);
}

TEST_CASE("lease_file: of two processes that commit at once one wins each of 1,000 versions") {
  constexpr uint64_t kRounds = 1'000;
  TempFolder folder(TempFolder::Where::kMemory);
  const auto compete = [&folder](const std::string& node) {
    return [&folder, node](int out) {
      RealFile file(folder.path(), /*lease_ms=*/0);
      uint64_t wins = 0;
      for (;;) {
        const Result<CoordinatorView> view = file.lease.Read();
        if (!view.ok() || view->record.epoch() >= kRounds) break;
        pb::LeaseRecord record = RecordOf(node, view->record.epoch() + 1);
        const Result<uint64_t> won = file.lease.Commit(record, view->version);
        if (won.ok()) ++wins;
        if (!won.ok() && won.err() != Err::kExists) break;
      }
      const std::string said = std::to_string(wins);
      if (write(out, said.data(), said.size()) < 0) _exit(1);
    };
  };
  Child one(compete(kNode));
  Child two(compete(kOther));
  const uint64_t wins[] = {std::stoull(one.Said()), std::stoull(two.Said())};
  CHECK_EQ(wins[0] + wins[1], kRounds);
  RealFile file(folder.path(), 0);
  CHECK_EQ(file.lease.Read()->record.epoch(), kRounds);
  MESSAGE("wins: ", wins[0], " and ", wins[1]);
}

TEST_CASE("lease_file: who was stopped in the middle of a commit holds others up for a time only") {
  TempFolder folder;
  RealFile file(folder.path(), kLongMs, /*timeout_ms=*/50);
  const uint64_t version = file.lease.Commit(RecordOf(kNode, 1), 0).value();
  {
    const auto lock = FileLock::Take(folder / "lease.lock");
    const uint64_t begun_ms = SystemMonotonicMs();
    CHECK_EQ(file.lease.Commit(RecordOf(kNode, 2), version).err(), Err::kTimeout);
    CHECK_LT(SystemMonotonicMs(), begun_ms + 10'000);
    CHECK_EQ(file.lease.Read()->version, version);
  }
  CHECK(file.lease.Commit(RecordOf(kNode, 2), version).ok());
}

}  // namespace
}  // namespace hayloft
