// One loop's lines of the access log: gathered, and handed to the writer's thread in one piece.
//
// Threads: its loop's. Ownership: borrows the writer.
#pragma once

#include <string>
#include <utility>

#include "common/io/line_writer.h"
#include "gateway/access_log.h"

namespace hayloft {

class AccessLog {
 public:
  AccessLog(LineWriter* writer, AccessFormat format) : writer_(writer), format_(format) {}
  ~AccessLog() { Flush(); }
  AccessLog(const AccessLog&) = delete;  // lines would be written twice

  void Add(const AccessRecord& record) {
    if (lines_.capacity() < kGatheredBytes) lines_.reserve(kGatheredBytes + kLineRoomBytes);
    AppendAccessLine(record, format_, &lines_);
    if (lines_.size() >= kGatheredBytes) Flush();
  }
  // To be called several times a second, so that the file lags by no more.
  void Flush() {
    if (!lines_.empty()) writer_->Write(std::exchange(lines_, {}));
  }

 private:
  static constexpr size_t kGatheredBytes = 32 << 10;
  static constexpr size_t kLineRoomBytes = 4 << 10;
  LineWriter* const writer_;
  const AccessFormat format_;
  std::string lines_;
};

}  // namespace hayloft
