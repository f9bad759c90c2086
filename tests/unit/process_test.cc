#include "common/io/process.h"

#include <doctest/doctest.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ctime>
#include <thread>

#include "common/io/files.h"

namespace hayloft {
namespace {

struct TempFolder {
  std::string path = [] {
    char name[] = "/tmp/hayloft-unit-XXXXXX";
    return std::string(mkdtemp(name));
  }();
  ~TempFolder() { (void)RunToEnd({"/bin/rm", "-rf", path}); }
};

Err Nothing(const ProcessId&) { return Err::kOk; }

// The end of a child, for which it waits up to 10 s.
Result<ChildExit> WaitForExit(int pid) {
  for (int i = 0; i < 10'000; ++i) {
    if (auto ended = ReapChild(pid); ended.ok()) return ended;
    const timespec ms{.tv_sec = 0, .tv_nsec = 1'000'000};
    nanosleep(&ms, nullptr);
  }
  return Err::kTimeout;
}

TEST_CASE("process: a started program has a session and folder of its own and nothing of ours") {
  TempFolder folder;
  const std::string log = folder.path + "/log";
  const char* script =
      "ls /proc/self/fd | wc -l; pwd; readlink /proc/self/fd/0; ps -o sid= -p $$ | tr -d ' '; "
      "echo $$";
  const Result<ProcessId> started = Spawn({"/bin/sh", "-c", script}, log, Nothing);
  REQUIRE(started.ok());
  const Result<ChildExit> ended = WaitForExit(started->pid);
  REQUIRE(ended.ok());
  CHECK_FALSE(ended->by_signal);
  CHECK_EQ(ended->value, 0);
  const std::string pid = std::to_string(started->pid);
  const Result<std::string> said = ReadWholeFile(log, 4096);
  REQUIRE(said.ok());
  CHECK_EQ(*said, "4\n/\n/dev/null\n" + pid + "\n" + pid + "\n");  // 4: ls's own folder handle
}

TEST_CASE("process: who is asked to look again before it can hear it goes on") {
  TempFolder folder;
  const auto started = Spawn({"/bin/sh", "-c", "kill -HUP $$; kill -USR1 $$; exit 7"},
                             folder.path + "/log", Nothing);
  REQUIRE(started.ok());
  const Result<ChildExit> ended = WaitForExit(started->pid);
  REQUIRE(ended.ok());
  CHECK_FALSE(ended->by_signal);
  CHECK_EQ(ended->value, 7);
}

TEST_CASE("process: a name ends with its process, by signal too") {
  TempFolder folder;
  const auto started = Spawn({"/bin/sleep", "100"}, folder.path + "/log", Nothing);
  REQUIRE(started.ok());
  CHECK(IsRunning(*started));
  CHECK_FALSE(IsRunning({.pid = started->pid, .started = "another"}));
  CHECK_EQ(ReapChild(started->pid).err(), Err::kNotFound);
  CHECK(Signal(*started, SIGKILL));
  const Result<ChildExit> ended = WaitForExit(started->pid);
  REQUIRE(ended.ok());
  CHECK(ended->by_signal);
  CHECK_EQ(ended->value, SIGKILL);
  CHECK_FALSE(IsRunning(*started));
  CHECK_FALSE(Signal(*started, SIGKILL));
}

TEST_CASE("process: whose first thread is gone runs as long as another has its sockets") {
  const pid_t pid = fork();
  if (pid == 0) {
    std::thread([] { pause(); }).detach();
    syscall(SYS_exit, 0);  // of this thread only
  }
  REQUIRE_GT(pid, 0);
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  const auto state = [&] {
    const Result<std::string> stat = ReadWholeFile(path, 4096);
    return stat.ok() ? stat->substr(stat->rfind(')') + 2, 1) : "none";
  };
  while (state() != "Z" && state() != "none") sched_yield();
  const ProcessId id = FindProcess(pid);
  CHECK_EQ(id.pid, pid);
  CHECK(IsRunning(id));
  CHECK_EQ(kill(pid, SIGKILL), 0);
  REQUIRE(WaitForExit(pid).ok());
  CHECK_FALSE(IsRunning(id));
}

TEST_CASE("process: a program whose name could not be written down is not run") {
  TempFolder folder;
  ProcessId recorded;
  const auto refuse = [&](const ProcessId& id) {
    recorded = id;
    return Err::kFull;
  };
  const auto started = Spawn({"/bin/touch", folder.path + "/ran"}, folder.path + "/log", refuse);
  CHECK_EQ(started.err(), Err::kFull);
  CHECK_GT(recorded.pid, 0);
  CHECK_FALSE(FileExists(folder.path + "/ran"));
  CHECK_FALSE(IsRunning(recorded));
}

TEST_CASE("process: a program that does not exist exits with 127 and says so in the log") {
  TempFolder folder;
  const auto started = Spawn({"/nowhere/program"}, folder.path + "/log", Nothing);
  REQUIRE(started.ok());
  const Result<ChildExit> ended = WaitForExit(started->pid);
  REQUIRE(ended.ok());
  CHECK_EQ(ended->value, 127);
  CHECK_EQ(ReadWholeFile(folder.path + "/log", 4096).value(), "E exec_failed\n");
}

TEST_CASE("files: a replaced file is whole, has its mode, and leaves nothing beside it") {
  TempFolder folder;
  REQUIRE_EQ(MakeFolders(folder.path + "/a/b"), Err::kOk);
  const std::string path = folder.path + "/a/b/secret";
  CHECK_EQ(ReadWholeFile(path, 10).err(), Err::kNotFound);
  CHECK_EQ(ReplaceFile(path, "one", 0600), Err::kOk);
  CHECK_EQ(ReplaceFile(path, "second", 0600), Err::kOk);
  CHECK_EQ(ReadWholeFile(path, 10).value(), "second");
  CHECK_EQ(ReadWholeFile(path, 5).err(), Err::kTooLarge);
  CHECK_EQ(ListFolder(folder.path + "/a/b").value(), std::vector<std::string>{"secret"});
  CHECK_EQ(MakeFolders(path), Err::kConfig);
}

TEST_CASE("files: a lock has one holder and ends with it") {
  TempFolder folder;
  CHECK_EQ(FileLock::IsTaken(folder.path + "/lock").value(), false);
  CHECK_FALSE(FileExists(folder.path + "/lock"));
  {
    const auto held = FileLock::Take(folder.path + "/lock");
    REQUIRE(held.ok());
    CHECK_EQ(FileLock::TryTake(folder.path + "/lock").err(), Err::kBusy);
    CHECK_EQ(FileLock::IsTaken(folder.path + "/lock").value(), true);
  }
  CHECK_EQ(FileLock::IsTaken(folder.path + "/lock").value(), false);
  CHECK(FileLock::TryTake(folder.path + "/lock").ok());
}

TEST_CASE("files: a lock whose file its holder removed is taken on the file that is there then") {
  TempFolder folder;
  const std::string path = folder.path + "/lock";
  {
    const auto held = FileLock::Take(path);
    REQUIRE(held.ok());
    REQUIRE_EQ(unlink(path.c_str()), 0);
  }
  const auto held = FileLock::Take(path);
  REQUIRE(held.ok());
  CHECK(FileExists(path));
  CHECK_EQ(FileLock::TryTake(path).err(), Err::kBusy);
}

TEST_CASE("files: a failure is told in the system's words") {
  TempFolder folder;
  std::string why;
  CHECK_EQ(ReadWholeFile(folder.path + "/none", 10, &why).err(), Err::kNotFound);
  CHECK_EQ(why, "No such file or directory");
  CHECK_FALSE(ReadWholeFile(folder.path, 10, &why).ok());
  CHECK_EQ(why, "Is a directory");
  CHECK_EQ(ReplaceFile(folder.path + "/none/file", "x", 0644, &why), Err::kNotFound);
  CHECK_EQ(why, "No such file or directory");
  CHECK_EQ(FileLock::Take(folder.path + "/none/lock", &why).err(), Err::kNotFound);
  CHECK_EQ(why, "No such file or directory");
  REQUIRE_EQ(ReplaceFile(folder.path + "/long", "12345"), Err::kOk);
  CHECK_EQ(ReadWholeFile(folder.path + "/long", 4, &why).err(), Err::kTooLarge);
  CHECK_EQ(why, "larger than 4 bytes");
}

}  // namespace
}  // namespace hayloft
