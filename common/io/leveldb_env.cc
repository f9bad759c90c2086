#include "common/io/leveldb_env.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "common/io/unique_fd.h"

namespace hayloft {

namespace {

// The words of strerror are what LevelDbKv tells errors by, as from LevelDB's own files.
leveldb::Status StatusOf(const std::string& name, int error) {
  if (error == ENOENT) return leveldb::Status::NotFound(name, std::strerror(error));
  return leveldb::Status::IOError(name, std::strerror(error));
}

class PreadFile : public leveldb::RandomAccessFile {
 public:
  PreadFile(std::string name, UniqueFd fd) : name_(std::move(name)), fd_(std::move(fd)) {}

  leveldb::Status Read(uint64_t offset, size_t size, leveldb::Slice* result,
                       char* scratch) const override {
    size_t done = 0;
    while (done < size) {
      const ssize_t got =
          pread(fd_.get(), scratch + done, size - done, static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return StatusOf(name_, errno);
      if (got == 0) break;  // a short result is LevelDB's to judge: it knows what must be there
      done += static_cast<size_t>(got);
    }
    *result = leveldb::Slice(scratch, done);
    return leveldb::Status::OK();
  }

 private:
  const std::string name_;
  const UniqueFd fd_;
};

class Env : public leveldb::EnvWrapper {
 public:
  Env() : leveldb::EnvWrapper(leveldb::Env::Default()) {}

  leveldb::Status NewRandomAccessFile(const std::string& name,
                                      leveldb::RandomAccessFile** result) override {
    UniqueFd fd(open(name.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return StatusOf(name, errno);
    *result = new PreadFile(name, std::move(fd));  // NOLINT: LevelDB takes it over
    return leveldb::Status::OK();
  }
};

}  // namespace

leveldb::Env* PreadEnv() {
  // Never destroyed: LevelDB's background thread may outlive static objects.
  static leveldb::Env* const env = new Env();  // NOLINT
  return env;
}

}  // namespace hayloft
