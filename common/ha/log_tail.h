// What a node knows of its log without reading the disk: the name of every record, and the latest
// records themselves.
//
// A record is named by index, epoch and node. An epoch is held once, by one node, which writes an
// index once; so two logs that have the same name at an index are the same up to there (Raft's log
// matching property, Ongaro and Ousterhout 2014, 5.3). Names are kept as runs, one an epoch.
// Threads: one owner. Pure.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "common/proto/hayloft.pb.h"

namespace hayloft {

class LogTail {
 public:
  static constexpr size_t kBytesKept = 4 << 20;  // of applied records, for a standby

  // An empty log behind `base`, which names the last record that is not in it; 0: none ever was.
  explicit LogTail(pb::HaPoint base) { Reset(std::move(base)); }
  void Reset(pb::HaPoint base);

  uint64_t last() const { return last_; }
  uint64_t base() const { return runs_.front().index(); }
  // REQUIRES: base() <= index <= last().
  pb::HaPoint PointAt(uint64_t index) const;
  // False also for what lies outside of the log.
  bool Has(const pb::HaPoint& point) const;
  // The first record that was made under the epoch of this one. REQUIRES: as for PointAt.
  uint64_t FirstOfEpoch(uint64_t index) const;

  // REQUIRES: its index follows the last one; its epoch is not lower. `in_memory`: else only its
  // name is kept; once one is, all behind it are.
  void Append(pb::HaRecord record, bool in_memory = true);
  // Removes `from` and what follows. REQUIRES: base() < from.
  void CutFrom(uint64_t from);
  // The records from here on, up to `bytes_max` of them and at least one; nothing if the first is
  // not in memory. REQUIRES: from > base().
  std::vector<pb::HaRecord> Read(uint64_t from, size_t bytes_max) const;
  // REQUIRES: it is in memory.
  const pb::HaRecord& At(uint64_t index) const;
  // Records up to this one may leave the memory.
  void Trim(uint64_t applied);

 private:
  // The run that an index lies in.
  size_t RunOf(uint64_t index) const;

  std::vector<pb::HaPoint> runs_;  // each: where an epoch begins; the first: the base
  uint64_t last_ = 0;
  std::deque<pb::HaRecord> records_;  // the last ones
  size_t bytes_ = 0;                  // that they take
};

}  // namespace hayloft
