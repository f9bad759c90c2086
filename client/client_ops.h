// Operations of a ClientCore that are under way, and what each of its calls was for.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "client/client_types.h"
#include "common/file_address.h"
#include "common/limits.h"
#include "common/messages.h"
#include "common/result.h"

namespace hayloft {

struct PutOp {
  PutRequest request;
  std::vector<uint32_t> piece_crcs;
  std::vector<uint64_t> tried;        // blocks; none is tried twice
  size_t blocks_over = 0;             // of them: they took no more appends, and stored nothing
  std::vector<uint32_t> failed_dsps;  // of those blocks' sets
  std::vector<uint32_t> set_dsps;     // of the block that is tried now
  uint64_t no_block_since_ms = 0;
};
// Who must have a delete, as the answers of a round tell.
struct DeleteRound {
  bool serving = false;             // a serving replica answered
  bool up_known = false;            // the answers name who is up; else all that were located must
  std::vector<std::string> needed;  // addresses: counted as up by an answerer
  std::map<std::string, uint32_t> numbers;  // of those that were named
  size_t set_size = 0;                      // the greatest told, or located
};
// Get, stat and delete: all begin with where the file is, and ask its replicas in rounds.
struct FileOp {
  std::variant<GetRequest, StatRequest, SetDeleteRequest> request;
  FileAddress address;
  std::vector<std::string> replicas;  // of this round
  uint32_t asked = 0;                 // bits: which of them were
  size_t awaited = 0;                 // calls of this round that are still out
  size_t refused = 0;                 // answers of this round that no repetition would change
  uint64_t insist_ms = 0;             // a get asks another replica then, within its budget or not
  bool fresh = false;                 // this round's replicas come straight from a nameserver
  bool relocate = false;              // those in the cache were of no use
  bool located = false;               // a nameserver was asked for this operation
  bool counter_known = false;         // a delete's second step: `counter` is what it must become
  uint32_t counter = 0;
  std::map<std::string, uint32_t> named;  // whom the first step's answers counted as up
  std::unique_ptr<GetDone> spare;         // a doubtful replica's answer, if there is no better one
  StatDone stat;                          // the best of this round's answers, and each replica's
  DeleteRound deletes;                    // a delete's round: what its answers name
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
  size_t index = 0;        // of the replica or nameserver that was asked
  bool head_only = false;  // a read
  uint64_t block_id = 0;
  uint32_t dsp_id = 0;
  std::string dsp;       // its address; empty: a nameserver
  uint64_t bytes = 0;    // of an append
  uint64_t sent_ms = 0;  // to a dsp
};

// Where a block is, by a nameserver's answer.
inline std::vector<std::string> AddressesOf(
    const google::protobuf::RepeatedPtrField<pb::Replica>& replicas) {
  std::vector<std::string> addresses;
  for (const pb::Replica& replica : replicas) {
    const bool fits = addresses.size() < kReplicasMax && !replica.address().empty();
    if (fits) addresses.push_back(replica.address());
  }
  return addresses;
}

}  // namespace hayloft
