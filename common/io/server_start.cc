#include "common/io/server_start.h"

#include <malloc.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "common/io/files.h"
#include "common/io/rpc_handshake.h"

namespace hayloft {

namespace {
constexpr uint64_t kClusterKeyFileBytesMax = 4096;
// A turn's worth of images comes and goes hundreds of times a second. By its defaults glibc gives
// their memory back each time (from 128 KiB on), and every next turn pays for it in page faults: a
// third of a 64 KiB GET. An arena may keep so much free at its end, and single pieces of memory
// above the other bound still go back at once.
constexpr int kKeptFreeBytes = 16 << 20;
constexpr int kMappedAloneBytes = 4 << 20;

void KeepFreedMemory() {
  (void)mallopt(M_TRIM_THRESHOLD, kKeptFreeBytes);
  (void)mallopt(M_MMAP_THRESHOLD, kMappedAloneBytes);
}
}  // namespace

void PrepareProcess() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);  // with fewer it still works, and says so when it ends
  }
  const rlimit none{};
  (void)setrlimit(RLIMIT_CORE, &none);  // lowering a limit cannot fail
  (void)std::signal(SIGPIPE, SIG_IGN);
  KeepFreedMemory();
}

uint64_t OpenFilesMax() {
  rlimit files{};
  return getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur : 1024;
}

bool IsOpenToOthers(const std::string& path, mode_t mode) {
  const char* credentials = std::getenv("CREDENTIALS_DIRECTORY");
  const bool is_credential =
      credentials != nullptr && path.starts_with(std::string(credentials) + "/");
  return (mode & (is_credential ? 037 : 077)) != 0;
}

Result<std::string> ReadSecretFile(const std::string& path, uint64_t size_bytes_max,
                                   std::string* why) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    *why = "cannot read " + path + ": " + ErrnoText(errno);
    return Err::kConfig;
  }
  if (IsOpenToOthers(path, info.st_mode)) {
    *why = path + " is open to other users; chmod 600";
    return Err::kConfig;
  }
  Result<std::string> text = ReadWholeFile(path, size_bytes_max, why);
  if (text.ok()) return text;
  why->insert(0, "cannot read " + path + ": ");
  return Err::kConfig;
}

Result<std::string> ReadClusterKey(const std::string& path, std::string* why) {
  if (path.empty()) return std::string();
  Result<std::string> text = ReadSecretFile(path, kClusterKeyFileBytesMax, why);
  if (!text.ok()) {
    why->insert(0, "cluster_key_file: ");
    return Err::kConfig;
  }
  while (!text->empty() && (text->back() == '\n' || text->back() == '\r')) text->pop_back();
  if (text->size() < kClusterKeyBytesMin) {
    *why = "cluster_key_file: " + path + " holds fewer than 32 bytes";
    return Err::kConfig;
  }
  return text;
}

void SayFault(const std::string& name, const std::string& why) {
  std::fprintf(stderr, "%s: %s\n", name.c_str(), why.c_str());
}

}  // namespace hayloft
