// The directory against a model of a hundred lines, in random sequences (rapidcheck).
//
// One user at a time, no message lost: then everything is determined, and the model says exactly
// what each answer must be and which files live. The disorder of many is in tests/sim/dir_walk.h.
#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "tests/unit/dir_bench.h"

namespace hayloft {
namespace {

// What users see of a store that keeps each image once.
class Model {
 public:
  struct File {
    int image = 0;
    bool recorded = true;  // the directory knows of it
    int references = 0;
    bool Live() const { return references > 0; }
  };
  struct Upload {
    size_t file = 0;
    bool removed = false;
  };

  // The file that an upload shares; none: it is stored.
  std::optional<size_t> Shared(int image) const {
    const auto shared = shared_.find(image);
    if (shared == shared_.end() || !files_[shared->second].Live()) return std::nullopt;
    return shared->second;
  }
  // `safe`: its record is committed.
  size_t Store(int image, bool safe) {
    files_.push_back({.image = image, .recorded = true, .references = 0});
    const size_t file = files_.size() - 1;
    if (!safe)
      unsafe_[file] = shared_.contains(image) ? std::optional(shared_[image]) : std::nullopt;
    shared_[image] = file;
    return file;
  }
  size_t Refer(size_t file) {
    ++files_[file].references;
    uploads_.push_back({.file = file, .removed = false});
    Sync();
    return uploads_.size() - 1;
  }
  size_t ReferUnsafe(size_t file) {
    ++files_[file].references;
    uploads_.push_back({.file = file, .removed = false});
    return uploads_.size() - 1;
  }
  void Delete(size_t upload) {
    Adopt(uploads_[upload].file);
    if (!uploads_[upload].removed) --files_[uploads_[upload].file].references;
    uploads_[upload].removed = true;
    Sync();
  }
  void Undelete(size_t upload) {
    Adopt(uploads_[upload].file);
    if (uploads_[upload].removed) ++files_[uploads_[upload].file].references;
    uploads_[upload].removed = false;
    Sync();
  }
  // What was not committed is not recorded any more; the files are there.
  void Crash() {
    for (auto one = unsafe_.rbegin(); one != unsafe_.rend(); ++one) {
      File& file = files_[one->first];
      file.recorded = false;
      shared_.erase(file.image);
      if (one->second.has_value()) shared_[file.image] = *one->second;
    }
    unsafe_.clear();
  }
  void Sync() { unsafe_.clear(); }  // one log: a sync takes all before it along
  const std::vector<Upload>& uploads() const { return uploads_; }
  const std::vector<File>& files() const { return files_; }

 private:
  // A right token whose file has no record. It is shared if no other one was.
  void Adopt(size_t number) {
    File& file = files_[number];
    if (!file.recorded) shared_.try_emplace(file.image, number);
    file.recorded = true;
  }

  std::vector<File> files_;
  std::vector<Upload> uploads_;
  std::map<int, size_t> shared_;                    // by image: a file, dead or alive
  std::map<size_t, std::optional<size_t>> unsafe_;  // files, and whose place they took
};

enum class Act { kUpload, kMerge, kDelete, kUndelete, kRepeat, kCrash, kHold, kCommit };

class Run {
 public:
  explicit Run(uint64_t seed) : bench_(seed) {
    for (int i = 0; i < 3; ++i) images_.emplace_back(i);  // 0 and 1 are a forged pair
  }
  void Do(Act act, uint8_t which) {
    switch (act) {
      case Act::kUpload:
        return Upload(which % 3);
      case Act::kMerge:
        return Merge(which % 3);
      case Act::kDelete:
      case Act::kRepeat:
        return Change(which, false);
      case Act::kUndelete:
        return Change(which, true);
      case Act::kCrash:
        bench_.Restart();
        return model_.Crash();
      case Act::kHold:  // what needs no commit goes on without one
        bench_.commits = false;
        return;
      case Act::kCommit:
        return Commit();
    }
  }
  void Check() {
    RC_ASSERT(bench_.files.files().size() >= model_.files().size());
    for (size_t i = 0; i < model_.files().size(); ++i) {
      RC_ASSERT(bench_.Live(files_[i]) == model_.files()[i].Live());
    }
    // What has no place in the model are the files of those that lost.
    const size_t live =
        static_cast<size_t>(std::count_if(bench_.files.files().begin(), bench_.files.files().end(),
                                          [](const auto& one) { return one.second.Live(); }));
    const size_t expected =
        static_cast<size_t>(std::count_if(model_.files().begin(), model_.files().end(),
                                          [](const Model::File& file) { return file.Live(); }));
    RC_ASSERT(live == expected);
  }
  void Commit() {
    bench_.commits = true;
    bench_.Settle();
    model_.Sync();
  }
  void Finish() {
    Commit();
    bench_.Pass(100);
    bench_.Pass(100);
    RC_ASSERT(bench_.shard.core().pending() == 0);
    Check();
  }

