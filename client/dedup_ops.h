// Operations of a DedupCore that are under way.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "client/client_types.h"
#include "common/content.h"

namespace hayloft {

struct DedupUpload {
  enum class Step {
    kLookup,
    kCheck,
    kAdd,
    kAppend,
    kInsert,
    kCheckWinner,
    kLose,
    kAdopt,
    kCheckAnswer,
    kAlone
  };
  PutRequest request;
  Metadata metadata;
  ContentId content;
  std::string idempotency;  // hash; empty: no key
  Step step = Step::kLookup;
  uint64_t epoch = 0;
  FileAddress target;  // the file that may be shared
  PutDone found{};     // what is known of it
  PutDone own{};       // what was appended
  bool has_own = false;
  Nonce answer{};          // of kCheckAnswer: what the user's key was answered with before
  bool unchecked = false;  // of kAlone: because the shard did not answer
  bool told = false;       // the shard may know the nonce
  std::vector<FileAddress> dead;
  uint32_t rounds = 0;
  uint64_t insert_since_ms = 0;  // 0: none was sent
};

struct DedupChange {
  enum class Step { kLook, kReference, kSend };
  SetDeleteRequest request;
  ContentId content;
  uint32_t counter = 0;
  Step step = Step::kLook;
};

struct DedupOp {
  uint64_t id = 0;
  uint64_t deadline_ms = 0;
  uint64_t due_ms = 0;  // its entry in timers_
  uint32_t shard = 0;
  uint64_t since_ms = 0;  // that it waits for the shard
  uint32_t tries = 0;     // of this message
  uint64_t call = 0;      // to the shard, under way
  bool waiting = false;   // for a place in a batch
  bool paused = false;    // until due_ms; then its message is sent again
  bool unsure = false;    // one of its messages got no answer
  Err last_err = Err::kTimeout;
  std::variant<DedupUpload, DedupChange, AskRequest> kind;
};

}  // namespace hayloft
