// Starting other processes so that nothing ties them to us, and telling later whether they run.
//
// A pid alone names a process only until the system gives the number again, so a process is named
// by its pid and the time of its start. The name is written down before the process runs its own
// program: whoever starts and dies at once leaves no process that its successor does not know of.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/io/unique_fd.h"
#include "common/result.h"

namespace hayloft {

struct ProcessId {
  int pid = 0;          // 0: none
  std::string started;  // boot and clock ticks since then; equal for one process only
  friend bool operator==(const ProcessId&, const ProcessId&) = default;
};

// How a child ended.
struct ChildExit {
  bool by_signal = false;
  int value = 0;  // exit code or signal
};

// Starts argv[0] in a session of its own, in folder "/", with no descriptor of ours: stdin is
// /dev/null, stdout and stderr are appended to `log_file` (what a sanitizer or an assertion says).
// SIGHUP and SIGUSR1 are ignored until it handles them.
// `record` gets the name first; when it fails, so does Spawn and the program is not run. kConfig
// when the log cannot be opened, kBusy when the system has no room for a process. A program that
// cannot be run exits with 127.
Result<ProcessId> Spawn(const std::vector<std::string>& argv, const std::string& log_file,
                        const std::function<Err(const ProcessId&)>& record);

// Runs argv to its end with our own stderr; what it prints is dropped, as our stdout is for our own
// result. -1 when it could not be started or was killed.
int RunToEnd(const std::vector<std::string>& argv);

// The name of a process that runs now; pid 0 when there is none. A zombie does not run
// unless threads of it are left: those still have its sockets and locks.
ProcessId FindProcess(int pid);
inline bool IsRunning(const ProcessId& id) { return id.pid > 0 && FindProcess(id.pid) == id; }

// A running process whose program has this file name and that was given this argument; pid 0 when
// there is none.
ProcessId FindProcessOf(const std::string& program, const std::string& argument);

// Holds a name that one process of this machine can have at a time, until the descriptor is closed
// or the process ends. kExists when another has it.
Result<UniqueFd> TakeMachineName(const std::string& name);

// Sends the signal if that process still runs; false if it does not.
bool Signal(const ProcessId& id, int signal_number);

// The end of a child of ours, kNotFound while it runs or if it is none of ours. Reaps it.
Result<ChildExit> ReapChild(int pid);

// The folder of the running binary: Hayloft's programs find each other beside themselves.
std::string OwnBinaryFolder();

}  // namespace hayloft
