#include "common/io/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "common/io/files.h"
#include "common/io/unique_fd.h"

namespace hayloft {

namespace {

constexpr int kExitNotRun = 127;  // as a shell says it
constexpr uint64_t kCommandLineBytesMax = 1 << 20;
constexpr uint64_t kProcFileBytesMax = 64 << 10;

std::vector<char*> Pointers(const std::vector<std::string>& argv) {
  std::vector<char*> pointers;
  for (const std::string& arg : argv) pointers.push_back(const_cast<char*>(arg.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// What a child inherits from us and must not keep: handlers and masks of a server's loop. Signals
// that ask a server to look again don't end one that has no handler yet.
void ResetSignals() {
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  signal(SIGHUP, SIG_IGN);
  signal(SIGUSR1, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// In the child of a process with threads: system calls only, no allocation.
[[noreturn]] void BecomeProgram(char* const* argv, int null_fd, int log_fd, int gate_fd) {
  char go = 0;
  if (read(gate_fd, &go, 1) != 1) _exit(kExitNotRun);  // its name was not written down
  ResetSignals();
  if (setsid() < 0 || chdir("/") != 0 || dup2(null_fd, 0) < 0 || dup2(log_fd, 1) < 0 ||
      dup2(log_fd, 2) < 0 || close_range(3, ~0u, 0) != 0) {
    _exit(kExitNotRun);
  }
  execv(argv[0], argv);
  constexpr std::string_view kText = "E exec_failed\n";
  if (write(2, kText.data(), kText.size()) < 0) _exit(kExitNotRun);
  _exit(kExitNotRun);
}

}  // namespace

Result<ProcessId> Spawn(const std::vector<std::string>& argv, const std::string& log_file,
                        const std::function<Err(const ProcessId&)>& record) {
  ASSERT(!argv.empty());
  const UniqueFd null_fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd log_fd(open(log_file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
  if (!null_fd.valid() || !log_fd.valid()) return Err::kConfig;
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return Err::kBusy;
  const UniqueFd gate(pipe_fds[0]);
  UniqueFd opener(pipe_fds[1]);
  const std::vector<char*> pointers = Pointers(argv);
  const pid_t pid = fork();
  if (pid < 0) return Err::kBusy;
  if (pid == 0) {
    close(opener.get());  // else the child would hold its own gate open
    BecomeProgram(pointers.data(), null_fd.get(), log_fd.get(), gate.get());
  }
  const ProcessId id = FindProcess(pid);
  Err err = id.pid == 0 ? Err::kBusy : record(id);
  if (err == Err::kOk && write(opener.get(), "!", 1) != 1) err = Err::kBusy;
  if (err == Err::kOk) return id;
  opener.Reset();  // the child reads the end of the pipe and leaves
  waitpid(pid, nullptr, 0);
  return err;
}

int RunToEnd(const std::vector<std::string>& argv) {
  ASSERT(!argv.empty());
  const std::vector<char*> pointers = Pointers(argv);
  const UniqueFd null_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
  if (!null_fd.valid()) return -1;
  const pid_t pid = fork();
  if (pid == 0) {
    if (dup2(null_fd.get(), 1) < 0) _exit(kExitNotRun);
    execv(pointers[0], pointers.data());
    _exit(kExitNotRun);
  }
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

ProcessId FindProcess(int pid) {
  if (pid <= 0) return {};
  const Result<std::string> stat =
      ReadWholeFile("/proc/" + std::to_string(pid) + "/stat", kProcFileBytesMax);
  const Result<std::string> boot =
      ReadWholeFile("/proc/sys/kernel/random/boot_id", kProcFileBytesMax);
  if (!stat.ok() || !boot.ok()) return {};
  // "pid (name) state ppid ...": the name may hold anything, so count from its last bracket. The
  // state is field 3, the number of threads field 20, the start time field 22.
  std::string_view rest = *stat;
  rest.remove_prefix(std::min(rest.size(), rest.rfind(')') + 2));
  const char state = rest.empty() ? 'X' : rest.front();
  const auto skip = [&rest](int fields) {
    for (; fields > 0; --fields) rest.remove_prefix(std::min(rest.size(), rest.find(' ') + 1));
  };
  skip(17);
  const std::string_view threads = rest.substr(0, rest.find(' '));
  // The first thread may be gone while others still hold the sockets and locks of all.
  const bool last = threads == "1" || threads == "0";
  if (state == 'X' || rest.empty() || (state == 'Z' && last)) return {};
  skip(2);
  return {pid, boot->substr(0, 8) + "-" + std::string(rest.substr(0, rest.find(' ')))};
}

ProcessId FindProcessOf(const std::string& program, const std::string& argument) {
  const Result<std::vector<std::string>> entries = ListFolder("/proc");
  if (!entries.ok()) return {};
  const std::string wanted = std::string(1, '\0') + argument + std::string(1, '\0');
  for (const std::string& entry : *entries) {
    const int pid = std::atoi(entry.c_str());
    if (pid <= 0) continue;
    // Arguments, each with a zero byte behind it; a kernel thread has none.
    const auto line = ReadWholeFile("/proc/" + entry + "/cmdline", kCommandLineBytesMax);
    if (!line.ok() || line->find(wanted) == std::string::npos) continue;
    const std::string first = line->substr(0, line->find('\0'));
    if (first.substr(first.rfind('/') + 1) != program) continue;
    if (const ProcessId id = FindProcess(pid); id.pid > 0) return id;
  }
  return {};
}

// An abstract socket: a name without a file, which the system takes back by itself.
Result<UniqueFd> TakeMachineName(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT(name.size() + 1 < sizeof(address.sun_path));
  std::copy(name.begin(), name.end(), address.sun_path + 1);
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Err::kBusy;
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0) return fd;
  return errno == EADDRINUSE ? Err::kExists : Err::kBusy;
}

bool Signal(const ProcessId& id, int signal_number) {
  return IsRunning(id) && kill(id.pid, signal_number) == 0;
}

Result<ChildExit> ReapChild(int pid) {
  int status = 0;
  if (pid <= 0 || waitpid(pid, &status, WNOHANG) != pid) return Err::kNotFound;
  if (WIFSIGNALED(status)) return ChildExit{.by_signal = true, .value = WTERMSIG(status)};
  return ChildExit{.by_signal = false, .value = WEXITSTATUS(status)};
}

std::string OwnBinaryFolder() {
  char path[4096];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof(path));
  ASSERT(size > 0);
  const std::string_view text(path, static_cast<size_t>(size));
  return std::string(text.substr(0, text.rfind('/')));
}

}  // namespace hayloft
