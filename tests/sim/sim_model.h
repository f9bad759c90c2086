// What was acknowledged to the clients of a simulated cluster, and therefore must be so.
//
// Deletes are judged by the file's counter (odd: deleted). An operation without an answer may take
// effect at any later time, but raises the counter by at most one over what it saw, so the true
// counter lies between the highest acknowledged one and that plus the operations still in doubt. It
// is in doubt no more once the counter that it may have sent at the most is acknowledged.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "client/client_types.h"
#include "common/file_address.h"
#include "common/needle.h"
#include "tests/sim/sim_random.h"
#include "tests/sim/sim_trace.h"

namespace hayloft {

struct SimFile {
  FileAddress address;
  std::string stored;
  uint32_t raw_size = 0;
  Encoding encoding = Encoding::kIdentity;
  std::string metadata;
  std::string dsp;  // who acknowledged it
  uint32_t counter_acked = 0;
  uint32_t doubts = 0;                 // set-deletes in flight, or ended without an answer
  std::vector<uint32_t> unanswered{};  // of the latter, what each has sent at the most
  uint64_t disturbed = 0;   // counts starts of set-deletes: a read compares before and after
  uint64_t settled_us = 0;  // of the latest answer: since then, if nothing is in doubt
  bool surely_live() const { return doubts == 0 && counter_acked % 2 == 0; }
  bool surely_deleted() const { return doubts == 0 && counter_acked % 2 == 1; }
};

class SimModel {
 public:
  explicit SimModel(SimTrace* trace) : trace_(trace) {}

  // A file to put: its bytes come from `random`.
  static SimFile MakeFile(SimRandom* random);

  void Acknowledged(SimFile file, const PutDone& done);
  // Wall clocks may jump in this run, past the trash time too: a deleted file may then be unknown.
  void LetClocksJump() { clocks_jump_ = true; }
  size_t files() const { return files_.size(); }
  // Valid for ever.
  SimFile& file(size_t index) { return *files_[index]; }

  // A delete or undelete, from its start to its end. `alone`: no other one of the file was under
  // way or in doubt when it began.
  struct SetDelete {
    size_t index = 0;
    bool undelete = false;
    bool alone = false;
    uint64_t disturbed = 0;
  };
  SetDelete SetDeleteStarted(size_t index, bool undelete);
  void SetDeleteEnded(const SetDelete& operation, const SetDeleteDone& done, uint64_t now_us);

  // What was known of a file when a read of it began.
  struct Expected {
    size_t index = 0;
    uint64_t disturbed = 0;
    uint32_t counter_acked = 0;
    bool surely_live = false;
    bool surely_deleted = false;
    uint64_t settled_us = 0;
  };
  Expected Expect(size_t index) const;
  Expected ExpectDeletedToo(size_t index) const;  // of a read that shows deleted files as well
  // `healed`: nothing is broken any more, so no excuse is taken.
  void CheckGet(const Expected& expected, const GetRequest& request, const GetDone& done,
                bool healed);
  void CheckStat(const Expected& expected, const StatDone& done, bool healed);
  // What a gateway with a cache answered to a read of the whole file. A second after a delete or an
  // undelete was acknowledged it knows of that, or says that it doesn't.
  struct CachedAnswer {
    Err err = Err::kOk;
    std::string_view head{};
    Bytes stored{};
    bool doubtful = false;
  };
  void CheckCached(const Expected& expected, const CachedAnswer& answer, uint64_t began_us,
                   bool healed);

  uint64_t reads_verified() const { return reads_verified_; }

 private:
  void CheckBytes(const SimFile& file, const GetRequest& request, const GetDone& done);
  void CheckHead(const SimFile& file, std::string_view head);
  void CheckCounter(const Expected& expected, uint32_t counter);
  struct Answer {
    const char* what;
    Err err = Err::kOk;
    bool doubtful = false;
    bool healed = false;
  };
  bool CheckState(const Expected& expected, const Answer& answer);

  SimTrace* trace_;
  bool clocks_jump_ = false;
  std::vector<std::unique_ptr<SimFile>> files_;
  std::set<std::pair<uint64_t, uint32_t>> sequences_;  // (block, sequence) given out
  uint64_t reads_verified_ = 0;
};

}  // namespace hayloft