 private:
  void Upload(int image) {
    const std::optional<size_t> shared = model_.Shared(image);
    if (shared.has_value()) Commit();  // a hit waits for it
    Told(image, shared, bench_.Upload(images_[static_cast<size_t>(image)]));
  }
  // Two at once. Of a new image both are appended; one wins, and the other's file dies.
  void Merge(int image) {
    Commit();
    const std::optional<size_t> shared = model_.Shared(image);
    const uint64_t first = bench_.Begin(images_[static_cast<size_t>(image)]);
    const uint64_t second = bench_.Begin(images_[static_cast<size_t>(image)]);
    bench_.Settle();
    PutDone one = bench_.End(first);
    PutDone other = bench_.End(second);
    if (one.duplicate) std::swap(one, other);
    Told(image, shared, one);
    Told(image, model_.Shared(image), other);
    bench_.Pass(100);
    Check();
  }
  void Told(int image, std::optional<size_t> shared, const PutDone& done) {
    RC_ASSERT(done.err == Err::kOk);
    RC_ASSERT(done.duplicate == shared.has_value());
    if (shared.has_value()) {
      RC_ASSERT(done.address == files_[*shared]);
      (void)model_.Refer(*shared);
    } else {
      const size_t file = model_.Store(image, bench_.commits);
      files_.push_back(done.address);
      (void)model_.ReferUnsafe(file);
      if (bench_.commits) model_.Sync();
    }
    answers_.push_back(done);
  }
  void Change(uint8_t which, bool undelete) {
    if (answers_.empty()) return;
    Commit();
    const size_t upload = which % answers_.size();
    const Err err = undelete ? bench_.Undelete(answers_[upload]) : bench_.Delete(answers_[upload]);
    RC_ASSERT(err == Err::kOk);
    undelete ? model_.Undelete(upload) : model_.Delete(upload);
    Check();
  }

  DirBench bench_;
  std::vector<BenchImage> images_;
  Model model_;
  std::vector<FileAddress> files_;  // of the model
  std::vector<PutDone> answers_;    // of the model's uploads
};

// 100,000 sequences: make soak PART=directory_model, which sets HAYLOFT_SEQUENCES.
TEST_CASE("directory: as a model of it, in random sequences") {
  const char* wanted = std::getenv("HAYLOFT_SEQUENCES");
  rc::detail::TestParams params;
  params.seed = wanted != nullptr ? rc::detail::configuration().testParams.seed : 1;
  params.maxSuccess = wanted != nullptr ? std::atoi(wanted) : 2'000;
  params.maxSize = 30;
  const auto result = rc::detail::checkTestable(
      [](const std::vector<std::pair<uint8_t, uint8_t>>& acts, uint8_t seed) {
        Run run(seed);
        for (const auto& [act, which] : acts) run.Do(static_cast<Act>(act % 8), which);
        run.Finish();
      },
      rc::detail::TestMetadata(), params);
  std::ostringstream text;
  rc::detail::printResultMessage(result, text);
  INFO(text.str());
  CHECK(result.is<rc::detail::SuccessResult>());
}

}  // namespace
}  // namespace hayloft
