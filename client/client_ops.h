// Operations of a ClientCore that are under way, and what each of its calls was for.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "client/client_types.h"
#include "common/file_address.h"
#include "common/messages.h"
#include "common/result.h"

namespace hayloft {

struct PutOp {
  PutRequest request;
  std::vector<uint32_t> piece_crcs;
  std::vector<uint64_t> tried;  // blocks; none is tried twice
  uint64_t no_block_since_ms = 0;
};
// Get, stat and delete: all begin with where the file is, and ask its replicas in rounds.
struct FileOp {
  std::variant<GetRequest, StatRequest, SetDeleteRequest> request;
  FileAddress address;
  std::vector<std::string> replicas;  // of this round
  size_t asked = 0;                   // of them; a get asks one after the other
  size_t awaited = 0;                 // calls of this round that are still out
  bool fresh = false;                 // this round's replicas come straight from a nameserver
  bool relocate = false;              // those in the cache were of no use
  bool counter_known = false;         // a delete's second step: `counter` is what it must become
  uint32_t counter = 0;
  StatDone stat;  // the best of this round's answers, and each replica's
};
struct StatusOp {
  StatusDone done;
  size_t awaited = 0;
};
struct ClientOp {
  uint64_t id = 0;
  uint64_t deadline_ms = 0;
  uint64_t due_ms = 0;  // its entry in timers_
  uint32_t pauses = 0;
  uint32_t round = 0;            // of calls; an answer to an earlier round is late
  Err last_err = Err::kTimeout;  // what the deadline answers
  std::variant<PutOp, FileOp, StatusOp> kind;
};
// What a call was for.
struct ClientCall {
  MessageType type = MessageType::kPing;
  uint64_t op_id = 0;  // 0: for all who wait for a grant, or for the block's location
  uint32_t round = 0;
  size_t index = 0;  // of the replica or nameserver that was asked
  uint64_t block_id = 0;
  uint32_t dsp_id = 0;
  std::string dsp;       // its address; empty: a nameserver
  uint64_t sent_ms = 0;  // to a dsp
};

}  // namespace hayloft
