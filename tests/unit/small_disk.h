// A tmpfs that is soon full. Needs the right to mount.
#pragma once

#include <doctest/doctest.h>
#include <sys/mount.h>

#include <string>

#include "tests/unit/temp_folder.h"

namespace hayloft {

class SmallDisk {
 public:
  explicit SmallDisk(const char* size) {
    const std::string options = std::string("size=") + size;
    mounted_ = mount("none", folder_.path().c_str(), "tmpfs", 0, options.c_str()) == 0;
    if (!mounted_) MESSAGE("skipped: no right to mount a tmpfs");
  }
  ~SmallDisk() {
    if (mounted_) umount2(folder_.path().c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;  // two owners would unmount it twice
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool MakeReadOnly() const {
    return mount("none", folder_.path().c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr) == 0;
  }
  bool mounted() const { return mounted_; }
  const std::string& path() const { return folder_.path(); }

 private:
  TempFolder folder_;
  bool mounted_ = false;
};

}  // namespace hayloft
