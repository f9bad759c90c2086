#include "common/io/line_writer.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include "common/check.h"

namespace hayloft {

namespace {

UniqueFd OpenForAppending(const std::string& path) {
  return UniqueFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
}

uint64_t CountLines(std::string_view lines) {
  return static_cast<uint64_t>(std::count(lines.begin(), lines.end(), '\n'));
}

}  // namespace

std::unique_ptr<LineWriter> LineWriter::Open(const std::string& path, Counter* lost_lines) {
  UniqueFd fd = OpenForAppending(path);
  if (!fd.valid()) return nullptr;
  return std::unique_ptr<LineWriter>(new LineWriter(path, std::move(fd), lost_lines));
}

LineWriter::LineWriter(std::string path, UniqueFd fd, Counter* lost_lines)
    : path_(std::move(path)), fd_(std::move(fd)), lost_lines_(lost_lines) {
  thread_ = std::thread([this] { Work(); });
  (void)pthread_setname_np(thread_.native_handle(), "lines");  // only for people with a debugger
}

LineWriter::~LineWriter() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
  ASSERT(waiting_.empty());
}

void LineWriter::Write(std::string lines) {
  if (lines.empty()) return;
  ASSERT(lines.back() == '\n');
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (waiting_bytes_ + lines.size() > kWaitingBytesMax) {
      return lost_lines_->Add(CountLines(lines));
    }
    waiting_bytes_ += lines.size();
    waiting_.push_back(std::move(lines));
  }
  wake_.notify_one();
}

void LineWriter::Reopen() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    reopen_ = true;
  }
  wake_.notify_one();
}

void LineWriter::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || reopen_ || !waiting_.empty(); });
    const bool reopen = std::exchange(reopen_, false);
    if (!reopen && waiting_.empty()) return;
    std::string lines;
    if (!waiting_.empty()) {
      lines = std::move(waiting_.front());
      waiting_.pop_front();
    }
    lock.unlock();
    if (reopen) {
      UniqueFd fresh = OpenForAppending(path_);
      if (fresh.valid()) {  // else the old file is better than none
        fd_ = std::move(fresh);
        torn_ = false;
      }
    }
    WriteOut(lines);
    lock.lock();
    waiting_bytes_ -= lines.size();  // on their way they still count
  }
}

// After a write that took only a part (a full disk) the next lines begin on a line of their own.
void LineWriter::WriteOut(const std::string& lines) {
  std::string_view rest = lines;
  if (torn_ && !rest.empty() && ::write(fd_.get(), "\n", 1) == 1) torn_ = false;
  while (!rest.empty()) {
    const ssize_t count = ::write(fd_.get(), rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    rest.remove_prefix(static_cast<size_t>(count));
    torn_ = !rest.empty() && lines[lines.size() - rest.size() - 1] != '\n';
  }
  if (!rest.empty()) lost_lines_->Add(CountLines(rest));
}

}  // namespace hayloft
