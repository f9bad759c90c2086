// The latest deletes and undeletes, so that a read that one of them overtook is not kept: the bytes
// were on their way from a dsp while the delete came by the feed, and dropped nothing yet.
//
//   read begins   executed at the dsp   deleted there   the feed tells: a mark   the bytes arrive
//   ----|----------------|--------------------|------------------|----------------------|--> not
//   kept
//
// Keeps the latest `marks_max` ones, whatever their age. One that had to go leaves its time: no
// read that began before that is kept, whichever file it is of. With 65,536 marks and 1,000 deletes
// a second that concerns reads that took longer than a minute.
//
// A time that steps back from one Add to the next is taken for the later one, which only keeps
// less. Pure; one owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hayloft {

class ChangeMarks {
 public:
  // REQUIRES: `marks_max` is 0 or a power of two.
  explicit ChangeMarks(size_t marks_max);
  static uint64_t TableBytes(size_t marks_max);

  struct File {
    uint64_t block_id = 0;
    uint32_t sequence = 0;
    uint64_t hash = 0;  // of these two
  };
  void Add(const File& file, uint64_t now_ms);
  // Whether a change came at `began_ms` or later, or may have.
  bool Since(const File& file, uint64_t began_ms) const;

 private:
  struct Mark {
    uint64_t block_id;
    uint64_t at_ms;
    uint64_t previous;  // number of the one before it in its list; 0: none
    uint32_t sequence;
  };

  std::vector<Mark> marks_;      // mark number n lies at n % marks_max
  std::vector<uint64_t> lists_;  // by hash: the latest mark's number
  uint64_t last_ = 0;            // number; they begin with 1
  uint64_t latest_ms_ = 0;
  uint64_t forgotten_ms_ = 0;  // the latest time of those that had to go
};

}  // namespace hayloft
