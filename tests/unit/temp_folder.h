// A folder that is gone with the test.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "common/check.h"

namespace hayloft {

class TempFolder {
 public:
  // In memory, for cases that write much and test no file system.
  enum class Where { kDisk, kMemory };
  explicit TempFolder(Where where = Where::kDisk) {
    const std::filesystem::path memory = "/dev/shm";
    const bool use_memory = where == Where::kMemory && std::filesystem::is_directory(memory);
    const std::filesystem::path parent =
        use_memory ? memory : std::filesystem::temp_directory_path();
    std::string text = (parent / "hayloft_unit_XXXXXX").string();
    ASSERT(mkdtemp(text.data()) != nullptr);
    path_ = text;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;  // two owners would remove it twice
  TempFolder& operator=(const TempFolder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace hayloft
