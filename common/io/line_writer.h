// Lines to a file, by a thread of its own: who makes them never waits for a disk.
//
// What waits is bounded; beyond that lines are lost and counted, as they are when the disk refuses
// them. The file is opened with O_APPEND and gets whole lines only, several in one write.
//
// Threads: Write and Reopen from any. Ownership: borrows the counter.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "common/io/unique_fd.h"
#include "common/metrics.h"

namespace hayloft {

class LineWriter {
 public:
  static constexpr size_t kWaitingBytesMax = 8 << 20;

  // Null when the file cannot be opened for appending. `lost_lines` counts.
  static std::unique_ptr<LineWriter> Open(const std::string& path, Counter* lost_lines);
  ~LineWriter();                           // writes what waits
  LineWriter(const LineWriter&) = delete;  // its thread holds its address

  // Whole lines, each with its newline, as many as there are. They may be lost.
  void Write(std::string lines);
  // The file was moved away: go on in a new one of the same name, or in the old one if that cannot
  // be made. What waits is written to the new one.
  void Reopen();

 private:
  LineWriter(std::string path, UniqueFd fd, Counter* lost_lines);
  void Work();
  void WriteOut(const std::string& lines);

  const std::string path_;
  UniqueFd fd_;  // the thread's
  Counter* const lost_lines_;
  bool torn_ = false;  // the thread's: the file ends within a line
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::string> waiting_;  // these under mutex_
  size_t waiting_bytes_ = 0;
  bool reopen_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace hayloft
