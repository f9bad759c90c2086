// What a client can be asked for, and what it answers. See client_core.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/buffer.h"
#include "common/core_io.h"
#include "common/delete_token.h"
#include "common/file_address.h"
#include "common/needle.h"
#include "common/proto/hayloft.pb.h"
#include "common/result.h"

namespace hayloft {

class SharedLocations;

struct ClientOptions {
  std::vector<std::string> nameservers;  // "IP:PORT" each, in any order; at least one
  // For one try; an operation has its own deadline. Longer than a primary gives its replicas (2 s),
  // so that its answer can name the late one.
  uint32_t append_timeout_ms = 2'500;
  uint32_t read_timeout_ms = 2'000;             // likewise
  uint32_t nameserver_timeout_ms = 1'000;       // likewise
  uint32_t no_block_patience_ms = 2'000;        // how long a put waits for a block to be made
  uint32_t grants_wanted = 4;                   // few, so that group commits are large
  uint32_t locations_max = 200'000;             // blocks whose replicas are remembered
  uint32_t ops_max = 16'384;                    // operations in flight
  SharedLocations* shared_locations = nullptr;  // of a process with several clients; borrowed
  uint64_t reporter = 0;  // names the process that can't reach a dsp; 0: one of this client's own
  // The directory: the nodes of each shard, "IP:PORT". Empty: there is none, or it is gone past:
  // not by deletes. See dedup_core.h.
  std::vector<std::vector<std::string>> directory{};
  uint32_t directory_ms = 500;  // a node of a shard that is slower counts as down
  bool of_directory = false;    // it is a shard's own: where there is a directory only that deletes
};

// `timeout_ms` of every request: the whole operation's, all tries and pauses included.

struct PutRequest {
  Buffer stored;  // as it shall lie on disk: 1 to kFileBytesMax bytes
  uint32_t raw_size = 0;
  Encoding encoding = Encoding::kIdentity;
  std::string metadata;  // EncodeMetadata
  uint64_t batch = 0;    // puts of one number, begun one after the other, share a block's commits
  uint32_t timeout_ms = 10'000;
  // With a directory.
  bool dedup = true;              // else it is stored as a file of its own
  std::string idempotency_key{};  // the user's; empty: none
  std::string uploader{};         // whose it is: the id of an upload key
};
// kInvalid, kTooLarge; kNoBlock and kFull when no dsp can take it; kBusy; else the last try's
// error.
struct PutDone {
  uint64_t op_id = 0;
  Err err = Err::kOk;
  FileAddress address;
  uint64_t created_ms = 0;
  std::string dsp;  // address of the primary; of a duplicate, of a dsp that has it
  // With a directory.
  Nonce nonce{};           // of the reference that the upload has: its delete token rests on it
  bool duplicate = false;  // nothing was stored
  bool unchecked = false;  // the directory did not answer, or refused: it may be stored twice
};

struct GetRequest {
  FileAddress address;
  uint64_t offset = 0;  // of raw bytes
  uint64_t length = 0;  // 0: to the end
  uint64_t suffix = 0;  // instead of both: the last so many bytes
  bool head_only = false;
  // Only whether the file is there, as its dsp knows from memory: for who has its bytes. The answer
  // has an empty head, except from a dsp of an older version.
  bool live_only = false;
  bool include_deleted = false;
  uint32_t timeout_ms = 10'000;
  std::string dsp;  // if set, only this one is asked
};
// kNotFound, kGone, kRange are facts; kUnavailable and others mean that nobody could say.
struct GetDone {
  uint64_t op_id = 0;
  Err err = Err::kOk;
  std::string head;  // needle head, see ParseNeedleHead; names the file that was asked for
  Buffer payload;
  uint64_t offset = 0;  // of the payload's first byte in the stored data
  uint32_t delete_counter = 0;
  bool block_open = false;
  // Of a replica that may not know yet that the file was deleted, when nobody else answered.
  bool doubtful = false;
  std::string dsp;  // who answered; unless doubtful, who knows that it is not deleted
};

struct StatRequest {
  FileAddress address;
  uint32_t timeout_ms = 10'000;
};
struct StatReplica {
  std::string dsp;
  Err err = Err::kOk;  // what this replica answered
};
// A deleted file is kOk with an odd counter. Errors as for a get.
struct StatDone {
  uint64_t op_id = 0;
  Err err = Err::kOk;
  std::string head;
  uint32_t delete_counter = 0;
  uint64_t changed_ms = 0;  // of the last delete or undelete, 0: never
  bool purged = false;
  // No replica answered that knows of all deletes: the counter may be an old one.
  bool doubtful = true;
  std::vector<StatReplica> replicas;
};

struct SetDeleteRequest {
  FileAddress address;
  bool undelete = false;
  uint32_t timeout_ms = 10'000;
  // The value that the counter must become, if it was decided before; 0: the next one that says
  // what `undelete` does, as read from the replicas.
  uint32_t counter = 0;
  bool look_only = false;  // nothing is set: what would be read
  // With a directory: whose reference goes or comes back; without one, the file does.
  std::optional<Nonce> nonce{};
  bool takedown = false;  // by an administrator: the file itself, whoever refers to it
};
// kOk also when the file was so already. kNotFound; kGone for an undelete that comes too late;
// kConfig: the cluster has a directory, which this client was not told of.
struct SetDeleteDone {
  uint64_t op_id = 0;
  Err err = Err::kOk;
  uint32_t counter = 0;  // odd: deleted
  // With look_only.
  std::string head{};
  bool purged = false;
};

// A message to a shard of the directory, sent again until it has answered, the time is over, or no
// node of it is about to: so it must be one that may come twice.
struct AskRequest {
  uint32_t shard = 0;
  MessageType type = MessageType::kDirStatus;
  std::string message;
  uint32_t timeout_ms = 5'000;
};
// kUnsupported: there is no directory.
struct AskDone {
  uint64_t op_id = 0;
  Err err = Err::kOk;
  std::string message;
  bool unsure = false;  // of an error: it may have been done all the same
};

struct NameserverStatus {
  std::string address;
  Err err = Err::kOk;
  pb::ClusterStatusReply status;  // if err is kOk
};
struct StatusDone {
  uint64_t op_id = 0;
  std::vector<NameserverStatus> nameservers;  // in the order of the options
};

struct ClientOutbox {
  std::vector<RpcCall> calls;
  std::vector<PutDone> puts;
  std::vector<GetDone> gets;
  std::vector<StatDone> stats;
  std::vector<SetDeleteDone> set_deletes;
  std::vector<StatusDone> statuses;
  std::vector<AskDone> asks;
};

}  // namespace hayloft
