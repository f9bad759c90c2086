// What a walk of a pair consists of: nodes with their disks, dsps, and messages in a bag.
#pragma once

#include <cinttypes>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "common/ha/role_core.h"

namespace hayloft::pair_walk {

// What the service logs: a range of ids ("r" end), an operation on an id ("c" id), a start,
// nothing.
struct Operation {
  char kind = 0;
  uint64_t value = 0;
  uint64_t unique = 0;
  std::string Text() const {
    return std::string(1, kind) + " " + std::to_string(value) + " " + std::to_string(unique);
  }
  static Operation Parse(const std::string& text) {
    Operation operation;
    (void)std::sscanf(text.c_str(), "%c %" SCNu64 " %" SCNu64, &operation.kind, &operation.value,
                      &operation.unique);
    return operation;
  }
};

struct Disk {
  pb::HaHead head;
  std::deque<pb::HaRecord> records;  // synced
  pb::HaPoint base;
  uint64_t applied = 0;
  uint64_t range_end = 1;  // of the applied state
};

struct Node {
  std::string name;
  std::string address;
  Disk disk;
  std::unique_ptr<RoleCore> role;
  Now now;
  std::optional<RoleWrite> writing;
  uint64_t life = 0;
  uint64_t syncs = 0;          // of its log, in this life
  uint64_t renewed_syncs = 0;  // as it was when it renewed its lease last
  // The service of an active one; of a follower only range_end counts.
  bool active = false;
  uint64_t next_id = 0;
  uint64_t ids_end = 0;
  uint64_t ids_index = 0;  // the record of the range
  uint64_t mark = 0;       // highest heard of
  bool jump = false;
  std::set<int> fenced;                // dsps that promised a forced winner's epoch
  std::map<uint64_t, uint64_t> calls;  // under way -> since when
};

enum class Kind { kRequest, kReply, kCoordinator, kCoordinatorDone, kCommand, kCommandDone };

struct Message {
  Kind kind = Kind::kRequest;
  int from = 0;
  int to = 0;
  uint64_t life = 0;     // of the caller, which must live still
  uint64_t call_id = 0;  // a request or reply
  MessageType type = MessageType::kShip;
  Err err = Err::kOk;
  std::string text{};
  CoordinatorCall ask{};
  uint64_t ask_number = 0;
  CoordinatorDone answer{};
  bool forced = false;
  uint64_t history = 0;  // of the coordinator, when it was asked
  uint64_t syncs = 0;    // of its log, when it asked
  // A command.
  uint64_t epoch = 0;
  std::string node{};
  uint64_t index = 0;
  uint64_t unique = 0;
  uint64_t mark = 0;
};

inline constexpr int kCoordinatorPlace = 2;
inline constexpr int kFirstDsp = 3;

struct Dsp {
  uint64_t epoch = 0;
  std::string node;
  uint64_t mark = 0;
};

}  // namespace hayloft::pair_walk
